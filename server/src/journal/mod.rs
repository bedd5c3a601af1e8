//! The journal: the durable, ordered record of events. Read here; written by the store's one writer.
//!
//! Watchers pull: each has a position of its own, reads what is after it, and otherwise waits for
//! [`Journal::newest`] to move. Nobody waits for a watcher, and a watcher that does not read holds
//! nothing. Recent events are kept in memory, shared by all readers; older ones are read from disk.
//!
//! Owns the `events` and `journal` tables. Must not: decide which events there are (the engine does),
//! or open the database for writing (the store does, and lends its transaction to the `appender`).

pub(crate) mod appender;
pub mod cursor;
pub mod filter;
mod page;
pub(crate) mod readers;
pub(crate) mod retention;
pub(crate) mod rows;
mod tail;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::RwLock;
use rusqlite::Connection;
use thiserror::Error;
use tokio::sync::watch;

pub use cursor::{Cursor, CursorError};
pub use filter::Filter;

use crate::model::{Epoch, Event, Sequence, ServerId};
use appender::Appender;
use page::{Page, Progress};
use readers::{ReadError, Readers};
use retention::{Extent, Limits, Retention};
use tail::{Room, Tail};

/// A handle of the journal. Clones are the same journal.
#[derive(Debug, Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

/// What readers and the appender share.
#[derive(Debug)]
struct Shared {
    server: ServerId,
    epoch: Epoch,
    newest: watch::Sender<Sequence>,
    oldest: AtomicU64,
    /// When the latest of the events that are gone was, in nanoseconds; 0 if none is gone.
    lost: AtomicI64,
    tail: RwLock<Tail>,
    readers: Readers,
}

/// Which way to page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

/// What can go wrong with the journal.
#[derive(Debug, Clone, Error)]
pub enum JournalError {
    /// Events after the position are gone.
    #[error("events after {after} are gone; the oldest resume point is {oldest}")]
    Expired {
        /// Where reading should have gone on.
        after: Sequence,
        /// The oldest resume point: the sequence before the oldest event there is.
        oldest: Sequence,
        /// The newest.
        newest: Sequence,
    },
    /// The rows cannot be read.
    #[error("the journal cannot be read: {detail}")]
    Unreadable {
        /// What SQLite or the decoder says.
        detail: String,
    },
}

impl From<ReadError> for JournalError {
    fn from(error: ReadError) -> Self {
        Self::Unreadable {
            detail: error.to_string(),
        }
    }
}

/// What to page through.
#[derive(Debug, Clone)]
pub struct Query {
    /// Which events.
    pub filter: Filter,
    /// At or after.
    pub since: Option<SystemTime>,
    /// Before.
    pub until: Option<SystemTime>,
    /// Which way.
    pub direction: Direction,
    /// Where the last page ended, exclusive.
    pub from: Option<Sequence>,
    /// At most this many.
    pub limit: usize,
    /// About this many encoded bytes at most.
    pub max_bytes: usize,
}

/// Opens the journal in a database whose schema is there.
pub(crate) fn open(
    connection: &Connection,
    readers: Readers,
    server: ServerId,
    epoch: Epoch,
    limits: Limits,
) -> rusqlite::Result<(Journal, Appender)> {
    let extent = Extent::read(connection)?;
    let newest = extent.newest;
    let shared = Shared {
        server,
        epoch,
        newest: watch::Sender::new(newest),
        oldest: AtomicU64::new(extent.oldest.0),
        lost: AtomicI64::new(extent.lost),
        tail: RwLock::new(Tail::new(newest)),
        readers,
    };
    let journal = Journal {
        shared: Arc::new(shared),
    };
    let appender = Appender::new(
        journal.clone(),
        Retention::new(limits),
        newest,
        extent.end_bytes,
    );
    Ok((journal, appender))
}

impl Journal {
    /// The server whose journal this is.
    #[must_use]
    pub fn server_id(&self) -> ServerId {
        self.shared.server
    }

