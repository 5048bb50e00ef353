//! What was asked of the keyspace, and what it answered.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tidewatch_core::txn::{OpResponse, Txn, TxnResponse};
use tidewatch_core::{LeaseId, Revision};

use super::chronicle::Moment;

/// The name of something that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(usize);

/// A change that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) wish: Wish,
    pub(crate) answer: Answer,
    /// The newest revision that anybody had been told of before.
    floor: Revision,
}

#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Txn(Txn),
    Revoke(LeaseId),
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// None: nobody knows whether it happened.
    Unknown,
    /// It happened.
    Done(Box<TxnResponse>),
    /// A lease was ended, at or before this revision.
    Revoked(Revision),
    /// It did not happen.
    Refused(&'static str),
}

/// What is known of a lease.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) ttl: Duration,
    /// When it was asked for, kept alive, or recovered: from each of these moments on it has its time.
    pub(crate) renewed: Vec<Moment>,
}

/// All that was asked.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    asked: Vec<Asked>,
    pub(crate) leases: BTreeMap<LeaseId, Lease>,
    /// The newest revision that anybody was told of.
    floor: Revision,
}

impl Ledger {
    /// The ticket that the next change gets.
    pub(crate) fn next(&self) -> Ticket {
        Ticket(self.asked.len())
    }

    pub(crate) fn ask(&mut self, wish: Wish) -> Ticket {
        let ticket = self.next();
        self.asked.push(Asked {
            wish,
            answer: Answer::Unknown,
            floor: self.floor,
        });
        ticket
    }

    /// Notes an answer.
    ///
    /// # Errors
    /// It is older than what had been answered before it was asked.
    pub(crate) fn answer(&mut self, ticket: Ticket, answer: Answer) -> Result<(), String> {
        let asked = &mut self.asked[ticket.0];
        let (revision, changed) = match &answer {
            Answer::Done(response) => (response.header.revision, changed(&response.responses)),
            Answer::Revoked(revision) => (*revision, false),
            Answer::Unknown | Answer::Refused(_) => (asked.floor, false),
        };
        asked.answer = answer;
        let too_old = revision < asked.floor || (changed && revision == asked.floor);
        let floor = asked.floor;
        self.told(revision);
        if too_old {
            return Err(format!(
                "revision {revision} is answered, {floor} was known before"
            ));
        }
        Ok(())
    }

    /// Notes that somebody was told of a revision.
    pub(crate) fn told(&mut self, revision: Revision) {
        self.floor = self.floor.max(revision);
    }

    /// The newest revision that anybody was told of.
    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    /// Notes that all leases have their full time from now on.
    pub(crate) fn renew_all(&mut self, now: Moment) {
        for lease in self.leases.values_mut() {
            lease.renewed.push(now);
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Ticket, &Asked)> {
        (0..).map(Ticket).zip(&self.asked)
    }

    pub(crate) fn get(&self, ticket: Ticket) -> Option<&Asked> {
        self.asked.get(ticket.0)
    }
}

/// Whether the answers say that something was changed.
pub(crate) fn changed(responses: &[OpResponse]) -> bool {
    responses.iter().any(|response| match response {
        OpResponse::Put { .. } => true,
        OpResponse::Delete { deleted, .. } => *deleted > 0,
        OpResponse::Range(_) => false,
        OpResponse::Txn { responses, .. } => changed(responses),
    })
}

impl Ticket {
    /// A value that tells whose it is, of at least so many bytes.
    pub(crate) fn value(self, bytes: usize) -> Bytes {
        let mut value = format!("t{}.", self.0).into_bytes();
        value.resize(bytes.max(value.len()), b'.');
        value.into()
    }

    /// Whose value it is.
    pub(crate) fn of(value: &[u8]) -> Option<Self> {
        let text = value.strip_prefix(b"t")?;
        let digits = text.iter().position(|&byte| byte == b'.')?;
        let number = std::str::from_utf8(&text[..digits]).ok()?;
        number.parse().ok().map(Self)
    }
}

impl std::fmt::Display for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "t{}", self.0)
    }
}
