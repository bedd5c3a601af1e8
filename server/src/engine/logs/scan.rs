//! One container's log, read in order over its runs: what comes next from a position on. Blocks on the
//! disk; never waits for anything that is not there yet.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::cursor::{Position, Stage};
use super::lines::{Chunk, Lines};
use super::view::View;
use super::{LogCursor, LogEntry, LogItem, LogMessage, nanos, time_of};
use crate::model::limits::{LOG_ENTRY_OVERHEAD_BYTES, MAX_LOG_BATCH_BYTES, MAX_STDIO_CHUNK};
use crate::model::{ContainerId, ExitStatus, OutputStream, Run};
use crate::stdio::segment::{self, From, Next, Offsets, Output, Reader, SegmentError, Start};

/// A reader of one log.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) container: ContainerId,
    pub(super) directory: PathBuf,
    pub(super) only: Option<Output>,
    /// What has been told.
    pub(super) position: Position,
    /// Nothing before this time is told, until something at or after it has been found.
    pub(super) since: Option<u64>,
    /// Nothing is told from what is at or after this time on.
    pub(super) until: Option<u64>,
    /// Nothing is read from here on.
    pub(super) limit: Option<Limit>,
    /// No run after this one is told of.
    pub(super) last_run: Option<u64>,
    /// Entries of one message, with what they take besides their bytes.
    pub(super) batch_bytes: usize,
    reader: Option<Reader>,
    lines: Lines,
    /// Found but not told.
    found: VecDeque<Event>,
    /// Gaps that the reader will come upon and that have been told.
    told_gaps: u16,
    /// Whether it has been told that the recording has no end.
    is_cut_off: bool,
    over: bool,
}

/// A place in one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) run: u64,
    pub(super) offsets: Offsets,
}

/// What there is to tell.
#[derive(Debug)]
pub(super) enum Event {
    Entry(LogEntry),
    /// Bytes of the run are missing: of a stream, or if that is not known, of any.
    Lost {
        output: Option<Output>,
        bytes: u64,
    },
    /// All of the runs up to this one are missing.
    RunsLost {
        last: u64,
    },
    Started {
        time: SystemTime,
    },
    /// Silent if how is forgotten.
    Exited(Option<Arc<ExitStatus>>),
}

/// What a look gives.
#[derive(Debug)]
pub(super) enum Step {
    Message(LogMessage),
    /// There is nothing now.
    Nothing(LogCursor),
    /// There will be nothing more.
    Over(LogCursor),
}

/// What a look at the segments gives.
enum Look {
    Event(Event),
    Again,
    Nothing,
}

impl Scan {
    pub(super) fn new(
        container: ContainerId,
        directory: PathBuf,
        only: Option<OutputStream>,
        position: Position,
    ) -> Self {
        let only = only.map(|stream| match stream {
            OutputStream::Stdout => Output::Stdout,
            OutputStream::Stderr => Output::Stderr,
        });
        Self {
            container,
            directory,
            only,
            position,
            since: None,
            until: None,
            limit: None,
            last_run: None,
            batch_bytes: MAX_LOG_BATCH_BYTES,
            reader: None,
            lines: Lines::default(),
            found: VecDeque::new(),
            told_gaps: 0,
            is_cut_off: false,
            over: false,
        }
    }

    /// The next message, as far as there is anything now. `view` is to be taken before the call.
    pub(super) fn next(&mut self, view: &View) -> Result<Step, SegmentError> {
        let mut batch = Batch::default();
        while !self.over
            && let Some(event) = self.event(view)?
        {
            if self.is_until(&event) {
                self.over = true;
            } else if let Event::Entry(entry) = event {
                if batch.is_full_for(&entry, self.batch_bytes) {
                    self.found.push_front(Event::Entry(entry));
                    break;
                }
                self.position
                    .advance(output_of(&entry), entry.data.len() as u64);
                if self.is_wanted(entry.time) {
                    batch.push(entry);
                }
            } else if !batch.entries.is_empty() {
                self.found.push_front(event);
                break;
            } else if let Some((run, item)) = self.tell(event) {
                return Ok(self.message(run, item));
            }
        }
        if !batch.entries.is_empty() {
            let item = LogItem::Entries(batch.entries);
            return Ok(self.message(self.position.run, item));
        }
        let is_over = self.over || self.is_behind_last(view);
        Ok(if is_over {
            Step::Over(self.cursor())
        } else {
            Step::Nothing(self.cursor())
        })
    }

    /// Lets go of everything that can be found again from the position.
    pub(super) fn rest(&mut self) {
        self.reader = None;
        self.lines.clear();
        self.found.clear();
    }

