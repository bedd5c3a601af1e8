//! Walks over the entries of one index file, also while it grows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::format::{ENTRY_BYTES, Entry, HEADER_BYTES, Header, Kind};
use super::{End, Offsets, Process};

/// Entries read at a time.
const BATCH: usize = 64;

/// An open index, the place in it, and the place in the data and the streams that belongs to it.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) header: Header,
    pub(super) index: File,
    /// Of the entry that comes next, in the index.
    pub(super) index_at: u64,
    /// Of the bytes that it speaks of, in the data.
    pub(super) data_at: u64,
    /// Where the streams stand before it.
    pub(super) at: Offsets,
    /// What entries before this place tell of the process.
    pub(super) process: Process,
    batch: Batch,
}

/// Entries that were read ahead.
#[derive(Debug)]
struct Batch {
    bytes: [u8; BATCH * ENTRY_BYTES],
    used: usize,
    filled: usize,
}

impl Cursor {
    /// Opens an index at its first entry; `None` if the file is not there, or has no whole header (yet).
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(index) => Self::new(index),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The same, of an open file.
    pub(super) fn new(index: File) -> io::Result<Option<Self>> {
        Ok(read_header(&index)?.map(|header| Self {
            header,
            index,
            index_at: HEADER_BYTES as u64,
            data_at: 0,
            at: header.base,
            process: Process::default(),
            batch: Batch::empty(),
        }))
    }

    /// The entry that comes next, if it is written. What is no entry ends the index.
    pub(super) fn peek(&mut self) -> io::Result<Option<Entry>> {
        if self.batch.used == self.batch.filled {
            self.batch.fill(&self.index, self.index_at)?;
        }
        let entry = self.batch.first();
        if entry.is_none() {
            // It may be whole at the next look.
            self.batch = Batch::empty();
        }
        Ok(entry)
    }

    /// Steps over the entry that `peek` returned.
    pub(super) fn pass(&mut self, entry: &Entry) {
        self.index_at += ENTRY_BYTES as u64;
        self.data_at = self.data_at.saturating_add(entry.data_bytes());
        entry.apply(&mut self.at);
        self.process.pid = entry.pid().or(self.process.pid);
        self.process.exit = entry.exit().or(self.process.exit);
        self.batch.used += ENTRY_BYTES;
    }

    /// Goes to the end: before the entry that says so, or behind the last one. Stops before an entry
    /// whose bytes are beyond `data_bytes`.
    pub(super) fn pass_all(&mut self, data_bytes: u64) -> io::Result<Option<End>> {
        while let Some(entry) = self.peek()? {
            if let Some(end) = end_of(&entry) {
                return Ok(Some(end));
            }
            if self.data_at.saturating_add(entry.data_bytes()) > data_bytes {
                break;
            }
            self.pass(&entry);
        }
        Ok(None)
    }
}

impl Batch {
    const fn empty() -> Self {
        Self {
            bytes: [0; BATCH * ENTRY_BYTES],
            used: 0,
            filled: 0,
        }
    }

    fn fill(&mut self, index: &File, at: u64) -> io::Result<()> {
        let read = read_some(index, &mut self.bytes, at)?;
        self.used = 0;
        self.filled = read - read % ENTRY_BYTES;
        Ok(())
    }

    fn first(&self) -> Option<Entry> {
        Entry::decode(&self.bytes[self.used..self.filled])
    }
}

/// The end that an entry announces.
pub(super) fn end_of(entry: &Entry) -> Option<End> {
    match entry.kind {
        Kind::End => Some(End { truncated: false }),
        Kind::EndTruncated => Some(End { truncated: true }),
        Kind::Data(_) | Kind::Gap(_) | Kind::Exit | Kind::Process => None,
    }
}

/// Fills as much of `buffer` as the file has.
pub(super) fn read_some(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

fn read_header(index: &File) -> io::Result<Option<Header>> {
    let mut bytes = [0; HEADER_BYTES];
    let read = read_some(index, &mut bytes, 0)?;
    Ok((read == HEADER_BYTES)
        .then(|| Header::decode(&bytes))
        .flatten())
}
