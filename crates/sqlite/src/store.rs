//! The open database, and how a group gets into it: all of it, or nothing that ever comes back.
//!
//! # A commit that fails
//! SQLite appends a transaction to the log, its last page marked as the commit, and then syncs. When
//! writing fails, as on a full disk, the mark is not in the log, and there is nothing to make sure
//! of. When what comes *after* the mark fails, the sync above all, SQLite rolls back and goes on, but
//! the log still holds the whole transaction: nobody sees it in this process, yet the next one would
//! read it from the log and bring back what its caller was told had failed.
//!
//! So after a failed `COMMIT` the store is *unsure*, and voids the transaction: it commits a small
//! one of its own. SQLite puts that in the same place of the log; each page's checksum builds on the
//! one before it, so what is left of the failed transaction behind it can never be read again. If
//! voiding fails too, it is attempted again before anything else is written.
//!
//! What remains: if the disk refuses to sync the commit *and* every attempt to void it, and the
//! process ends in that state without closing the journal, the next one may find the group.

use std::path::PathBuf;
use std::time::SystemTime;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};
use tidewatch_core::journal::Entry;
use tidewatch_core::{EventKind, KeyspaceId, Record, Revision};

use crate::compaction::Chore;
use crate::database;
use crate::directory::Directory;
use crate::error::Error;
use crate::options::{Options, Synchronous};
use crate::schema::Schema;

/// The database of a directory, used by one thread.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) connection: Connection,
    pub(crate) path: PathBuf,
    synchronous: Synchronous,
    pub(crate) keyspace: KeyspaceId,
    /// The last durable revision.
    pub(crate) revision: Revision,
    pub(crate) oldest: Revision,
    next_event: i64,
    /// A commit failed in a way that leaves open what the log holds.
    unsure: bool,
    pub(crate) chore: Chore,
    /// Last, so that the lock is given up after the database is closed.
    dir: Directory,
}

impl Store {
    pub(crate) fn open(dir: Directory, schema: &Schema, options: &Options) -> Result<Self, Error> {
        let connection = database::open(&dir, schema)?;
        let path = dir.database();
        let read = || {
            connection.pragma_update(None, "synchronous", options.synchronous.pragma())?;
            let meta = Meta::read(&connection)?;
            let last_event: i64 =
                connection.query_row("SELECT ifnull(max(id), 0) FROM events", [], |row| row.get(0))?;
            Ok((meta, last_event))
        };
        let (meta, last_event) = read().map_err(|error| Error::sqlite("read", &path, error))?;
        database::allow_checkpoint_on_close(&connection)
            .map_err(|error| Error::sqlite("open", &path, error))?;
        tracing::debug!(path = %path.display(), keyspace = %meta.keyspace, revision = %meta.revision, "opened the journal");
        Ok(Self {
            connection,
            path,
            synchronous: options.synchronous,
            keyspace: meta.keyspace,
            revision: meta.revision,
            oldest: meta.oldest,
            // The last events may have been compacted away; their numbers are not given again.
            next_event: last_event.max(meta.passed) + 1,
            unsure: false,
            chore: Chore::resume(meta.passed),
            dir,
        })
    }

    pub(crate) fn dir(&self) -> &Directory {
        &self.dir
    }

    /// Makes a group durable.
    pub(crate) fn commit(&mut self, group: &[Entry]) -> Result<(), Error> {
        let (mut revision, mut next_event) = (self.revision, self.next_event);
        for record in group.iter().filter_map(record) {
            if record.revision <= revision || i64::try_from(record.revision.0).is_err() {
                return Err(Error::OutOfOrder {
                    revision: record.revision.0,
                    last: revision.0,
                });
            }
            revision = record.revision;
        }
        self.durable("commit to", |transaction| {
            for entry in group {
                write(transaction, entry, &mut next_event)?;
            }
            Ok(())
        })?;
        self.chore.written(next_event - self.next_event);
        (self.revision, self.next_event) = (revision, next_event);
        Ok(())
    }

    /// Remembers that the history begins at `oldest`; what that makes superfluous goes later, bit by
    /// bit.
    pub(crate) fn compact(&mut self, oldest: Revision) -> Result<(), Error> {
        if oldest > self.oldest {
            let (oldest, revision) = (oldest.0.min(i64::MAX.cast_unsigned()), self.revision);
            self.durable("compact", |transaction| {
                transaction.execute(
                    "UPDATE meta SET oldest = ?1, revision = ?2",
                    [oldest.cast_signed(), revision.0.cast_signed()],
                )
            })?;
            self.oldest = Revision(oldest);
        }
        self.chore.begin();
        Ok(())
    }

