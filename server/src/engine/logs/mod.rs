//! Logs: what main processes wrote, as lines, over all runs of a container.
//!
//! Like a watch, a reader of logs pulls: it is a place in the segments on disk, costs the writer
//! nothing, and leaves nothing behind when it is dropped.
//!
//! ```text
//! segments ─► Scan (one log, blocking) ─► LogStream (waits, one container) ─► LogsStream (many)
//!              lines, marks, gaps, cursor   on a thread, wakes with the keeper   fair, by the journal
//! ```
//!
//! For each run: that it started, its entries and gaps, that it exited. What is told moves a `Position`,
//! and the cursor of each message is the position after it, so reading on from a cursor gives exactly
//! what has not been told. Nothing here writes, or decides what is kept.

mod cursor;
mod follow;
mod lines;
mod scan;
mod seek;
mod stream;
#[cfg(test)]
mod tests;
mod view;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

pub use cursor::{LogCursor, LogCursorError};
pub use follow::{FollowQuery, LogsStream};
pub use stream::LogStream;

use super::core::Core;
use super::registry::Snapshots;
use super::{Engine, Error};
use crate::model::{ContainerId, ExitStatus, OutputStream, Run};
use stream::{Source, Streams};

/// Where to begin in a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogStart {
    /// With what is oldest.
    #[default]
    Beginning,
    /// Just after a cursor.
    Cursor(LogCursor),
    /// With the first entry or mark at or after a time.
    Since(SystemTime),
}

/// When a stream of a log ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogEnd {
    /// With what is there when it begins.
    #[default]
    Now,
    /// With the current run, or the first one if there was none.
    Exit,
    /// With the container.
    Deletion,
}

/// What somebody wants of a log.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogQuery {
    /// Where to begin.
    pub start: LogStart,
    /// At most so many of the entries there are, after the start; `None` for all. Not with a cursor.
    pub tail: Option<u64>,
    /// End before the first entry or mark at or after this time.
    pub until: Option<SystemTime>,
    /// One stream only.
    pub only: Option<OutputStream>,
    /// When to end.
    pub end: LogEnd,
}

/// A line, or part of one that is too long for an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// When its first byte was read, in nanoseconds since 1970.
    pub time: u64,
    /// From where.
    pub stream: OutputStream,
    /// Unaltered, with the line end if it has one; at most
    /// [`MAX_LOG_ENTRY_BYTES`](crate::model::limits::MAX_LOG_ENTRY_BYTES).
    pub data: Bytes,
    /// Whether the line goes on in the next entry of this stream.
    pub partial: bool,
}

/// One thing a reader of a log is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    /// Entries of one run, at most [`MAX_LOG_BATCH_BYTES`](crate::model::limits::MAX_LOG_BATCH_BYTES).
    Entries(Vec<LogEntry>),
    /// Entries are missing here.
    Gap {
        /// How many bytes; 0 if that is not known.
        missed: u64,
    },
    /// A run began.
    RunStarted {
        /// When.
        time: SystemTime,
    },
    /// A run ended. Not told of one whose end is forgotten.
    RunExited(Arc<ExitStatus>),
    /// Nothing happened for a while.
    Idle,
}

/// One message to a reader of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogMessage {
    /// The resume point after it.
    pub cursor: LogCursor,
    /// The run it is about; 0 before the first and for a gap over several.
    pub run: Run,
    /// What happened.
    pub item: LogItem,
}

impl Engine {
    /// Reads the log of the container that `key` names, also of one deleted a while ago.
    ///
    /// # Errors
    /// [`Error::ContainerNotFound`], [`Error::LogNotFound`], [`Error::LogCursorInvalid`],
    /// [`Error::LogUnreadable`], [`Error::Store`].
    pub async fn logs(&self, key: &str, query: LogQuery) -> Result<LogStream, Error> {
        let snapshots = self.core.snapshots(key).await?;
        let mut log = LogStream::new(self.core.log_source(snapshots), query)?;
        log.place().await?;
        Ok(log)
    }

    /// Follows the logs of all containers that match `query`'s filter, those created later too.
    ///
    /// # Errors
    /// Those of placing a watch, which is how it learns of containers.
    pub async fn follow_logs(&self, query: FollowQuery) -> Result<LogsStream, Error> {
        LogsStream::open(self, query).await
    }
}

impl Core {
    fn log_source(self: &Arc<Self>, snapshot: Snapshots) -> Source {
        let container = snapshot.borrow().container.clone();
        Source {
            directory: self.log_dir(container.id),
            keeps_log: !container.spec.log.disabled,
            container: container.id,
            snapshot,
            growing: Box::new(Streams::new(self.clone())),
        }
    }
}

/// A time as segments have it.
fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn time_of(nanos: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanos)
}

fn unreadable(container: ContainerId) -> impl Fn(&dyn std::fmt::Display) -> Error {
    move |error| Error::LogUnreadable {
        container: container.to_string(),
        detail: error.to_string(),
    }
}
