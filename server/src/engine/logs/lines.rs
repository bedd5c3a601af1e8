//! Chunks of two streams into lines, byte for byte.

use bytes::{Bytes, BytesMut};

use super::LogEntry;
use crate::model::OutputStream;
use crate::model::limits::MAX_LOG_ENTRY_BYTES;
use crate::stdio::segment::Output;

/// Cuts what two streams write into entries. Each stream's unfinished line is held until its end is
/// there, or it is too long for one entry.
///
/// A line within one chunk is a slice of it; only one that goes over chunks is copied.
#[derive(Debug, Default)]
pub(super) struct Lines {
    chunk: Option<Chunk>,
    unfinished: [Line; 2],
}

/// Bytes that were read from one stream at once.
#[derive(Debug)]
pub(super) struct Chunk {
    /// When, in nanoseconds since 1970.
    pub(super) time: u64,
    pub(super) output: Output,
    pub(super) data: Bytes,
}

/// The beginning of a line.
#[derive(Debug, Default)]
struct Line {
    /// When its first byte was read.
    time: u64,
    data: BytesMut,
}

impl Lines {
    /// Takes the next chunk. The one before must have been used up by [`Self::next`].
    pub(super) fn feed(&mut self, chunk: Chunk) {
        self.chunk = Some(chunk);
    }

    /// The next entry of the chunk; `None` once the rest of it waits for more.
    pub(super) fn next(&mut self) -> Option<LogEntry> {
        let chunk = self.chunk.as_mut().filter(|chunk| !chunk.data.is_empty())?;
        let line = &mut self.unfinished[index(chunk.output)];
        let room = MAX_LOG_ENTRY_BYTES - line.data.len();
        let near = &chunk.data[..chunk.data.len().min(room)];
        let entry = match memchr::memchr(b'\n', near) {
            Some(end) => line.complete(chunk, end + 1, false),
            None if chunk.data.len() > room => line.complete(chunk, room, true),
            None => {
                line.begin(chunk);
                return None;
            }
        };
        Some(entry)
    }

    /// What there is of the unfinished line of a stream, which does not go on.
    pub(super) fn flush(&mut self, output: Output) -> Option<LogEntry> {
        let line = &mut self.unfinished[index(output)];
        let data = line.data.split().freeze();
        (!data.is_empty()).then(|| entry(line.time, output, data, false))
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Line {
    /// The entry that ends with so many bytes of a chunk.
    fn complete(&mut self, chunk: &mut Chunk, bytes: usize, partial: bool) -> LogEntry {
        let end = chunk.data.split_to(bytes);
        if self.data.is_empty() {
            return entry(chunk.time, chunk.output, end, partial);
        }
        self.data.extend_from_slice(&end);
        let data = self.data.split().freeze();
        entry(self.time, chunk.output, data, partial)
    }

    /// Keeps a chunk that ends before the line does.
    fn begin(&mut self, chunk: &mut Chunk) {
        if self.data.is_empty() {
            self.time = chunk.time;
        }
        self.data.extend_from_slice(&chunk.data);
        chunk.data.clear();
    }
}

fn entry(time: u64, output: Output, data: Bytes, partial: bool) -> LogEntry {
    let stream = match output {
        Output::Stdout => OutputStream::Stdout,
        Output::Stderr => OutputStream::Stderr,
    };
    LogEntry {
        time,
        stream,
        data,
        partial,
    }
}

fn index(output: Output) -> usize {
    match output {
        Output::Stdout => 0,
        Output::Stderr => 1,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    /// The entries of what is fed, as data and whether they are partial.
    fn entries(lines: &mut Lines, time: u64, data: &[u8]) -> Vec<(u64, Vec<u8>, bool)> {
        lines.feed(Chunk {
            time,
            output: Output::Stdout,
            data: Bytes::copy_from_slice(data),
        });
        std::iter::from_fn(|| lines.next())
            .map(|entry| (entry.time, entry.data.to_vec(), entry.partial))
            .collect()
    }

    #[test]
    fn a_line_has_its_bytes_and_its_end_whatever_they_are() {
        let mut lines = Lines::default();
        let found = entries(&mut lines, 1, b"a\r\n\n\0b\0\nc\r");
        let expected: [&[u8]; 3] = [b"a\r\n", b"\n", b"\0b\0\n"];
        assert_eq!(found, expected.map(|line| (1, line.to_vec(), false)));
        let found = entries(&mut lines, 2, b"\nd");
        assert_eq!(found, [(1, b"c\r\n".to_vec(), false)]);
        assert_eq!(lines.flush(Output::Stderr), None);
        assert_eq!(&lines.flush(Output::Stdout).unwrap().data[..], b"d");
        assert_eq!(lines.flush(Output::Stdout), None);
    }

    #[test]
    fn a_line_is_partial_only_if_more_of_it_is_there() {
        let mut lines = Lines::default();
        let long = vec![b'x'; MAX_LOG_ENTRY_BYTES];
        assert_eq!(entries(&mut lines, 1, &long), []);
        let found = entries(&mut lines, 2, b"y\n");
        let expected = [(1, long.clone(), true), (2, b"y\n".to_vec(), false)];
        assert_eq!(found, expected);

        assert_eq!(entries(&mut lines, 3, &long[1..]), []);
        let found = entries(&mut lines, 4, b"\n");
        assert_eq!(found.len(), 1);
        let (time, data, partial) = &found[0];
        assert_eq!((*time, data.len(), *partial), (3, long.len(), false));

        assert_eq!(entries(&mut lines, 5, &long), []);
        let last = lines.flush(Output::Stdout).unwrap();
        assert_eq!((last.data.len(), last.partial), (long.len(), false));
    }

    #[test]
    fn the_streams_do_not_cut_each_others_lines() {
        let mut lines = Lines::default();
        assert_eq!(entries(&mut lines, 1, b"out "), []);
        lines.feed(Chunk {
            time: 2,
            output: Output::Stderr,
            data: Bytes::from_static(b"err\n"),
        });
        let first = lines.next().unwrap();
        assert_eq!((first.stream, first.time), (OutputStream::Stderr, 2));
        let found = entries(&mut lines, 3, b"put\n");
        assert_eq!(found, [(1, b"out put\n".to_vec(), false)]);
    }
}
