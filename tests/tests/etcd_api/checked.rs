//! The promises of watches, checked on streams of etcd's API while keys are written, history is compacted and the
//! server is restarted.

mod followed;
mod written;

use std::time::Duration;

use followed::Followed;
use written::Written;

use crate::rig::{Kv, TestServer, config, durable, within};

/// Writers at a time, and what each writes between two compactions.
const WRITERS: u64 = 4;
const WRITES: usize = 150;

/// Streams of watches; every other one reads slowly.
const STREAMS: u64 = 6;

/// How far compaction stays behind, in revisions: less than a slow stream may be behind.
const KEPT: i64 = 100;

/// Writes from several sides at once, and compacts what is old; returns what was acknowledged.
async fn load(kv: &Kv, seed: u64) -> Written {
    let writers = (0..WRITERS).map(|writer| {
        let kv = kv.clone();
        tokio::spawn(async move { written::random(kv, seed * WRITERS + writer, WRITES).await })
    });
    let writers: Vec<_> = writers.collect();
    let mut all = Written::default();
    for writer in writers {
        all.merge(within("a writer", writer).await.unwrap());
    }
    let mut kv = kv.clone();
    kv.compact(all.last() - KEPT).await.unwrap();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_keep_the_promises_of_watches_under_load_compaction_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let frequent = || {
        let mut config = durable(dir.path());
        config.etcd_progress_interval = Duration::from_millis(100);
        config
    };
    let (mut server, mut kv) = TestServer::with(frequent()).await;
    let mut written = load(&kv, 1).await;
    let mut streams = Vec::new();
    for seed in 0..STREAMS {
        streams.push(Followed::start(&server, seed, written.last()).await);
    }
    for round in 2..5 {
        let following = streams.into_iter().map(|stream| tokio::spawn(stream.follow()));
        let following: Vec<_> = following.collect();
        written.merge(load(&kv, round).await);
        server.stop().await.unwrap();
        // Everybody goes on from what arrived before the connection broke off.
        (server, kv) = TestServer::with(frequent()).await;
        streams = Vec::new();
        for stream in following {
            let stream = within("the end of a stream", stream).await.unwrap();
            streams.push(stream.resume(&server).await);
        }
    }
    written.merge(load(&kv, 5).await);
    let truth = written.truth();
    let mut events = 0;
    for stream in streams {
        let reading = stream.read_to(written.last());
        events += within("a stream to have everything", reading).await.judge(&truth);
    }
    assert!(events > 1000, "only {events} events were delivered");
}

/// The same without anything that breaks off, so that nothing is resumed or compacted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nothing_disturbs_deliver_everything() {
    let (server, kv) = TestServer::with(config()).await;
    let mut streams = Vec::new();
    for seed in 0..STREAMS {
        streams.push(Followed::start(&server, seed, 1).await);
    }
    let mut written = Written::default();
    let writers = (0..WRITERS).map(|writer| tokio::spawn(written::random(kv.clone(), writer, WRITES)));
    let writers: Vec<_> = writers.collect();
    for writer in writers {
        written.merge(within("a writer", writer).await.unwrap());
    }
    let truth = written.truth();
    for stream in streams {
        let reading = stream.read_to(written.last());
        let stream = within("a stream to have everything", reading).await;
        assert!(stream.judge(&truth) > 0);
    }
}
