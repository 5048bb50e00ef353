//! Those who write, and what they know of the outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use fastrand::Rng;
use tidewatch_core::txn::{Compare, Op, PutRequest, Txn, TxnResponse};
use tidewatch_core::{Error, Keyspace, key};
use tokio::sync::watch;

use super::plan::Space;
use super::report::Counts;
use super::round::{Patience, ROUND_TXNS};

/// A transaction that was sent and may have happened.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) txn: Txn,
    /// The answer. None: its outcome is unknown.
    pub(super) answer: Option<TxnResponse>,
}

/// A writer of a round.
pub(super) struct Writer {
    pub(super) name: usize,
    pub(super) keyspace: Keyspace,
    pub(super) space: Space,
    pub(super) rng: Rng,
    pub(super) counts: Arc<Counts>,
    /// Acknowledged transactions of all writers of the round, as long as there is need for more.
    pub(super) written: Arc<Written>,
}

/// How much has been written in a round.
#[derive(Debug)]
pub(super) struct Written {
    acknowledged: watch::Sender<u64>,
    wanted: AtomicU64,
}

impl Written {
    /// Nothing yet; so much is wanted.
    pub(super) fn new(wanted: u64) -> Self {
        Self {
            acknowledged: watch::Sender::new(0),
            wanted: AtomicU64::new(wanted),
        }
    }

    /// There need be no more than this.
    pub(super) fn want_only(&self, wanted: u64) {
        self.wanted.fetch_min(wanted, Ordering::Relaxed);
    }

    /// Waits until so many transactions were acknowledged.
    pub(super) async fn reached(&self, acknowledged: u64) {
        // The sender lives as long as this waits.
        let _ = self
            .acknowledged
            .subscribe()
            .wait_for(|count| *count >= acknowledged)
            .await;
    }

    fn is_enough(&self) -> bool {
        *self.acknowledged.borrow() >= self.wanted.load(Ordering::Relaxed)
    }
}

impl Writer {
    /// Writes until there is enough.
    pub(super) async fn run(mut self) -> anyhow::Result<Vec<Attempt>> {
        let mut attempts = Vec::new();
        let large = self.rng.u64(..ROUND_TXNS / 20);
        for number in 0.. {
            if self.written.is_enough() {
                break;
            }
            let txn = if self.name == 0 && number == large {
                everything(&self.space, &vec![b'l'; LARGE_VALUE])
            } else {
                self.transaction(number)
            };
            let attempt = attempt(&self.keyspace, txn, &self.counts).await?;
            let known = u64::from(attempt.answer.is_some());
            self.written.acknowledged.send_modify(|count| *count += known);
            attempts.push(attempt);
        }
        Ok(attempts)
    }

    fn transaction(&mut self, number: u64) -> Txn {
        let rng = &mut self.rng;
        let mut value = value(self.name, number, rng);
        match rng.u8(..20) {
            0..10 => Txn::from(put(&self.space, rng, &mut value)),
            10..13 => Txn::new().delete(self.space.key(rng)),
            13 => Txn::new().delete(self.space.folder(rng)),
            14..16 => {
                let compared = self.space.key(rng);
                let written = compared.start().clone();
                let compare = if rng.bool() {
                    Compare::exists(compared.clone())
                } else {
                    Compare::absent(compared.clone())
                };
                Txn::new()
                    .when(compare)
                    .put(PutRequest::new(written, value()))
                    .or_else(Op::Put(put(&self.space, rng, &mut value)))
            }
            _ => several(&self.space, rng, &mut value),
        }
    }
}

/// Sends a transaction, again as long as nobody is reached.
pub(super) async fn attempt(keyspace: &Keyspace, txn: Txn, counts: &Counts) -> anyhow::Result<Attempt> {
    let mut patience = Patience::new();
    loop {
        match keyspace.txn(txn.clone()).await {
            Ok(answer) => {
                counts.transaction(true);
                let answer = Some(answer);
                return Ok(Attempt { txn, answer });
            }
            Err(Error::OutcomeUnknown(_)) => {
                counts.transaction(false);
                return Ok(Attempt { txn, answer: None });
            }
            // It had no effect.
            Err(error) => patience.after(error).await?,
        }
    }
}

/// A transaction that writes every key.
pub(super) fn everything(space: &Space, value: &[u8]) -> Txn {
    let keys = space.keys().into_iter();
    keys.fold(Txn::new(), |txn, key| {
        txn.put(PutRequest::new(key, Bytes::copy_from_slice(value)))
    })
}

/// So large that a revision of one for every key travels in pieces, and still is a transaction.
const LARGE_VALUE: usize = 60 * 1024;

fn put(space: &Space, rng: &mut Rng, value: &mut impl FnMut() -> Bytes) -> PutRequest {
    PutRequest::new(space.key(rng).start().clone(), value())
}

/// Some keys are written and others deleted, in any order.
fn several(space: &Space, rng: &mut Rng, value: &mut impl FnMut() -> Bytes) -> Txn {
    let mut keys = space.keys();
    rng.shuffle(&mut keys);
    let some = rng.usize(2..8);
    keys.into_iter().take(some).fold(Txn::new(), |txn, name| {
        if rng.u8(..4) == 0 {
            txn.delete(key(name).expect("it is a key of the round"))
        } else {
            txn.put(PutRequest::new(name, value()))
        }
    })
}

/// Values that are never the same twice, mostly small.
fn value(writer: usize, number: u64, rng: &mut Rng) -> impl FnMut() -> Bytes + use<> {
    let mut rng = rng.fork();
    let mut part = 0;
    move || {
        part += 1;
        let mut value = format!("{writer}-{number}-{part} ").into_bytes();
        let size = if rng.u8(..32) == 0 { 16 << 10 } else { 512 };
        value.resize(value.len() + rng.usize(..size), b'v');
        value.into()
    }
}
