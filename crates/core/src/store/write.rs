//! Changes on their way through the queue of the driver.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::shared::Shared;
use super::state::State;
use crate::error::Error;
use crate::lease::{LeaseGrant, LeaseId};
use crate::revision::Revision;
use crate::txn::{Compare, CompareTarget, DeleteRequest, Header, Op, RangeRequest, Txn, TxnResponse};

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A change that was asked for.
#[derive(Debug)]
pub(super) enum Write {
    /// With its share of the bytes that may wait.
    Txn(Txn, OwnedSemaphorePermit, Reply<TxnResponse>),
    Grant(Option<LeaseId>, Duration, Reply<(Header, LeaseGrant)>),
    Revoke(LeaseId, Reply<Header>),
    /// Not a change that is committed in a group, but it keeps its place in the queue.
    Compact(Revision, Reply<Header>),
}

/// A change that was evaluated, and what to say if it becomes durable.
#[derive(Debug)]
enum Answer {
    Txn(Reply<TxnResponse>, Result<TxnResponse, Error>),
    Grant(Reply<(Header, LeaseGrant)>, Result<(Header, LeaseGrant), Error>),
    Revoke(Reply<Header>, Result<Header, Error>),
}

/// The answers to a group. If they are dropped instead of sent, the outcome is unknown: the journal
/// was interrupted.
#[derive(Debug)]
pub(super) struct Answers(Vec<Answer>);

/// How many bytes of keys and values a transaction holds on to while it waits, those it compares
/// with included.
pub(super) fn weight(txn: &Txn) -> usize {
    let compares = txn.compares.iter().map(|Compare { range, target, .. }| {
        range.start().len()
            + match target {
                CompareTarget::Value(value) => value.len(),
                _ => 0,
            }
    });
    let ops = txn.then.iter().chain(&txn.otherwise).map(|op| match op {
        Op::Put(put) => put.key.len() + put.value.len(),
        Op::Delete(DeleteRequest { range, .. }) | Op::Range(RangeRequest { range, .. }) => {
            range.start().len()
        }
        Op::Txn(txn) => weight(txn),
    });
    compares.chain(ops).sum()
}

/// Evaluates a transaction and says what to answer when it is durable.
pub(super) fn txn(shared: &Shared, state: &mut State, txn: &Txn) -> Result<TxnResponse, Error> {
    let now = || shared.clock.now();
    let outcome = state.txn(txn, &shared.context(&now))?;
    Ok(TxnResponse {
        header: shared.header(state.evaluated()),
        succeeded: outcome.succeeded,
        responses: outcome.responses,
    })
}

/// Evaluates the grant of a lease.
pub(super) fn grant(
    shared: &Shared,
    state: &mut State,
    id: Option<LeaseId>,
    ttl: Duration,
) -> Result<(Header, LeaseGrant), Error> {
    let now: Instant = shared.clock.now();
    let grant = state.grant(id, ttl, now)?;
    Ok((shared.header(state.evaluated()), grant))
}

/// Evaluates the end of a lease.
pub(super) fn revoke(shared: &Shared, state: &mut State, id: LeaseId) -> Result<Header, Error> {
    state.end_lease(id, shared.clock.system_time())?;
    Ok(shared.header(state.evaluated()))
}

impl Answers {
    /// Evaluates a group, in order.
    pub(super) fn evaluate(shared: &Shared, state: &mut State, group: Vec<Write>) -> Self {
        let answer = |write| match write {
            Write::Txn(request, _room, reply) => Some(Answer::Txn(reply, txn(shared, state, &request))),
            Write::Grant(id, ttl, reply) => Some(Answer::Grant(reply, grant(shared, state, id, ttl))),
            Write::Revoke(id, reply) => Some(Answer::Revoke(reply, revoke(shared, state, id))),
            Write::Compact(..) => {
                debug_assert!(false, "a compaction is never part of a group");
                None
            }
        };
        Self(group.into_iter().filter_map(answer).collect())
    }

    /// Sends them, or the error if the group could not be committed: also to those whose change was
    /// refused, because they may have been refused for what another member did.
    pub(super) fn send(mut self, committed: &Result<(), Error>) {
        for answer in self.0.drain(..) {
            answer.send(committed);
        }
    }
}

impl Answer {
    /// A receiver that is gone does not want to know.
    fn send(self, committed: &Result<(), Error>) {
        match self {
            Self::Txn(reply, result) => drop(reply.send(committed.clone().and(result))),
            Self::Grant(reply, result) => drop(reply.send(committed.clone().and(result))),
            Self::Revoke(reply, result) => drop(reply.send(committed.clone().and(result))),
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        for answer in self.0.drain(..) {
            answer.send(&Err(Error::OutcomeUnknown(Arc::new(Interrupted))));
        }
    }
}

/// The driver was dropped while the journal was writing.
#[derive(Debug)]
struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the keyspace's driver was stopped while the journal was writing")
    }
}

impl std::error::Error for Interrupted {}
