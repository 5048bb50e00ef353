//! The journal: a handle on the thread that owns the database.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tidewatch_core::backend::BoxFuture;
use tidewatch_core::journal::{Entry, Journal, Recovered};
use tidewatch_core::{Revision, error};
use tokio::sync::{mpsc, oneshot};

use crate::directory::Directory;
use crate::error::Error;
use crate::handle::Handle;
use crate::options::Options;
use crate::schema::{self, Schema};
use crate::store::Store;
use crate::worker::{self, Command, QUEUED_COMMANDS, Reply};

/// A durable [`Journal`] in a directory of its own.
///
/// # Cancel safety
/// What a call asked for happens even if its future is dropped after it was first polled.
///
/// # Closing
/// Dropping the journal waits until its thread has finished what it was asked for, moved the log into
/// the database and given up the lock: usually some milliseconds, in which the calling thread blocks.
#[derive(Debug)]
pub struct SqliteJournal {
    /// None once the journal is being dropped.
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    handle: Handle,
}

impl SqliteJournal {
    /// Opens the journal in `dir`. Makes the directory and an empty keyspace with a new identity if
    /// there is none, and brings an older database up to date after making a copy of it beside it.
    ///
    /// Blocks while it checks the database: every page of one up to 64 MiB; of a larger one
    /// [`recover`](Journal::recover) reads every event.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::NotADirectory`], [`Error::Unwritable`], [`Error::NotADatabase`],
    /// [`Error::ForeignDatabase`], [`Error::NewerDatabase`], [`Error::Corrupt`],
    /// [`Error::Migration`], [`Error::DiskFull`], [`Error::Failed`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, Error> {
        Options::new().open(dir)
    }

    pub(crate) fn open_with(dir: &Path, options: &Options) -> Result<Self, Error> {
        Self::open_as(dir, options, &schema::CURRENT)
    }

    /// Lets tests open a database with the schema of a version that is still to come.
    pub(crate) fn open_as(dir: &Path, options: &Options, schema: &'static Schema) -> Result<Self, Error> {
        let store = Store::open(Directory::open(dir)?, schema, options)?;
        let handle = Handle::new(store.dir(), schema);
        let path = store.path.clone();
        let (commands, receiver) = mpsc::channel(QUEUED_COMMANDS);
        let thread = thread::Builder::new()
            .name("tw-journal".into())
            .spawn(move || worker::run(store, receiver))
            .map_err(|error| Error::io("start a thread for", &path, error))?;
        Ok(Self {
            commands: Some(commands),
            thread: Some(thread),
            handle,
        })
    }

    /// Makes backups while the journal is in use, also after it was given to a keyspace.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The database's file.
    pub fn path(&self) -> PathBuf {
        self.handle.database()
    }

    async fn call<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, error::Cause> {
        let ask = async {
            let (reply, answer) = oneshot::channel();
            let commands = self.commands.as_ref().ok_or(Error::Closed)?;
            commands.send(command(reply)).await.map_err(|_| Error::Closed)?;
            answer.await.map_err(|_| Error::Closed)?
        };
        ask.await
            .map_err(|error: Error| -> error::Cause { Arc::new(error) })
    }
}

impl Journal for SqliteJournal {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<Recovered, error::Cause>> {
        Box::pin(self.call(Command::Recover))
    }

    /// Fails with an [`Error`]: [`Error::DiskFull`] and [`Error::Unsynced`] leave the journal usable,
    /// and the next commit works once the disk does.
    fn commit(&mut self, group: Vec<Entry>) -> BoxFuture<'_, Result<(), error::Cause>> {
        Box::pin(self.call(|reply| Command::Commit(group, reply)))
    }

    /// Returns when the new `oldest` is durable; the space is freed bit by bit afterwards. An `oldest`
    /// before the present one changes nothing.
    fn compact(&mut self, oldest: Revision) -> BoxFuture<'_, Result<(), error::Cause>> {
        Box::pin(self.call(move |reply| Command::Compact(oldest, reply)))
    }
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        // The thread ends when it has served what was sent before this.
        drop(self.commands.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(path = %self.path().display(), "the journal's thread has panicked");
        }
    }
}
