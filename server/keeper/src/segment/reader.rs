//! Those that read a recording, each at its own position, while it is written and rotated.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::catalog::{self, Id, Part};
use super::cursor::{Cursor, end_of};
use super::format::{ENTRY_BYTES, Entry, Kind};
use super::place::{Place, Start};
use super::{End, Offsets, Output, SegmentError};

/// A chunk is at most so many bytes.
const MAX_CHUNK_BYTES: usize = 64 * 1024;

/// What comes next in a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Bytes of one stream.
    Chunk {
        /// When they were read from the process, in nanoseconds since 1970.
        time: u64,
        /// Which stream.
        output: Output,
        /// The offset of the first of them.
        offset: u64,
        /// At least one.
        data: Bytes,
    },
    /// Bytes are missing here. A reader that begins exactly at a gap is told of it.
    Gap {
        /// Of which stream; `None` if that is not known.
        output: Option<Output>,
        /// How many; 0 if that is not known.
        dropped_bytes: u64,
    },
    /// There will be no more. Comes again when asked again.
    End(End),
    /// There is no more yet.
    Pending,
}

impl Next {
    /// What it takes of a recording, data and index; of the part of an entry, no less than its share.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        let data = match self {
            Self::Chunk { data, .. } => data.len(),
            Self::Gap { .. } | Self::End(_) | Self::Pending => 0,
        };
        (data + ENTRY_BYTES) as u64
    }
}

/// An independent reader of one recording. It costs the writer nothing, not even to know of it.
#[derive(Debug)]
pub struct Reader {
    directory: PathBuf,
    only: Option<Output>,
    standing: Cursor,
    data: Option<File>,
    /// The segment that follows, once it is there.
    successor: Option<Cursor>,
    /// The first byte wanted of each stream.
    next: Offsets,
    lost: Lost,
}

/// What became of a recording whose segments have all gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    No,
    /// The reader is to be told.
    Untold,
    Told,
}

/// What a look beyond the last entry shows.
enum Beyond {
    Nothing,
    Segment,
    Lost,
}

impl Reader {
    /// Opens the recording of `run`. `only` leaves the other stream out.
    ///
    /// # Errors
    /// [`SegmentError::NoRecording`], [`SegmentError::NoSegment`], [`SegmentError::Io`].
    pub fn open(
        directory: &Path,
        run: u64,
        only: Option<Output>,
        start: Start,
    ) -> Result<Self, SegmentError> {
        let place = Place {
            directory,
            run,
            only,
        };
        let (standing, next) = place.find(start)?;
        Ok(Self {
            directory: directory.to_owned(),
            only,
            standing,
            data: None,
            successor: None,
            next,
            lost: Lost::No,
        })
    }

    /// What comes next, in the order in which it was read; chunks of at most `max_bytes`, nor ever more
    /// than 64 KiB.
    ///
    /// # Errors
    /// [`SegmentError::Io`]. The reader stays where it is.
    pub fn next(&mut self, max_bytes: usize) -> Result<Next, SegmentError> {
        loop {
            if self.lost != Lost::No {
                return Ok(self.tell_loss());
            }
            if let Some(gap) = self.skipped() {
                return Ok(gap);
            }
            let entry = self.standing.peek().map_err(self.failed())?;
            let next = match entry {
                Some(entry) => self.step(&entry, max_bytes)?,
                None => self.go_beyond()?,
            };
            if let Some(next) = next {
                return Ok(next);
            }
        }
    }

    /// The first byte of each stream that the next chunk can have: with the run, the position of a
    /// reader. [`super::From::Offset`] takes it up again.
    #[must_use]
    pub fn position(&self) -> Offsets {
        self.next
    }

    /// Which run this is the recording of.
    #[must_use]
    pub fn run(&self) -> u64 {
        self.standing.header.run
    }

