//! `fleet_start_100k`, `fleet_start_1m`, `fleet_key_bytes_100k`, `fleet_key_bytes_1m`: what a server costs whose keyspace is in an etcd
//! with so many keys.
//!
//! **How.** An etcd 3.5.1, its data in memory, is filled with keys of 24 B and values of 128 B, 128 in a transaction. Then a
//! `tidewatch serve --etcd` is started on it: the time until it says that it serves, which it does when it has everything, and its memory
//! then (`RssAnon`) for each key. One repetition, whatever is asked for: filling takes longer than measuring.
//!
//! **Fairness.** Beside it stands what etcd itself has of memory for each key, which includes what it has not given back after the
//! writes, and how long a client takes to read everything in pages of 1000 without keeping it.
//!
//! **Unit.** Milliseconds; bytes a key.

use anyhow::Result;
use etcd_client::{Client, GetOptions, Txn, TxnOp};

use super::Bench;
use crate::alternate::Plan;
use crate::payload;
use crate::process;
use crate::row::{Better, Row};
use crate::server::{self, Storage};
use crate::two_workers::{self, now};

/// Puts in a transaction: etcd's limit.
const TXN_OPS: u32 = 128;

/// Keys in an answer.
const PAGE: i64 = 1000;

/// With 100 000 keys.
pub const HUNDRED_THOUSAND: Bench = Bench {
    names: &["fleet_start_100k", "fleet_key_bytes_100k"],
    run: |_: Plan| measure("fleet_start_100k", "fleet_key_bytes_100k", 100_000),
};

/// With a million.
pub const MILLION: Bench = Bench {
    names: &["fleet_start_1m", "fleet_key_bytes_1m"],
    run: |_: Plan| measure("fleet_start_1m", "fleet_key_bytes_1m", 1_000_000),
};

fn measure(start: &'static str, bytes: &'static str, keys: u32) -> Result<Vec<Row>> {
    let etcd = server::etcd35(Storage::Memory)?;
    let (endpoint, empty) = (etcd.addr().to_string(), process::memory(etcd.pid())?);
    let read_ms = two_workers::run(async move {
        let mut client = Client::connect([endpoint], None).await?;
        fill(&mut client, keys).await?;
        read(&mut client).await
    })?;
    let each = |memory: f64| memory / f64::from(keys);
    let theirs = each(process::memory(etcd.pid())? - empty);
    let began = now();
    let server = server::tidewatch_above(etcd)?;
    let took = began.elapsed().as_secs_f64() * 1e3;
    let ours = each(process::memory(server.pid())?);
    Ok(vec![
        Row::new(start, "ms", Better::Less, took, "reading it all", read_ms),
        Row::new(bytes, "B", Better::Less, ours, "etcd-3.5", theirs),
    ])
}

async fn fill(client: &mut Client, keys: u32) -> Result<()> {
    let mut number = 0;
    while number < keys {
        let puts = (number..keys.min(number + TXN_OPS))
            .map(|n| TxnOp::put(format!("/fleet/host/{n:012}"), payload::numbered(n.into()), None))
            .collect::<Vec<_>>();
        client.txn(Txn::new().and_then(puts)).await?;
        number += TXN_OPS;
    }
    Ok(())
}

/// Milliseconds that it takes to read everything, page by page.
async fn read(client: &mut Client) -> Result<f64> {
    let began = now();
    let mut from = vec![0];
    loop {
        let page = GetOptions::new().with_from_key().with_limit(PAGE);
        let answer = client.get(from.clone(), Some(page)).await?;
        match answer.kvs().last() {
            Some(last) if answer.more() => from = [last.key(), &[0]].concat(),
            _ => return Ok(began.elapsed().as_secs_f64() * 1e3),
        }
    }
}
