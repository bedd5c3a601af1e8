//! The one thread that writes.
//!
//! ```text
//! wait for a transaction -> take all that wait -> one SQLite commit (synced if one asks for it)
//!   -> every on_commit -> events visible -> answers -> delayed sync if due -> a step of retention
//! ```
//!
//! Owns the connection, the numbering and the claim on the state directory. Must not: wait for
//! anybody but the disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::counts::{Counters, Sync};
use super::directory::StateDir;
use super::error::{Classify as _, StoreError};
use super::transaction::{Committed, Durability, Transaction};
use super::wal::Wal;
use super::{identity, records};
use crate::journal::Journal;
use crate::journal::appender::Appender;
use crate::journal::retention::Step;

/// Transactions of one commit at most: a failure fails all of them, and the first waits for the last.
const GROUP: usize = 1_024;
/// Events that one step of retention removes at least. Twice what a commit added if that is more, so
/// that it always gets ahead.
const RETENTION_ROWS: usize = 256;

/// What the writer is asked to do.
pub(super) enum Job {
    /// Commit.
    Commit(Transaction, Answer<Committed>),
    /// Sync everything, mark the shutdown as clean, and end.
    Close(Answer<()>),
}

/// Where an answer goes. Whoever asked may be gone.
pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// The writer's state.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: Connection,
    /// How the connection commits at present.
    pub(super) synchronous: Sync,
    pub(super) path: PathBuf,
    pub(super) wal: Wal,
    pub(super) journal: Journal,
    pub(super) appender: Appender,
    pub(super) jobs: UnboundedReceiver<Job>,
    pub(super) health: watch::Sender<Option<StoreError>>,
    pub(super) counters: Arc<Counters>,
    pub(super) retention: RetentionClock,
    /// Let go last of all, when nothing is written any more.
    pub(super) dir: StateDir,
}

/// When to look for events that are too old.
#[derive(Debug)]
pub(super) struct RetentionClock {
    interval: Duration,
    /// `None` for at once.
    next: Option<Instant>,
}

/// Why the writer woke up.
enum Wake {
    Job(Job),
    /// A delayed sync or retention may be due.
    Time,
    /// All handles are gone.
    Abandoned,
}

/// Transactions that share a commit, and the answers to give.
type Group = Vec<(Transaction, Answer<Committed>)>;

impl RetentionClock {
    /// A clock for events that live as long as `age`; the first look is at once.
    pub(super) fn new(age: Duration) -> Self {
        Self {
            interval: (age / 8).clamp(Duration::from_millis(100), Duration::from_secs(60)),
            next: None,
        }
    }

    fn is_due(&self) -> bool {
        self.next.is_none_or(|next| next <= Instant::now())
    }

    /// Sets the next look, after a step that went so.
    fn set(&mut self, step: Step) {
        self.next = match step {
            Step::More => None,
            Step::Done => Some(Instant::now() + self.interval),
        };
    }
}

impl Writer {
    /// Works until it is closed or nobody is left to ask for anything.
    pub(super) fn run(mut self) {
        // Only its clock is used, to wait for a job or a deadline.
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = match runtime.in_database(&self.path) {
            Ok(runtime) => runtime,
            Err(error) => return self.report(Some(&error)),
        };
        loop {
            let closing = match self.wait(&runtime) {
                Wake::Job(job) => self.serve(job),
                Wake::Time => None,
                Wake::Abandoned => return self.abandon(),
            };
            if let Some(answer) = closing {
                return self.close(answer);
            }
            self.sync_if_due();
            self.retain_if_due();
        }
    }

    fn wait(&mut self, runtime: &Runtime) -> Wake {
        match self.jobs.try_recv() {
            Ok(job) => return Wake::Job(job),
            Err(TryRecvError::Disconnected) => return Wake::Abandoned,
            Err(TryRecvError::Empty) => {}
        }
        let next = self.retention.next.unwrap_or_else(Instant::now);
        let deadline = self.wal.deadline().map_or(next, |sync| sync.min(next));
        match runtime.block_on(async { timeout_at(deadline, self.jobs.recv()).await }) {
            Ok(Some(job)) => Wake::Job(job),
            Ok(None) => Wake::Abandoned,
            Err(_) => Wake::Time,
        }
    }

    /// Commits `job` and all that wait behind it. Returns where to answer if a close was among them.
    fn serve(&mut self, mut job: Job) -> Option<Answer<()>> {
        let mut group = Group::new();
        let closing = loop {
            match job {
                Job::Commit(transaction, answer) => group.push((transaction, answer)),
                Job::Close(answer) => break Some(answer),
            }
            if group.len() == GROUP {
                break None;
            }
            match self.jobs.try_recv() {
                Ok(next) => job = next,
                Err(_) => break None,
            }
        };
        if !group.is_empty() {
            self.commit(group);
        }
        closing
    }