    /// When the recording began, in nanoseconds since 1970.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.standing.header.started
    }

    fn wants(&self, output: Output) -> bool {
        self.only.is_none_or(|only| only == output)
    }

    /// A gap, if this place is beyond what is wanted: segments have been rotated away.
    fn skipped(&mut self) -> Option<Next> {
        for output in Output::ALL {
            let (at, next) = (self.standing.at.of(output), self.next.of(output));
            if at > next {
                self.next.set(output, at);
                if self.wants(output) {
                    return Some(gap(Some(output), at - next));
                }
            }
        }
        None
    }

    /// Delivers an entry, or part of it, or steps over it.
    fn step(&mut self, entry: &Entry, max_bytes: usize) -> Result<Option<Next>, SegmentError> {
        if let Some(end) = end_of(entry) {
            return Ok(Some(Next::End(end)));
        }
        if let Kind::Data(output) | Kind::Gap(Some(output)) = entry.kind
            && self.wants(output)
            && entry.length > 0
        {
            let at = self.standing.at.of(output);
            let from = at.max(self.next.of(output));
            let left = at.saturating_add(entry.length).saturating_sub(from);
            if left > 0 {
                return self.deliver(entry, output, from, left, max_bytes);
            }
        }
        let news = self.is_unknown_gap(entry);
        self.pass(entry);
        Ok(news)
    }

    fn deliver(
        &mut self,
        entry: &Entry,
        output: Output,
        offset: u64,
        left: u64,
        max_bytes: usize,
    ) -> Result<Option<Next>, SegmentError> {
        if let Kind::Gap(_) = entry.kind {
            self.next.set(output, offset + left);
            return Ok(Some(gap(Some(output), left)));
        }
        let limit = max_bytes.clamp(1, MAX_CHUNK_BYTES);
        let length = usize::try_from(left).unwrap_or(limit).min(limit);
        let place = self.standing.data_at + (offset - self.standing.at.of(output));
        match self.read_data(place, length)? {
            Some(data) => {
                self.next.set(output, offset + length as u64);
                Ok(Some(Next::Chunk {
                    time: entry.time,
                    output,
                    offset,
                    data,
                }))
            }
            None => self.miss(output, offset, left),
        }
    }

    /// The bytes that an entry promises have gone: with their segment, or in a power cut.
    fn miss(
        &mut self,
        output: Output,
        offset: u64,
        left: u64,
    ) -> Result<Option<Next>, SegmentError> {
        if let Some(later) = self.later()? {
            self.stand(later);
            return Ok(None);
        }
        self.next.set(output, offset + left);
        Ok(Some(gap(Some(output), left)))
    }

    /// Of a gap of unknown length: news, unless the reader begins further on.
    fn is_unknown_gap(&self, entry: &Entry) -> Option<Next> {
        let Kind::Gap(output) = entry.kind else {
            return None;
        };
        let unknown = output.is_none() || entry.length == 0;
        let wanted = output.is_none_or(|output| self.wants(output));
        let reached = Output::ALL.into_iter().all(|output| {
            !self.wants(output) || self.standing.at.of(output) >= self.next.of(output)
        });
        (unknown && wanted && reached).then(|| gap(output, entry.length))
    }

    fn pass(&mut self, entry: &Entry) {
        self.standing.pass(entry);
        for output in Output::ALL {
            if !self.wants(output) {
                self.next.set(output, self.standing.at.of(output));
            }
        }
    }

    /// Behind the last entry: goes to the next segment, if there is one.
    fn go_beyond(&mut self) -> Result<Option<Next>, SegmentError> {
        if let Some(successor) = self.successor.take() {
            self.stand(successor);
            return Ok(None);
        }
        match self.look_beyond()? {
            // Entries may have come before the successor did, so this segment is looked at once more.
            Beyond::Segment => Ok(None),
            Beyond::Nothing => Ok(Some(Next::Pending)),
            Beyond::Lost => {
                self.lost = Lost::Untold;
                Ok(None)
            }
        }
    }

    fn look_beyond(&mut self) -> Result<Beyond, SegmentError> {
        let following = Id {
            run: self.run(),
            segment: self.standing.header.segment + 1,
        };
        self.successor = catalog::open(&self.directory, following)?;
        if self.successor.is_none() && self.is_removed()? {
            self.successor = self.later()?;
            if self.successor.is_none() {
                return Ok(Beyond::Lost);
            }
        }
        Ok(match self.successor {
            Some(_) => Beyond::Segment,
            None => Beyond::Nothing,
        })
    }

    fn is_removed(&self) -> Result<bool, SegmentError> {
        let metadata = self.standing.index.metadata().map_err(self.failed())?;
        Ok(metadata.nlink() == 0)
    }

    /// The oldest segment there is after this one.
    fn later(&self) -> Result<Option<Cursor>, SegmentError> {
        for id in catalog::of_run(&self.directory, self.run())? {
            if id.segment > self.standing.header.segment
                && let Some(cursor) = catalog::open(&self.directory, id)?
            {
                return Ok(Some(cursor));
            }
        }
        Ok(None)
    }

    fn stand(&mut self, cursor: Cursor) {
        self.standing = cursor;
        self.data = None;
        self.successor = None;
    }

    fn tell_loss(&mut self) -> Next {
        if self.lost == Lost::Untold {
            self.lost = Lost::Told;
            return gap(None, 0);
        }
        Next::End(End { truncated: false })
    }

    /// `None` if the file or the bytes are not there.
    fn read_data(&mut self, at: u64, length: usize) -> Result<Option<Bytes>, SegmentError> {
        if self.data.is_none() {
            self.data = self.open_data()?;
        }
        let Some(data) = &self.data else {
            return Ok(None);
        };
        let mut bytes = vec![0; length];
        match data.read_exact_at(&mut bytes, at) {
            Ok(()) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(self.failed()(error)),
        }
    }

    fn open_data(&self) -> Result<Option<File>, SegmentError> {
        let id = Id {
            run: self.run(),
            segment: self.standing.header.segment,
        };
        let path = id.path(&self.directory, Part::Data);
        match File::open(&path) {
            Ok(data) => Ok(Some(data)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SegmentError::at(path)(error)),
        }
    }

    fn failed(&self) -> impl FnOnce(io::Error) -> SegmentError + use<> {
        SegmentError::at(self.directory.clone())
    }
}

fn gap(output: Option<Output>, dropped_bytes: u64) -> Next {
    Next::Gap {
        output,
        dropped_bytes,
    }
}