    /// The resume point.
    pub(super) fn cursor(&self) -> LogCursor {
        let mut position = self.position;
        // The stream that is left out has no unfinished line: it is where the reader is.
        if let (Some(only), Some(reader), Stage::Within) = (self.only, &self.reader, position.stage)
        {
            match only {
                Output::Stdout => position.offsets.stderr = reader.position().stderr,
                Output::Stderr => position.offsets.stdout = reader.position().stdout,
            }
        }
        LogCursor {
            container: self.container,
            position,
        }
    }

    /// What comes next; `None` if it is not there now. To be passed to [`Self::pass`] before the next.
    pub(super) fn event(&mut self, view: &View) -> Result<Option<Event>, SegmentError> {
        loop {
            if let Some(event) = self.found.pop_front() {
                return Ok(Some(event));
            }
            if let Some(entry) = self.lines.next() {
                return Ok(Some(Event::Entry(entry)));
            }
            let look = match self.position.stage {
                Stage::Over => self.next_run(view)?,
                Stage::Within => self.read(view)?,
            };
            match look {
                Look::Event(event) => return Ok(Some(event)),
                Look::Again => {}
                Look::Nothing => return Ok(None),
            }
        }
    }

    /// Moves the position behind an event.
    pub(super) fn pass(&mut self, event: &Event) {
        let run = self.position.run;
        match event {
            Event::Entry(entry) => self
                .position
                .advance(output_of(entry), entry.data.len() as u64),
            Event::Lost {
                output: Some(output),
                bytes,
            } if *bytes > 0 => self.position.advance(*output, *bytes),
            Event::Lost { .. } => self.position.gaps = self.position.gaps.saturating_add(1),
            Event::RunsLost { last } => self.position = Position::over(*last),
            Event::Started { .. } => self.position = Position::within(run + 1, Offsets::default()),
            Event::Exited(_) => {
                self.position = Position::over(run);
                self.rest();
            }
        }
    }

    /// What a mark or gap says, if it is to be told.
    fn tell(&mut self, event: Event) -> Option<(u64, LogItem)> {
        let before = self.position.run;
        self.pass(&event);
        let run = self.position.run;
        match event {
            Event::Entry(_) => None,
            Event::Lost { bytes, .. } => Some((run, LogItem::Gap { missed: bytes })),
            Event::RunsLost { last } => {
                let about = if last == before + 1 { last } else { 0 };
                Some((about, LogItem::Gap { missed: 0 }))
            }
            Event::Started { time } => self
                .is_wanted(nanos(time))
                .then_some((run, LogItem::RunStarted { time })),
            Event::Exited(exit) => {
                let exit = exit.filter(|exit| self.is_wanted(nanos(exit.exit_time)))?;
                Some((run, LogItem::RunExited(exit)))
            }
        }
    }

    fn message(&self, run: u64, item: LogItem) -> Step {
        Step::Message(LogMessage {
            cursor: self.cursor(),
            run: Run(run),
            item,
        })
    }

    /// Whether the time asked for has come.
    fn is_wanted(&mut self, time: u64) -> bool {
        if self.since.is_some_and(|since| time < since) {
            return false;
        }
        self.since = None;
        true
    }

    fn is_until(&self, event: &Event) -> bool {
        let time = match event {
            Event::Entry(entry) => entry.time,
            Event::Started { time } => nanos(*time),
            Event::Exited(Some(exit)) => nanos(exit.exit_time),
            Event::Exited(None) | Event::Lost { .. } | Event::RunsLost { .. } => return false,
        };
        self.until.is_some_and(|until| time >= until)
    }

    /// Whether no run will come after this one.
    fn is_behind_last(&self, view: &View) -> bool {
        let Position { run, stage, .. } = self.position;
        stage == Stage::Over
            && (self.last_run.is_some_and(|last| run >= last)
                || (view.gone && run >= view.latest()))
    }

    /// Between two runs: the next one, if it has begun.
    fn next_run(&mut self, view: &View) -> Result<Look, SegmentError> {
        let (next, current) = (self.position.run + 1, view.latest());
        if next > current || self.is_behind_last(view) {
            return Ok(Look::Nothing);
        }
        let kept = segment::runs(&self.directory)?;
        let first = kept.into_iter().find(|run| (next..current).contains(run));
        let first = first.unwrap_or(current);
        if first > next {
            return Ok(Look::Event(Event::RunsLost { last: first - 1 }));
        }
        self.open(Position::within(next, Offsets::default()))?;
        let recorded = self.reader.as_ref().map(|reader| time_of(reader.started()));
        let of_container = view
            .container
            .start_time
            .unwrap_or(view.container.create_time);
        Ok(match recorded {
            Some(time) => Look::Event(Event::Started { time }),
            None if next == current => Look::Event(Event::Started { time: of_container }),
            // It has just been rotated away.
            None => Look::Again,
        })
    }

