//! The bytes of an index: a header of 64 bytes, then entries of 16. All numbers are little-endian.
//!
//! ```text
//! header   0 "wharfseg"   8 version u32   12 header length u32   16 run u64   24 segment u64
//!          32 stdout offset u64   40 stderr offset u64    (of the segment's first byte)
//!          48 start of the recording, ns u64   56 start of the segment, ns u64
//! entry    0 time, ns u64   8 length, 56 bits; kind, 8 bits
//! ```
//!
//! The length of a process is its id on the host. That of its exit is the status: a code, 256 and a signal, or 512
//! if nobody knows.
//! Kind 0 is none, so that zeros left by a power cut are not taken for entries.

use super::{Offsets, Output, ProcessExit, ProcessStatus};

pub(super) const HEADER_BYTES: usize = 64;
/// What an entry takes besides its data.
pub const ENTRY_BYTES: usize = 16;
/// Room for a header, some entries and some data.
pub(super) const MIN_SEGMENT_BYTES: u64 = 128;
/// What a length can be at most.
pub(super) const MAX_LENGTH: u64 = (1 << KIND_SHIFT) - 1;

const MAGIC: [u8; 8] = *b"wharfseg";
const VERSION: u32 = 1;
const KIND_SHIFT: u32 = 56;

/// What is known about a segment before any of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) run: u64,
    pub(super) segment: u64,
    /// Where each stream stands as the segment begins.
    pub(super) base: Offsets,
    /// When the recording began.
    pub(super) started: u64,
    /// When the segment began.
    pub(super) begun: u64,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&64_u32.to_le_bytes());
        let numbers = [
            self.run,
            self.segment,
            self.base.stdout,
            self.base.stderr,
            self.started,
            self.begun,
        ];
        for (place, number) in bytes[16..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// `None` if this is no (whole) header of this version.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let version = bytes[8..12] == VERSION.to_le_bytes();
        let length = bytes[12..16] == 64_u32.to_le_bytes();
        if bytes[..8] != MAGIC || !version || !length {
            return None;
        }
        Some(Self {
            run: number(&bytes[16..]),
            segment: number(&bytes[24..]),
            base: Offsets {
                stdout: number(&bytes[32..]),
                stderr: number(&bytes[40..]),
            },
            started: number(&bytes[48..]),
            begun: number(&bytes[56..]),
        })
    }
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// So many bytes were read from a stream.
    Data(Output),
    /// So many were lost; of an unknown stream if `None`; length 0 if nobody knows how many.
    Gap(Option<Output>),
    /// The recording is complete.
    End,
    /// It is complete, but reading was stopped.
    EndTruncated,
    /// The process has ended; its output need not have.
    Exit,
    /// The process has been launched.
    Process,
}

impl Kind {
    const CODES: [(u64, Self); 9] = [
        (1, Self::Data(Output::Stdout)),
        (2, Self::Data(Output::Stderr)),
        (3, Self::Gap(Some(Output::Stdout))),
        (4, Self::Gap(Some(Output::Stderr))),
        (5, Self::Gap(None)),
        (6, Self::End),
        (7, Self::EndTruncated),
        (8, Self::Exit),
        (9, Self::Process),
    ];

    fn encode(self) -> u64 {
        match self {
            Self::Data(Output::Stdout) => 1,
            Self::Data(Output::Stderr) => 2,
            Self::Gap(Some(Output::Stdout)) => 3,
            Self::Gap(Some(Output::Stderr)) => 4,
            Self::Gap(None) => 5,
            Self::End => 6,
            Self::EndTruncated => 7,
            Self::Exit => 8,
            Self::Process => 9,
        }
    }

    fn decode(code: u64) -> Option<Self> {
        let found = Self::CODES.iter().find(|(known, _)| *known == code);
        found.map(|(_, kind)| *kind)
    }
}

/// One line of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) time: u64,
    pub(super) kind: Kind,
    pub(super) length: u64,
}

impl Entry {
    pub(super) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        let tagged = self.kind.encode() << KIND_SHIFT | self.length.min(MAX_LENGTH);
        bytes[..8].copy_from_slice(&self.time.to_le_bytes());
        bytes[8..].copy_from_slice(&tagged.to_le_bytes());
        bytes
    }

    /// `None` if this is no entry.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let tagged = number(bytes.get(8..)?);
        Some(Self {
            time: number(bytes),
            kind: Kind::decode(tagged >> KIND_SHIFT)?,
            length: tagged & MAX_LENGTH,
        })
    }

    /// Bytes of it in the data file.
    pub(super) fn data_bytes(&self) -> u64 {
        match self.kind {
            Kind::Data(_) => self.length,
            Kind::Gap(_) | Kind::End | Kind::EndTruncated | Kind::Exit | Kind::Process => 0,
        }
    }

    /// How it moves the offsets.
    pub(super) fn apply(&self, offsets: &mut Offsets) {
        if let Kind::Data(output) | Kind::Gap(Some(output)) = self.kind {
            offsets.advance(output, self.length);
        }
    }
}

const SIGNALED: u64 = 256;
const UNKNOWN: u64 = 512;

impl From<ProcessExit> for Entry {
    fn from(exit: ProcessExit) -> Self {
        let length = match exit.status {
            ProcessStatus::Exited(code) => u64::from(code),
            ProcessStatus::Signaled(signal) => SIGNALED | u64::from(signal),
            ProcessStatus::Lost => UNKNOWN,
        };
        Self {
            time: exit.time,
            kind: Kind::Exit,
            length,
        }
    }
}

impl Entry {
    /// The process that it tells of.
    pub(super) fn pid(&self) -> Option<u32> {
        let pid = (self.kind == Kind::Process).then_some(self.length)?;
        u32::try_from(pid).ok()
    }

    /// The exit that it tells of.
    pub(super) fn exit(&self) -> Option<ProcessExit> {
        if self.kind != Kind::Exit {
            return None;
        }
        let number = u8::try_from(self.length & 0xff).ok()?;
        let status = match self.length & !0xff {
            0 => ProcessStatus::Exited(number),
            SIGNALED => ProcessStatus::Signaled(number),
            _ => ProcessStatus::Lost,
        };
        Some(ProcessExit {
            time: self.time,
            status,
        })
    }
}

/// The first eight bytes as a number; 0 if there are fewer.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
