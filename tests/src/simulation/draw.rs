//! What is asked for: keys, ranges, transactions and watches, drawn by dice.

use std::time::Duration;

use bytes::Bytes;
use tidewatch_core::txn::{
    Compare, CompareOp, CompareTarget, DeleteRequest, Op, PutRequest, RangeRequest, Txn,
};
use tidewatch_core::watch::{OnOverflow, Start, View, WatchRequest};
use tidewatch_core::{KeyRange, LeaseId, Revision, key, prefix, range};

use super::dice::Dice;
use super::ledger::Ticket;

const KEYS: [&str; 9] = [
    "/a", "/a/x", "/a/y", "/a/y/z", "/b/x", "/b/y/z", "/c/d/e/f", "plain", "/wide/7",
];

/// So many keys below `/wide/`: more than a page of a snapshot has, which is 128.
const WIDE: u64 = 160;

/// As many operations as a transaction may have.
const MAX_OPS: u64 = 128;

/// A handful of these is more than what a ring keeps, which is 1 MiB.
const LARGE_VALUE: usize = 300_000;

fn name(dice: &Dice) -> &'static str {
    KEYS[dice.below(KEYS.len())]
}

/// A range of any kind.
pub(crate) fn any_range(dice: &Dice) -> KeyRange {
    let made = match dice.below(14) {
        0..5 => key(name(dice)),
        5 => prefix("/a/"),
        6 => prefix("/b/"),
        7 => prefix("/"),
        8 => prefix("/wide/"),
        9 => prefix("/a/y/"),
        10 => range("/a", "/b"),
        11 => range("/a/y", "/c/e"),
        12 => Ok(KeyRange::from_key("/b")),
        _ => Ok(KeyRange::starting_with("/a")),
    };
    made.expect("these are ranges")
}

fn value(dice: &Dice, ticket: Ticket) -> Bytes {
    if dice.chance(10) {
        return ticket.value(LARGE_VALUE);
    }
    ticket.value(dice.below(24))
}

fn put(dice: &Dice, ticket: Ticket, leases: &[LeaseId]) -> PutRequest {
    PutRequest {
        lease: (!leases.is_empty() && dice.chance(250)).then(|| *dice.pick(leases)),
        prev_kv: dice.chance(200),
        ..PutRequest::new(name(dice), value(dice, ticket))
    }
}

fn delete(dice: &Dice) -> DeleteRequest {
    let range = if dice.chance(600) {
        key(name(dice)).expect("a key")
    } else {
        any_range(dice)
    };
    DeleteRequest {
        range,
        prev_kv: dice.chance(300),
    }
}

/// A transaction that is not refused for its form.
pub(crate) fn txn(dice: &Dice, ticket: Ticket, current: Revision, leases: &[LeaseId]) -> Txn {
    match dice.below(100) {
        0..55 => put(dice, ticket, leases).into(),
        55..65 => delete(dice).into(),
        65 => wide(dice, ticket),
        _ => loop {
            let txn = several(dice, ticket, current, leases);
            if txn.validate().is_ok() && !txn.is_read_only() {
                return txn;
            }
        },
    }
}

fn several(dice: &Dice, ticket: Ticket, current: Revision, leases: &[LeaseId]) -> Txn {
    let ops = |most: u64, nested: bool| {
        let count = dice.number(0..=most);
        let ops = (0..count).map(|_| match dice.below(10) {
            0..6 => Op::Put(put(dice, ticket, leases)),
            6..8 => Op::Delete(delete(dice)),
            8 if nested => Op::Txn(Txn {
                compares: vec![compare(dice, current)],
                then: vec![Op::Put(put(dice, ticket, leases))],
                otherwise: vec![Op::Delete(delete(dice))],
            }),
            _ => Op::Range(RangeRequest::new(any_range(dice))),
        });
        ops.collect()
    };
    Txn {
        compares: (0..dice.below(3)).map(|_| compare(dice, current)).collect(),
        then: ops(5, true),
        otherwise: ops(2, false),
    }
}

/// As many keys as fit.
fn wide(dice: &Dice, ticket: Ticket) -> Txn {
    let first = dice.number(0..=WIDE - MAX_OPS);
    let put = |at| Op::Put(PutRequest::new(format!("/wide/{at}"), ticket.value(0)));
    Txn {
        then: (first..first + MAX_OPS).map(put).collect(),
        ..Txn::default()
    }
}

/// One of very many small writes.
pub(crate) fn drop_of_a_flood(dice: &Dice, ticket: Ticket) -> Txn {
    let key = match dice.below(3) {
        0 => name(dice).to_owned(),
        _ => format!("/wide/{}", dice.number(0..=WIDE - 1)),
    };
    PutRequest::new(key, ticket.value(0)).into()
}

fn compare(dice: &Dice, current: Revision) -> Compare {
    let near = |dice: &Dice| Revision(dice.number(current.0.saturating_sub(12)..=current.0));
    Compare {
        range: any_range(dice),
        op: *dice.pick(&[
            CompareOp::Equal,
            CompareOp::Greater,
            CompareOp::Less,
            CompareOp::NotEqual,
        ]),
        target: match dice.below(4) {
            0 => CompareTarget::Version(dice.number(0..=3)),
            1 => CompareTarget::Create(near(dice)),
            2 => CompareTarget::Mod(near(dice)),
            _ => CompareTarget::Value(Bytes::from_static(b"t5")),
        },
    }
}

/// What is watched, from now on or from a revision that may be past or to come.
pub(crate) fn watch(dice: &Dice, current: Revision, room: usize) -> WatchRequest {
    let ranges = if dice.chance(250) { dice.number(2..=4) } else { 1 };
    let ranges: Vec<_> = (0..ranges).map(|_| any_range(dice)).collect();
    let (start, snapshot) = match dice.below(10) {
        0..3 => (Start::Now, false),
        3..6 => (Start::Now, true),
        6..9 => {
            // Mostly what is likely to be still there.
            let back = *dice.pick(&[4, 12, 40, 2000]);
            let from = current.0.saturating_sub(back).max(1);
            (Start::At(Revision(dice.number(from..=current.0))), false)
        }
        _ => (Start::At(Revision(current.0 + dice.number(1..=9))), false),
    };
    let cancel = dice.chance(250);
    WatchRequest {
        ranges,
        start,
        snapshot,
        view: View {
            prev_kv: dice.chance(300),
            keys_only: dice.chance(150),
            no_put: dice.chance(80),
            no_delete: dice.chance(80),
        },
        progress_interval: dice
            .chance(400)
            .then(|| Duration::from_millis(dice.number(100..=1500))),
        on_overflow: if cancel {
            OnOverflow::Cancel
        } else {
            OnOverflow::CatchUp
        },
        coalesce: dice.chance(300),
        internal: false,
        label: None,
        room: (cancel && dice.chance(500)).then(|| dice.below(room) + 1),
    }
}
