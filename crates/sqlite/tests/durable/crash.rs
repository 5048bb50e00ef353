//! `kill -9` at any moment, with several writers, again and again.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use tidewatch_core::Revision;
use tidewatch_core::journal::Journal;
use tidewatch_sqlite::SqliteJournal;
use tokio::sync::{mpsc, oneshot};

use crate::child::{self, say};
use crate::model::{Model, assert_recovered, reopen};

const ROUNDS: usize = 15;
const WRITERS: usize = 6;
/// The most revisions the history keeps, so that kills hit compactions too.
const WINDOW: u64 = 200;

#[tokio::test]
async fn every_acknowledged_commit_survives_kill_9_and_no_half_group_does() {
    let seed = child::seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut before = Revision::INITIAL;
    let mut compactions = 0;
    for round in 0..ROUNDS {
        let heard = run_and_kill(dir.path(), seed, random.usize(1..400));
        compactions += heard.compactions;
        let recovered = reopen(dir.path()).await;
        let context = format!("round {round}: recovered {}, heard {heard:?}", recovered.revision);
        assert!(recovered.revision >= before, "revisions went back; {context}");
        assert!(
            recovered.revision >= heard.acknowledged,
            "an acknowledged commit is gone; {context}"
        );
        assert!(
            recovered.revision == before || heard.group_ends.contains(&recovered.revision),
            "half of a group; {context}"
        );
        assert_recovered(seed, &recovered);
        before = recovered.revision;
    }
    assert!(before > Revision(100), "the child hardly wrote anything");
    assert!(compactions > 0, "no compaction was under way");
}

/// What a child said before it was killed.
#[derive(Debug)]
struct Heard {
    acknowledged: Revision,
    group_ends: Vec<Revision>,
    compactions: usize,
}

/// Kills a child as soon as that many commits have been acknowledged; what it does then, goes on
/// meanwhile.
fn run_and_kill(dir: &Path, seed: u64, acknowledgements: usize) -> Heard {
    let mut command = Command::new(child::this_binary());
    child::prepare(&mut command, "crash::writers", dir, "write", seed);
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut heard = Heard {
        acknowledged: Revision::INITIAL,
        group_ends: Vec::new(),
        compactions: 0,
    };
    let mut count = 0;
    for line in BufReader::new(process.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(revision) = line.strip_prefix("ack ") {
            heard.acknowledged = heard.acknowledged.max(revision.parse().unwrap());
            count += 1;
            if count == acknowledgements {
                process.kill().unwrap();
            }
        } else if let Some(end) = line.strip_prefix("group ") {
            heard.group_ends.push(end.parse().unwrap());
        } else if line.starts_with("compact ") {
            heard.compactions += 1;
        }
    }
    let status = process.wait().unwrap();
    assert!(
        status.code().is_none() && count >= acknowledgements,
        "the child ended by itself: {status}"
    );
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the main function of a process that the crash test kills"]
async fn writers() {
    let Some(orders) = child::orders() else { return };
    let mut journal = SqliteJournal::open(&orders.dir).unwrap();
    let recovered = journal.recover().await.unwrap();
    let mut model = Model::at(orders.seed, recovered.revision);
    let mut oldest = recovered.oldest;

    let (requests, mut waiting) = mpsc::channel::<oneshot::Sender<Revision>>(WRITERS);
    for _ in 0..WRITERS {
        let requests = requests.clone();
        tokio::spawn(async move {
            loop {
                let (reply, answer) = oneshot::channel();
                requests.send(reply).await.unwrap();
                say(&format!("ack {}", answer.await.unwrap()));
            }
        });
    }
    let mut group = Vec::new();
    while waiting.recv_many(&mut group, WRITERS).await > 0 {
        let first = model.revision.next();
        let entries = model.group(group.len());
        say(&format!("group {}", model.revision));
        journal.commit(entries).await.unwrap();
        for (reply, revision) in group.drain(..).zip(first.0..) {
            let _ = reply.send(Revision(revision));
        }
        if model.revision.0 > oldest.0 + WINDOW {
            oldest = Revision(model.revision.0 - WINDOW / 2);
            say(&format!("compact {oldest}"));
            journal.compact(oldest).await.unwrap();
        }
    }
}
