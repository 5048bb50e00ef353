//! The process that watches a server and writes to it; [`tidewatch_peers::driver`] tells how. It prints what came of it.

use std::net::SocketAddr;

use anyhow::Result;
use clap::Parser;
use tidewatch_peers::driver::{self, Load, Protocol};
use tidewatch_peers::two_workers;

#[derive(Parser)]
struct Args {
    protocol: Protocol,
    /// Where the server listens.
    to: SocketAddr,
    /// The id of its process.
    pid: u32,
    #[command(flatten)]
    load: Load,
}

#[expect(clippy::print_stdout, reason = "the outcome is what the program is for")]
fn main() -> Result<()> {
    let args = Args::parse();
    let outcome = two_workers::run(driver::drive(args.protocol, args.to, args.pid, args.load))?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}
