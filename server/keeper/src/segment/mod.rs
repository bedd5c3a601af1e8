//! Recordings: what one process wrote, in segment files that one writes and many read.
//!
//! A *recording* is the output of one process: one run of a container, or one exec. A directory holds
//! the recordings of one container's main process, one for each run, or that of one exec. Both streams
//! of a recording share its segments, in the order in which they were read.
//!
//! ```text
//! DIRECTORY/0000000003.0000000000.data     raw bytes, both streams
//!           0000000003.0000000000.index    header, then an entry for each read: time, kind, length
//!           0000000003.0000000001.data     run 3, second segment
//!           ...
//! ```
//!
//! What always holds:
//! - Data is written before its entry, so an entry never promises what is not there.
//! - An offset counts the bytes of one stream since its process started, those of known losses too.
//! - A segment whose successor has a whole header is never written to again.
//! - The process and its exit, once known, are in the last segment, whatever has been rotated away.
//! - The oldest segments go first, the index before the data; the last one of a recording stays while
//!   it is written to.
//!
//! This module does blocking file I/O and nothing else: it starts no thread and knows no pipe. Times are
//! nanoseconds since 1970.

mod catalog;
mod cursor;
mod format;
mod place;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use catalog::{SegmentInfo, positions, process, remove, runs, segments};
pub use format::ENTRY_BYTES;
pub use place::{From, Start};
pub use reader::{Next, Reader};
pub use writer::{Shortfall, Writer};

/// A process is never let further ahead of a reader that it waits for, however much is kept.
pub const MAX_READ_AHEAD_BYTES: u64 = 4 << 20;

/// At most so many segments are kept in a directory, however small they are.
pub const MAX_SEGMENTS: usize = 1_000;

/// One of a process's two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// Standard output; a terminal's only stream.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Output {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];
}

/// A place in each of the two streams, in bytes since the process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    /// In standard output.
    pub stdout: u64,
    /// In standard error.
    pub stderr: u64,
}

impl Offsets {
    /// The place in one stream.
    #[must_use]
    pub fn of(&self, output: Output) -> u64 {
        match output {
            Output::Stdout => self.stdout,
            Output::Stderr => self.stderr,
        }
    }

    /// Both streams together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.stdout.saturating_add(self.stderr)
    }

    fn set(&mut self, output: Output, offset: u64) {
        match output {
            Output::Stdout => self.stdout = offset,
            Output::Stderr => self.stderr = offset,
        }
    }

    fn advance(&mut self, output: Output, bytes: u64) {
        self.set(output, self.of(output).saturating_add(bytes));
    }
}

/// How a recording ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// True if reading was stopped while somebody still held the write end.
    pub truncated: bool,
}

/// What is recorded of the process itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its id on the host, if it was launched by a keeper.
    pub pid: Option<u32>,
    /// How it ended, if that is known.
    pub exit: Option<ProcessExit>,
}

/// How a process ended, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessExit {
    /// In nanoseconds since 1970.
    pub time: u64,
    /// How.
    pub status: ProcessStatus,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessStatus {
    /// It exited with this code.
    Exited(u8),
    /// This signal ended it.
    Signaled(u8),
    /// It is gone, and the kernel does not say any more how it ended.
    Lost,
}

/// How far a recording got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// Bytes of standard output so far.
    pub stdout: u64,
    /// Bytes of standard error so far.
    pub stderr: u64,
    /// Set once the recording is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<End>,
}

/// How much of a directory's recordings is kept. Data and indexes count alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// A segment is full at so many bytes; at least 128.
    pub segment_bytes: u64,
    /// All segments together, of all runs; at least two segments' worth. The oldest are removed when a
    /// segment begins, so that it can fill without exceeding this.
    pub total_bytes: u64,
}

impl Limits {
    /// What is surely there behind the newest byte: the oldest segment goes when a new one begins.
    #[must_use]
    pub fn kept_bytes(self) -> u64 {
        let Self {
            segment_bytes,
            total_bytes,
        } = self.effective();
        total_bytes - segment_bytes
    }

    /// How far a process may be ahead of a reader that it waits for, so that nothing goes that this reader
    /// has not read; as much again is left for what is in the pipes when the process ends.
    #[must_use]
    pub fn read_ahead_bytes(self) -> u64 {
        (self.kept_bytes() / 2).min(MAX_READ_AHEAD_BYTES)
    }

    /// The limits as they are kept: nonsensical ones are raised to the least that works.
    #[must_use]
    fn effective(self) -> Self {
        let segment_bytes = self.segment_bytes.max(format::MIN_SEGMENT_BYTES);
        Self {
            segment_bytes,
            total_bytes: self.total_bytes.max(segment_bytes.saturating_mul(2)),
        }
    }
}

/// Why segments cannot be read or written.
#[derive(Debug, Error)]
pub enum SegmentError {
    /// The directory has no recording of this run (any more).
    #[error("{}: no recording of run {run}", directory.display())]
    NoRecording {
        /// Where.
        directory: PathBuf,
        /// Which.
        run: u64,
    },
    /// The segment asked for is not there (any more).
    #[error("{}: no segment {segment} of run {run}", directory.display())]
    NoSegment {
        /// Where.
        directory: PathBuf,
        /// Of which run.
        run: u64,
        /// Which.
        segment: u64,
    },
    /// The recording is complete; nothing can be added.
    #[error("the recording has ended")]
    Ended,
    /// The file system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl SegmentError {
    fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// The current time as entries have it, in nanoseconds since 1970.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
