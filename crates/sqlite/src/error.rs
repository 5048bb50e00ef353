//! What can go wrong with a database on disk, and how to mend it.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// The error of the system or of SQLite behind an [`Error`].
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Why the journal, a backup or a restore failed. Unless a variant says otherwise nothing was
/// written, and what was acknowledged before is still there.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory is something else.
    #[error("{} is not a directory; name a directory for the data, or move the file away", .path.display())]
    NotADirectory {
        /// What was to be the directory.
        path: PathBuf,
    },
    /// A file or directory cannot be made, read or written by this user.
    #[error("cannot write to {}; give this user read and write access to it, or name another place", .path.display())]
    Unwritable {
        /// What cannot be written.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Cause,
    },
    /// Another process, or another journal of this one, has the directory open.
    #[error(
        "the data directory {} is in use{}; stop that server first, or name another directory",
        .dir.display(), .holder.map(|pid| format!(" by process {pid}")).unwrap_or_default()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process that has it open, where that is known.
        holder: Option<u32>,
    },
    /// A file is no SQLite database at all.
    #[error("{} is not a database; move it away, or restore a backup with `--force`", .path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// A file is a database of another program.
    #[error(
        "{} is a database of another program (application id {application_id:#010x}); name another file or directory",
        .path.display()
    )]
    ForeignDatabase {
        /// The file.
        path: PathBuf,
        /// Whose it is, as in the file's header; zero if it does not say.
        application_id: u32,
    },
    /// A database was written by a newer version of this program.
    #[error(
        "{} has format {found}, this version reads up to {supported}; use the newer version, or restore a backup that this one made",
        .path.display()
    )]
    NewerDatabase {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        supported: u32,
    },
    /// A database is damaged. Nothing was changed in it.
    #[error("{} is damaged ({detail}); restore a backup with `--force`, which keeps the damaged file", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A database of an older format could not be brought up to date. It is as it was.
    #[error("failed to migrate {} from format {from} to {to}; it is unchanged", .path.display())]
    Migration {
        /// The file.
        path: PathBuf,
        /// Its format.
        from: u32,
        /// The format it was to get.
        to: u32,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The disk is full. What was acknowledged is still there, and writes work again once there is
    /// room.
    #[error("the disk of {} is full; free some space", .path.display())]
    DiskFull {
        /// The file that has no room.
        path: PathBuf,
    },
    /// A sync failed, so it is unknown whether the disk has what the journal must not remember. The
    /// journal takes nothing more until it has made sure.
    #[error("the disk of {} failed while syncing; check the disk", .path.display())]
    Unsynced {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: Cause,
    },
    /// A group's revisions do not follow those before it.
    #[error("revision {revision} cannot follow revision {last}")]
    OutOfOrder {
        /// The revision that was to be written.
        revision: u64,
        /// The last one that was.
        last: u64,
    },
    /// A file that was to be made is there already.
    #[error("{} exists already; name another file, or ask to replace it", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A backup was to overwrite the database itself.
    #[error("{} is in the data directory; name a file elsewhere", .path.display())]
    InsideDataDir {
        /// Where the backup was to go.
        path: PathBuf,
    },
    /// A directory that a backup was to be restored to is not empty.
    #[error("{} is not empty, there is {found:?}; name an empty directory, or use `--force` to replace its database", .dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// Something in it.
        found: String,
    },
    /// A directory has no database.
    #[error("{} does not exist; is it the right data directory?", .path.display())]
    NoDatabase {
        /// The database that is missing.
        path: PathBuf,
    },
    /// Another backup is being made.
    #[error("another backup is being made; wait until it is done")]
    BackupRunning,
    /// The journal was closed, or its thread has ended.
    #[error("the journal is closed")]
    Closed,
    /// The system or SQLite failed in a way that has no name of its own.
    #[error("failed to {action} {}", .path.display())]
    Failed {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system or SQLite says.
        #[source]
        source: Cause,
    },
}

impl Error {
    /// Whether the same call may succeed later without anything being changed about it.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::DiskFull { .. } | Self::BackupRunning | Self::Unsynced { .. }
        )
    }

    /// Gives an error of SQLite its name here. `action` fits behind "failed to".
    pub(crate) fn sqlite(action: &'static str, path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_path_buf();
        let rusqlite::Error::SqliteFailure(failure, _) = &source else {
            return match source {
                // A value of another type than the schema says, or a row that must be there and is not.
                rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::QueryReturnedNoRows => {
                    let detail = source.to_string();
                    Self::Corrupt { path, detail }
                }
                _ => Self::Failed {
                    action,
                    path,
                    source: source.into(),
                },
            };
        };
        match failure.code {
            ErrorCode::DiskFull => Self::DiskFull { path },
            // The index of the log is a file too, and cannot grow for want of space.
            _ if failure.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE => Self::DiskFull { path },
            ErrorCode::NotADatabase => Self::NotADatabase { path },
            ErrorCode::DatabaseCorrupt => {
                let detail = source.to_string();
                Self::Corrupt { path, detail }
            }
            ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied => Self::Unwritable {
                path,
                source: source.into(),
            },
            _ => Self::Failed {
                action,
                path,
                source: source.into(),
            },
        }
    }

    /// Gives an error of the system its name here. `action` fits behind "failed to".
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Self::Unwritable {
                path,
                source: source.into(),
            },
            _ => Self::Failed {
                action,
                path,
                source: source.into(),
            },
        }
    }
}
