//! The promises of a watch, kept by the real program while it is killed and restarted under load.

use std::sync::Arc;

use rustix::process::Signal;
use tidewatch_tests::program::ServerProgram;
use tidewatch_tests::watch_check::{Counts, Report, WatchCheck};
use tokio::sync::oneshot;

use crate::rig::within;

/// Transactions that are acknowledged between two restarts, at least: everybody is in the middle of things.
const BETWEEN: u64 = 150;

/// How often the server is killed. With 1000 transactions in a round that is in the middle of rounds, and where one ends
/// and the next begins.
const KILLS: usize = 8;

/// Checks a server while something is done to it.
async fn check_while(
    server: ServerProgram,
    disturb: impl FnOnce(ServerProgram, Arc<Counts>) -> ServerProgram + Send + 'static,
) -> Report {
    let check = WatchCheck::new(fastrand::u64(..));
    let endpoint = server.endpoint().to_owned();
    let counts = check.counts.clone();
    let (done, stop) = oneshot::channel();
    let disturbing = tokio::task::spawn_blocking(move || {
        let server = disturb(server, counts);
        let _ = done.send(());
        server
    });
    let stop = async {
        let _ = stop.await;
    };
    let report = check.run_at(&[&endpoint], stop).await.unwrap();
    within("the disturbance", disturbing).await.unwrap();
    report
}

/// Waits until this many more transactions were acknowledged.
fn some_more(counts: &Counts) {
    let goal = counts.acknowledged() + BETWEEN;
    let reached = tidewatch_tests::wait::eventually(crate::rig::CEILING, || counts.acknowledged() >= goal);
    assert!(
        reached,
        "only {} of {goal} were acknowledged",
        counts.acknowledged()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_by_a_program_that_is_killed_over_and_over() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProgram::start_alone(&dir.path().join("data")).unwrap();
    let report = check_while(server, |mut server, counts| {
        for _ in 0..KILLS {
            some_more(&counts);
            server.crash_and_restart().unwrap();
        }
        some_more(&counts);
        server
    })
    .await;
    assert!(report.found.is_empty(), "{report}");
    // All of them were attached when it was killed, and went on by themselves.
    assert!(report.counts.reconnected() > KILLS as u64, "{report}");
    assert!(report.counts.events() > 10_000, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_by_a_program_that_is_asked_to_end_and_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = ServerProgram::start_alone(&dir.path().join("data")).unwrap();
    let report = check_while(server, |mut server, counts| {
        for _ in 0..2 {
            some_more(&counts);
            let code = server.restart(Signal::TERM).unwrap();
            assert_eq!(code, Some(0), "it drains");
        }
        some_more(&counts);
        server
    })
    .await;
    assert!(report.found.is_empty(), "{report}");
    assert!(report.counts.reconnected() > 0, "{report}");
}
