//! Random sequences of operations on a few keys, with watches of them: a real etcd is the model.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::compare::TargetUnion;
use tokio::runtime::Runtime;

use crate::compare::{Pair, Side, begin, steps};
use crate::scenario::{Call, Watch, bytes, delete, op, put_leased, range, watch};
use crate::stubs::Stubs;
use crate::table;

/// How many sequences: a quarter of a minute's worth on a busy machine.
const SEQUENCES: u32 = 200;

/// How many where a write goes through an etcd: each takes several times as long.
const SEQUENCES_IN_AN_ETCD: u32 = 30;

/// The longest of them. Revisions to read at are chosen among as many.
const LONGEST: usize = 30;

/// The longest search for a simpler sequence that fails as well.
const SHRINK_STEPS: u32 = 150;

/// A seed to begin with; without, it is another one each time.
const SEED: &str = "TIDEWATCH_TEST_SEED";

#[test]
fn random_operations_have_the_same_answers() -> anyhow::Result<()> {
    have_the_same_answers(0, SEQUENCES)
}

#[test]
fn random_operations_on_a_server_whose_keyspace_is_in_an_etcd() -> anyhow::Result<()> {
    have_the_same_answers(1, SEQUENCES_IN_AN_ETCD)
}

#[test]
fn random_operations_through_a_server_on_a_server_on_an_etcd() -> anyhow::Result<()> {
    have_the_same_answers(2, SEQUENCES_IN_AN_ETCD)
}

fn have_the_same_answers(tiers: usize, sequences: u32) -> anyhow::Result<()> {
    let Some(pair) = Pair::for_test(tiers)? else {
        return Ok(());
    };
    let runtime = Runtime::new()?;
    let connect = async |address| Side::new(address, Stubs::connect(address).await?).await;
    let theirs = runtime.block_on(connect(pair.theirs))?;
    let ours = runtime.block_on(connect(pair.ours))?;
    let sides = std::cell::RefCell::new((theirs, ours));

    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse()?,
        Err(_) => fastrand::u64(..),
    };
    println!("{SEED}={seed}");
    let config = Config {
        cases: sequences,
        max_shrink_iters: SHRINK_STEPS,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&vec(operation(tiers), 1..LONGEST), |operations| {
        let (theirs, ours) = &mut *sides.borrow_mut();
        let difference = runtime.block_on(async {
            let base = begin(theirs.stubs(), ours.stubs()).await?;
            let watching = Watch {
                creates: vec![
                    pb::WatchCreateRequest {
                        prev_kv: true,
                        ..watch("\0", "\0", 0)
                    },
                    watch("a", "b", 0),
                    watch("b", "", base + 3),
                ],
                then: operations.iter().map(|operation| operation.at(base)).collect(),
                ..Watch::default()
            };
            anyhow::Ok(steps(&[watching.into()], theirs, ours).await)
        });
        match difference {
            Ok(None) => Ok(()),
            Ok(Some(text)) => Err(TestCaseError::fail(text)),
            Err(error) => Err(TestCaseError::fail(format!("{error:#}"))),
        }
    });
    outcome.map_err(|error| anyhow::anyhow!("with {SEED}={seed}: {error}"))
}

/// An operation whose revisions count from the beginning of its sequence.
#[derive(Clone, Debug)]
struct Operation(Call);

impl Operation {
    fn at(&self, base: i64) -> Call {
        let mut call = self.0.clone();
        shift(&mut call, base);
        call
    }
}

/// Revisions but 0, which stands for none, count from here.
fn shift(call: &mut Call, base: i64) {
    let shift_one = |revision: &mut i64| {
        if *revision != 0 {
            *revision += base;
        }
    };
    match call {
        Call::Range(request) => {
            for revision in [
                &mut request.revision,
                &mut request.min_mod_revision,
                &mut request.max_mod_revision,
                &mut request.min_create_revision,
                &mut request.max_create_revision,
            ] {
                shift_one(revision);
            }
        }
        Call::Compact(revision) => shift_one(revision),
        Call::Txn(request) => shift_txn(request, base),
        _ => {}
    }
}

fn shift_txn(request: &mut pb::TxnRequest, base: i64) {
    use pb::request_op::Request;

    for compare in &mut request.compare {
        if let Some(TargetUnion::CreateRevision(revision) | TargetUnion::ModRevision(revision)) =
            &mut compare.target_union
            && *revision != 0
        {
            *revision += base;
        }
    }
    for op in request.success.iter_mut().chain(&mut request.failure) {
        match &mut op.request {
            Some(Request::RequestRange(range)) => {
                let mut call = Call::Range(std::mem::take(range));
                shift(&mut call, base);
                if let Call::Range(shifted) = call {
                    *range = shifted;
                }
            }
            Some(Request::RequestTxn(inner)) => shift_txn(inner, base),
            _ => {}
        }
    }
}

