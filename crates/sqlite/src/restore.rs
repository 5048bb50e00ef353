//! Making a data directory from a backup.

use std::path::Path;

use rusqlite::OpenFlags;
use tidewatch_core::{KeyspaceId, Revision};

use crate::backup::{self, Existing};
use crate::database;
use crate::directory::{Directory, RESTORED_FILE};
use crate::error::Error;
use crate::schema;
use crate::store::Meta;

/// A keyspace that was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Its new identity: whoever resumes with a position of the old one is told so.
    pub keyspace: KeyspaceId,
    /// The identity of the keyspace the backup was made of.
    pub from: KeyspaceId,
    /// Its revision.
    pub revision: Revision,
}

/// Puts the keyspace of a backup into the data directory `dir`, with a new identity. Blocks until it
/// is done. A backup of an older format is brought up to date; the file itself is only read.
///
/// `dir` must be missing or empty. With [`Existing::Replace`] it need not be: the database in it, even
/// a damaged one, is kept as `tidewatch.db.replaced` (an earlier one of that name is not), other files
/// stay. A crash leaves the old database or the restored one, never something between.
///
/// # Errors
/// [`Error::InUse`] while a server has `dir` open, [`Error::NotEmpty`]; [`Error::NoDatabase`],
/// [`Error::NotADatabase`], [`Error::ForeignDatabase`], [`Error::NewerDatabase`], [`Error::Corrupt`]
/// and [`Error::Migration`] about the backup; [`Error::NotADirectory`], [`Error::Unwritable`],
/// [`Error::DiskFull`], [`Error::Failed`].
pub fn restore(
    backup: impl AsRef<Path>,
    dir: impl AsRef<Path>,
    existing: Existing,
) -> Result<Restored, Error> {
    let schema = &schema::CURRENT;
    let backup = backup.as_ref();
    let source = std::path::absolute(backup).map_err(|error| Error::io("find", backup, error))?;
    // Before anything is made: is it there, ours, and whole?
    if !source.is_file() {
        return Err(Error::NoDatabase { path: source });
    }
    let (connection, version) = database::open_to_read(&source, schema)?;
    database::check_all(&connection, &source)?;
    let from = Meta::read(&connection).map_err(|error| Error::sqlite("read", &source, error))?;

    let dir = Directory::open(dir.as_ref())?;
    if existing == Existing::Refuse
        && let Some(found) = dir.content()?
    {
        return Err(Error::NotEmpty {
            dir: dir.path().to_path_buf(),
            found,
        });
    }
    let partial = backup::partial_in(dir.path())?;
    backup::write(&connection, &source, partial.path(), &dir.database())?;
    let keyspace = renew(partial.path(), version, from.keyspace)?;

    let failed = |error| Error::io("write", &dir.database(), error);
    partial.as_file().sync_all().map_err(failed)?;
    dir.remove_orphaned_logs()?;
    partial
        .persist(dir.path().join(RESTORED_FILE))
        .map_err(|error| failed(error.error))?;
    dir.sync()?;
    dir.finish_restore()?;
    Ok(Restored {
        keyspace,
        from: from.keyspace,
        revision: from.revision,
    })
}

/// Brings a copy of a backup up to date and gives it another identity.
fn renew(path: &Path, version: u32, old: KeyspaceId) -> Result<KeyspaceId, Error> {
    let schema = &schema::CURRENT;
    let mut connection = database::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    if version < schema.version {
        database::migrate(&mut connection, path, schema, version)?;
    }
    let mut keyspace = KeyspaceId::random();
    while keyspace == old {
        keyspace = KeyspaceId::random();
    }
    connection
        .execute("UPDATE meta SET keyspace = ?1", [keyspace.0.cast_signed()])
        .map_err(|error| Error::sqlite("write to", path, error))?;
    Ok(keyspace)
}