    /// The journal's identity.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// The newest visible event's sequence; moves with each commit.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<Sequence> {
        self.shared.newest.subscribe()
    }

    /// The oldest resume point: the sequence just before the oldest event there is.
    #[must_use]
    pub fn oldest(&self) -> Sequence {
        Sequence(self.shared.oldest.load(Ordering::Acquire))
    }

    /// The resume point just after `sequence`.
    #[must_use]
    pub fn cursor(&self, sequence: Sequence) -> Cursor {
        Cursor {
            server: self.shared.server,
            epoch: self.shared.epoch,
            sequence,
        }
    }

    /// The events after `after`, oldest first: at most `limit`, and fewer if they are large. Empty
    /// if there are none yet. Events are shared, not copied.
    ///
    /// # Errors
    /// [`JournalError::Expired`] if the first of them are gone.
    pub async fn read(
        &self,
        after: Sequence,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, JournalError> {
        self.check_kept(after)?;
        let newest = self.newest_visible();
        if after >= newest || limit == 0 {
            return Ok(Vec::new());
        }
        let recent = self.shared.tail.read().after(after, limit);
        match recent {
            Some(events) => Ok(events),
            None => self.read_rows(after, newest, limit).await,
        }
    }

    /// The resume point before the first event at or after `time`; the newest if there is none yet.
    ///
    /// # Errors
    /// [`JournalError::Unreadable`].
    pub async fn position_at(&self, time: SystemTime) -> Result<Sequence, JournalError> {
        // Taken before the rows are read: an event that comes meanwhile must be after it.
        let newest = self.newest_visible();
        let time = rows::to_nanos(time);
        let first = move |connection: &Connection| {
            connection
                .prepare_cached("SELECT min(sequence) FROM events WHERE time >= ?1")?
                .query_row([time], |row| row.get::<_, Option<i64>>(0))
        };
        let first = self.shared.readers.run(first).await?;
        let before_first = first.map(|n| Sequence(n.cast_unsigned().saturating_sub(1)));
        let oldest = self.oldest();
        Ok(before_first.map_or(newest, |before| before.min(newest).max(oldest)))
    }

    /// Whether some of the events at or after `time` are gone.
    #[must_use]
    pub fn has_lost_since(&self, time: SystemTime) -> bool {
        let lost = self.shared.lost.load(Ordering::Acquire);
        lost > 0 && rows::to_nanos(time) <= lost
    }

    /// A page of past events that match: at most `limit` and about `max_bytes`, from `from`
    /// (exclusive; `None` for the end of the range) in `direction`. The second value is where the
    /// next page goes on, `None` if this was the last.
    ///
    /// # Errors
    /// [`JournalError::Unreadable`]; [`JournalError::Expired`] if `from` is older than the journal.
    pub async fn page(
        &self,
        query: Query,
    ) -> Result<(Vec<Arc<Event>>, Option<Sequence>), JournalError> {
        let (oldest, newest) = (self.oldest(), self.newest_visible());
        if let Some(from) = query.from {
            self.check_kept(from)?;
        }
        if query.limit == 0 {
            return Ok((Vec::new(), query.from));
        }
        let mut page = Box::new(Page::new(query, oldest, newest));
        loop {
            let depends_on = page.depends_on();
            let advance = move |connection: &Connection| page.advance(connection);
            let progress = self.shared.readers.run(advance).await?;
            // Rows may have gone while they were read.
            depends_on.map_or(Ok(()), |after| self.check_kept(after))?;
            match progress {
                Progress::Unfinished(unfinished) => page = unfinished,
                Progress::Full(events) => {
                    let end = events.last().map(|event| event.sequence);
                    return Ok((events, end));
                }
                Progress::Last(events) => return Ok((events, None)),
            }
        }
    }

    /// Closes the connections that are not in use.
    pub(crate) fn release(&self) {
        self.shared.readers.close_idle();
    }

    /// Receivers of [`Self::newest`] and handles there are.
    #[cfg(test)]
    pub(crate) fn users(&self) -> (usize, usize) {
        let receivers = self.shared.newest.receiver_count();
        (receivers, Arc::strong_count(&self.shared))
    }

    fn newest_visible(&self) -> Sequence {
        *self.shared.newest.borrow()
    }

    fn check_kept(&self, after: Sequence) -> Result<(), JournalError> {
        let oldest = self.oldest();
        if after >= oldest {
            return Ok(());
        }
        Err(JournalError::Expired {
            after,
            oldest,
            newest: self.newest_visible(),
        })
    }

    /// Reads from disk what is after `after`, up to `newest`: rows beyond it are committed, but
    /// their time to be seen has not come.
    async fn read_rows(
        &self,
        after: Sequence,
        newest: Sequence,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, JournalError> {
        let read = move |connection: &Connection| rows_between(connection, after, newest, limit);
        let events = self.shared.readers.run(read).await?;
        // Rows may have gone while they were read.
        self.check_kept(after)?;
        let expected = (after.0 + 1..).map(Sequence);
        let dense = events
            .iter()
            .map(|e| e.sequence)
            .eq(expected.take(events.len()));
        if dense && !events.is_empty() {
            Ok(events)
        } else {
            Err(JournalError::Unreadable {
                detail: format!("rows after {after} are missing"),
            })
        }
    }
}

fn rows_between(
    connection: &Connection,
    after: Sequence,
    through: Sequence,
    limit: usize,
) -> rusqlite::Result<Vec<Arc<Event>>> {
    let mut statement = connection.prepare_cached(
        "SELECT sequence, body FROM events
         WHERE sequence > ?1 AND sequence <= ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let limit_rows = i64::try_from(limit).unwrap_or(i64::MAX);
    let range = (after.0.cast_signed(), through.0.cast_signed(), limit_rows);
    let mut found = statement.query(range)?;
    let mut room = Room::new(limit);
    let mut events = Vec::new();
    while let Some(row) = found.next()? {
        let weighed = rows::event(row)?;
        if !room.takes(weighed.bytes) {
            break;
        }
        events.push(weighed.event);
    }
    Ok(events)
}
