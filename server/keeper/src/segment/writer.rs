//! The one that writes a recording.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::catalog::{self, Id, Part};
use super::cursor::Cursor;
use super::format::{ENTRY_BYTES, Entry, HEADER_BYTES, Header, Kind, MAX_LENGTH};
use super::{End, Limits, Offsets, Output, Positions, Process, ProcessExit, SegmentError};

/// Begins a recording, or continues one that its writer has left, and adds to it. There must be no other
/// writer of it; readers may come and go.
///
/// Nothing is synced to the disk: what is written survives the death of the process, not a power cut.
#[derive(Debug)]
pub struct Writer {
    directory: PathBuf,
    limits: Limits,
    header: Header,
    at: Offsets,
    index: File,
    index_bytes: u64,
    data: Option<File>,
    data_bytes: u64,
    entries: u64,
    process: Process,
    ended: Option<End>,
}

/// An [`Writer::append`] that was cut short.
#[derive(Debug, Error)]
#[error("{written} bytes were written, then: {source}")]
pub struct Shortfall {
    /// How many of the bytes have become part of the recording.
    pub written: usize,
    /// Why not more.
    pub source: SegmentError,
}

impl Writer {
    /// Opens the recording of `run` in `directory`, which is made if it is not there. If the recording
    /// exists, a torn tail is cut off: data without its entry, half an entry.
    ///
    /// # Errors
    /// [`SegmentError::Io`].
    pub fn open(
        directory: &Path,
        run: u64,
        limits: Limits,
        now: u64,
    ) -> Result<Self, SegmentError> {
        let limits = limits.effective();
        make_directory(directory)?;
        match catalog::last(directory, run)? {
            Some(last) => Self::resume(directory, limits, last),
            None => Self::begin(directory, run, limits, now),
        }
    }

    /// Adds what was read from a stream at `time`. Begins new segments as it takes.
    ///
    /// # Errors
    /// [`Shortfall`]: how much was added nevertheless, and why not all.
    pub fn append(&mut self, time: u64, output: Output, bytes: &[u8]) -> Result<(), Shortfall> {
        let mut written = 0;
        while written < bytes.len() {
            let piece = self.append_piece(time, output, &bytes[written..]);
            written += piece.map_err(|source| Shortfall { written, source })?;
        }
        Ok(())
    }

    /// Records a loss. With a stream, its offset advances by `bytes`; without, `bytes` only informs.
    /// 0 bytes: nobody knows how many.
    ///
    /// # Errors
    /// [`SegmentError`]; then nothing is recorded.
    pub fn gap(
        &mut self,
        time: u64,
        output: Option<Output>,
        bytes: u64,
    ) -> Result<(), SegmentError> {
        self.room(time)?;
        self.enter(Entry {
            time,
            kind: Kind::Gap(output),
            length: bytes.min(MAX_LENGTH),
        })
    }

    /// Records which process it is; only the first one counts.
    ///
    /// # Errors
    /// [`SegmentError::Io`]; then it is not recorded.
    pub fn launched(&mut self, time: u64, pid: u32) -> Result<(), SegmentError> {
        if self.process.pid.is_some() || self.ended.is_some() {
            return Ok(());
        }
        self.enter(process_entry(time, pid))?;
        self.process.pid = Some(pid);
        Ok(())
    }

    /// Records the exit of the process; only the first one counts. More output may come.
    ///
    /// # Errors
    /// [`SegmentError::Io`]; then it is not recorded.
    pub fn exit(&mut self, exit: ProcessExit) -> Result<(), SegmentError> {
        if self.process.exit.is_some() || self.ended.is_some() {
            return Ok(());
        }
        self.enter(exit.into())?;
        self.process.exit = Some(exit);
        Ok(())
    }

    /// Completes the recording. To do it again changes nothing.
    ///
    /// # Errors
    /// [`SegmentError::Io`]; then it is not complete.
    pub fn end(&mut self, time: u64, end: End) -> Result<(), SegmentError> {
        if self.ended.is_some() {
            return Ok(());
        }
        let kind = if end.truncated {
            Kind::EndTruncated
        } else {
            Kind::End
        };
        self.enter(Entry {
            time,
            kind,
            length: 0,
        })?;
        self.ended = Some(end);
        Ok(())
    }

    /// How far it got.
    #[must_use]
    pub fn positions(&self) -> Positions {
        Positions {
            stdout: self.at.stdout,
            stderr: self.at.stderr,
            ended: self.ended,
        }
    }

