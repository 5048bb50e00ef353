//! Those who write, read, and compact.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use tidewatch_core::txn::{Op, RangeRequest, Txn, TxnResponse};
use tidewatch_core::{Error, Keyspace, LeaseId, Revision};

use super::coverage::Kind;
use super::dice::Dice;
use super::draw;
use super::ledger::{Answer, Lease, Ticket, Wish, changed};
use super::model;
use super::world::{Stage, World};

/// How long leases live, in seconds.
const TTL_SECS: std::ops::RangeInclusive<u64> = 1..=6;

/// Writes while the storm lasts.
pub(crate) async fn write(world: Rc<World>, at: usize, dice: Dice) {
    let me = Writer { world, at, dice };
    while me.world.stage() == Stage::Storm {
        me.world.pause(&me.dice).await;
        let keyspace = me.world.keyspace().await;
        me.world.waits(true);
        me.act(&keyspace).await;
        me.world.waits(false);
    }
}

struct Writer {
    world: Rc<World>,
    at: usize,
    dice: Dice,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writer {}", self.at)
    }
}

impl Writer {
    async fn act(&self, keyspace: &Keyspace) {
        match self.dice.below(100) {
            0..70 => self.transact(keyspace).await,
            70..75 => self.grant(keyspace).await,
            75..78 => self.revoke(keyspace).await,
            78..82 => self.keep_alive(keyspace).await,
            82..95 => self.read(keyspace).await,
            95..98 => self.compact(keyspace).await,
            _ if self.world.takes_flood() => self.flood(keyspace).await,
            _ => self.transact(keyspace).await,
        }
    }

    fn note(&self, what: impl fmt::Display) {
        self.world.chronicle.note(self, what);
    }

    fn count(&self, kind: Kind) {
        self.world.chronicle.count(kind);
    }

    /// The newest revision that is known outside.
    fn known(&self) -> Revision {
        self.world.ledger().floor().max(Revision::INITIAL)
    }

    async fn transact(&self, keyspace: &Keyspace) {
        let (ticket, current, leases) = {
            let ledger = self.world.ledger();
            let leases: Vec<_> = ledger.leases.keys().rev().take(4).copied().collect();
            (ledger.next(), ledger.floor(), leases)
        };
        let txn = draw::txn(&self.dice, ticket, current, &leases);
        self.note(format_args!("{ticket} asks for {}", Shown(&txn)));
        self.submit(keyspace, txn).await;
    }

    /// So many writes at once that groups get large and whoever follows falls behind.
    async fn flood(&self, keyspace: &Keyspace) {
        let count = self.dice.number(280..=400);
        self.note(format_args!("asks for {count} writes"));
        let submit = |_| {
            let ticket = self.world.ledger().next();
            self.submit(keyspace, draw::drop_of_a_flood(&self.dice, ticket))
        };
        join_all((0..count).map(submit)).await;
    }

    fn submit<'a>(&'a self, keyspace: &'a Keyspace, txn: Txn) -> impl Future<Output = ()> + 'a {
        if txn.then.len() > 100 {
            self.count(Kind::TxnLarge);
        }
        if txn
            .then
            .iter()
            .any(|op| matches!(op, Op::Put(put) if put.value.len() > 1000))
        {
            self.count(Kind::ValueLarge);
        }
        let ticket = self.world.ledger().ask(Wish::Txn(txn.clone()));
        async move {
            let patience = self.dice.chance(40).then(|| self.dice.number(1..=6));
            let Some(answer) = within(patience, keyspace.txn(txn)).await else {
                self.count(Kind::GivenUp);
                return self.note(format_args!("{ticket} is given up"));
            };
            self.answered(ticket, answer);
        }
    }

