//! Writes: carried out by etcd, acknowledged when the cache has them.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{Either, select};
use tidewatch_core::key::RangeEnd;
use tidewatch_core::txn::{Header, Op, OpResponse, PutRequest, Txn, TxnResponse};
use tidewatch_core::{Error, KeyRange, Position, Revision};

use super::Inner;
use super::read::{Caught, cause, revisions};
use crate::calls::{CallFailure, Refusal};
use crate::failure::{Failure, FailureKind};
use crate::header::Header as EtcdHeader;

/// How long the watch may take to show a write that etcd has acknowledged.
const SHOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// A write that is under way: as long as it is, the backend goes on.
pub(super) struct UnderWay<'a>(&'a Inner);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut closing = self.0.closing();
        closing.writes -= 1;
        if closing.reason.is_some() && closing.writes == 0 {
            self.0.closed.notify_one();
        }
    }
}

impl Inner {
    /// Begins a write.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(super) fn begin(&self) -> Result<UnderWay<'_>, Error> {
        let mut closing = self.closing();
        if closing.reason.is_some() {
            return Err(Error::Closed);
        }
        closing.writes += 1;
        Ok(UnderWay(self))
    }

    pub(super) async fn txn(&self, txn: Txn) -> Result<TxnResponse, Error> {
        txn.validate()?;
        if txn.is_read_only() {
            return self.reads(&txn).await;
        }
        let _under_way = self.begin()?;
        let before = self.replica.position();
        let keyspace = before.keyspace;
        let there = self.shared.namespace.txn(&txn);
        let (header, (succeeded, responses)) =
            match self.shared.upstream.write(|calls| calls.txn(there.clone())).await {
                Ok(answer) => answer,
                Err(CallFailure::Refused(Refusal::NoSpace, text)) => {
                    return Err(self.no_space(&txn, before, text).await);
                }
                Err(failure) => return Err(self.txn_error(failure, &txn).await),
            };
        let revision = header.revision;
        let has_changed = responses.iter().any(has_changed);
        self.check_followed(&header, before, has_changed)?;
        if has_changed {
            self.shown(Position { keyspace, revision }).await?;
        } else {
            // Nothing to wait for; but who has been told of a revision does not like to read an older one.
            let _ = self.catch_up_to(revision).await;
        }
        Ok(TxnResponse {
            header: Header { keyspace, revision },
            succeeded,
            responses: self.shared.namespace.responses(responses),
        })
    }

    /// Whether it is the history that is followed that answers, as far as can be told: one that was restored begins further back,
    /// and what is here already would pass for what was written now.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`]: it was made in another one, or in what will be found to be one.
    fn check_followed(&self, header: &EtcdHeader, before: Position, has_changed: bool) -> Result<(), Error> {
        let followed = self.shared.cluster.load(Ordering::Relaxed);
        let is_other = header.cluster != 0 && header.cluster != followed;
        let is_back =
            header.revision < before.revision || (has_changed && header.revision == before.revision);
        if is_other || is_back {
            let text = "etcd has answered, but its history is another one than is followed here";
            return Err(Error::OutcomeUnknown(cause(Failure::unreachable(text))));
        }
        Ok(())
    }

    /// What it means that etcd says it is full. It says so before it proposes anything, but also of what it carries out when that is
    /// more than there is room for. What was carried out is shown by the watch.
    async fn no_space(&self, txn: &Txn, before: Position, text: String) -> Error {
        let has_all = matches!(self.catch_up().await, Ok(Caught::Up));
        if has_all && self.replica.touched(&written(txn), before) == Some(false) {
            return self.full();
        }
        Error::OutcomeUnknown(cause(Failure::new(FailureKind::Refused, text)))
    }

    fn full(&self) -> Error {
        // etcd tells neither how full it is nor what it may hold; of this keyspace so much is known.
        let used = self.replica.extent().bytes;
        Error::NoSpace { used, quota: used }
    }

    /// Waits until the watch has shown a write.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`]: it was made, but whether anybody will see it here is not known.
    async fn shown(&self, position: Position) -> Result<(), Error> {
        let shown = pin!(self.replica.reached(position));
        let why = match select(shown, self.shared.clock.sleep(SHOWN_TIMEOUT)).await {
            Either::Left((Ok(()), _)) => return Ok(()),
            Either::Left((Err(error), _)) => error.to_string(),
            Either::Right(_) => format!("the watch of etcd has not shown it within {SHOWN_TIMEOUT:?}"),
        };
        let revision = position.revision;
        Err(Error::OutcomeUnknown(cause(Failure::unreachable(format!(
            "etcd has written it at revision {revision}, but {why}"
        )))))
    }

    async fn txn_error(&self, failure: CallFailure, txn: &Txn) -> Error {
        let CallFailure::Refused(refusal, text) = failure else {
            return self.write_error(failure);
        };
        match refusal {
            Refusal::Compacted | Refusal::Future => {
                let (oldest, newest) = revisions(txn);
                self.read_error(CallFailure::Refused(refusal, text), oldest, newest)
                    .await
            }
            Refusal::LeaseNotFound => self.lease_error(txn, text).await,
            Refusal::KeyNotFound => {
                let keeps = |put: &&PutRequest| put.ignore_value || put.ignore_lease;
                let kept: Vec<_> = puts(txn).into_iter().filter(keeps).collect();
                let mut found = kept.first().copied();
                for put in kept.iter().skip(1) {
                    // Which of several it is is told by what there is now.
                    if !self.exists(&put.key).await {
                        found = Some(put);
                    }
                }
                match found {
                    Some(put) => Error::KeyNotFound { key: put.key.clone() },
                    None => Error::Unsupported { what: text },
                }
            }
            refusal => self.write_error(CallFailure::Refused(refusal, text)),
        }
    }

    async fn exists(&self, key: &bytes::Bytes) -> bool {
        let Ok(range) = tidewatch_core::key(key.clone()) else {
            return false;
        };
        let read = self.range(tidewatch_core::txn::RangeRequest::new(range)).await;
        read.is_ok_and(|(_, response)| response.count > 0)
    }

    /// One of its leases is not there.
    async fn lease_error(&self, txn: &Txn, text: String) -> Error {
        let mut ids: Vec<_> = puts(txn).into_iter().filter_map(|put| put.lease).collect();
        ids.sort_unstable();
        ids.dedup();
        for id in ids.iter().skip(1) {
            if let Err(error @ Error::LeaseNotFound { .. }) = self.lease_info(*id).await {
                return error;
            }
        }
        match ids.first() {
            Some(&id) => Error::LeaseNotFound { id },
            None => Error::Unsupported { what: text },
        }
    }

    /// What a failed write means, whatever it was to write.
    pub(super) fn write_error(&self, failure: CallFailure) -> Error {
        match failure {
            CallFailure::NotDone(failure) => Error::Unavailable(cause(failure)),
            CallFailure::Lost(failure) => Error::OutcomeUnknown(cause(failure)),
            CallFailure::Refused(refusal, text) => match refusal {
                Refusal::NoSpace => self.full(),
                // It was carried out; what it did is too much to be told.
                Refusal::AnswerTooLarge => {
                    Error::OutcomeUnknown(cause(Failure::new(FailureKind::TooLarge, text)))
                }
                Refusal::Denied => Error::PermissionDenied { reason: text },
                Refusal::TooLarge => Error::InvalidArgument {
                    what: "transaction",
                    reason: "it is larger than this etcd accepts; raise its --max-request-bytes".into(),
                },
                Refusal::TooManyOps => Error::InvalidArgument {
                    what: "transaction",
                    reason: "it has more operations than this etcd accepts; raise its --max-txn-ops".into(),
                },
                _ => Error::Unsupported { what: text },
            },
        }
    }

    pub(super) async fn compact(&self, revision: Revision) -> Result<Header, Error> {
        let _under_way = self.begin()?;
        match self.shared.upstream.write(|calls| calls.compact(revision)).await {
            Ok((header, ())) => {
                self.note_compacted(revision);
                // What is not here yet cannot be forgotten.
                let _ = self.catch_up_to(revision).await;
                self.replica.compact(revision).await;
                Ok(self.header(header.revision))
            }
            Err(CallFailure::Refused(Refusal::Compacted, _)) => {
                // The revision that was compacted to can be read, but not compacted to again.
                if revision > self.compacted() {
                    self.find_floor(Revision(1)).await;
                }
                Err(Error::Compacted {
                    requested: revision,
                    oldest: self.compacted().max(revision),
                })
            }
            Err(CallFailure::Refused(Refusal::Future, _)) => Err(Error::FutureRevision {
                requested: revision,
                current: self.replica.position().revision,
            }),
            Err(failure) => Err(self.write_error(failure)),
        }
    }
}

