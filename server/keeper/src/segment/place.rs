//! Finds where a reader begins.

use std::io;
use std::path::Path;

use super::catalog::{self, Id};
use super::cursor::{Cursor, end_of};
use super::{Offsets, Output, SegmentError};

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the process's first byte; what has been rotated away is a gap.
    Beginning,
    /// At the oldest byte there is.
    Oldest,
    /// At the first byte of this segment.
    Segment(u64),
    /// At the first entry at or after this time, in nanoseconds since 1970.
    Time(u64),
    /// Behind everything that is there now.
    End,
    /// In each stream at a place of its own.
    Streams {
        /// In standard output.
        stdout: From,
        /// In standard error.
        stderr: From,
    },
}

/// Where a reader begins in one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The first byte wanted. If it has been rotated away, there is a gap; if it is not there yet, what
    /// comes before it is left out.
    Offset(u64),
    /// So many bytes before the end as it is now, or fewer if there are not so many (any more). 0 is
    /// the end.
    Replay(u64),
}

/// Finds where a reader stands first. Segments may go meanwhile, so each look begins with a listing.
pub(super) struct Place<'a> {
    pub(super) directory: &'a Path,
    pub(super) run: u64,
    pub(super) only: Option<Output>,
}

impl Place<'_> {
    /// Where a reader stands first, and the first byte of each stream that it wants.
    pub(super) fn find(&self, start: Start) -> Result<(Cursor, Offsets), SegmentError> {
        Ok(match start {
            Start::Beginning => (self.oldest()?, Offsets::default()),
            Start::Oldest => at_its_place(self.oldest()?),
            Start::Segment(segment) => at_its_place(self.segment(segment)?),
            Start::Time(time) => at_its_place(self.since(time)?),
            Start::End => at_its_place(self.end()?),
            Start::Streams { stdout, stderr } => self.streams(stdout, stderr)?,
        })
    }

    fn oldest(&self) -> Result<Cursor, SegmentError> {
        self.latest_where(|_| false)
    }

    fn segment(&self, segment: u64) -> Result<Cursor, SegmentError> {
        let id = Id {
            run: self.run,
            segment,
        };
        catalog::open(self.directory, id)?.ok_or_else(|| SegmentError::NoSegment {
            directory: self.directory.to_owned(),
            run: self.run,
            segment,
        })
    }

    fn since(&self, time: u64) -> Result<Cursor, SegmentError> {
        let mut cursor = self.latest_where(|cursor| cursor.header.begun <= time)?;
        while !self.pass_until(&mut cursor, time)? {
            let following = Id {
                run: self.run,
                segment: cursor.header.segment + 1,
            };
            let Some(next) = catalog::open(self.directory, following)? else {
                break;
            };
            // Entries may have come before the next segment did.
            if self.pass_until(&mut cursor, time)? {
                break;
            }
            cursor = next;
        }
        Ok(cursor)
    }

    /// Whether the cursor has come to an entry that is not before this time, or to the end.
    fn pass_until(&self, cursor: &mut Cursor, time: u64) -> Result<bool, SegmentError> {
        while let Some(entry) = cursor.peek().map_err(self.failed())? {
            if entry.time >= time || end_of(&entry).is_some() {
                return Ok(true);
            }
            cursor.pass(&entry);
        }
        Ok(false)
    }

    fn end(&self) -> Result<Cursor, SegmentError> {
        let mut last = self.latest_where(|_| true)?;
        last.pass_all(u64::MAX).map_err(self.failed())?;
        Ok(last)
    }

    fn streams(&self, stdout: From, stderr: From) -> Result<(Cursor, Offsets), SegmentError> {
        let end = self.end()?.at;
        let oldest = self.oldest()?.at;
        let resolve = |from: From, output| match from {
            From::Offset(offset) => offset,
            From::Replay(bytes) => end.of(output).saturating_sub(bytes).max(oldest.of(output)),
        };
        let next = Offsets {
            stdout: resolve(stdout, Output::Stdout),
            stderr: resolve(stderr, Output::Stderr),
        };
        let standing = self.latest_where(|cursor| self.precedes(cursor.at, next))?;
        Ok((standing, next))
    }

    /// Whether every stream that is wanted is still to come. Not if both are exactly here: the segment
    /// before can end with a gap that moves no offset.
    fn precedes(&self, at: Offsets, next: Offsets) -> bool {
        let wanted = |output: &Output| self.only.is_none_or(|only| only == *output);
        let mut wanted = Output::ALL.into_iter().filter(wanted);
        wanted
            .clone()
            .all(|output| at.of(output) <= next.of(output))
            && wanted.any(|output| at.of(output) < next.of(output))
    }

    /// The latest segment for which this holds, or else the oldest one.
    fn latest_where(&self, holds: impl Fn(&Cursor) -> bool) -> Result<Cursor, SegmentError> {
        let mut oldest = None;
        for id in catalog::of_run(self.directory, self.run)?.into_iter().rev() {
            let Some(cursor) = catalog::open(self.directory, id)? else {
                continue;
            };
            if holds(&cursor) {
                return Ok(cursor);
            }
            oldest = Some(cursor);
        }
        oldest.ok_or_else(|| catalog::no_recording(self.directory, self.run))
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> SegmentError + use<'_> {
        SegmentError::at(self.directory)
    }
}

fn at_its_place(cursor: Cursor) -> (Cursor, Offsets) {
    let at = cursor.at;
    (cursor, at)
}
