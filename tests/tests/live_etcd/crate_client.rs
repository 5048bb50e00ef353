//! The `etcd-client` crate: what Rust programs talk to etcd with.

use std::net::SocketAddr;

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, Error, EventType, GetOptions,
    LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp,
    WatchFilterType, WatchOptions, WatchStream,
};
use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::compare::TargetUnion;
use tidewatch_proto::etcdserverpb::request_op::Request;
use tidewatch_proto::etcdserverpb::watch_request::RequestUnion;
use tidewatch_proto::mvccpb;

use crate::compare::Face;
use crate::normal;
use crate::scenario::{Call, Step};
use crate::stubs::Stubs;
use crate::watching::{self, Wire};

/// A client of one server.
pub(crate) struct CrateClient {
    client: Client,
    /// For what happens while it watches.
    stubs: Stubs,
}

impl CrateClient {
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self {
            client: Client::connect([address.to_string()], None).await?,
            stubs: Stubs::connect(address).await?,
        })
    }

    async fn call(&mut self, call: &Call) -> Option<String> {
        let client = &mut self.client;
        Some(match call.clone() {
            Call::Range(request) => {
                let key = request.key.clone();
                text(client.get(key, Some(get(request)?)).await)
            }
            Call::Put(request) => {
                let (key, value) = (request.key.clone(), request.value.clone());
                text(client.put(key, value, Some(put(&request))).await)
            }
            Call::Delete(request) => {
                let key = request.key.clone();
                text(client.delete(key, Some(delete(request))).await)
            }
            Call::Txn(request) => text(client.txn(txn(request)?).await),
            Call::Compact(revision) => {
                let options = CompactionOptions::new().with_physical();
                text(client.compact(revision, Some(options)).await)
            }
            Call::Grant { id, ttl } => {
                let options = LeaseGrantOptions::new().with_id(id);
                text(client.lease_grant(ttl, Some(options)).await)
            }
            Call::Revoke(id) => text(client.lease_revoke(id).await),
            Call::KeepAlive(id) => match client.lease_keep_alive(id).await {
                // The crate reads the first answer itself; the second is to a request of ours.
                Ok((mut keeper, mut answers)) => match keeper.keep_alive().await {
                    Ok(()) => text(answers.message().await),
                    Err(error) => failure(&error),
                },
                Err(error) => failure(&error),
            },
            // Of what is left of a lease the crate shows all, and there is no way to change that.
            Call::TimeToLive(id) => {
                let options = LeaseTimeToLiveOptions::new().with_keys();
                let answer = client.lease_time_to_live(id, Some(options)).await;
                let answer = answer.map(|answer| {
                    let header = answer.header().map(etcd_client::ResponseHeader::revision);
                    let mut keys = answer.keys().to_vec();
                    keys.sort();
                    (
                        header,
                        answer.id(),
                        answer.ttl().signum(),
                        answer.granted_ttl(),
                        keys,
                    )
                });
                text(answer)
            }
            Call::Leases => text(client.leases().await),
        })
    }
}

impl Face for CrateClient {
    async fn answer(&mut self, step: &Step) -> Option<String> {
        match step {
            Step::Call(call) => self.call(call).await,
            Step::Watch(watch) => {
                let (key, options) = create(watching::sentinel());
                Some(match self.client.watch(key, Some(options)).await {
                    Ok(stream) => watching::observe(Stream(stream), &self.stubs, watch).await,
                    Err(error) => failure(&error),
                })
            }
        }
    }
}

fn text<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
    match answer {
        Ok(answer) => normal::message(&answer),
        Err(error) => failure(&error),
    }
}

fn failure(error: &Error) -> String {
    match error {
        Error::GRpcStatus(status) => normal::status(status),
        other => other.to_string(),
    }
}

/// None: with an order that the crate has no word for.
fn get(request: pb::RangeRequest) -> Option<GetOptions> {
    let mut options = GetOptions::new()
        .with_range(request.range_end)
        .with_limit(request.limit)
        .with_revision(request.revision)
        .with_min_mod_revision(request.min_mod_revision)
        .with_max_mod_revision(request.max_mod_revision)
        .with_min_create_revision(request.min_create_revision)
        .with_max_create_revision(request.max_create_revision);
    if request.serializable {
        options = options.with_serializable();
    }
    if request.keys_only {
        options = options.with_keys_only();
    }
    if request.count_only {
        options = options.with_count_only();
    }
    let order = SortOrder::try_from(request.sort_order).ok()?;
    let target = SortTarget::try_from(request.sort_target).ok()?;
    Some(options.with_sort(target, order))
}

