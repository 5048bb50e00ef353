//! Opening a database and finding out whether it is one of ours, and whole.

use std::fs;
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tidewatch_core::KeyspaceId;

use crate::backup;
use crate::directory::Directory;
use crate::error::Error;
use crate::options::Synchronous;
use crate::schema::{self, APPLICATION_ID, MigrationError, Schema};

/// Up to this size a database is checked page by page when it is opened, which takes less than a
/// tenth of a second. A larger one is checked as far as recovery reads it anyway: every event.
const QUICK_CHECK_MAX_BYTES: u64 = 64 << 20;

/// Memory for pages. Commits append and recovery scans, so a larger cache would not be hit more.
const CACHE_KIB: i32 = 8 * 1024;

/// The log is cut back to this after it has grown beyond, for instance during a backup.
const LOG_MAX_BYTES: u32 = 64 << 20;

/// How long SQLite waits for somebody who has the database open with a tool.
const BUSY_TIMEOUT_MS: u32 = 5_000;

/// Opens the directory's database for the journal: makes a new one, migrates an older one, refuses
/// whatever else it finds.
pub(crate) fn open(dir: &Directory, schema: &Schema) -> Result<Connection, Error> {
    dir.create_database_file()?;
    let path = dir.database();
    let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let failed = |error| Error::sqlite("open", &path, error);

    match identify(&connection, &path, schema)? {
        Found::Nothing => {
            set_up_space(&connection).map_err(failed)?;
            schema::create(&mut connection, schema, KeyspaceId::random().0).map_err(failed)?;
        }
        Found::Version(version) => {
            check(&connection, &path)?;
            if version < schema.version {
                // A copy first: whatever the migration does, the way back exists.
                let copy = dir.path().join(format!("tidewatch.db.v{version}.bak"));
                backup::copy(&connection, &path, &copy, backup::Existing::Replace)?;
                tracing::info!(path = %path.display(), copy = %copy.display(), from = version, to = schema.version,
                    "migrating the database");
                migrate(&mut connection, &path, schema, version)?;
            }
        }
    }
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(failed)?;
    if mode != "wal" {
        return Err(Error::Failed {
            action: "turn on the write-ahead log of",
            path,
            source: format!("the file system only allows journal mode {mode:?}").into(),
        });
    }
    Ok(connection)
}

/// Opens a database to be read only, and refuses what is not one of ours.
pub(crate) fn open_to_read(path: &Path, schema: &Schema) -> Result<(Connection, u32), Error> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    match identify(&connection, path, schema)? {
        Found::Nothing => Err(Error::NotADatabase {
            path: path.to_path_buf(),
        }),
        Found::Version(version) => Ok((connection, version)),
    }
}

pub(crate) fn connect(path: &Path, mode: OpenFlags) -> Result<Connection, Error> {
    let failed = |error| Error::sqlite("open", path, error);
    let connection =
        Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX).map_err(failed)?;
    let settings = || {
        connection.busy_timeout(std::time::Duration::from_millis(BUSY_TIMEOUT_MS.into()))?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.pragma_update(None, "temp_store", "memory")?;
        // The file may come from anywhere: its schema may not run functions, its pages are not believed.
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update_and_check(None, "journal_size_limit", LOG_MAX_BYTES, |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", Synchronous::Full.pragma())?;
        // A file that is refused is left as it is, its log included.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        Ok(())
    };
    settings().map_err(failed)?;
    Ok(connection)
}

/// Closing a connection moves its log into the database, from now on.
pub(crate) fn allow_checkpoint_on_close(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(())
}

/// What a file turned out to be, if it is not refused.
enum Found {
    Nothing,
    Version(u32),
}

fn identify(connection: &Connection, path: &Path, schema: &Schema) -> Result<Found, Error> {
    let failed = |error| Error::sqlite("read", path, error);
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let application_id = number("application_id").map_err(failed)?.cast_unsigned();
    let version = number("user_version").map_err(failed)?.cast_unsigned();
    if application_id != APPLICATION_ID {
        let tables: u64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(failed)?;
        if application_id == 0 && version == 0 && tables == 0 {
            return Ok(Found::Nothing);
        }
        return Err(Error::ForeignDatabase {
            path: path.to_path_buf(),
            application_id,
        });
    }
    if version > schema.version {
        return Err(Error::NewerDatabase {
            path: path.to_path_buf(),
            found: version,
            supported: schema.version,
        });
    }
    Ok(Found::Version(version))
}

/// Checks every page of a database that is not too large for it.
fn check(connection: &Connection, path: &Path) -> Result<(), Error> {
    let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if size > QUICK_CHECK_MAX_BYTES {
        return Ok(());
    }
    check_all(connection, path)
}

/// Checks every page of a database, however large.
pub(crate) fn check_all(connection: &Connection, path: &Path) -> Result<(), Error> {
    let detail: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| Error::sqlite("check", path, error))?;
    if detail == "ok" {
        return Ok(());
    }
    Err(Error::Corrupt {
        path: path.to_path_buf(),
        detail: detail.replace('\n', " "),
    })
}

