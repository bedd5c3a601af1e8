//! One caller's way through the output of a process: what is recorded first, then what comes.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use wharf_keeper::segment::{self, Next, Output, SegmentError};

use super::stream::{Ended, Progress, Stream};
use super::{Background, Hold, Outcome, StdioError};
use crate::model::OutputStream;
use crate::model::limits::MAX_STDIO_CHUNK;

/// Read at once, before the caller gets any of it.
const BATCH_BYTES: usize = 512 << 10;

/// Where to begin in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// So many bytes before what is newest.
    Recent(u64),
    /// At this byte; what is not kept of it is a gap.
    Offset(u64),
}

/// What to read, and from where; `None` leaves a stream out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Standard output.
    pub stdout: Option<Start>,
    /// Standard error.
    pub stderr: Option<Start>,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Bytes of one stream.
    Chunk {
        /// Which.
        stream: OutputStream,
        /// The offset of the first of them.
        offset: u64,
        /// At least one, at most [`MAX_STDIO_CHUNK`].
        data: Bytes,
    },
    /// Bytes are missing here.
    Gap {
        /// Of which stream; `None` if that is not known.
        stream: Option<OutputStream>,
        /// How many; 0 if that is not known.
        dropped: u64,
    },
    /// There is no more. Always last.
    End(Ended),
}

/// A reader. Costs the process nothing, unless it holds it.
#[derive(Debug)]
pub struct Reader {
    stream: Arc<Stream>,
    wanted: Wanted,
    progress: watch::Receiver<Progress>,
    /// `None` while there is nothing to read yet.
    recording: Option<Recording>,
    buffer: VecDeque<Next>,
    taken: segment::Offsets,
    hold: Option<Hold>,
}

/// When the recording was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// By a call that was cancelled, so perhaps before what is known now.
    Earlier,
    Now,
}

/// The reader of the segments.
type Recording = Background<segment::Reader, Result<Vec<Next>, SegmentError>>;

impl Reader {
    /// A reader of `stream`, whose recording need not be there yet. `hold` is the caller's, if the
    /// process is to wait for it.
    #[must_use]
    pub fn new(stream: Arc<Stream>, wanted: Wanted, hold: Option<Hold>) -> Self {
        let progress = stream.progress();
        Self {
            stream,
            wanted,
            progress,
            recording: None,
            buffer: VecDeque::new(),
            taken: segment::Offsets::default(),
            hold,
        }
    }

    /// Finds the place to begin now: output that comes after this is not left out.
    ///
    /// # Errors
    /// [`StdioError::Segment`]; that there is no recording yet is no error.
    pub async fn open(&mut self) -> Result<(), StdioError> {
        let (directory, run) = (self.stream.segments().to_owned(), self.stream.run());
        let start = start_of(self.wanted);
        let open = move || Ok(segment::Reader::open(&directory, run, None, start));
        match super::blocking(open).await? {
            Ok(reader) => {
                self.taken = reader.position();
                self.recording = Some(Background::new(reader));
                Ok(())
            }
            Err(SegmentError::NoRecording { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What comes next, as soon as there is something. May be cancelled.
    ///
    /// # Errors
    /// [`StdioError::Segment`].
    pub async fn next(&mut self) -> Result<Item, StdioError> {
        loop {
            while let Some(next) = self.buffer.pop_front() {
                self.take(&next);
                if let Some(item) = self.wanted.item(next) {
                    return Ok(item);
                }
            }
            // Looked at before reading: what comes after this look is found by the next one.
            let seen = *self.progress.borrow_and_update();
            let looked = self.fill().await?;
            if !self.buffer.is_empty() || looked == Looked::Earlier {
                continue;
            }
            if let Some(ended) = seen.ended {
                return Ok(Item::End(ended));
            }
            if self.progress.changed().await.is_err() {
                return Ok(Item::End(Ended::Truncated));
            }
        }
    }

    /// Reads on, on a thread that may wait for the disk.
    async fn fill(&mut self) -> Result<Looked, StdioError> {
        if self.recording.is_none() {
            self.open().await?;
        }
        let Some(recording) = &mut self.recording else {
            return Ok(Looked::Now);
        };
        let (read, looked) = match recording.run(batch).await? {
            Outcome::Earlier(read) => (read, Looked::Earlier),
            Outcome::Now(read) => (read, Looked::Now),
        };
        self.buffer.extend(read?);
        Ok(looked)
    }

    fn take(&mut self, next: &Next) {
        self.advance(next);
        // The recording is ahead of the keeper's word for it, and whoever has read so far may come back to here.
        self.stream.read_up_to(self.taken);
        if let Some(hold) = &mut self.hold {
            hold.taken(self.taken.total(), next.kept_bytes());
        }
    }

    fn advance(&mut self, next: &Next) {
        let (output, end) = match next {
            Next::Chunk {
                output,
                offset,
                data,
                ..
            } => (*output, offset + data.len() as u64),
            Next::Gap {
                output: Some(output),
                dropped_bytes,
            } => (
                *output,
                self.taken.of(*output).saturating_add(*dropped_bytes),
            ),
            Next::Gap { output: None, .. } | Next::End(_) | Next::Pending => return,
        };
        match output {
            Output::Stdout => self.taken.stdout = end,
            Output::Stderr => self.taken.stderr = end,
        }
    }
}

impl Wanted {
    fn wants(&self, output: Output) -> bool {
        match output {
            Output::Stdout => self.stdout.is_some(),
            Output::Stderr => self.stderr.is_some(),
        }
    }

    fn item(&self, next: Next) -> Option<Item> {
        match next {
            Next::Chunk {
                output,
                offset,
                data,
                ..
            } => self.wants(output).then(|| Item::Chunk {
                stream: stream_of(output),
                offset,
                data,
            }),
            Next::Gap {
                output,
                dropped_bytes,
            } => output
                .is_none_or(|output| self.wants(output))
                .then(|| Item::Gap {
                    stream: output.map(stream_of),
                    dropped: dropped_bytes,
                }),
            Next::End(end) => Some(Item::End(end.into())),
            Next::Pending => None,
        }
    }
}

/// What is left out begins at the end: its gaps are nobody's.
fn start_of(wanted: Wanted) -> segment::Start {
    let from = |start: Option<Start>| match start {
        Some(Start::Recent(bytes)) => segment::From::Replay(bytes),
        Some(Start::Offset(offset)) => segment::From::Offset(offset),
        None => segment::From::Replay(0),
    };
    segment::Start::Streams {
        stdout: from(wanted.stdout),
        stderr: from(wanted.stderr),
    }
}

/// What there is now, up to a batch.
fn batch(reader: &mut segment::Reader) -> Result<Vec<Next>, SegmentError> {
    let (mut read, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES {
        match reader.next(MAX_STDIO_CHUNK)? {
            Next::Pending => break,
            end @ Next::End(_) => {
                read.push(end);
                break;
            }
            next => {
                if let Next::Chunk { data, .. } = &next {
                    bytes += data.len();
                }
                // Gaps and tiny chunks count too, so that a batch ends.
                bytes += size_of::<Next>();
                read.push(next);
            }
        }
    }
    Ok(read)
}

fn stream_of(output: Output) -> OutputStream {
    match output {
        Output::Stdout => OutputStream::Stdout,
        Output::Stderr => OutputStream::Stderr,
    }
}
