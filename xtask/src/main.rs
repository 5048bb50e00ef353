//! `cargo xtask`: the tasks that build, check and test Tidewatch.
//!
//! Each subcommand is a file of its own here. They call `cargo` and the tools beside it and hold no logic that the crates
//! themselves need. CI calls nothing else, so what passes here passes there.

mod bench;
mod bench_peers;
mod check;
mod check_watch;
mod ci;
mod codegen;
mod coverage;
mod deny;
mod dist;
mod docs;
mod feature_set;
mod live;
mod loom;
mod process;
mod protoc;
mod serve;
mod sim;
mod step;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// The tasks that build, check and test Tidewatch.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    Serve(serve::Args),
    Test(test::Args),
    /// Run what needs no test: format, lints, tidy, generated code, feature sets, docs, licenses.
    Check,
    /// Run `check`, then `test`: what CI runs.
    Ci(test::Args),
    CheckWatch(check_watch::Args),
    Live(live::Args),
    Sim(sim::Args),
    /// Try every order in which threads can see the atomics of the watch plane.
    Loom,
    Bench(bench::Args),
    BenchPeers(bench_peers::Args),
    Codegen(codegen::Args),
    /// Check what keeps the tree in order: names, docs, manifests, links.
    Tidy,
    FeatureSets(feature_set::Args),
    Deny(deny::Args),
    Docs(docs::Args),
    Coverage(coverage::Args),
    /// Build a release and pack it into dist/.
    Dist,
}

fn main() -> ExitCode {
    let outcome = match Task::parse() {
        Task::Serve(args) => serve::run(&args),
        Task::Test(args) => test::run(args),
        Task::Check => check::run(),
        Task::Ci(args) => ci::run(args),
        Task::CheckWatch(args) => check_watch::run(&args),
        Task::Live(args) => live::run(&args),
        Task::Sim(args) => sim::run(&args),
        Task::Loom => loom::run(),
        Task::Bench(args) => bench::run(&args),
        Task::BenchPeers(args) => bench_peers::run(&args),
        Task::Codegen(args) => codegen::run(&args),
        Task::Tidy => tidy::run(),
        Task::FeatureSets(args) => feature_set::run(args),
        Task::Deny(args) => deny::run(&args),
        Task::Docs(args) => docs::run(&args),
        Task::Coverage(args) => coverage::run(&args),
        Task::Dist => dist::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::report(&format!("failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
