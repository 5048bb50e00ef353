//! Calls over etcd-client.

use std::error::Error as StdError;

use bytes::Bytes;
use etcd_client::{
    Client, CompactionOptions, KvClient, LeaseClient, LeaseGrantOptions, LeaseTimeToLiveOptions,
};
use futures_util::FutureExt;
use tidewatch_core::txn::{OpResponse, RangeRequest, RangeResponse, Txn};
use tidewatch_core::{LeaseId, Revision};

use super::{MAX_MESSAGE_BYTES, convert, failure, txn};
use crate::calls::{CallFailure, Called, Calls, LeaseDetails, Refusal};
use crate::failure::{Failure, FailureKind};

/// A connection for calls.
pub(super) struct EtcdCalls {
    kv: KvClient,
    lease: LeaseClient,
    is_tidewatch: bool,
}

impl EtcdCalls {
    pub(super) fn new(client: &Client, is_tidewatch: bool) -> Self {
        Self {
            kv: client.kv_client().max_decoding_message_size(MAX_MESSAGE_BYTES),
            lease: client.lease_client(),
            is_tidewatch,
        }
    }
}

impl Calls for EtcdCalls {
    fn is_tidewatch(&self) -> bool {
        self.is_tidewatch
    }

    fn range(&self, request: RangeRequest) -> Called<RangeResponse> {
        let mut kv = self.kv.clone();
        async move {
            let (key, options) = txn::get(&request);
            let answer = kv.get(key, Some(options)).await.map_err(|error| why(&error))?;
            let header = convert::header(answer.header());
            Ok((header, txn::ranged(&request, answer.0)))
        }
        .boxed()
    }

    fn txn(&self, txn: Txn) -> Called<(bool, Vec<OpResponse>)> {
        let mut kv = self.kv.clone();
        async move {
            let answer = kv.txn(txn::of(&txn)).await.map_err(|error| why(&error))?;
            let header = convert::header(answer.header());
            let answer = txn::answered(&txn, answer.0).ok_or_else(|| {
                CallFailure::Lost(Failure::unreachable(
                    "an answer that does not fit the transaction",
                ))
            })?;
            Ok((header, answer))
        }
        .boxed()
    }

    fn compact(&self, revision: Revision) -> Called<()> {
        let mut kv = self.kv.clone();
        async move {
            let options: Option<CompactionOptions> = None;
            let answer = kv
                .compact(convert::number(revision), options)
                .await
                .map_err(|error| why(&error))?;
            Ok((convert::header(answer.header()), ()))
        }
        .boxed()
    }

    fn lease_grant(&self, id: Option<LeaseId>, secs: i64) -> Called<(LeaseId, i64)> {
        let mut lease = self.lease.clone();
        async move {
            let options = id.map(|id| LeaseGrantOptions::new().with_id(id.0));
            let answer = lease.grant(secs, options).await.map_err(|error| why(&error))?;
            let granted = (LeaseId(answer.id()), answer.ttl());
            Ok((convert::header(answer.header()), granted))
        }
        .boxed()
    }

    fn lease_revoke(&self, id: LeaseId) -> Called<()> {
        let mut lease = self.lease.clone();
        async move {
            let answer = lease.revoke(id.0).await.map_err(|error| why(&error))?;
            Ok((convert::header(answer.header()), ()))
        }
        .boxed()
    }

    fn lease_keep_alive(&self, id: LeaseId) -> Called<i64> {
        let mut lease = self.lease.clone();
        async move {
            let (mut keeper, mut answers) = lease.keep_alive(id.0).await.map_err(|error| why(&error))?;
            // The first answer, of which only whether there is such a lease is to be had, was taken. This one says the rest.
            keeper.keep_alive().await.map_err(|error| why(&error))?;
            let Some(answer) = answers.message().await.map_err(|error| why(&error))? else {
                let text = "etcd ended the stream of the lease";
                return Err(CallFailure::Lost(Failure::unreachable(text)));
            };
            if answer.ttl() <= 0 {
                return Err(refused(Refusal::LeaseNotFound, "the lease has expired"));
            }
            Ok((convert::header(answer.header()), answer.ttl()))
        }
        .boxed()
    }

    fn lease_info(&self, id: LeaseId) -> Called<LeaseDetails> {
        let mut lease = self.lease.clone();
        async move {
            let options = LeaseTimeToLiveOptions::new().with_keys();
            let answer = lease
                .time_to_live(id.0, Some(options))
                .await
                .map_err(|error| why(&error))?;
            let details = LeaseDetails {
                granted: answer.granted_ttl(),
                remaining: answer.ttl(),
                keys: answer.keys().iter().map(|key| Bytes::from(key.clone())).collect(),
            };
            Ok((convert::header(answer.header()), details))
        }
        .boxed()
    }

    fn leases(&self) -> Called<Vec<LeaseId>> {
        let mut lease = self.lease.clone();
        async move {
            let answer = lease.leases().await.map_err(|error| why(&error))?;
            let ids = answer.leases().iter().map(|lease| LeaseId(lease.id())).collect();
            Ok((convert::header(answer.header()), ids))
        }
        .boxed()
    }
}

