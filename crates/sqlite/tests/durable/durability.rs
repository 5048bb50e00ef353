//! That a commit is on the disk before anybody is told, as the system calls show it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidewatch_core::Revision;
use tidewatch_core::journal::Journal;
use tidewatch_sqlite::{Error, Options, SqliteJournal, Synchronous};

use crate::child::{self, say};
use crate::model::{Model, assert_recovered, named, reopen};

const COMMITS: usize = 40;
const SEED: u64 = 7;

/// A system call that matters, in the order in which they happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    /// A part of the log was handed to the system.
    LogWritten,
    /// The system says that the log is on the disk.
    LogSynced,
    /// The child said that a commit was made.
    Acknowledged,
}

#[test]
fn every_acknowledgement_comes_after_the_sync_of_its_commit() {
    let Some((trace, _)) = traced("full") else { return };
    let calls = parse(&trace);
    assert_eq!(unsynced_acknowledgements(&calls), 0, "{calls:?}");
}

/// Shows that the test above can fail.
#[test]
fn without_full_sync_the_trace_shows_acknowledgements_before_the_sync() {
    let Some((trace, _)) = traced("normal") else {
        return;
    };
    let calls = parse(&trace);
    assert!(unsynced_acknowledgements(&calls) > COMMITS / 2, "{calls:?}");
}

#[test]
fn the_name_of_a_new_data_directory_is_synced_before_the_first_acknowledgement() {
    let Some((trace, around)) = traced("full") else {
        return;
    };
    let before = trace.split("\"ack ").next().unwrap();
    let around = format!("<{}>)", around.display());
    assert!(
        before
            .lines()
            .any(|line| line.contains("fsync(") && line.contains(&around) && line.ends_with("= 0")),
        "{around}: {before}"
    );
}

/// How many acknowledgements there are whose commit was not written to the log, and synced, since the
/// one before.
fn unsynced_acknowledgements(calls: &[Call]) -> usize {
    let acknowledged = calls.iter().filter(|call| **call == Call::Acknowledged).count();
    assert_eq!(acknowledged, COMMITS, "the trace is incomplete");
    calls
        .split_inclusive(|call| *call == Call::Acknowledged)
        .filter(|commit| {
            let written = commit.iter().rposition(|call| *call == Call::LogWritten);
            let synced = commit.iter().rposition(|call| *call == Call::LogSynced);
            commit.last() == Some(&Call::Acknowledged) && (written.is_none() || synced < written)
        })
        .count()
}

/// Traces a child that makes [`COMMITS`] commits. Returns the trace, and the directory in which the child
/// made its own.
fn traced(role: &str) -> Option<(String, PathBuf)> {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let mut command = strace("tracing syncs")?;
    command
        .args([
            "-f",
            "-y",
            "-s",
            "16",
            "-e",
            "trace=write,pwrite64,fsync,fdatasync",
            "-o",
        ])
        .arg(&trace)
        .arg(child::this_binary());
    child::prepare(
        &mut command,
        "durability::committer",
        &dir.path().join("data"),
        role,
        SEED,
    );
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    Some((fs::read_to_string(trace).unwrap(), dir.path().into()))
}

fn parse(trace: &str) -> Vec<Call> {
    // A call during which another thread is shown is cut in two: `<unfinished ...>`, later `resumed>`.
    let mut unfinished = HashMap::new();
    trace
        .lines()
        .filter_map(|line| {
            let (pid, call) = line.split_once(' ')?;
            let call = call.trim_start();
            let begun = if call.starts_with("<...") {
                unfinished.remove(pid)?
            } else {
                call
            };
            let ends = !call.ends_with("<unfinished ...>");
            if !ends {
                unfinished.insert(pid, call);
            }
            let starts = begun == call;
            if begun.contains("tidewatch.db-wal>") {
                // A write counts from its start, a sync only once it has succeeded.
                let writes = begun.starts_with("pwrite64(") || begun.starts_with("write(");
                return match (writes, starts, ends) {
                    (true, true, _) => Some(Call::LogWritten),
                    (false, _, true) => call.ends_with("= 0").then_some(Call::LogSynced),
                    _ => None,
                };
            }
            (starts && begun.starts_with("write(1<") && begun.contains("\"ack "))
                .then_some(Call::Acknowledged)
        })
        .collect()
}

