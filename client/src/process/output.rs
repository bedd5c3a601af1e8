//! What a session delivers, and how far each output stream has been delivered.

use std::cmp::Ordering;

use bytes::{Buf as _, Bytes};
use wharf_api::v1::{
    Attached, ContainerCreated, ExitStatus, OutputChunk, OutputGap, OutputStream, ProcessStarted,
    StreamOffset, TransferProgress,
};

use super::InputFate;

/// One thing that happened in a session.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// Where the pull of the image stands. Only of `run_container`.
    Progress(TransferProgress),
    /// The container exists. Only of `run_container`.
    Created(Box<ContainerCreated>),
    /// The streams are joined; the process may not have started.
    Attached(Attached),
    /// The process runs.
    Started(ProcessStarted),
    /// Output: each byte once, in order within its stream.
    Chunk {
        /// Where it comes from.
        stream: OutputStream,
        /// Position of the first byte, counted from the process's start.
        offset: u64,
        /// At least 1 byte, at most 64 KiB.
        data: Bytes,
    },
    /// Output is missing here.
    Gap {
        /// The stream that lacks it.
        stream: OutputStream,
        /// How many bytes; `None` if that is not known, and then perhaps none.
        dropped_bytes: Option<u64>,
    },
    /// The session goes on after an interruption.
    Resumed(InputFate),
    /// The process ended. Nothing follows.
    Exited(ExitStatus),
    /// The caller detached, and the process goes on. Nothing follows.
    Detached,
}

/// How far one stream has been delivered: the offset of the next byte, once it is known.
type Position = Option<u64>;

/// How far both streams have been delivered.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Positions {
    stdout: Position,
    stderr: Position,
}

impl Positions {
    /// Those of a process that is watched from its first byte.
    pub(crate) fn beginning() -> Self {
        Self {
            stdout: Some(0),
            stderr: Some(0),
        }
    }

    /// Those that a request names.
    pub(crate) fn of(offsets: &[StreamOffset]) -> Self {
        let mut positions = Self::default();
        for offset in offsets {
            *positions.of_stream(offset.stream()) = Some(offset.offset);
        }
        positions
    }

    /// Has a stream of which nothing is known begin with its first byte.
    pub(crate) fn begin(&mut self) {
        self.stdout.get_or_insert(0);
        self.stderr.get_or_insert(0);
    }

    fn of_stream(&mut self, stream: OutputStream) -> &mut Position {
        match stream {
            OutputStream::Stderr => &mut self.stderr,
            OutputStream::Stdout | OutputStream::Unspecified => &mut self.stdout,
        }
    }

    /// The known ones, as requests have them.
    pub(crate) fn known(&self) -> Vec<StreamOffset> {
        let each = [
            (OutputStream::Stdout, self.stdout),
            (OutputStream::Stderr, self.stderr),
        ];
        let known = |(stream, position): (OutputStream, Position)| {
            Some(StreamOffset {
                stream: stream.into(),
                offset: position?,
            })
        };
        each.into_iter().filter_map(known).collect()
    }

    /// The streams of which nothing has been delivered, so that nobody can say what an interruption
    /// swallowed of them.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = OutputStream> {
        let stdout = self.stdout.is_none().then_some(OutputStream::Stdout);
        let stderr = self.stderr.is_none().then_some(OutputStream::Stderr);
        stdout.into_iter().chain(stderr)
    }

    /// Takes a chunk as it came: what had been delivered before is cut off, what is missing before it
    /// is said.
    pub(crate) fn chunk(&mut self, chunk: OutputChunk) -> impl Iterator<Item = Output> {
        let stream = chunk.stream();
        let position = self.of_stream(stream);
        let expected = position.unwrap_or(chunk.offset);
        let mut data = chunk.data;
        let mut gap = None;
        match chunk.offset.cmp(&expected) {
            Ordering::Less => {
                let repeated = usize::try_from(expected - chunk.offset).unwrap_or(usize::MAX);
                data.advance(repeated.min(data.len()));
            }
            Ordering::Equal => {}
            Ordering::Greater => gap = Some(chunk.offset - expected),
        }
        let offset = chunk.offset.max(expected);
        *position = Some(offset + data.len() as u64);
        let gap = gap.map(|missing| Output::Gap {
            stream,
            dropped_bytes: Some(missing),
        });
        let chunk = (!data.is_empty()).then_some(Output::Chunk {
            stream,
            offset,
            data,
        });
        gap.into_iter().chain(chunk)
    }

    /// Takes a gap as it came.
    pub(crate) fn gap(&mut self, gap: &OutputGap) -> Output {
        let dropped = u64::try_from(gap.dropped_bytes).unwrap_or(0);
        if let Some(position) = self.of_stream(gap.stream()) {
            *position += dropped;
        }
        Output::Gap {
            stream: gap.stream(),
            dropped_bytes: Some(dropped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(offset: u64, data: &'static str) -> OutputChunk {
        OutputChunk {
            stream: OutputStream::Stdout.into(),
            data: data.into(),
            offset,
        }
    }

    fn taken(positions: &mut Positions, offset: u64, data: &'static str) -> Vec<String> {
        let short = |output| match output {
            Output::Chunk { offset, data, .. } => format!("{offset}:{}", data.len()),
            Output::Gap { dropped_bytes, .. } => format!("gap {dropped_bytes:?}"),
            other => format!("{other:?}"),
        };
        positions.chunk(chunk(offset, data)).map(short).collect()
    }

    #[test]
    fn bytes_that_were_delivered_before_are_cut_off() {
        let mut positions = Positions::beginning();
        assert_eq!(taken(&mut positions, 0, "abcd"), ["0:4"]);
        assert_eq!(taken(&mut positions, 2, "cdef"), ["4:2"]);
        assert_eq!(taken(&mut positions, 0, "abc"), Vec::<String>::new());
        assert_eq!(taken(&mut positions, 6, "g"), ["6:1"]);
    }

    #[test]
    fn bytes_that_are_missing_are_said_even_if_the_server_does_not() {
        let mut positions = Positions::beginning();
        assert_eq!(taken(&mut positions, 5, "x"), ["gap Some(5)", "5:1"]);
    }

    #[test]
    fn a_gap_that_the_server_counts_is_counted_once() {
        let mut positions = Positions::beginning();
        positions.gap(&OutputGap {
            stream: OutputStream::Stdout.into(),
            dropped_bytes: 5,
        });
        assert_eq!(taken(&mut positions, 5, "x"), ["5:1"]);
    }

    #[test]
    fn a_stream_that_is_joined_midway_begins_with_its_first_chunk() {
        let mut positions = Positions::default();
        assert_eq!(taken(&mut positions, 900, "xy"), ["900:2"]);
        assert_eq!(positions.known()[0].offset, 902);
        assert_eq!(
            positions.unknown().collect::<Vec<_>>(),
            [OutputStream::Stderr]
        );
    }
}
