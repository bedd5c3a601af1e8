//! Which segments a directory has: their names, their order, and which of them go.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::cursor::Cursor;
use super::{Limits, MAX_SEGMENTS, Offsets, Positions, Process, SegmentError};

/// What a segment's file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Data,
    Index,
}

/// Names a segment within its directory; older ones are less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) run: u64,
    pub(super) segment: u64,
}

impl Id {
    /// The file of one part; padded, so that a listing by name is one by age.
    pub(super) fn path(self, directory: &Path, part: Part) -> PathBuf {
        let extension = match part {
            Part::Data => "data",
            Part::Index => "index",
        };
        let Self { run, segment } = self;
        directory.join(format!("{run:010}.{segment:010}.{extension}"))
    }

    fn parse(name: &str) -> Option<(Self, Part)> {
        let mut parts = name.split('.');
        let run = parts.next()?.parse().ok()?;
        let segment = parts.next()?.parse().ok()?;
        let part = match (parts.next()?, parts.next()) {
            ("data", None) => Part::Data,
            ("index", None) => Part::Index,
            _ => return None,
        };
        Some((Self { run, segment }, part))
    }
}

/// A segment as its header describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number within the recording, from 0.
    pub segment: u64,
    /// The offsets of its first bytes.
    pub begin: Offsets,
    /// When it began, in nanoseconds since 1970.
    pub begun: u64,
}

/// The runs that a directory has recordings of, the oldest first. A directory that is not there has none.
///
/// # Errors
/// [`SegmentError::Io`] if the directory cannot be listed.
pub fn runs(directory: &Path) -> Result<Vec<u64>, SegmentError> {
    let mut runs: Vec<u64> = indexes(directory)?.iter().map(|id| id.run).collect();
    runs.dedup();
    Ok(runs)
}

/// The segments of one recording, the oldest first. To look at a log from its end, read them in reverse,
/// each with a reader that starts at it.
///
/// # Errors
/// [`SegmentError::Io`] if they cannot be listed.
pub fn segments(directory: &Path, run: u64) -> Result<Vec<SegmentInfo>, SegmentError> {
    let mut found = Vec::new();
    for id in of_run(directory, run)? {
        found.extend(open(directory, id)?.map(|cursor| SegmentInfo {
            segment: id.segment,
            begin: cursor.header.base,
            begun: cursor.header.begun,
        }));
    }
    Ok(found)
}

/// How far a recording got, from its last segment.
///
/// # Errors
/// [`SegmentError::NoRecording`] if there is none, [`SegmentError::Io`] if it cannot be read.
pub fn positions(directory: &Path, run: u64) -> Result<Positions, SegmentError> {
    let mut last = last(directory, run)?.ok_or_else(|| no_recording(directory, run))?;
    let ended = last
        .pass_all(u64::MAX)
        .map_err(SegmentError::at(directory))?;
    Ok(Positions {
        stdout: last.at.stdout,
        stderr: last.at.stderr,
        ended,
    })
}

/// What is recorded of the process itself; nothing if there is no recording.
///
/// # Errors
/// [`SegmentError::Io`] if the recording cannot be read.
pub fn process(directory: &Path, run: u64) -> Result<Process, SegmentError> {
    let Some(mut last) = last(directory, run)? else {
        return Ok(Process::default());
    };
    last.pass_all(u64::MAX)
        .map_err(SegmentError::at(directory))?;
    Ok(last.process)
}

/// The last segment of a recording that has a whole header.
pub(super) fn last(directory: &Path, run: u64) -> Result<Option<Cursor>, SegmentError> {
    for id in of_run(directory, run)?.into_iter().rev() {
        if let Some(cursor) = open(directory, id)? {
            return Ok(Some(cursor));
        }
    }
    Ok(None)
}

/// Opens a segment at its first entry; `None` if it has gone, or is not there yet.
pub(super) fn open(directory: &Path, id: Id) -> Result<Option<Cursor>, SegmentError> {
    let path = id.path(directory, Part::Index);
    let cursor = Cursor::open(&path).map_err(SegmentError::at(path))?;
    Ok(cursor.filter(|cursor| cursor.header.run == id.run && cursor.header.segment == id.segment))
}

/// The segments of one run, the oldest first.
pub(super) fn of_run(directory: &Path, run: u64) -> Result<Vec<Id>, SegmentError> {
    let mut ids = indexes(directory)?;
    ids.retain(|id| id.run == run);
    Ok(ids)
}

/// Removes the oldest segments before `next` begins, so that it can fill: never the one just before it.
pub(super) fn make_room(directory: &Path, next: Id, limits: Limits) -> Result<(), SegmentError> {
    let sizes = sizes(directory)?;
    let mut kept: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    let mut count = sizes.len();
    for (id, bytes) in sizes {
        let fits = kept.saturating_add(limits.segment_bytes) <= limits.total_bytes;
        let precedes = id.run == next.run && id.segment + 1 >= next.segment;
        if (fits && count < MAX_SEGMENTS) || precedes || id >= next {
            break;
        }
        remove_one(directory, id)?;
        kept -= bytes;
        count -= 1;
    }
    Ok(())
}

/// Removes the recording of a run. What is not there is no error.
///
/// # Errors
/// [`SegmentError::Io`].
pub fn remove(directory: &Path, run: u64) -> Result<(), SegmentError> {
    of_run(directory, run)?
        .into_iter()
        .try_for_each(|id| remove_one(directory, id))
}

/// Removes a segment, whatever there is of it.
pub(super) fn remove_one(directory: &Path, id: Id) -> Result<(), SegmentError> {
    for part in [Part::Index, Part::Data] {
        let path = id.path(directory, part);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(SegmentError::Io { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn no_recording(directory: &Path, run: u64) -> SegmentError {
    SegmentError::NoRecording {
        directory: directory.to_owned(),
        run,
    }
}

fn indexes(directory: &Path) -> Result<Vec<Id>, SegmentError> {
    let mut ids: Vec<Id> = list(directory)?
        .into_iter()
        .filter_map(|(id, part, _)| (part == Part::Index).then_some(id))
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Every segment of which there is anything, with the bytes of both parts, the oldest first.
fn sizes(directory: &Path) -> Result<Vec<(Id, u64)>, SegmentError> {
    let mut files = list(directory)?;
    files.sort_unstable_by_key(|(id, ..)| *id);
    let mut sizes: Vec<(Id, u64)> = Vec::new();
    for (id, _, entry) in files {
        // One that has just gone has no size.
        let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
        match sizes.last_mut() {
            Some((last, sum)) if *last == id => *sum += bytes,
            _ => sizes.push((id, bytes)),
        }
    }
    Ok(sizes)
}

fn list(directory: &Path) -> Result<Vec<(Id, Part, fs::DirEntry)>, SegmentError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(SegmentError::at(directory)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(SegmentError::at(directory))?;
        if let Some((id, part)) = entry.file_name().to_str().and_then(Id::parse) {
            files.push((id, part, entry));
        }
    }
    Ok(files)
}