    fn answered(&self, ticket: Ticket, answer: Result<TxnResponse, Error>) {
        let answer = match answer {
            Ok(response) => {
                self.note(format_args!(
                    "{ticket} is done at {}, {}",
                    response.header.revision, response.succeeded
                ));
                let changed = changed(&response.responses);
                self.count(if changed {
                    Kind::TxnChanged
                } else {
                    Kind::TxnUnchanged
                });
                if !response.succeeded {
                    self.count(Kind::TxnOtherwise);
                }
                self.durable(response.header.revision);
                Answer::Done(Box::new(response))
            }
            Err(error) => self.refused(ticket, &error),
        };
        let verdict = self.world.ledger().answer(ticket, answer);
        self.world.chronicle.judge(self, verdict);
    }

    fn refused(&self, ticket: Ticket, error: &Error) -> Answer {
        self.note(format_args!("{ticket}: {error}"));
        match error {
            Error::OutcomeUnknown(_) => return Answer::Unknown,
            Error::NoSpace { .. } => self.count(Kind::NoSpace),
            Error::LeaseNotFound { .. } => self.count(Kind::NoLease),
            Error::Closed => self.count(Kind::NotBegun),
            Error::Journal(_) => {}
            _ => self.world.chronicle.violated(self, error),
        }
        Answer::Refused(match error {
            Error::NoSpace { .. } => "there was no space",
            Error::LeaseNotFound { .. } => "there was no such lease",
            Error::Closed => "the keyspace was at its end",
            _ => "the journal failed",
        })
    }

    /// Checks that what is shown is durable.
    fn durable(&self, revision: Revision) {
        let durable = self.world.journal.disk().truth.revision();
        if revision > durable {
            let early = format_args!("{revision} is answered, durable is {durable}").to_string();
            self.world.chronicle.violated(self, early);
        }
    }

    async fn grant(&self, keyspace: &Keyspace) {
        let (id, ttl) = (
            self.world.next_lease(),
            Duration::from_secs(self.dice.number(TTL_SECS)),
        );
        self.note(format_args!("asks for lease {id} of {ttl:?}"));
        let asked = self.world.chronicle.moment();
        let renewed = vec![asked];
        self.world.ledger().leases.insert(id, Lease { ttl, renewed });
        match keyspace.lease_grant(Some(id), ttl).await {
            Ok(_) => self.note(format_args!("lease {id} is granted")),
            Err(Error::Journal(_) | Error::OutcomeUnknown(_) | Error::Closed) => {}
            Err(error) => self.world.chronicle.violated(self, error),
        }
    }

    fn some_lease(&self) -> Option<LeaseId> {
        let ledger = self.world.ledger();
        let leases: Vec<_> = ledger.leases.keys().rev().take(4).copied().collect();
        (!leases.is_empty()).then(|| *self.dice.pick(&leases))
    }

    async fn revoke(&self, keyspace: &Keyspace) {
        let Some(id) = self.some_lease() else {
            return;
        };
        let ticket = self.world.ledger().ask(Wish::Revoke(id));
        self.note(format_args!("{ticket} revokes lease {id}"));
        let answer = match keyspace.lease_revoke(id).await {
            Ok(header) => {
                self.durable(header.revision);
                Answer::Revoked(header.revision)
            }
            Err(error) => self.refused(ticket, &error),
        };
        let verdict = self.world.ledger().answer(ticket, answer);
        self.world.chronicle.judge(self, verdict);
    }

    async fn keep_alive(&self, keyspace: &Keyspace) {
        let Some(id) = self.some_lease() else {
            return;
        };
        match keyspace.lease_keep_alive(id).await {
            Ok(_) => {
                self.note(format_args!("lease {id} is kept alive"));
                self.count(Kind::LeaseKeptAlive);
                let now = self.world.chronicle.moment();
                if let Some(lease) = self.world.ledger().leases.get_mut(&id) {
                    lease.renewed.push(now);
                }
            }
            Err(Error::LeaseNotFound { .. } | Error::Closed) => {}
            Err(error) => self.world.chronicle.violated(self, error),
        }
    }

