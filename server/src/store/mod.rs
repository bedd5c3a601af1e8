//! The durable state: containers, runs, images, idempotency keys, and the journal's rows, in SQLite.
//!
//! One thread writes. Transactions that wait at the same time share one commit, which is synced to
//! disk if one of them asks for it; what was only written is synced within
//! [`SYNC_DELAY`](crate::model::limits::SYNC_DELAY). A change and the events that announce it are one
//! transaction.
//!
//! Order of a commit, which everything else relies on: SQLite commits, then each transaction's
//! `on_commit` runs (it publishes snapshots), then its events become visible to watchers, then its
//! caller is answered. So whoever has seen an event sees a state at least as new.
//!
//! Owns the state directory: nobody else opens the database for writing. Must not: know what the
//! records mean, or decide when they change.

mod counts;
mod deleted;
mod directory;
mod error;
mod identity;
mod records;
mod recovered;
mod schema;
#[cfg(test)]
pub(crate) mod tests;
mod thread;
mod transaction;
mod wal;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

pub use counts::Counts;
pub use error::StoreError;
pub use recovered::Recovered;
pub use transaction::{Change, Committed, Durability, IdempotencyRecord, Transaction};

use crate::journal::appender::Appender;
use crate::journal::readers::Readers;
use crate::journal::retention::Limits;
use crate::journal::{self, Journal};
use crate::model::ServerId;
use counts::Counters;
use directory::StateDir;
use error::Classify as _;
use identity::{BootId, Identity};
use thread::WriterThread;
use wal::Wal;
use writer::{Job, RetentionClock, Writer};

/// A handle of the store. Clones are the same store.
///
/// Dropping the last one waits until what was handed over is on disk; only [`Store::close`] makes it
/// a clean shutdown.
#[derive(Debug, Clone)]
pub struct Store {
    database: Arc<Path>,
    readers: Readers,
    journal: Journal,
    health: watch::Receiver<Option<StoreError>>,
    counters: Arc<Counters>,
    thread: Arc<WriterThread>,
}

/// How the store keeps things.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of the journal beyond which the oldest events go.
    pub journal_bytes: u64,
    /// Age beyond which events go.
    pub journal_age: Duration,
}

impl Store {
    /// Opens the state in `dir`, which is made if missing (mode 0700), and starts the writer.
    ///
    /// # Errors
    /// [`StoreError`], if the state cannot be used; nothing was changed then.
    pub fn open(dir: &Path, options: Options) -> Result<(Self, Recovered), StoreError> {
        Self::open_at_boot(dir, &options, &BootId::read())
    }

    fn open_at_boot(
        dir: &Path,
        options: &Options,
        boot: &BootId,
    ) -> Result<(Self, Recovered), StoreError> {
        let dir = StateDir::claim(dir)?;
        let path = dir.database();
        let mut connection = schema::open(&dir)?;
        let recovered = recovered::load(&connection).in_database(&path)?;
        let identity = identity::take_over(&mut connection, &path, boot)?;
        let readers = Readers::new(&path);
        let (journal, appender) =
            open_journal(&connection, readers.clone(), identity, options).in_database(&path)?;
        let wal = Wal::open(&directory::wal_of(&path)).in_database(&path)?;
        let (jobs, queue) = mpsc::unbounded_channel();
        let (health_sender, health) = watch::channel(None);
        let counters = Arc::<Counters>::default();
        let database = Arc::from(path.as_path());
        let writer = Writer {
            connection,
            // As `schema` opens it.
            synchronous: counts::Sync::Now,
            path,
            wal,
            journal: journal.clone(),
            appender,
            jobs: queue,
            health: health_sender,
            counters: Arc::clone(&counters),
            retention: RetentionClock::new(options.journal_age),
            dir,
        };
        let store = Self {
            database,
            readers,
            journal,
            health,
            counters,
            thread: Arc::new(WriterThread::start(writer, jobs)?),
        };
        Ok((store, recovered))
    }

    /// The files that all of it is in; not each is always there.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        directory::files_of(&self.database).collect()
    }

    /// This server's identity.
    #[must_use]
    pub fn server_id(&self) -> ServerId {
        self.journal.server_id()
    }

    /// The journal that this store writes.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Commits. If the caller goes away, the commit is made all the same.
    ///
    /// # Errors
    /// [`StoreError`]; nothing of the transaction was kept then.
    pub async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.thread.ask(Job::Commit(transaction, answer))?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Whether the last commit reached the file; changes are seen by all receivers.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Option<StoreError>> {
        self.health.clone()
    }

    /// What the store did since it was opened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    /// Syncs everything, marks the shutdown as clean and ends the writer. The state can be opened
    /// again once this answers.
    ///
    /// # Errors
    /// [`StoreError`], if the last sync failed; [`StoreError::Closed`] if it was closed before.
    pub async fn close(&self) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.thread.ask(Job::Close(answer))?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }
}

fn open_journal(
    connection: &Connection,
    readers: Readers,
    identity: Identity,
    options: &Options,
) -> rusqlite::Result<(Journal, Appender)> {
    let limits = Limits {
        bytes: options.journal_bytes,
        age: options.journal_age,
    };
    journal::open(connection, readers, identity.server, identity.epoch, limits)
}