fn put(request: &pb::PutRequest) -> PutOptions {
    let mut options = PutOptions::new().with_lease(request.lease);
    if request.prev_kv {
        options = options.with_prev_key();
    }
    if request.ignore_value {
        options = options.with_ignore_value();
    }
    if request.ignore_lease {
        options = options.with_ignore_lease();
    }
    options
}

fn delete(request: pb::DeleteRangeRequest) -> DeleteOptions {
    let options = DeleteOptions::new().with_range(request.range_end);
    if request.prev_kv {
        options.with_prev_key()
    } else {
        options
    }
}

/// None: with something in it that the crate has no word for.
fn txn(request: pb::TxnRequest) -> Option<Txn> {
    let ops = |ops: Vec<pb::RequestOp>| ops.into_iter().map(op).collect::<Option<Vec<_>>>();
    let compares = request.compare.into_iter().map(compare);
    // The crate refuses to be told twice, and an empty list is one.
    let mut txn = Txn::new().when(compares.collect::<Option<Vec<_>>>()?);
    txn = txn.and_then(ops(request.success)?);
    Some(txn.or_else(ops(request.failure)?))
}

fn op(op: pb::RequestOp) -> Option<TxnOp> {
    Some(match op.request? {
        Request::RequestRange(request) => TxnOp::get(request.key.clone(), Some(get(request)?)),
        Request::RequestPut(request) => {
            let options = put(&request);
            TxnOp::put(request.key, request.value, Some(options))
        }
        Request::RequestDeleteRange(request) => TxnOp::delete(request.key.clone(), Some(delete(request))),
        Request::RequestTxn(request) => TxnOp::txn(txn(request)?),
    })
}

fn compare(compare: pb::Compare) -> Option<Compare> {
    let op = CompareOp::try_from(compare.result).ok()?;
    let key = compare.key;
    let made = match (compare.target, compare.target_union?) {
        (0, TargetUnion::Version(version)) => Compare::version(key, op, version),
        (1, TargetUnion::CreateRevision(revision)) => Compare::create_revision(key, op, revision),
        (2, TargetUnion::ModRevision(revision)) => Compare::mod_revision(key, op, revision),
        (3, TargetUnion::Value(value)) => Compare::value(key, op, value),
        (4, TargetUnion::Lease(lease)) => Compare::lease(key, op, lease),
        _ => return None,
    };
    Some(made.with_range(compare.range_end))
}

fn create(request: pb::WatchCreateRequest) -> (Vec<u8>, WatchOptions) {
    let filters = request
        .filters
        .iter()
        .filter_map(|&filter| WatchFilterType::try_from(filter).ok());
    let mut options = WatchOptions::new()
        .with_range(request.range_end)
        .with_start_revision(request.start_revision)
        .with_watch_id(request.watch_id)
        .with_filters(filters.collect::<Vec<_>>());
    if request.prev_kv {
        options = options.with_prev_key();
    }
    if request.fragment {
        options = options.with_fragment();
    }
    (request.key.into(), options)
}

/// A stream of watches.
struct Stream(WatchStream);

impl Wire for Stream {
    async fn ask(&mut self, request: RequestUnion) -> Result<(), String> {
        let asked = match request {
            RequestUnion::CreateRequest(request) => {
                let (key, options) = create(request);
                self.0.watch(key, Some(options)).await
            }
            RequestUnion::CancelRequest(request) => self.0.cancel(request.watch_id).await,
            RequestUnion::ProgressRequest(_) => self.0.request_progress().await,
        };
        asked.map_err(|error| failure(&error))
    }

    async fn message(&mut self) -> Result<Option<pb::WatchResponse>, String> {
        let message = self.0.message().await.map_err(|error| failure(&error))?;
        Ok(message.map(|message| pb::WatchResponse {
            header: message.header().map(|header| pb::ResponseHeader {
                revision: header.revision(),
                ..pb::ResponseHeader::default()
            }),
            watch_id: message.watch_id(),
            created: message.created(),
            canceled: message.canceled(),
            compact_revision: message.compact_revision(),
            cancel_reason: message.cancel_reason().into(),
            events: message.events().iter().map(event).collect(),
            ..pb::WatchResponse::default()
        }))
    }
}

fn event(event: &etcd_client::Event) -> mvccpb::Event {
    let entry = |kv: &etcd_client::KeyValue| mvccpb::KeyValue {
        key: kv.key().to_vec().into(),
        value: kv.value().to_vec().into(),
        create_revision: kv.create_revision(),
        mod_revision: kv.mod_revision(),
        version: kv.version(),
        lease: kv.lease(),
    };
    mvccpb::Event {
        r#type: match event.event_type() {
            EventType::Put => 0,
            EventType::Delete => 1,
        },
        kv: event.kv().map(entry),
        prev_kv: event.prev_kv().map(entry),
    }
}