#[tokio::test]
async fn a_group_whose_sync_failed_does_not_come_back_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    prepare(&data).await;
    // The first commit syncs twice, because it begins the log; the sync of the second one fails.
    let Some(said) = run_with_failing_sync(&data, "crash", "3") else {
        return;
    };
    assert!(
        said.contains("commit 1: ok") && said.contains("commit 2: unsynced"),
        "{said}"
    );
    let recovered = reopen(&data).await;
    assert_eq!(
        recovered.revision,
        Revision(4),
        "one to prepare, two in the first commit"
    );
    assert_recovered(SEED, &recovered);
}

#[tokio::test]
async fn after_a_failed_sync_the_journal_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    prepare(&data).await;
    let Some(said) = run_with_failing_sync(&data, "go-on", "3") else {
        return;
    };
    assert!(
        said.contains("commit 2: unsynced") && said.contains("commit 3: ok"),
        "{said}"
    );
    let recovered = reopen(&data).await;
    assert_eq!(recovered.revision, Revision(8));
    assert_recovered(SEED, &recovered);
}

#[tokio::test]
async fn nothing_is_committed_until_a_failed_commit_is_known_to_be_void() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    prepare(&data).await;
    // The sync of the second commit, of voiding it, and of voiding it once more.
    let Some(said) = run_with_failing_sync(&data, "go-on", "3..5") else {
        return;
    };
    assert!(
        said.contains("commit 2: unsynced") && said.contains("commit 3: failed"),
        "{said}"
    );
    assert!(said.contains("commit 4: ok"), "{said}");
    let recovered = reopen(&data).await;
    assert_eq!(recovered.revision, Revision(6));
    assert_recovered(SEED, &recovered);
}

/// Makes a database with one record, so that the syncs of a child are those of its commits.
async fn prepare(data: &Path) {
    let mut journal = SqliteJournal::open(data).unwrap();
    journal.commit(Model::new(SEED).group(1)).await.unwrap();
}

/// Runs a child for which the given syncs of the log fail; what they should have synced stays in the
/// system's memory, and so is there for the next process.
fn run_with_failing_sync(data: &Path, role: &str, when: &str) -> Option<String> {
    let mut command = strace("failing syncs")?;
    command
        .args(["-f", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-P"])
        .arg(data.join("tidewatch.db-wal"))
        .args(["-e", &format!("inject=fsync,fdatasync:error=EIO:when={when}")])
        .arg(child::this_binary());
    child::prepare(&mut command, "durability::committer", data, role, SEED);
    let output = command.output().unwrap();
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// None, after saying so, where processes cannot be traced.
fn strace(test: &str) -> Option<Command> {
    match Command::new("strace")
        .args(["-f", "-o", "/dev/null", "true"])
        .output()
    {
        Ok(output) if output.status.success() => Some(Command::new("strace")),
        Ok(output) => {
            child::not_run(
                test,
                &format!(
                    "strace may not trace: {}",
                    String::from_utf8_lossy(&output.stderr)
                ),
            );
            None
        }
        Err(error) => {
            child::not_run(test, &format!("strace is missing ({error})"));
            None
        }
    }
}

#[tokio::test]
#[ignore = "the main function of a process that the tests above trace"]
async fn committer() {
    let Some(orders) = child::orders() else { return };
    let synchronous = if orders.role == "normal" {
        Synchronous::Normal
    } else {
        Synchronous::Full
    };
    let mut journal = Options::new().synchronous(synchronous).open(&orders.dir).unwrap();
    let recovered = journal.recover().await.unwrap();
    let mut model = Model::at(orders.seed, recovered.revision);
    if ["full", "normal"].contains(&&*orders.role) {
        for number in 0..COMMITS {
            journal.commit(model.group(1 + number % 3)).await.unwrap();
            say(&format!("ack {number}"));
        }
        return;
    }
    for number in 1..=4 {
        let mut next = model.clone();
        // The failing group is large, so that what voids it leaves most of its pages in the log.
        let count = if number == 2 { 200 } else { 2 };
        match journal.commit(next.group(count)).await {
            Ok(()) => {
                say(&format!("commit {number}: ok"));
                model = next;
            }
            Err(cause) => {
                let kind = if matches!(named(&cause), Error::Unsynced { .. }) {
                    "unsynced"
                } else {
                    "failed"
                };
                say(&format!("commit {number}: {kind}"));
                if orders.role == "crash" {
                    // Ends the process without closing anything, as `kill -9` does.
                    std::process::abort();
                }
            }
        }
    }
}
