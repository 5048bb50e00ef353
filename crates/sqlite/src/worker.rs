//! The thread that owns the database.

use tidewatch_core::Revision;
use tidewatch_core::journal::{Entry, Recovered};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use crate::error::Error;
use crate::store::Store;

/// The keyspace makes one call at a time; the rest is room for calls whose caller went away.
pub(crate) const QUEUED_COMMANDS: usize = 8;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A call of the journal.
pub(crate) enum Command {
    Recover(Reply<Recovered>),
    Commit(Vec<Entry>, Reply<()>),
    Compact(Revision, Reply<()>),
}

/// Serves commands until the journal is dropped. A slice of compaction follows each command, and more
/// of them while there is none.
pub(crate) fn run(mut store: Store, mut commands: mpsc::Receiver<Command>) {
    loop {
        let command = if store.chore.is_waiting() {
            match commands.try_recv() {
                Ok(command) => Some(command),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return,
            }
        } else {
            match commands.blocking_recv() {
                Some(command) => Some(command),
                None => return,
            }
        };
        if let Some(command) = command {
            serve(&mut store, command);
        }
        store.do_chore();
    }
}

/// Whoever called may have gone away; what they asked for is done all the same.
fn serve(store: &mut Store, command: Command) {
    match command {
        Command::Recover(reply) => {
            let _ = reply.send(store.recover());
        }
        Command::Commit(group, reply) => {
            let _ = reply.send(store.commit(&group));
        }
        Command::Compact(oldest, reply) => {
            let _ = reply.send(store.compact(oldest));
        }
    }
}
