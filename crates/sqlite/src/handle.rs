//! What can be done with a journal from outside while a keyspace uses it.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::thread;

use tokio::sync::{Semaphore, oneshot};

use crate::backup::{self, Backup, Existing};
use crate::database;
use crate::directory::{DATABASE_FILE, Directory};
use crate::error::Error;
use crate::lock::Lock;
use crate::schema::Schema;

/// Makes backups of a journal that is in use. Clones are handles on the same journal.
///
/// A handle does not keep the journal open: after that was closed, calls fail with
/// [`Error::Closed`].
#[derive(Clone, Debug)]
pub struct Handle {
    dir: PathBuf,
    schema: &'static Schema,
    lock: Weak<Lock>,
    /// One backup at a time: each reads the whole database, and keeps the log from being cut back.
    turn: Arc<Semaphore>,
}

impl Handle {
    pub(crate) fn new(dir: &Directory, schema: &'static Schema) -> Self {
        Self {
            dir: dir.path().to_path_buf(),
            schema,
            lock: Arc::downgrade(dir.lock()),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.dir.join(DATABASE_FILE)
    }

    /// Writes the keyspace as it is at one revision to the file `to`, while commits go on. The file
    /// appears whole and synced, or not at all.
    ///
    /// Needs as much room as the database at `to`. Until it is done the log beside the database grows
    /// with every commit.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::InsideDataDir`], [`Error::Unwritable`], [`Error::DiskFull`],
    /// [`Error::Corrupt`], [`Error::BackupRunning`], [`Error::Closed`], [`Error::Failed`].
    ///
    /// # Cancel safety
    /// A backup that has begun is made even if the future is dropped.
    pub async fn backup(&self, to: impl Into<PathBuf>, existing: Existing) -> Result<Backup, Error> {
        let turn = self
            .turn
            .clone()
            .try_acquire_owned()
            .map_err(|_| Error::BackupRunning)?;
        // Held until the end, so that nobody takes the directory over meanwhile.
        let lock = self.lock.upgrade().ok_or(Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        let (to, dir, database, schema) = (to.into(), self.dir.clone(), self.database(), self.schema);
        thread::Builder::new()
            .name("tw-backup".into())
            .spawn(move || {
                let make = || {
                    let (connection, _) = database::open_to_read(&database, schema)?;
                    backup::copy_out(&connection, &dir, &to, existing)
                };
                let result = make();
                drop((turn, lock));
                let _ = reply.send(result);
            })
            .map_err(|error| Error::io("start a thread for a backup of", &self.dir, error))?;
        answer.await.map_err(|_| Error::Closed)?
    }
}
