//! What the comparison is made of: scenarios, their steps, and short ways to write those down.

use bytes::Bytes;
use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::request_op::Request;

/// Steps that belong together. Each begins without keys and leases, at the same revision on both servers.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Where the answers are meant to differ: how the row of `docs/etcd-compatibility.md` that says so begins.
    pub(crate) differs: Option<&'static str>,
    /// The steps, from the revision at which the scenario begins.
    pub(crate) steps: fn(i64) -> Vec<Step>,
}

impl Scenario {
    pub(crate) const fn same(name: &'static str, steps: fn(i64) -> Vec<Step>) -> Self {
        Self {
            name,
            differs: None,
            steps,
        }
    }

    pub(crate) const fn differs(name: &'static str, row: &'static str, steps: fn(i64) -> Vec<Step>) -> Self {
        Self {
            name,
            differs: Some(row),
            steps,
        }
    }
}

/// Something to do and to compare the answer of.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Call(Call),
    Watch(Watch),
}

/// A call with one answer.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    Delete(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
    Compact(i64),
    Grant { id: i64, ttl: i64 },
    Revoke(i64),
    KeepAlive(i64),
    TimeToLive(i64),
    Leases,
}

/// A stream of watches, from its first request to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    pub(crate) creates: Vec<pb::WatchCreateRequest>,
    /// What happens meanwhile.
    pub(crate) then: Vec<Call>,
    /// How many events, and ends of watches, to wait for; whatever else comes before what is written next is compared too.
    pub(crate) items: usize,
    pub(crate) after: Vec<Ask>,
}

/// What is asked of a stream that has watches.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    Progress,
    /// To cancel a watch that is there.
    Cancel(i64),
}

impl From<Call> for Step {
    fn from(call: Call) -> Self {
        Self::Call(call)
    }
}

macro_rules! steps_from {
    ($($request:ty => $call:path),*) => {$(
        impl From<$request> for Call {
            fn from(request: $request) -> Self {
                $call(request)
            }
        }

        impl From<$request> for Step {
            fn from(request: $request) -> Self {
                Self::Call(request.into())
            }
        }
    )*};
}

steps_from! {
    pb::RangeRequest => Call::Range,
    pb::PutRequest => Call::Put,
    pb::DeleteRangeRequest => Call::Delete,
    pb::TxnRequest => Call::Txn
}

impl From<Watch> for Step {
    fn from(watch: Watch) -> Self {
        Self::Watch(watch)
    }
}

/// A list of steps from whatever makes one.
macro_rules! steps {
    ($($step:expr),* $(,)?) => { vec![$($crate::scenario::Step::from($step)),*] };
}
pub(crate) use steps;

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(crate) fn range(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        ..pb::RangeRequest::default()
    }
}

pub(crate) fn get(key: &str) -> pb::RangeRequest {
    range(key, "")
}

pub(crate) fn all() -> pb::RangeRequest {
    range("\0", "\0")
}

pub(crate) fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..pb::PutRequest::default()
    }
}

pub(crate) fn put_leased(key: &str, value: &str, lease: i64) -> pb::PutRequest {
    pb::PutRequest {
        lease,
        ..put(key, value)
    }
}

pub(crate) fn delete(key: &str, end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        prev_kv: true,
    }
}

pub(crate) fn op(call: impl Into<Call>) -> pb::RequestOp {
    let request = match call.into() {
        Call::Range(request) => Request::RequestRange(request),
        Call::Put(request) => Request::RequestPut(request),
        Call::Delete(request) => Request::RequestDeleteRange(request),
        Call::Txn(request) => Request::RequestTxn(request),
        other => panic!("{other:?} is no operation of a transaction"),
    };
    pb::RequestOp {
        request: Some(request),
    }
}

/// A transaction that does this.
pub(crate) fn txn(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest {
        success,
        ..pb::TxnRequest::default()
    }
}

pub(crate) fn watch(key: &str, end: &str, start_revision: i64) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: bytes(key),
        range_end: bytes(end),
        start_revision,
        ..pb::WatchCreateRequest::default()
    }
}
