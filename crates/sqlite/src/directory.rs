//! A data directory: the files in it, and the right to use them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::lock::{LOCK_FILE, Lock};

/// The database.
pub(crate) const DATABASE_FILE: &str = "tidewatch.db";
/// A restored database that is complete and only waits to take the database's place.
pub(crate) const RESTORED_FILE: &str = "tidewatch.db.restored";
/// Where a restore puts the database it replaces.
pub(crate) const REPLACED_FILE: &str = "tidewatch.db.replaced";
/// Files between these are unfinished; the process that wrote them has ended.
pub(crate) const PARTIAL_PREFIX: &str = ".tidewatch-";
pub(crate) const PARTIAL_SUFFIX: &str = ".partial";
/// What SQLite keeps beside a database, by the end of the name: its log, and the log's index.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// A directory that this process has locked.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    lock: Arc<Lock>,
}

impl Directory {
    /// Makes the directory if it is missing, locks it, and finishes a restore that was interrupted
    /// after it had been decided.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        // Absolute, because a relative name that begins with `file:` is a URI to SQLite.
        let path = std::path::absolute(path).map_err(|error| Error::io("find", path, error))?;
        create(&path)?;
        let lock = Arc::new(Lock::acquire(&path)?);
        let dir = Self { path, lock };
        dir.remove_partial_files()?;
        dir.finish_restore()?;
        Ok(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn lock(&self) -> &Arc<Lock> {
        &self.lock
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path.join(DATABASE_FILE)
    }

    /// Makes an empty database file that only this user can read, unless there is one. SQLite gives
    /// its companions the same permissions.
    pub(crate) fn create_database_file(&self) -> Result<(), Error> {
        let path = self.database();
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path) {
            Ok(_) => self.sync(),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(Error::io("create", &path, error)),
        }
    }

    /// Something in the directory that is not the lock.
    pub(crate) fn content(&self) -> Result<Option<String>, Error> {
        let list = || {
            for entry in fs::read_dir(&self.path)? {
                let name = entry?.file_name();
                if name != LOCK_FILE {
                    return Ok(Some(name.to_string_lossy().into_owned()));
                }
            }
            Ok(None)
        };
        list().map_err(|error| Error::io("read", &self.path, error))
    }

    fn remove_partial_files(&self) -> Result<(), Error> {
        let remove = || {
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.starts_with(PARTIAL_PREFIX) && name.contains(PARTIAL_SUFFIX) {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        remove().map_err(|error| Error::io("remove unfinished files from", &self.path, error))
    }

    /// Puts the restored database in the place of the old one, which is kept beside it.
    ///
    /// From the moment [`RESTORED_FILE`] exists the restore is decided; a crash between two of these
    /// steps is made good by the next [`open`](Self::open).
    pub(crate) fn finish_restore(&self) -> Result<(), Error> {
        let restored = self.path.join(RESTORED_FILE);
        if !restored.exists() {
            return Ok(());
        }
        let step = || {
            self.forget_replaced()?;
            for companion in COMPANIONS {
                rename_if_there(
                    &self.path.join(format!("{DATABASE_FILE}{companion}")),
                    &self.path.join(format!("{REPLACED_FILE}{companion}")),
                )?;
            }
            rename_if_there(&self.database(), &self.path.join(REPLACED_FILE))?;
            // The old log must be gone for good before there is a database it does not belong to.
            sync_dir(&self.path)?;
            fs::rename(&restored, self.database())?;
            sync_dir(&self.path)
        };
        step().map_err(|error| Error::io("replace the database in", &self.path, error))
    }

    /// Removes logs that an earlier restore put aside and whose database is no longer beside them.
    /// SQLite would take them for those of the database that is put aside next, and damage it.
    pub(crate) fn remove_orphaned_logs(&self) -> Result<(), Error> {
        if self.path.join(REPLACED_FILE).exists() {
            return Ok(());
        }
        self.remove_replaced_logs()
            .map_err(|error| Error::io("remove an old log from", &self.path, error))
    }

    /// Makes room for the database that is about to be replaced. Its log is moved before it is, so as
    /// long as an earlier one is still there, so may that one's log be, and nothing else of that name.
    fn forget_replaced(&self) -> io::Result<()> {
        let replaced = self.path.join(REPLACED_FILE);
        if !replaced.exists() || !self.database().exists() {
            return Ok(());
        }
        self.remove_replaced_logs()?;
        fs::remove_file(replaced)?;
        sync_dir(&self.path)
    }

    fn remove_replaced_logs(&self) -> io::Result<()> {
        for companion in COMPANIONS {
            match fs::remove_file(self.path.join(format!("{REPLACED_FILE}{companion}"))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        sync_dir(&self.path)
    }

    pub(crate) fn sync(&self) -> Result<(), Error> {
        sync_dir(&self.path).map_err(|error| Error::io("sync", &self.path, error))
    }
}

fn create(path: &Path) -> Result<(), Error> {
    if path.exists() && !path.is_dir() {
        return Err(Error::NotADirectory {
            path: path.to_path_buf(),
        });
    }
    let made: Vec<_> = path.ancestors().take_while(|dir| !dir.exists()).collect();
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(|error| Error::io("create", path, error))?;
    // Else everything in it, acknowledged or not, could be lost with its name.
    for parent in made.iter().filter_map(|dir| dir.parent()) {
        sync_dir(parent).map_err(|error| Error::io("sync", parent, error))?;
    }
    Ok(())
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Makes names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    // Windows cannot open directories, and keeps names without being asked.
    if cfg!(unix) {
        File::open(path)?.sync_all()
    } else {
        Ok(())
    }
}
