//! What stands in etcd about which keyspaces there are.

use std::sync::PoisonError;

use tidewatch_core::key::RangeEnd;
use tidewatch_core::limits::MAX_TXN_OPS;
use tidewatch_core::txn::{Compare, Op, OpResponse, PutRequest, RangeRequest, Txn};
use tidewatch_core::{KeyRange, KeyValue};

use super::Shared;
use super::follow::PAUSE;
use super::marker::{Found, Marker, NoMarker};
use super::namespace::Namespace;
use crate::calls::{CallFailure, Refusal};
use crate::error::Error;
use crate::failure::{Failure, FailureKind};

/// Why it is not known which keyspace it is.
pub(super) enum Trouble {
    /// A person has to put it right.
    Hopeless(Error),
    /// It may be known later.
    Call(CallFailure),
}

impl From<CallFailure> for Trouble {
    fn from(failure: CallFailure) -> Self {
        Self::Call(failure)
    }
}

impl Shared {
    /// Whether a keyspace was begun here before.
    ///
    /// # Errors
    /// Something only a person can put right.
    pub(super) async fn is_used(&self) -> Result<bool, Error> {
        if self.is_tidewatch() {
            return Ok(true);
        }
        loop {
            match self.read_marker(&self.namespace).await {
                Ok((_, found)) => return Ok(found.is_some()),
                Err(Trouble::Hopeless(error)) => return Err(error),
                Err(Trouble::Call(failure)) => self.check_hopeless(&failure)?,
            }
            self.clock.sleep(PAUSE).await;
        }
    }

    /// The marker of a namespace, and the cluster it was read in.
    pub(super) async fn read_marker(&self, namespace: &Namespace) -> Result<(u64, Option<Found>), Trouble> {
        let request = RangeRequest::new(marker_range(namespace));
        let (header, mut response) = self.upstream.range(&request).await?;
        let Some(kv) = response.kvs.pop() else {
            return Ok((header.cluster, None));
        };
        let in_the_way = |reason: String| {
            Trouble::Hopeless(Error::Config {
                what: "namespace",
                reason,
            })
        };
        match Marker::decode(&kv.value) {
            Ok(marker) if marker.namespace == namespace.shown() => {
                let written = kv.mod_revision;
                Ok((header.cluster, Some(Found { marker, written })))
            }
            Err(NoMarker::Newer(version)) => Err(in_the_way(format!(
                "{:?} was set up by a newer version of Tidewatch (its marker has version {version})",
                namespace.shown()
            ))),
            _ => Err(in_the_way(format!(
                "the key {:?} is somebody else's, and is where Tidewatch says which keyspace it is; choose another namespace",
                namespace.shown()
            ))),
        }
    }

    /// Notes which marker a start is about to write, or that it need not be taken back any more.
    pub(super) fn note_created(&self, marker: Option<Marker>) {
        *self.created.lock().unwrap_or_else(PoisonError::into_inner) = marker;
    }

    /// Takes back what a start has written that comes to nothing.
    pub(super) async fn undo(&self) {
        let created = self.created.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(marker) = created {
            self.delete_marker(&marker).await;
        }
    }

    /// Deletes this marker, which nobody else has written, if it is there. Another start that finds it takes it for its own.
    pub(super) async fn delete_marker(&self, marker: &Marker) {
        let range = marker_range(&self.namespace);
        let txn = Txn::new()
            .when(Compare::value(range.clone(), marker.encode()))
            .delete(range);
        let _ = self.upstream.write(|calls| calls.txn(txn.clone())).await;
    }

    /// A namespace around this one would hold all its keys.
    pub(super) async fn check_outer(&self) -> Result<(), Trouble> {
        // All of a Tidewatch is a keyspace, and a part of it may be one beside it: nobody has a marker behind all keys there.
        let has_marker = |outer: &Namespace| !(self.is_tidewatch() && outer.is_everything());
        let outer: Vec<_> = self.namespace.around().filter(has_marker).collect();
        for some in outer.chunks(MAX_TXN_OPS) {
            let reads = some
                .iter()
                .map(|outer| Op::Range(RangeRequest::new(marker_range(outer))));
            let txn = Txn {
                then: reads.collect(),
                ..Txn::default()
            };
            let answers = match self.upstream.reads(&txn).await {
                Ok((_, (_, answers))) => answers,
                // Who has no right to look there is not told.
                Err(CallFailure::Refused(Refusal::Denied, _)) => continue,
                Err(failure) => return Err(failure.into()),
            };
            for (outer, answer) in some.iter().zip(answers) {
                let OpResponse::Range(range) = answer else {
                    continue;
                };
                let is_marker = |kv: &KeyValue| {
                    Marker::decode(&kv.value).is_ok_and(|marker| marker.namespace == outer.shown())
                };
                if range.kvs.iter().any(is_marker) {
                    return Err(Trouble::Hopeless(Error::Overlap {
                        namespace: self.namespace.shown(),
                        other: outer.shown(),
                    }));
                }
            }
        }
        Ok(())
    }

    /// What only a person can put right is an error.
    pub(super) fn check_hopeless(&self, failure: &CallFailure) -> Result<(), Error> {
        match failure {
            CallFailure::Refused(refusal, text) => {
                let kind = match refusal {
                    Refusal::Denied => FailureKind::Denied,
                    _ => FailureKind::Refused,
                };
                Err(self.refused(Failure::new(kind, text.clone())))
            }
            _ => Ok(()),
        }
    }
}

/// Writes a marker where there is none.
pub(super) fn create(namespace: &Namespace, marker: &Marker) -> Txn {
    Txn::new()
        .when(Compare::absent(marker_range(namespace)))
        .put(PutRequest::new(namespace.marker(), marker.encode()))
}

/// The marker alone.
pub(super) fn marker_range(namespace: &Namespace) -> KeyRange {
    KeyRange::unchecked(namespace.marker(), RangeEnd::Single)
}
