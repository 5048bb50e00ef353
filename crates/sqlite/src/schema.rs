//! The tables, and how older ones become today's.

use rusqlite::{Connection, TransactionBehavior};

/// "Tide" in ASCII: the `application_id` in the header of our databases.
pub(crate) const APPLICATION_ID: u32 = 0x5469_6465;

/// A format of the database.
#[derive(Debug)]
pub(crate) struct Schema {
    /// The `user_version` in the header, from 1.
    pub(crate) version: u32,
    /// Makes the tables of that version.
    pub(crate) tables: &'static str,
    /// Lead from older versions to this one, each from one version to the next.
    pub(crate) steps: &'static [Step],
}

/// What turns version `from` into the next one.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) from: u32,
    pub(crate) sql: &'static str,
}

/// Today's format. Whoever changes the tables raises the version and adds the step that leads there.
pub(crate) const CURRENT: Schema = Schema {
    version: 1,
    tables: TABLES,
    steps: &[],
};

// An event's `id` counts them in the order of the log, so that appending touches the last page only,
// and a scan by it is the history in order. An index on keys would cost every commit a page per
// event; `replaces` does its work: it leads to the one row that a compaction has to remove when this
// one leaves the window.
const TABLES: &str = "
    CREATE TABLE events (
        id INTEGER PRIMARY KEY,
        revision INTEGER NOT NULL,
        key BLOB NOT NULL,
        value BLOB,                        -- null: the key was deleted
        create_revision INTEGER NOT NULL,
        version INTEGER NOT NULL,
        lease INTEGER,
        replaces INTEGER,                  -- the revision of the write this one ends
        time_ns INTEGER                    -- of the commit, since 1970
    ) STRICT;
    CREATE INDEX events_by_revision ON events (revision);
    CREATE TABLE leases (
        id INTEGER PRIMARY KEY,
        ttl_ns INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE meta (
        id INTEGER PRIMARY KEY CHECK (id = 0),
        keyspace INTEGER NOT NULL,         -- its 64 bits
        revision INTEGER NOT NULL,         -- as of the last compaction; the events know better
        oldest INTEGER NOT NULL,
        passed INTEGER NOT NULL,           -- the last event a compaction has dealt with
        voided INTEGER NOT NULL            -- counts commits that failed and were made sure of
    ) STRICT;
";

/// Makes the tables in an empty database, all or nothing.
pub(crate) fn create(connection: &mut Connection, schema: &Schema, keyspace: u64) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", schema.version)?;
    transaction.execute_batch(schema.tables)?;
    transaction.execute(
        "INSERT INTO meta (id, keyspace, revision, oldest, passed, voided) VALUES (0, ?1, 1, 1, 0, 0)",
        [keyspace.cast_signed()],
    )?;
    transaction.commit()
}

/// Brings a database of version `from` up to date, all or nothing.
pub(crate) fn migrate(connection: &mut Connection, schema: &Schema, from: u32) -> Result<(), MigrationError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for version in from..schema.version {
        let step = schema.steps.iter().find(|step| step.from == version);
        transaction.execute_batch(step.ok_or(MigrationError::NoStep { from: version })?.sql)?;
    }
    transaction.pragma_update(None, "user_version", schema.version)?;
    Ok(transaction.commit()?)
}

/// Why a migration failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrationError {
    /// This version has forgotten how that one looked.
    #[error("format {from} is not supported any more; migrate with an older version first")]
    NoStep { from: u32 },
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}