    /// Within a run: what its recording has.
    fn read(&mut self, view: &View) -> Result<Look, SegmentError> {
        if self.reader.is_none() {
            self.open(self.position)?;
        }
        let Some(reader) = &mut self.reader else {
            return Ok(self.without_recording(view));
        };
        let next = reader.next(MAX_STDIO_CHUNK)?;
        if self.is_beyond_limit(&next) {
            return Ok(Look::Nothing);
        }
        Ok(match next {
            Next::Chunk {
                time, output, data, ..
            } => {
                self.told_gaps = 0;
                self.lines.feed(Chunk { time, output, data });
                Look::Again
            }
            Next::Gap {
                output,
                dropped_bytes,
            } => self.lost(output, dropped_bytes),
            Next::End(_) => self.ended(view),
            // Nothing is written any more.
            Next::Pending if view.is_over(self.position.run) => self.cut_off(view),
            Next::Pending => Look::Nothing,
        })
    }

    fn open(&mut self, at: Position) -> Result<(), SegmentError> {
        self.lines.clear();
        self.told_gaps = at.gaps;
        self.is_cut_off = false;
        let start = Start::Streams {
            stdout: From::Offset(at.offsets.stdout),
            stderr: From::Offset(at.offsets.stderr),
        };
        self.reader = match Reader::open(&self.directory, at.run, self.only, start) {
            Ok(reader) => Some(reader),
            Err(SegmentError::NoRecording { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// The recording is not there yet, or has gone, which is told as a gap.
    fn without_recording(&self, view: &View) -> Look {
        let run = self.position.run;
        if !view.is_over(run) {
            return Look::Nothing;
        }
        if self.position.gaps == 0 {
            return Look::Event(Event::Lost {
                output: None,
                bytes: 0,
            });
        }
        exited(view, run)
    }

    /// A line that a gap cuts does not go on.
    fn lost(&mut self, output: Option<Output>, bytes: u64) -> Look {
        let is_counted = output.is_some() && bytes > 0;
        if !is_counted && self.told_gaps > 0 {
            self.told_gaps -= 1;
            return Look::Again;
        }
        if is_counted {
            self.told_gaps = 0;
        }
        for cut in Output::ALL {
            if !is_counted || output == Some(cut) {
                self.found.extend(self.lines.flush(cut).map(Event::Entry));
            }
        }
        self.found.push_back(Event::Lost { output, bytes });
        Look::Again
    }

    /// The recording has no end: how much is missing there nobody knows.
    fn cut_off(&mut self, view: &View) -> Look {
        if !self.is_cut_off {
            self.is_cut_off = true;
            return self.lost(None, 0);
        }
        self.ended(view)
    }

    /// The recording has ended, which is before the exit is known.
    fn ended(&mut self, view: &View) -> Look {
        for output in Output::ALL {
            self.found
                .extend(self.lines.flush(output).map(Event::Entry));
        }
        if self.found.is_empty() {
            exited(view, self.position.run)
        } else {
            Look::Again
        }
    }

    fn is_beyond_limit(&self, next: &Next) -> bool {
        let Some(limit) = self.limit.filter(|limit| limit.run == self.position.run) else {
            return self
                .limit
                .is_some_and(|limit| limit.run < self.position.run);
        };
        match next {
            Next::Chunk { output, offset, .. } => *offset >= limit.offsets.of(*output),
            Next::Gap {
                output: Some(output),
                dropped_bytes,
            } => {
                let end = self.reader.as_ref().map_or(0, |r| r.position().of(*output));
                end.saturating_sub(*dropped_bytes) >= limit.offsets.of(*output)
            }
            Next::Gap { output: None, .. } | Next::End(_) | Next::Pending => false,
        }
    }
}

/// Entries of one message.
#[derive(Debug, Default)]
struct Batch {
    entries: Vec<LogEntry>,
    bytes: usize,
}

impl Batch {
    fn is_full_for(&self, entry: &LogEntry, limit: usize) -> bool {
        !self.entries.is_empty() && self.bytes + size_of_entry(entry) > limit
    }

    fn push(&mut self, entry: LogEntry) {
        self.bytes += size_of_entry(&entry);
        self.entries.push(entry);
    }
}

/// Short lines take more room than their bytes.
fn size_of_entry(entry: &LogEntry) -> usize {
    entry.data.len() + LOG_ENTRY_OVERHEAD_BYTES
}

fn output_of(entry: &LogEntry) -> Output {
    match entry.stream {
        OutputStream::Stdout => Output::Stdout,
        OutputStream::Stderr => Output::Stderr,
    }
}

fn exited(view: &View, run: u64) -> Look {
    let exit = view.exit_of(run);
    if exit.is_none() && !view.is_over(run) {
        return Look::Nothing;
    }
    Look::Event(Event::Exited(exit))
}
