//! The durable journal of an embedded Tidewatch keyspace: its history in one SQLite database.
//!
//! A [`SqliteJournal`] makes a keyspace survive the end of its process and of its machine. What was
//! acknowledged is there after `kill -9` and after a loss of power, together with the history, so
//! that watches resume across restarts.
//!
//! # What this crate does not do
//! It does not answer reads: the keyspace keeps its state and its window of history in memory, and
//! comes here once, when it starts. It does not decide when to compact. It runs no server and watches
//! no clock.
//!
//! # Guarantees
//! - **Durable.** A commit is acknowledged after the database's log was synced
//!   ([`Synchronous::Full`], the default). A test looks at the system calls.
//! - **All or nothing.** A group is one transaction of SQLite. If it fails, it never comes back, not
//!   even after a crash: a commit whose sync failed is made void before anything else is written.
//! - **One at a time.** A lock that the kernel frees with the process keeps a second opener out.
//! - **Bounded.** Compaction works in slices of some milliseconds between commits; freed space is used
//!   again, and given back to the system when most of the file is free.
//!
//! # The files
//! All of them are readable by their user only.
//!
//! | name | what |
//! |---|---|
//! | `tidewatch.db` | the database; `application_id` 0x54696465, `user_version` is the format, 1 |
//! | `tidewatch.db-wal`, `tidewatch.db-shm` | its log and the log's index, while it is open or after a crash; **never** remove or copy one without the other |
//! | `tidewatch.lock` | locked while a process has the directory open; holds its process id |
//! | `tidewatch.db.v<n>.bak` | the database as it was before the migration from format `n` |
//! | `tidewatch.db.replaced` | what the last forced restore replaced, with `-wal` if it had a log |
//! | `tidewatch.db.restored` | a restored database about to take its place; the next start finishes that |
//!
//! In the database, `events` has one row per change in the order of the log: `revision`, `key`, `value`
//! (null for a deletion), `create_revision`, `version`, `lease`, the revision of the write it
//! `replaces`, and `time_ns` of the commit. `leases` has those that have not ended, `meta` one row with
//! the keyspace's identity and the oldest revision. `sqlite3 -readonly` may look while a server runs.
//!
//! # When something is wrong
//! - **The disk is full** ([`Error::DiskFull`]): writes fail, reads and watches go on, nothing that was
//!   acknowledged is lost. Free some space; the next write works, without a restart.
//! - **The database is damaged** ([`Error::Corrupt`], [`Error::NotADatabase`]): it is refused and left as
//!   it is. [`restore`] the last [`backup`] with [`Existing::Replace`]; the damaged file is kept as
//!   `tidewatch.db.replaced`. SQLite's `.recover` command can often get at the rest.
//! - **It is newer than the program** ([`Error::NewerDatabase`]): use the newer program, or put the
//!   `.bak` file in its place, which loses what was written since.
//! - **The disk failed while syncing** ([`Error::Unsynced`]): the commit did not happen. Check the disk.
//!
//! # Example
//! A keyspace that is still there after a restart:
//!
//! ```
//! use tidewatch_core::Keyspace;
//! use tidewatch_sqlite::SqliteJournal;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let data = tempfile::tempdir()?;
//! # let dir = data.path();
//! let ks = Keyspace::builder().journal(SqliteJournal::open(dir)?).open().await?;
//! let driver = tokio::spawn(ks.driver());
//! ks.put("/config/db", "postgres").await?; // on the disk when this returns
//! ks.close();
//! driver.await?; // the journal is closed with its driver
//!
//! let ks = Keyspace::builder().journal(SqliteJournal::open(dir)?).open().await?;
//! assert_eq!(ks.get("/config/db").await?.expect("it was acknowledged").value, "postgres");
//! # Ok(())
//! # }
//! ```

mod backup;
mod compaction;
mod database;
mod directory;
mod error;
mod handle;
mod journal;
mod lock;
mod options;
mod recovery;
mod restore;
mod schema;
mod store;
mod worker;

pub use backup::{Backup, Existing, backup};
pub use error::{Cause, Error};
pub use handle::Handle;
pub use journal::SqliteJournal;
pub use options::{Options, Synchronous};
pub use restore::{Restored, restore};