    /// Runs a transaction that is durable when this returns, or void.
    fn durable<T>(
        &mut self,
        action: &'static str,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        if self.unsure {
            self.void()?;
        }
        let failed = |error| Error::sqlite(action, &self.path, error);
        if !self.connection.is_autocommit() {
            // An earlier rollback failed.
            self.connection.execute_batch("ROLLBACK").map_err(failed)?;
        }
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        // Before COMMIT no mark is in the log: dropping the transaction is enough.
        let value = write(&transaction).map_err(failed)?;
        if let Err(error) = transaction.commit() {
            self.unsure = true;
            if let Err(error) = self.void() {
                tracing::error!(path = %self.path.display(), error = %error,
                    "a commit failed, and so did voiding it; it is attempted again before the next one");
            }
            return Err(match error.sqlite_error_code() {
                Some(ErrorCode::SystemIoFailure) if !is_full(&error) => Error::Unsynced {
                    path: self.path.clone(),
                    source: error.into(),
                },
                _ => Error::sqlite(action, &self.path, error),
            });
        }
        Ok(value)
    }

    /// Makes sure that a transaction whose commit failed never comes back; see the module.
    fn void(&mut self) -> Result<(), Error> {
        self.connection
            .execute("UPDATE meta SET voided = voided + 1", [])
            .map_err(|error| Error::sqlite("write to", &self.path, error))?;
        self.unsure = false;
        Ok(())
    }

    /// Runs a transaction that may be lost with the machine, and then is done again: the log is in
    /// order, so it is never durable before the commits it follows, and no sync is needed.
    pub(crate) fn relaxed<T>(
        &mut self,
        action: &'static str,
        write: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        let run = || {
            self.connection
                .pragma_update(None, "synchronous", Synchronous::Normal.pragma())?;
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = write(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        let result = run();
        // Setting it back touches no file, and must not be skipped.
        let restored = self
            .connection
            .pragma_update(None, "synchronous", self.synchronous.pragma());
        result
            .and_then(|value| restored.map(|()| value))
            .map_err(|error| Error::sqlite(action, &self.path, error))
    }
}

fn is_full(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(failure, _)
        if failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

fn record(entry: &Entry) -> Option<&Record> {
    match entry {
        Entry::Record(record) => Some(record),
        Entry::LeaseGranted(_) | Entry::LeaseEnded(_) => None,
    }
}

fn write(transaction: &Transaction<'_>, entry: &Entry, next_event: &mut i64) -> rusqlite::Result<()> {
    match entry {
        Entry::Record(record) => write_record(transaction, record, next_event),
        Entry::LeaseGranted(lease) => {
            let ttl_ns = i64::try_from(lease.ttl.as_nanos()).unwrap_or(i64::MAX);
            transaction
                .prepare_cached("INSERT OR REPLACE INTO leases (id, ttl_ns) VALUES (?1, ?2)")?
                .execute([lease.id.0, ttl_ns])?;
            Ok(())
        }
        Entry::LeaseEnded(id) => {
            transaction
                .prepare_cached("DELETE FROM leases WHERE id = ?1")?
                .execute([id.0])?;
            Ok(())
        }
    }
}

fn write_record(
    transaction: &Transaction<'_>,
    record: &Record,
    next_event: &mut i64,
) -> rusqlite::Result<()> {
    let time_ns = record.time.and_then(to_ns);
    let mut insert = transaction.prepare_cached(
        "INSERT INTO events (id, revision, key, value, create_revision, version, lease, replaces, time_ns)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for event in &record.events {
        let kv = &event.kv;
        let value = (event.kind == EventKind::Put).then_some(&kv.value[..]);
        let replaces = event.prev.as_ref().map(|prev| prev.mod_revision.0.cast_signed());
        insert.execute(params![
            *next_event,
            record.revision.0.cast_signed(),
            &kv.key[..],
            value,
            kv.create_revision.0.cast_signed(),
            kv.version.cast_signed(),
            kv.lease.map(|lease| lease.0),
            replaces,
            time_ns,
        ])?;
        *next_event += 1;
    }
    Ok(())
}

/// Nanoseconds since 1970; none for a clock that is centuries off.
fn to_ns(time: SystemTime) -> Option<i64> {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).ok(),
        Err(before) => i64::try_from(before.duration().as_nanos()).ok().map(|ns| -ns),
    }
}

/// What is known of a keyspace as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) revision: Revision,
    pub(crate) oldest: Revision,
    pub(crate) passed: i64,
}

impl Meta {
    pub(crate) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        connection.query_row(
            "SELECT keyspace, oldest, passed,
                    max(revision, ifnull((SELECT revision FROM events ORDER BY id DESC LIMIT 1), 0))
             FROM meta WHERE id = 0",
            [],
            |row| {
                Ok(Self {
                    keyspace: KeyspaceId(row.get::<_, i64>(0)?.cast_unsigned()),
                    oldest: Revision(row.get(1)?),
                    passed: row.get(2)?,
                    revision: Revision(row.get(3)?),
                })
            },
        )
    }
}
