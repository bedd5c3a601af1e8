//! Syncing what was only written: one `fdatasync` of the write-ahead log for all of it.
//!
//! What SQLite has moved from the log to the database by then, it has synced itself.

use std::fs::File;
use std::io;
use std::path::Path;

use tokio::time::Instant;

use crate::model::limits::SYNC_DELAY;

/// The log of an open database, and whether it holds what is not yet on disk.
#[derive(Debug)]
pub(super) struct Wal {
    file: File,
    /// When the oldest such commit was made.
    unsynced_since: Option<Instant>,
}

impl Wal {
    /// The log at `path`, which is there as long as the database is open.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: File::open(path)?,
            unsynced_since: None,
        })
    }

    /// A commit was written.
    pub(super) fn written(&mut self) {
        self.unsynced_since.get_or_insert_with(Instant::now);
    }

    /// Everything up to now is on disk.
    pub(super) fn synced(&mut self) {
        self.unsynced_since = None;
    }

    /// When the next sync is due, if there is something to sync: early enough to be over within
    /// [`SYNC_DELAY`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.unsynced_since.map(|since| since + SYNC_DELAY / 2)
    }

    /// Syncs now, if there is something to sync. Returns whether there was.
    pub(super) fn sync(&mut self) -> io::Result<bool> {
        if self.unsynced_since.is_none() {
            return Ok(false);
        }
        self.file.sync_data()?;
        self.synced();
        Ok(true)
    }
}
