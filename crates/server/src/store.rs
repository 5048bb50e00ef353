//! The keyspace a server runs on, opened as its configuration says.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tidewatch_core::{Clock, Keyspace};
use tidewatch_sqlite::{Backup, Existing, Handle, SqliteJournal};

use crate::config::Config;
use crate::error::Error;
use crate::etcd;
use crate::upstream::Followed;

/// The file with the name under which this directory's servers claim hosts.
const INSTANCE_FILE: &str = "instance";

/// How the directories begin in which backups wait to be sent. They are in the data directory,
/// because nowhere else is there known to be room for a copy.
const OUTGOING_PREFIX: &str = "outgoing-backup-";

/// An open keyspace.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) keyspace: Keyspace,
    /// Who we are towards other servers and agents: the same after a restart, if there is a data
    /// directory.
    pub(crate) instance: String,
    place: Place,
}

/// Where a keyspace is.
#[derive(Clone, Debug)]
enum Place {
    Memory,
    Disk { dir: PathBuf, handle: Handle },
    Etcd(Followed),
}

/// A copy of the database that is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct OutgoingBackup {
    pub(crate) backup: Backup,
    _dir: TempDir,
}

impl Store {
    /// Opens the keyspace and reads it back.
    ///
    /// # Errors
    /// [`Error::Database`], [`Error::DataDir`], [`Error::Recover`]; [`Error::Etcd`].
    pub(crate) async fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, Error> {
        if let Some(etcd) = &config.etcd {
            let (keyspace, upstream) = etcd::open(etcd, &config.keyspace, clock).await?;
            return Ok(Self {
                keyspace,
                instance: new_instance(),
                place: Place::Etcd(Followed::new(upstream, clock.clone())),
            });
        }
        let builder = Keyspace::builder()
            .settings(config.keyspace.clone())
            .clock(clock.clone());
        let Some(dir) = config.data_dir.clone() else {
            return Ok(Self {
                keyspace: builder.open().await.map_err(Error::Recover)?,
                instance: new_instance(),
                place: Place::Memory,
            });
        };
        let (journal, instance) = blocking(move || open_dir(&dir)).await?;
        let handle = journal.handle();
        let dir = config.data_dir.clone().unwrap_or_default();
        Ok(Self {
            keyspace: builder.journal(journal).open().await.map_err(Error::Recover)?,
            instance,
            place: Place::Disk { dir, handle },
        })
    }

    /// What it follows, if it is elsewhere.
    pub(crate) fn followed(&self) -> Option<&Followed> {
        match &self.place {
            Place::Etcd(followed) => Some(followed),
            Place::Memory | Place::Disk { .. } => None,
        }
    }

    /// Makes a copy of the database while it is in use. None: there is no database.
    ///
    /// # Errors
    /// Those of [`Handle::backup`].
    pub(crate) async fn backup(&self) -> Result<Option<OutgoingBackup>, tidewatch_sqlite::Error> {
        let Place::Disk { dir: place, handle } = &self.place else {
            return Ok(None);
        };
        let failed = |source: io::Error| tidewatch_sqlite::Error::Unwritable {
            path: place.clone(),
            source: source.into(),
        };
        let dir = tempfile::Builder::new()
            .prefix(OUTGOING_PREFIX)
            .tempdir_in(place)
            .map_err(failed)?;
        let backup = handle
            .backup(dir.path().join("tidewatch.db"), Existing::Refuse)
            .await?;
        Ok(Some(OutgoingBackup { backup, _dir: dir }))
    }
}

fn open_dir(dir: &Path) -> Result<(SqliteJournal, String), Error> {
    let journal = SqliteJournal::open(dir).map_err(|source| Error::Database {
        path: dir.to_path_buf(),
        source,
    })?;
    // Only now, with the directory locked, are these ours to touch.
    let unusable = |reason: &str, source| Error::DataDir {
        path: dir.to_path_buf(),
        reason: reason.to_owned(),
        source: Some(source),
    };
    remove_outgoing(dir).map_err(|error| unusable("an unfinished backup cannot be removed", error))?;
    let instance =
        instance_in(dir).map_err(|error| unusable("its instance id cannot be read or written", error))?;
    Ok((journal, instance))
}

/// Removes what a process that was killed while it sent a backup has left.
fn remove_outgoing(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(OUTGOING_PREFIX) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The instance id kept in a data directory; made if there is none.
fn instance_in(dir: &Path) -> io::Result<String> {
    let path = dir.join(INSTANCE_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) if is_instance(text.trim()) => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let instance = new_instance();
    std::fs::write(&path, format!("{instance}\n"))?;
    Ok(instance)
}

fn is_instance(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn new_instance() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// Runs what waits for a disk where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::TaskEnded {
            task: "start",
            reason: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instance_id_is_kept_and_a_broken_one_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let first = instance_in(dir.path()).unwrap();
        assert!(is_instance(&first), "{first}");
        assert_eq!(instance_in(dir.path()).unwrap(), first);
        std::fs::write(dir.path().join(INSTANCE_FILE), "").unwrap();
        assert_ne!(instance_in(dir.path()).unwrap(), first);
    }

    #[test]
    fn what_a_killed_process_was_sending_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["outgoing-backup-x1", "other"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("tidewatch.db"), "x").unwrap();
        }
        remove_outgoing(dir.path()).unwrap();
        assert!(!dir.path().join("outgoing-backup-x1").exists());
        assert!(dir.path().join("other/tidewatch.db").exists());
    }
}