    /// Reads a range as it is or was, and compares it with what is durable.
    async fn read(&self, keyspace: &Keyspace) {
        let known = self.known();
        let back = *self.dice.pick(&[2, 8, 60]);
        let oldest = known.0.saturating_sub(back).max(1);
        let past = self
            .dice
            .chance(400)
            .then(|| Revision(self.dice.number(oldest..=known.0)));
        let request = RangeRequest {
            revision: past,
            ..RangeRequest::new(draw::any_range(&self.dice))
        };
        let life = self.world.life();
        let answer = keyspace.range(request.clone()).await;
        let disk = self.world.journal.disk();
        let verdict = match answer {
            Ok((header, response)) => {
                self.count(if past.is_some() {
                    Kind::ReadPast
                } else {
                    Kind::ReadNow
                });
                let (current, durable) = (header.revision, disk.truth.revision());
                let revision = past.unwrap_or(current);
                self.note(format_args!("reads {} at {revision}", request.range));
                if current > durable || current < known {
                    Err(format!(
                        "a read at {current}, {durable} is durable and {known} was known"
                    ))
                } else {
                    self.world.ledger().told(current);
                    let wanted = model::read(disk.truth.state(revision), &request);
                    let right = response == wanted;
                    let wrong = || Err(format!("{response:?} at {revision} instead of {wanted:?}"));
                    if right { Ok(()) } else { wrong() }
                }
            }
            Err(Error::Compacted { requested, oldest }) => {
                self.count(Kind::ReadCompacted);
                let right = Some(requested) == past && requested < oldest && oldest <= disk.oldest;
                let wrong = || {
                    Err(format!(
                        "{requested} is refused as older than {oldest}, it is {}",
                        disk.oldest
                    ))
                };
                if right { Ok(()) } else { wrong() }
            }
            Err(error) => Err(format!("a read of life {life} fails: {error}")),
        };
        self.world.chronicle.judge(self, verdict);
    }

    async fn compact(&self, keyspace: &Keyspace) {
        let known = self.known();
        let oldest = known.0.saturating_sub(30);
        let to = Revision(self.dice.number(oldest..=known.0 + 1));
        self.note(format_args!("asks for a compaction to {to}"));
        self.world.journal.disk().asked.push(to);
        match keyspace.compact(to).await {
            Ok(_) => {
                self.count(Kind::CompactionAsked);
                let oldest = self.world.journal.disk().oldest;
                if oldest < to {
                    let less = format_args!("compacted to {to}, but it is {oldest}").to_string();
                    self.world.chronicle.violated(self, less);
                }
            }
            Err(Error::Compacted { .. } | Error::FutureRevision { .. }) => {
                self.count(Kind::CompactionRefused);
            }
            Err(Error::Journal(_) | Error::Closed | Error::OutcomeUnknown(_)) => {}
            Err(error) => self.world.chronicle.violated(self, error),
        }
    }
}

/// What a future comes to, unless it takes more turns than there is patience for.
async fn within<T>(patience: Option<u64>, future: impl Future<Output = T>) -> Option<T> {
    let Some(mut left) = patience else {
        return Some(future.await);
    };
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// A transaction, in a line.
struct Shown<'a>(&'a Txn);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Txn {
            compares,
            then,
            otherwise,
        }) = self;
        if !compares.is_empty() {
            write!(f, "if {} hold: ", compares.len())?;
        }
        show(f, then)?;
        if !otherwise.is_empty() {
            f.write_str("else: ")?;
            show(f, otherwise)?;
        }
        Ok(())
    }
}

fn show(f: &mut fmt::Formatter<'_>, ops: &[Op]) -> fmt::Result {
    for op in ops.iter().take(6) {
        match op {
            Op::Put(put) => write!(f, "put {}", put.key.escape_ascii())?,
            Op::Delete(delete) => write!(f, "delete {}", delete.range)?,
            Op::Range(request) => write!(f, "read {}", request.range)?,
            Op::Txn(_) => f.write_str("a transaction")?,
        }
        f.write_str("; ")?;
    }
    match ops.len() {
        0..=6 => Ok(()),
        more => write!(f, "and {} more; ", more - 6),
    }
}
