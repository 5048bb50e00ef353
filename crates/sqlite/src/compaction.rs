//! Forgetting the past, a slice at a time between commits.
//!
//! [`Store::compact`] only notes the new `oldest`; what that makes superfluous is removed afterwards.
//! Each event that has left the window is *passed* once: the older write it replaced goes, and the
//! event itself too if it is a deletion. What remains of the past is then of every key its last write
//! before `oldest`. The work is proportional to the events that leave the window, not to the keys.
//!
//! A slice is one transaction that also notes how far it came, so that a crash costs nothing but the
//! slice. Slices are not synced: see [`Store::relaxed`].
//!
//! Freed pages are used again by later commits, which is all a window of a steady size needs. The
//! file shrinks only when most of it is free: that moves pages from its end to its front, and would
//! scatter a log that lies in order.

use rusqlite::{Transaction, params};
use tidewatch_core::Revision;

use crate::error::Error;
use crate::store::Store;

/// The fewest and the most events a slice passes: about 1 to 15 ms, which is what a commit may have
/// to wait for.
const SLICE_EVENTS: (i64, i64) = (256, 4096);
/// A slice ends when it has removed values of this size, because SQLite walks through their pages.
const SLICE_BYTES: i64 = 4 << 20;
/// Below this many free pages (16 MiB) the file keeps them.
const KEEP_FREE_PAGES: i64 = 4096;
/// Pages given back at a time: 1 MiB.
const GIVE_BACK_PAGES: u32 = 256;

/// What is left to do between commits.
#[derive(Debug)]
pub(crate) struct Chore {
    phase: Phase,
    /// The last event that was passed.
    passed: i64,
    /// Events written since the last slice. The next one passes at least twice as many, up to its
    /// bound, so that the past does not grow faster than it is forgotten.
    written: i64,
}

/// Where a compaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing to do; a compaction begins with [`Phase::Passing`].
    Idle,
    /// Events may have left the window; then comes [`Phase::GivingBack`].
    Passing,
    /// Pages may be free; then [`Phase::Idle`].
    GivingBack,
}

impl Chore {
    /// What a process that ended may have left to do.
    pub(crate) fn resume(passed: i64) -> Self {
        Self {
            phase: Phase::Passing,
            passed,
            written: 0,
        }
    }

    pub(crate) fn begin(&mut self) {
        self.phase = Phase::Passing;
    }

    pub(crate) fn written(&mut self, events: i64) {
        self.written = self.written.saturating_add(events);
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.phase != Phase::Idle
    }
}

impl Store {
    /// Does one slice of what is left to do.
    ///
    /// A failure is logged and ends the chores until the next compaction: a full disk, for instance,
    /// will not have become empty by then if it has not for commits.
    pub(crate) fn do_chore(&mut self) {
        let next = match self.chore.phase {
            Phase::Idle => Ok(Phase::Idle),
            Phase::Passing => self.pass_slice(),
            Phase::GivingBack => self.give_back_slice(),
        };
        self.chore.phase = next.unwrap_or_else(|error| {
            tracing::warn!(path = %self.path.display(), error = %error, "compaction stopped, the next one goes on");
            Phase::Idle
        });
    }

    fn pass_slice(&mut self) -> Result<Phase, Error> {
        let (oldest, passed) = (self.oldest, self.chore.passed);
        let (least, most) = SLICE_EVENTS;
        let limit = self.chore.written.saturating_mul(2).clamp(least, most);
        // Without this look an idle keyspace would write at every start.
        let end = end_of_past(&self.connection, oldest)
            .map_err(|error| Error::sqlite("read", &self.path, error))?;
        if end <= passed {
            return Ok(Phase::GivingBack);
        }
        let passed = self.relaxed("compact", |transaction| {
            let passed = pass(transaction, passed, end, limit)?;
            transaction.execute("UPDATE meta SET passed = ?1", [passed])?;
            Ok(passed)
        })?;
        self.chore.passed = passed;
        self.chore.written = 0;
        Ok(Phase::Passing)
    }

    fn give_back_slice(&mut self) -> Result<Phase, Error> {
        let failed = |error| Error::sqlite("shrink", &self.path, error);
        let number = |pragma| {
            self.connection
                .pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
        };
        let free = number("freelist_count").map_err(failed)?;
        let pages = number("page_count").map_err(failed)?;
        if free < KEEP_FREE_PAGES || free < pages / 2 {
            return Ok(Phase::Idle);
        }
        self.relaxed("shrink", |transaction| {
            // Each row that is asked for is a page given back.
            transaction.pragma(None, "incremental_vacuum", GIVE_BACK_PAGES, |_| Ok(()))
        })?;
        Ok(Phase::GivingBack)
    }
}

/// The last event before `oldest`, or zero.
fn end_of_past(connection: &rusqlite::Connection, oldest: Revision) -> rusqlite::Result<i64> {
    connection
        .prepare_cached(
            "SELECT ifnull((SELECT id FROM events WHERE revision < ?1 ORDER BY revision DESC, id DESC LIMIT 1), 0)",
        )?
        .query_row([oldest.0.cast_signed()], |row| row.get(0))
}

/// An event that has left the window.
struct Passing {
    id: i64,
    key: Vec<u8>,
    is_deletion: bool,
    version: i64,
    replaces: Option<i64>,
}

/// Passes up to `limit` events after `passed` up to `end`, and returns the last one.
fn pass(transaction: &Transaction<'_>, passed: i64, end: i64, limit: i64) -> rusqlite::Result<i64> {
    let events: Vec<Passing> = transaction
        .prepare_cached(
            "SELECT id, key, value IS NULL, version, replaces FROM events
             WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
        )?
        .query_map([passed, end, limit], |row| {
            Ok(Passing {
                id: row.get(0)?,
                key: row.get(1)?,
                is_deletion: row.get(2)?,
                version: row.get(3)?,
                replaces: row.get(4)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut last = if events.is_empty() { end } else { passed };
    let mut removed_bytes = 0;
    for event in &events {
        removed_bytes += remove_replaced(transaction, event)?;
        if event.is_deletion {
            transaction
                .prepare_cached("DELETE FROM events WHERE id = ?1")?
                .execute([event.id])?;
        }
        last = event.id;
        if removed_bytes >= SLICE_BYTES {
            break;
        }
    }
    Ok(last)
}

/// Removes the write that an event replaced, and returns the size of its value.
fn remove_replaced(transaction: &Transaction<'_>, event: &Passing) -> rusqlite::Result<i64> {
    let found = match event.replaces {
        Some(revision) => transaction
            .prepare_cached(
                "DELETE FROM events WHERE revision = ?1 AND key = ?2 AND id < ?3 RETURNING length(value)",
            )?
            .query_map(params![revision, event.key, event.id], |row| {
                row.get::<_, Option<i64>>(0)
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?,
        // A new key replaces nothing.
        None if event.version <= 1 && !event.is_deletion => return Ok(0),
        None => Vec::new(),
    };
    if !found.is_empty() {
        return Ok(found.into_iter().flatten().sum());
    }
    // A record whose `prev` was missing or wrong. Leaving an old write behind would bring its key back
    // to life once the deletion is gone, so look for it the slow way.
    transaction
        .prepare_cached("DELETE FROM events WHERE key = ?1 AND id < ?2")?
        .execute(params![event.key, event.id])?;
    Ok(0)
}