/// Brings a database up to date. Nothing else may have it open.
pub(crate) fn migrate(
    connection: &mut Connection,
    path: &Path,
    schema: &Schema,
    from: u32,
) -> Result<(), Error> {
    schema::migrate(connection, schema, from).map_err(|error| match error {
        MigrationError::Sqlite(error)
            if matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DiskFull)) =>
        {
            Error::DiskFull {
                path: path.to_path_buf(),
            }
        }
        error => Error::Migration {
            path: path.to_path_buf(),
            from,
            to: schema.version,
            source: error.into(),
        },
    })
}

/// Lets the file shrink when much of it has become free. Must come before the first table.
fn set_up_space(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "auto_vacuum", "incremental")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use bytes::Bytes;
    use tidewatch_core::journal::{Entry, Journal};
    use tidewatch_core::{Event, KeyValue, Record, Recovered, Revision};

    use super::*;
    use crate::journal::SqliteJournal;
    use crate::options::Options;
    use crate::schema::{CURRENT, Step};

    /// A version that is still to come, two steps from today's.
    const LATER: Schema = Schema {
        version: CURRENT.version + 2,
        tables: CURRENT.tables,
        steps: &[
            Step {
                from: CURRENT.version,
                sql: "ALTER TABLE events ADD COLUMN author BLOB; UPDATE events SET author = x'2a';",
            },
            Step {
                from: CURRENT.version + 1,
                sql: "ALTER TABLE leases ADD COLUMN renewed_ns INTEGER; DELETE FROM leases;",
            },
        ],
    };

    /// The same, with a mistake in its second step.
    const BROKEN: Schema = Schema {
        version: LATER.version,
        tables: LATER.tables,
        steps: &[
            Step {
                from: CURRENT.version,
                sql: "DROP TABLE leases; DELETE FROM events;",
            },
            Step {
                from: CURRENT.version + 1,
                sql: "ALTER TABLE missing ADD COLUMN x;",
            },
        ],
    };

    /// The same, when nobody knows any more how to come from today's.
    const FORGETFUL: Schema = Schema {
        version: LATER.version,
        tables: LATER.tables,
        steps: &[],
    };

    async fn filled(dir: &Path) -> Recovered {
        let mut journal = SqliteJournal::open(dir).unwrap();
        for revision in (2..50).map(Revision) {
            let kv = KeyValue {
                key: Bytes::from(format!("/k/{revision}")),
                value: Bytes::from_static(b"v"),
                create_revision: revision,
                mod_revision: revision,
                version: 1,
                lease: None,
            };
            let record = Record {
                revision,
                time: None,
                events: [Event::put(kv, None)].into(),
            };
            journal
                .commit(vec![Entry::Record(Arc::new(record))])
                .await
                .unwrap();
        }
        journal.recover().await.unwrap()
    }

    fn open_as(dir: &Path, schema: &'static Schema) -> Result<SqliteJournal, Error> {
        SqliteJournal::open_as(dir, &Options::new(), schema)
    }

    fn copy_of_version_1(dir: &Path) -> PathBuf {
        dir.join("tidewatch.db.v1.bak")
    }

    #[tokio::test]
    async fn an_older_database_is_migrated_after_a_copy_was_made() {
        let dir = tempfile::tempdir().unwrap();
        let before = filled(dir.path()).await;
        let mut journal = open_as(dir.path(), &LATER).unwrap();
        assert_eq!(journal.recover().await.unwrap(), before);
        drop(journal);
        let database = Connection::open(dir.path().join("tidewatch.db")).unwrap();
        let count = "SELECT count(*) FROM events WHERE author = x'2a'";
        assert_eq!(database.query_row(count, [], |row| row.get::<_, u64>(0)), Ok(48));
        drop(database);

        // It opens without another migration, and the version that made it refuses it from now on.
        fs::remove_file(copy_of_version_1(dir.path())).unwrap();
        drop(open_as(dir.path(), &LATER).unwrap());
        assert!(!copy_of_version_1(dir.path()).exists());
        let error = SqliteJournal::open(dir.path()).unwrap_err();
        assert!(
            matches!(
                error,
                Error::NewerDatabase {
                    found: 3,
                    supported: 1,
                    ..
                }
            ),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn the_copy_is_the_way_back() {
        let dir = tempfile::tempdir().unwrap();
        let before = filled(dir.path()).await;
        drop(open_as(dir.path(), &LATER).unwrap());
        fs::rename(copy_of_version_1(dir.path()), dir.path().join("tidewatch.db")).unwrap();
        let mut journal = SqliteJournal::open(dir.path()).unwrap();
        assert_eq!(journal.recover().await.unwrap(), before, "identity included");
    }

    #[tokio::test]
    async fn a_migration_that_fails_changes_nothing() {
        for schema in [&BROKEN, &FORGETFUL] {
            let dir = tempfile::tempdir().unwrap();
            let before = filled(dir.path()).await;
            let error = open_as(dir.path(), schema).unwrap_err();
            assert!(
                matches!(error, Error::Migration { from: 1, to: 3, .. }),
                "{error:?}"
            );
            let mut journal = SqliteJournal::open(dir.path()).unwrap();
            assert_eq!(journal.recover().await.unwrap(), before);
        }
    }

    #[test]
    fn there_is_a_step_from_each_version_to_the_next() {
        let from: Vec<_> = CURRENT.steps.iter().map(|step| step.from).collect();
        assert_eq!(from, (1..CURRENT.version).collect::<Vec<_>>());
    }
}