    fn commit(&mut self, mut group: Group) {
        let result = self.write(&mut group).in_database(&self.path);
        self.report(result.as_ref().err());
        match result {
            Ok(committed) => self.publish(group, &committed),
            Err(error) => {
                self.appender.discard();
                for (_, answer) in group {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }

    /// Writes and commits; returns where each transaction's events ended up.
    fn write(&mut self, group: &mut Group) -> rusqlite::Result<Vec<Committed>> {
        let is_synced = |(t, _): &(Transaction, _)| t.durability == Durability::Synced;
        let sync = if group.iter().any(is_synced) {
            Sync::Now
        } else {
            Sync::Later
        };
        self.set_synchronous(sync)?;
        let sqlite = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let committed = group
            .iter_mut()
            .map(|(transaction, _)| write_one(&sqlite, &mut self.appender, transaction))
            .collect::<Result<Vec<_>, _>>()?;
        sqlite.commit()?;
        match sync {
            Sync::Now => self.wal.synced(),
            Sync::Later => self.wal.written(),
        }
        self.counters.committed(group.len(), sync);
        Ok(committed)
    }

    /// The order here is what everything else relies on; see the store's documentation.
    fn publish(&mut self, group: Group, committed: &[Committed]) {
        let mut answers = Vec::with_capacity(group.len());
        for ((transaction, answer), committed) in group.into_iter().zip(committed) {
            if let Some(on_commit) = transaction.on_commit {
                on_commit(*committed);
            }
            answers.push((answer, *committed));
        }
        let events = self.appender.publish();
        for (answer, committed) in answers {
            let _ = answer.send(Ok(committed));
        }
        if events > 0 {
            self.retain(RETENTION_ROWS.max(2 * events));
        }
    }

    fn sync_if_due(&mut self) {
        if self.wal.deadline().is_some_and(|due| due <= Instant::now()) {
            let result = self.sync();
            self.report_failure(result);
        }
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        if self.wal.sync().in_database(&self.path)? {
            self.counters.synced();
        }
        Ok(())
    }

    fn retain_if_due(&mut self) {
        if self.retention.is_due() {
            self.retain(RETENTION_ROWS);
        }
    }

    /// Removes some old events, and sets when to look again.
    fn retain(&mut self, rows: usize) {
        let result = self.retain_step(rows);
        // After a failure nothing is gained by trying again at once.
        self.retention.set(*result.as_ref().unwrap_or(&Step::Done));
        self.report_failure(result.map(drop));
    }

    fn retain_step(&mut self, rows: usize) -> Result<Step, StoreError> {
        if !self.appender.may_retain() {
            return Ok(Step::Done);
        }
        // What is removed needs no sync of its own: if it comes back, it goes again.
        self.set_synchronous(Sync::Later).in_database(&self.path)?;
        self.appender
            .retain(&self.connection, rows)
            .in_database(&self.path)
    }

    /// SQLite parses a statement for it, so it is told only what it does not know.
    fn set_synchronous(&mut self, sync: Sync) -> rusqlite::Result<()> {
        if self.synchronous != sync {
            let sql = match sync {
                Sync::Now => "PRAGMA synchronous = FULL",
                Sync::Later => "PRAGMA synchronous = NORMAL",
            };
            self.connection.execute_batch(sql)?;
            self.synchronous = sync;
        }
        Ok(())
    }

    /// Says how the last commit went.
    fn report(&self, error: Option<&StoreError>) {
        self.health.send_if_modified(|health| {
            let changes = health.is_some() || error.is_some();
            *health = error.cloned();
            changes
        });
    }

    /// Says that something besides a commit failed; that it succeeded says nothing of commits.
    fn report_failure(&self, result: Result<(), StoreError>) {
        if let Err(error) = result {
            tracing::error!(%error, "the store could not sync or trim its journal");
            self.report(Some(&error));
        }
    }

    /// Ends in order: everything on disk, marked as clean, the claim given up, then the answer.
    fn close(mut self, answer: Answer<()>) {
        let result = self.settle();
        self.journal.release();
        drop(self.connection);
        drop(self.dir);
        let _ = answer.send(result);
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.sync()?;
        self.set_synchronous(Sync::Now).in_database(&self.path)?;
        identity::mark_clean(&self.connection).in_database(&self.path)
    }

    /// Ends because nobody is left to ask for a close: all is kept, but it was no clean shutdown.
    fn abandon(mut self) {
        if let Err(error) = self.sync() {
            tracing::error!(%error, "the store could not sync its last changes");
        }
        self.journal.release();
    }
}

/// Writes one transaction. Its events come first: records need the numbers they get.
fn write_one(
    connection: &Connection,
    appender: &mut Appender,
    transaction: &mut Transaction,
) -> rusqlite::Result<Committed> {
    let mut newest = Vec::new();
    for event in std::mem::take(&mut transaction.events) {
        let container = event.container.as_ref().map(|subject| subject.id);
        let sequence = appender.append(connection, event)?;
        newest.extend(container.map(|id| (id, sequence)));
    }
    for change in &transaction.changes {
        records::apply(connection, change)?;
    }
    for (id, sequence) in newest {
        records::set_last_event(connection, id, sequence)?;
    }
    Ok(Committed {
        last: appender.last(),
    })
}