    /// Entries written through this writer: it grows whenever there is something new to read.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries
    }

    fn begin(directory: &Path, run: u64, limits: Limits, now: u64) -> Result<Self, SegmentError> {
        let header = Header {
            run,
            segment: 0,
            base: Offsets::default(),
            started: now,
            begun: now,
        };
        let index = create(directory, limits, &header)?;
        Ok(Self::of(directory, limits, header, index))
    }

    fn of(directory: &Path, limits: Limits, header: Header, index: File) -> Self {
        Self {
            directory: directory.to_owned(),
            limits,
            at: header.base,
            header,
            index,
            index_bytes: HEADER_BYTES as u64,
            data: None,
            data_bytes: 0,
            entries: 0,
            process: Process::default(),
            ended: None,
        }
    }

    fn resume(directory: &Path, limits: Limits, mut last: Cursor) -> Result<Self, SegmentError> {
        let id = id_of(&last.header);
        let data = existing(&id.path(directory, Part::Data))?;
        let data_bytes = data.as_ref().map_or(Ok(0), length)?;
        let path = id.path(directory, Part::Index);
        let ended = last
            .pass_all(data_bytes)
            .map_err(SegmentError::at(path.clone()))?;
        let index = existing(&path)?.ok_or_else(|| catalog::no_recording(directory, id.run))?;
        let mut writer = Self::of(directory, limits, last.header, index);
        writer.at = last.at;
        writer.index_bytes = last.index_at;
        writer.data_bytes = last.data_at;
        writer.data = data;
        writer.process = last.process;
        writer.ended = ended;
        if ended.is_none() {
            writer.cut()?;
        }
        Ok(writer)
    }

    /// Cuts off what is behind the last whole entry.
    fn cut(&self) -> Result<(), SegmentError> {
        self.index
            .set_len(self.index_bytes)
            .map_err(SegmentError::at(self.path(Part::Index)))?;
        match &self.data {
            Some(data) => data
                .set_len(self.data_bytes)
                .map_err(SegmentError::at(self.path(Part::Data))),
            None => Ok(()),
        }
    }

    /// Adds as much as this segment has room for, at least one byte.
    fn append_piece(
        &mut self,
        time: u64,
        output: Output,
        bytes: &[u8],
    ) -> Result<usize, SegmentError> {
        let room = usize::try_from(self.room(time)?).unwrap_or(usize::MAX);
        let piece = &bytes[..bytes.len().min(room)];
        self.write_data(piece)?;
        self.enter(Entry {
            time,
            kind: Kind::Data(output),
            length: piece.len() as u64,
        })?;
        Ok(piece.len())
    }

    /// How many bytes of data fit, in a new segment if this one is full; never 0.
    fn room(&mut self, time: u64) -> Result<u64, SegmentError> {
        if self.ended.is_some() {
            return Err(SegmentError::Ended);
        }
        if self.left() == 0 {
            self.rotate(time)?;
        }
        Ok(self.left())
    }

    fn left(&self) -> u64 {
        let used = self.index_bytes + self.data_bytes + ENTRY_BYTES as u64;
        self.limits.segment_bytes.saturating_sub(used)
    }

    fn rotate(&mut self, time: u64) -> Result<(), SegmentError> {
        // A write that failed may have left bytes that no entry speaks of.
        self.cut()?;
        let header = Header {
            segment: self.header.segment + 1,
            base: self.at,
            begun: time,
            ..self.header
        };
        self.index = create(&self.directory, self.limits, &header)?;
        self.header = header;
        self.index_bytes = HEADER_BYTES as u64;
        self.data = None;
        self.data_bytes = 0;
        // Whoever asks about the process looks at the last segment only.
        let Process { pid, exit } = self.process;
        let entries = [
            pid.map(|pid| process_entry(time, pid)),
            exit.map(Entry::from),
        ];
        entries
            .into_iter()
            .flatten()
            .try_for_each(|entry| self.enter(entry))
    }

    /// Writes at a place of its own, so that a write that failed is overwritten by the next one.
    fn write_data(&mut self, bytes: &[u8]) -> Result<(), SegmentError> {
        let path = self.path(Part::Data);
        if self.data.is_none() {
            let made = writable().create(true).truncate(true).open(&path);
            self.data = Some(made.map_err(SegmentError::at(path.clone()))?);
        }
        match &self.data {
            Some(data) => data
                .write_all_at(bytes, self.data_bytes)
                .map_err(SegmentError::at(path)),
            None => Ok(()),
        }
    }

    fn enter(&mut self, entry: Entry) -> Result<(), SegmentError> {
        self.index
            .write_all_at(&entry.encode(), self.index_bytes)
            .map_err(SegmentError::at(self.path(Part::Index)))?;
        self.index_bytes += ENTRY_BYTES as u64;
        self.data_bytes += entry.data_bytes();
        self.entries += 1;
        entry.apply(&mut self.at);
        Ok(())
    }

    fn path(&self, part: Part) -> PathBuf {
        id_of(&self.header).path(&self.directory, part)
    }
}

fn process_entry(time: u64, pid: u32) -> Entry {
    Entry {
        time,
        kind: Kind::Process,
        length: pid.into(),
    }
}

fn id_of(header: &Header) -> Id {
    Id {
        run: header.run,
        segment: header.segment,
    }
}

/// Makes room for a segment and begins it; leaves nothing behind if that fails.
fn create(directory: &Path, limits: Limits, header: &Header) -> Result<File, SegmentError> {
    let id = id_of(header);
    catalog::make_room(directory, id, limits)?;
    let path = id.path(directory, Part::Index);
    let begun = writable()
        .create(true)
        .truncate(true)
        .open(&path)
        .and_then(|index| index.write_all_at(&header.encode(), 0).map(|()| index));
    begun.map_err(|source| {
        // What is left of it is no header, so nobody takes it for a segment.
        let _ = catalog::remove_one(directory, id);
        SegmentError::Io { path, source }
    })
}

fn writable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn make_directory(directory: &Path) -> Result<(), SegmentError> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(SegmentError::at(directory))
}

fn existing(path: &Path) -> Result<Option<File>, SegmentError> {
    match writable().open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SegmentError::at(path)(error)),
    }
}

fn length(file: &File) -> Result<u64, SegmentError> {
    let metadata = file.metadata().map_err(SegmentError::at("segment data"))?;
    Ok(metadata.len())
}
