//! Writing a database to a single file that is whole and consistent.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::NamedTempFile;
use tidewatch_core::{KeyspaceId, Revision};

use crate::database;
use crate::directory::{self, Directory};
use crate::error::Error;
use crate::schema;
use crate::store::Meta;

/// What to do about something that is in the place of what is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it and fail.
    Refuse,
    /// Replace it.
    Replace,
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The keyspace it was made of. A restore gives it a new identity.
    pub keyspace: KeyspaceId,
    /// The last revision in it.
    pub revision: Revision,
}

/// Makes a backup of a data directory that no server has open; with one running, ask that for it
/// ([`Handle::backup`](crate::Handle::backup)). Blocks until it is done.
///
/// # Errors
/// [`Error::InUse`], [`Error::NoDatabase`], and those of [`Handle::backup`](crate::Handle::backup)
/// and [`SqliteJournal::open`](crate::SqliteJournal::open).
pub fn backup(dir: impl AsRef<Path>, to: impl AsRef<Path>, existing: Existing) -> Result<Backup, Error> {
    let path = dir.as_ref().join(directory::DATABASE_FILE);
    if !path.exists() && !dir.as_ref().join(directory::RESTORED_FILE).exists() {
        return Err(Error::NoDatabase { path });
    }
    let dir = Directory::open(dir.as_ref())?;
    let (connection, _) = database::open_to_read(&dir.database(), &schema::CURRENT)?;
    copy_out(&connection, dir.path(), to.as_ref(), existing)
}

/// Makes a backup outside the data directory.
pub(crate) fn copy_out(
    connection: &Connection,
    dir: &Path,
    to: &Path,
    existing: Existing,
) -> Result<Backup, Error> {
    let to = std::path::absolute(to).map_err(|error| Error::io("find", to, error))?;
    let parent = to.parent().unwrap_or(&to);
    // A backup must not replace the database, nor be taken for a part of it.
    if let (Ok(parent), Ok(dir)) = (parent.canonicalize(), dir.canonicalize())
        && parent == dir
    {
        return Err(Error::InsideDataDir { path: to });
    }
    copy(connection, &dir.join(directory::DATABASE_FILE), &to, existing)
}

/// Writes what `connection`, which has `source` open, sees at this moment to the file `to`.
pub(crate) fn copy(
    connection: &Connection,
    source: &Path,
    to: &Path,
    existing: Existing,
) -> Result<Backup, Error> {
    if to.is_dir() || (existing == Existing::Refuse && to.exists()) {
        return Err(Error::Exists {
            path: to.to_path_buf(),
        });
    }
    let parent = to.parent().unwrap_or(to);
    let partial = partial_in(parent)?;
    write(connection, source, partial.path(), to)?;
    let meta = read_meta(partial.path())?;
    let failed = |error| Error::io("write", to, error);
    partial.as_file().sync_all().map_err(failed)?;
    let bytes = partial.as_file().metadata().map_err(failed)?.len();
    let persisted = match existing {
        Existing::Refuse => partial.persist_noclobber(to),
        Existing::Replace => partial.persist(to),
    };
    persisted.map_err(|error| match error.error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::Exists {
            path: to.to_path_buf(),
        },
        _ => failed(error.error),
    })?;
    directory::sync_dir(parent).map_err(failed)?;
    Ok(Backup {
        path: to.to_path_buf(),
        bytes,
        keyspace: meta.keyspace,
        revision: meta.revision,
    })
}

/// A file that vanishes unless it is completed, readable by this user only.
pub(crate) fn partial_in(dir: &Path) -> Result<NamedTempFile, Error> {
    tempfile::Builder::new()
        .prefix(directory::PARTIAL_PREFIX)
        .suffix(directory::PARTIAL_SUFFIX)
        .tempfile_in(dir)
        .map_err(|error| Error::io("create a file in", dir, error))
}

/// `VACUUM INTO` reads each row at one point of the history, without holding up commits: the copy is
/// small, has no log, and a damaged source is found out. `shown` is the file's name in errors.
pub(crate) fn write(connection: &Connection, source: &Path, to: &Path, shown: &Path) -> Result<(), Error> {
    let name = to.to_str().ok_or_else(|| Error::Failed {
        action: "write",
        path: shown.to_path_buf(),
        source: "its name is not UTF-8".into(),
    })?;
    connection.execute("VACUUM INTO ?1", [name]).map_err(|error| {
        match Error::sqlite("write", shown, error) {
            // Only the source can be damaged.
            Error::Corrupt { detail, .. } => Error::Corrupt {
                path: source.to_path_buf(),
                detail,
            },
            error => error,
        }
    })?;
    Ok(())
}

fn read_meta(path: &Path) -> Result<Meta, Error> {
    let connection = database::connect(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    Meta::read(&connection).map_err(|error| Error::sqlite("read", path, error))
}
