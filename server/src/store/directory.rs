//! The state directory: made, and claimed for this process alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::StoreError;
use super::error::Classify as _;

const DATABASE: &str = "wharf.db";
const LOCK: &str = "wharf.lock";

/// A claimed state directory. The claim ends when this is dropped, or with the process.
#[derive(Debug)]
pub(super) struct StateDir {
    /// The directory.
    path: PathBuf,
    lock: File,
}

impl Drop for StateDir {
    /// Given up by name: a process that another thread is just starting still has the file open.
    fn drop(&mut self) {
        if let Err(error) = rustix::fs::flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(%error, "the claim on the state directory ends with the process only");
        }
    }
}

impl StateDir {
    /// Makes the directory if it is missing, and claims it.
    pub(super) fn claim(path: &Path) -> Result<Self, StoreError> {
        let database = path.join(DATABASE);
        make(path).in_database(&database)?;
        let lock = open_lock(path).in_database(&database)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                lock,
            }),
            Err(Errno::WOULDBLOCK) => Err(StoreError::InUse {
                path: database.display().to_string(),
            }),
            Err(errno) => Err(io::Error::from(errno)).in_database(&database),
        }
    }

    /// Where the database is.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Where a new database is made: what is named [`Self::database`] is always a whole one.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.path.join(format!("{DATABASE}.new"))
    }

    /// Makes the directory's entries durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

/// The write-ahead log of a database.
pub(super) fn wal_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// A database and all that SQLite keeps beside it; not each need exist.
pub(super) fn files_of(database: &Path) -> impl Iterator<Item = PathBuf> {
    let beside = |suffix| {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    ["", "-journal", "-wal", "-shm"].into_iter().map(beside)
}

/// Removes a database and all that SQLite keeps beside it, as far as they exist.
pub(super) fn remove_database(database: &Path) -> io::Result<()> {
    for file in files_of(database) {
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// An existing directory is left as it is: it may be somebody's on purpose. The files in it are
/// private either way.
fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        Some(_) | None => Ok(()),
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    private().create(true).open(path.join(LOCK))
}

/// Makes an empty file that only this user can read. SQLite gives the files beside a database the
/// database's own mode.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    private().create_new(true).open(path).map(drop)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}