/// Whether an operation has made a revision.
fn has_changed(response: &OpResponse) -> bool {
    match response {
        OpResponse::Put { .. } => true,
        OpResponse::Delete { deleted, .. } => *deleted > 0,
        OpResponse::Range(_) => false,
        OpResponse::Txn { responses, .. } => responses.iter().any(has_changed),
    }
}

/// Everything that a transaction may change.
fn written(txn: &Txn) -> Vec<KeyRange> {
    fn of(op: &Op) -> Vec<KeyRange> {
        match op {
            Op::Put(put) => vec![KeyRange::unchecked(put.key.clone(), RangeEnd::Single)],
            Op::Delete(delete) => vec![delete.range.clone()],
            Op::Txn(txn) => written(txn),
            Op::Range(_) => Vec::new(),
        }
    }
    txn.then.iter().chain(&txn.otherwise).flat_map(of).collect()
}

/// All writes that a transaction may make.
fn puts(txn: &Txn) -> Vec<&PutRequest> {
    fn of(op: &Op) -> Vec<&PutRequest> {
        match op {
            Op::Put(put) => vec![put],
            Op::Txn(txn) => puts(txn),
            Op::Delete(_) | Op::Range(_) => Vec::new(),
        }
    }
    txn.then.iter().chain(&txn.otherwise).flat_map(of).collect()
}