fn operation(tiers: usize) -> impl Strategy<Value = Operation> {
    // Written to an etcd, a put is a transaction.
    let put = put_request().prop_map(move |put| if tiers == 0 { put } else { with_one_mistake(put) });
    let calls = prop_oneof![
        8 => put.prop_map(Call::Put),
        4 => delete_request().prop_map(Call::Delete),
        6 => range_request().prop_map(Call::Range),
        6 => txn_request().prop_map(Call::Txn),
        // At 0, which stands for none, is listed as a difference.
        1 => (1..30_i64).prop_map(Call::Compact),
        2 => lease().prop_map(|id| Call::Grant { id, ttl: 1000 }),
        1 => lease().prop_map(Call::Revoke),
        1 => lease().prop_map(Call::TimeToLive),
    ];
    calls.prop_map(Operation)
}

fn key() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "a1", "b", "c", "d"])
}

/// The end of a range: of one key, of some, of none, or no end.
fn end() -> impl Strategy<Value = &'static str> {
    select(vec!["", "", "b", "c", "e", "\0"])
}

/// 0 is that of no lease.
fn lease() -> impl Strategy<Value = i64> {
    select(vec![7, 8])
}

/// 0, or one of the sequence's, or one that comes later.
fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), 0..i64::try_from(LONGEST).unwrap_or(i64::MAX)]
}

fn put_request() -> impl Strategy<Value = pb::PutRequest> {
    let lease = prop_oneof![3 => Just(0), 1 => lease()];
    let flags = (
        any::<bool>(),
        prop::bool::weighted(0.15),
        prop::bool::weighted(0.15),
    );
    (key(), select(vec!["1", "2", "3"]), lease, flags).prop_map(
        |(key, value, lease, (prev_kv, ignore_value, ignore_lease))| pb::PutRequest {
            prev_kv,
            ignore_value,
            ignore_lease,
            ..put_leased(
                key,
                if ignore_value { "" } else { value },
                if ignore_lease { 0 } else { lease },
            )
        },
    )
}

/// Either its key may be missing or its lease.
fn with_one_mistake(mut request: pb::PutRequest) -> pb::PutRequest {
    if request.ignore_value {
        request.lease = 0;
    }
    request
}

fn delete_request() -> impl Strategy<Value = pb::DeleteRangeRequest> {
    (key(), end()).prop_map(|(key, end)| delete(key, end))
}

fn range_request() -> impl Strategy<Value = pb::RangeRequest> {
    // Another target than the key without an order is listed as a difference.
    let order = prop_oneof![Just((0, 0)), (1..=2_i32, 0..=4_i32)];
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.1));
    let bounds = vec(prop_oneof![4 => Just(0), 1 => revision()], 4);
    let at = prop_oneof![2 => Just(0), 1 => revision()];
    (key(), end(), 0..4_i64, at, order, flags, bounds).prop_map(
        |(key, end, limit, revision, (sort_order, sort_target), (keys_only, count_only), bounds)| {
            pb::RangeRequest {
                limit,
                revision,
                sort_order,
                sort_target,
                keys_only,
                count_only,
                min_mod_revision: bounds[0],
                max_mod_revision: bounds[1],
                min_create_revision: bounds[2],
                max_create_revision: bounds[3],
                ..range(key, end)
            }
        },
    )
}

fn compare() -> impl Strategy<Value = pb::Compare> {
    let constant = prop_oneof![
        (0..4_i64).prop_map(TargetUnion::Version),
        revision().prop_map(TargetUnion::CreateRevision),
        revision().prop_map(TargetUnion::ModRevision),
        select(vec!["1", "2"]).prop_map(|value| TargetUnion::Value(bytes(value))),
        lease().prop_map(TargetUnion::Lease),
    ];
    (key(), end(), 0..4_i32, constant)
        .prop_map(|(key, end, result, union)| table::compare(key, end, result, union))
}

/// Deletions up to the end, and those in nested transactions, are left out: how etcd looks for keys that are written
/// twice is listed as a difference. So is which of two mistakes is told: reads do not fail, and a put can in one way only.
fn txn_request() -> impl Strategy<Value = pb::TxnRequest> {
    let bounded = delete_request().prop_filter("has an end", |request| request.range_end != "\0");
    let put = || put_request().prop_map(with_one_mistake);
    let now = || {
        range_request().prop_map(|mut request| {
            request.revision = 0;
            request
        })
    };
    let leaf = || prop_oneof![put().prop_map(op), now().prop_map(op)];
    let nested = (vec(compare(), 0..2), vec(leaf(), 0..3), vec(leaf(), 0..3)).prop_map(branches);
    let ops = vec(
        prop_oneof![3 => leaf(), 1 => bounded.prop_map(op), 1 => nested.prop_map(op)],
        0..4,
    );
    (vec(compare(), 0..3), ops.clone(), ops).prop_map(branches)
}

fn branches(
    (compare, success, failure): (Vec<pb::Compare>, Vec<pb::RequestOp>, Vec<pb::RequestOp>),
) -> pb::TxnRequest {
    pb::TxnRequest {
        compare,
        success,
        failure,
    }
}
