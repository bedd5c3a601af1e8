//! Finds where to begin in a log: at a time, or so many entries before its end. Reads backwards, and
//! never more than it takes.

use bytes::Bytes;

use super::cursor::Position;
use super::scan::{Event, Limit, Scan};
use super::view::View;
use crate::model::limits::MAX_LOG_ENTRY_BYTES;
use crate::stdio::segment::{self, From, Next, Offsets, Output, Reader, SegmentError, Start};

impl Scan {
    /// Where what comes from now on begins: a line that is not finished is still to come.
    pub(super) fn now(&self, view: &View) -> Result<Position, SegmentError> {
        let run = view.latest();
        if run == 0 || view.is_over(run) {
            return Ok(Position::over(run));
        }
        let end = self.recorded(run)?;
        Ok(Position::within(run, self.line_starts(run, end)?))
    }

    /// The end of what there is now of a run that goes on.
    pub(super) fn end_of_now(&self, view: &View) -> Result<Option<Limit>, SegmentError> {
        let run = view.latest();
        if view.is_over(run) {
            return Ok(None);
        }
        let offsets = self.recorded(run)?;
        Ok(Some(Limit { run, offsets }))
    }

    /// A place not after the first entry at or after a time, and not long before it.
    pub(super) fn around(&self, time: u64) -> Result<Position, SegmentError> {
        for run in segment::runs(&self.directory)?.into_iter().rev() {
            let reader = Reader::open(&self.directory, run, self.only, Start::Time(time));
            let Some(reader) = kept(reader)? else {
                continue;
            };
            if reader.started() <= time {
                return self.around_in(run, time, reader.position());
            }
        }
        Ok(Position::default())
    }

    /// If entries of that time may be missing, from the beginning, so that this is told.
    fn around_in(&self, run: u64, time: u64, at: Offsets) -> Result<Position, SegmentError> {
        let segments = segment::segments(&self.directory, run)?;
        let oldest = segments.first().map_or(0, |segment| segment.begun);
        if oldest > time {
            return Ok(Position::within(run, Offsets::default()));
        }
        Ok(Position::within(run, self.line_starts(run, at)?))
    }

    /// The place from which there are `count` entries up to now, or the beginning if there are fewer.
    pub(super) fn before_end(&self, view: &View, count: u64) -> Result<Position, SegmentError> {
        if count == 0 {
            return self.now(view);
        }
        let limit = self.end_of_now(view)?;
        let mut left = count;
        let runs = segment::runs(&self.directory)?;
        for run in runs.into_iter().rev().filter(|run| *run <= view.latest()) {
            let mut end = limit.filter(|limit| limit.run == run);
            for segment in segment::segments(&self.directory, run)?.into_iter().rev() {
                let starts = self.line_starts(run, segment.begin)?;
                let begin = Position::within(run, starts);
                let entries = self.stretch(begin, end).entries(view, u64::MAX)?;
                if entries >= left {
                    let mut stretch = self.stretch(begin, end);
                    stretch.entries(view, entries - left)?;
                    return Ok(stretch.begin());
                }
                left -= entries;
                let offsets = segment.begin;
                end = Some(Limit { run, offsets });
            }
        }
        Ok(Position::default())
    }

    /// A part of one run.
    fn stretch(&self, begin: Position, end: Option<Limit>) -> Stretch {
        let mut scan = Self::new(self.container, self.directory.clone(), None, begin);
        scan.only = self.only;
        scan.limit = end;
        Stretch { scan }
    }

    /// How far the recording of a run is; nowhere if there is none.
    fn recorded(&self, run: u64) -> Result<Offsets, SegmentError> {
        let positions = kept(segment::positions(&self.directory, run))?.unwrap_or_default();
        Ok(Offsets {
            stdout: positions.stdout,
            stderr: positions.stderr,
        })
    }

    /// In each stream, the first byte of the line that goes on at this place.
    fn line_starts(&self, run: u64, at: Offsets) -> Result<Offsets, SegmentError> {
        let start = |output| {
            let is_wanted = self.only.is_none_or(|only| only == output);
            if is_wanted {
                self.line_start(run, output, at.of(output))
            } else {
                Ok(at.of(output))
            }
        };
        Ok(Offsets {
            stdout: start(Output::Stdout)?,
            stderr: start(Output::Stderr)?,
        })
    }

    /// Looks back as far as a line may be long. One that is longer is taken to begin a piece here.
    fn line_start(&self, run: u64, output: Output, at: u64) -> Result<u64, SegmentError> {
        let from = at.saturating_sub(MAX_LOG_ENTRY_BYTES as u64);
        let start = match output {
            Output::Stdout => (From::Offset(from), From::Replay(0)),
            Output::Stderr => (From::Replay(0), From::Offset(from)),
        };
        let (stdout, stderr) = start;
        let start = Start::Streams { stdout, stderr };
        let reader = Reader::open(&self.directory, run, Some(output), start);
        let Some(mut reader) = kept(reader)? else {
            return Ok(at);
        };
        let mut begin = if from == 0 { 0 } else { at };
        while reader.position().of(output) < at {
            match reader.next(MAX_LOG_ENTRY_BYTES)? {
                Next::Chunk { offset, data, .. } => {
                    let before = head(&data, at - offset);
                    if let Some(end) = memchr::memrchr(b'\n', before) {
                        begin = offset + end as u64 + 1;
                    }
                }
                Next::Gap { .. } => begin = reader.position().of(output).min(at),
                Next::End(_) | Next::Pending => break,
            }
        }
        Ok(begin)
    }
}

/// A part of a run whose entries are counted.
struct Stretch {
    scan: Scan,
}

impl Stretch {
    /// Passes over the entries in it, at most `limit`; says how many there were.
    fn entries(&mut self, view: &View, limit: u64) -> Result<u64, SegmentError> {
        let mut entries = 0;
        while entries < limit
            && let Some(event) = self.scan.event(view)?
        {
            match event {
                Event::Entry(_) => entries += 1,
                Event::Exited(_) => break,
                Event::Lost { .. } | Event::RunsLost { .. } | Event::Started { .. } => {}
            }
            self.scan.pass(&event);
        }
        Ok(entries)
    }

    /// Where it begins now. That a run started is told with its first entry.
    fn begin(&self) -> Position {
        let position = self.scan.position;
        if position.offsets == Offsets::default() && position.gaps == 0 {
            Position::over(position.run - 1)
        } else {
            position
        }
    }
}

/// The first so many bytes.
fn head(data: &Bytes, bytes: u64) -> &[u8] {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    &data[..data.len().min(bytes)]
}

/// `None` if it is rotated away, or not there yet.
fn kept<T>(read: Result<T, SegmentError>) -> Result<Option<T>, SegmentError> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(SegmentError::NoRecording { .. } | SegmentError::NoSegment { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}