fn refused(refusal: Refusal, text: &str) -> CallFailure {
    CallFailure::Refused(refusal, text.to_owned())
}

/// Why a call failed.
fn why(error: &etcd_client::Error) -> CallFailure {
    let failure = failure::of(error);
    match error {
        etcd_client::Error::GRpcStatus(status) => {
            if was_never_sent(status) {
                return CallFailure::NotDone(failure);
            }
            said(i32::from(status.code()), failure)
        }
        etcd_client::Error::TransportError(_) => CallFailure::NotDone(failure),
        etcd_client::Error::LeaseKeepAliveError(text) if text.contains("not found") => {
            refused(Refusal::LeaseNotFound, text)
        }
        etcd_client::Error::LeaseKeepAliveError(_) | etcd_client::Error::WatchError(_) => {
            CallFailure::Lost(Failure::unreachable(failure.text))
        }
        _ => CallFailure::Refused(Refusal::Other, failure.text),
    }
}

/// Whether no connection could be made for it.
fn was_never_sent(status: &tonic::Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// gRPC's numbers, as they stand on the wire.
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const ALREADY_EXISTS: i32 = 6;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const UNIMPLEMENTED: i32 = 12;
}

/// What etcd's words mean; it uses a code for several things.
const REFUSALS: [(&str, Refusal); 11] = [
    ("required revision has been compacted", Refusal::Compacted),
    ("required revision is a future revision", Refusal::Future),
    ("database space exceeded", Refusal::NoSpace),
    ("requested lease not found", Refusal::LeaseNotFound),
    ("lease already exists", Refusal::LeaseExists),
    ("key not found", Refusal::KeyNotFound),
    ("request is too large", Refusal::TooLarge),
    ("received message larger than max", Refusal::TooLarge),
    ("too many operations", Refusal::TooManyOps),
    ("message length too large", Refusal::AnswerTooLarge),
    ("trying to send message larger than max", Refusal::AnswerTooLarge),
];

/// What etcd says before it proposes anything.
const NOT_DONE: [&str; 4] = [
    "no leader",
    "too many requests",
    "not supported for learner",
    "not capable",
];

fn said(code: i32, failure: Failure) -> CallFailure {
    let says = |words: &str| failure.text.contains(words);
    if let Some((_, refusal)) = REFUSALS.iter().find(|(words, _)| says(words)) {
        return CallFailure::Refused(*refusal, failure.text);
    }
    match failure.kind {
        FailureKind::Denied | FailureKind::Credentials => {
            return CallFailure::Refused(Refusal::Denied, failure.text);
        }
        // Another connection shows another token, and TLS lets nothing through that it does not accept.
        FailureKind::Token | FailureKind::Tls => return CallFailure::NotDone(failure),
        _ => {}
    }
    if NOT_DONE.iter().any(|words| says(words)) {
        return CallFailure::NotDone(failure);
    }
    match code {
        code::INVALID_ARGUMENT
        | code::NOT_FOUND
        | code::ALREADY_EXISTS
        | code::RESOURCE_EXHAUSTED
        | code::FAILED_PRECONDITION
        | code::OUT_OF_RANGE
        | code::UNIMPLEMENTED => CallFailure::Refused(Refusal::Other, failure.text),
        _ => CallFailure::Lost(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_says_tells_whether_it_may_have_been_done() {
        let cases = [
            (8, "etcdserver: mvcc: database space exceeded", Refusal::NoSpace),
            (5, "etcdserver: requested lease not found", Refusal::LeaseNotFound),
            (9, "etcdserver: lease already exists", Refusal::LeaseExists),
            (3, "etcdserver: request is too large", Refusal::TooLarge),
            (
                3,
                "etcdserver: too many operations in txn request",
                Refusal::TooManyOps,
            ),
            (7, "etcdserver: permission denied", Refusal::Denied),
            (
                3,
                "etcdserver: duplicate key given in txn request",
                Refusal::Other,
            ),
        ];
        let told = |code, text| {
            let status = tonic::Status::new(tonic::Code::from_i32(code), text);
            why(&etcd_client::Error::GRpcStatus(status))
        };
        for (code, text, expected) in cases {
            let failure = told(code, text);
            assert!(
                matches!(&failure, CallFailure::Refused(found, _) if *found == expected),
                "{text}: {failure:?}"
            );
        }
        for (code, text) in [
            (14, "etcdserver: no leader"),
            (8, "etcdserver: too many requests"),
            (16, "etcdserver: invalid auth token"),
        ] {
            let failure = told(code, text);
            assert!(matches!(failure, CallFailure::NotDone(_)), "{text}: {failure:?}");
        }
        for (code, text) in [
            (
                14,
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            (13, "h2 protocol error: error reading a body from connection"),
        ] {
            let failure = told(code, text);
            assert!(matches!(failure, CallFailure::Lost(_)), "{text}: {failure:?}");
        }
    }
}
