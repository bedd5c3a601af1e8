//! Follows a client's frames and rewrites the header blocks that need it. No I/O: bytes in, bytes out.
//!
//! ```text
//! Watching -- first block is fine, or anything odd --> Untouched   (for good)
//!     \------ first block has a bad authority -------> Repairing -- anything odd --> Untouched
//! ```

use bytes::{Buf as _, BufMut as _, BytesMut};

use super::hpack::{Headers, Literal, letters};

/// The largest frame that the server takes, as HTTP/2 has it by default.
pub(in crate::transport) const MAX_FRAME_BYTES: u32 = 16_384;
/// The most that is kept of a header block with its frames: beyond any that the server takes.
const MAX_BLOCK_BYTES: usize = 48 << 10;
const FRAME_HEADER: usize = 9;
const PRIORITY: usize = 5;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x04;
const PADDED: u8 = 0x08;
const HAS_PRIORITY: u8 = 0x20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Watching,
    Repairing,
    Untouched,
}

/// What is known of a connection.
#[derive(Debug)]
pub(super) struct Repair {
    mode: Mode,
    headers: Headers,
    /// Came in and is not looked at yet: at most a header block and a piece.
    inbox: BytesMut,
    /// Ready to go on.
    outbox: BytesMut,
    /// How much of the inbox goes on without a look: frames without headers.
    skip: usize,
    /// How much must be in the inbox before another look helps.
    wanted: usize,
}

impl Repair {
    /// For a connection on which `read` has come and been looked at.
    pub(super) fn new(read: &[u8]) -> Self {
        Self {
            mode: Mode::Watching,
            headers: Headers::new(),
            inbox: BytesMut::new(),
            outbox: BytesMut::from(read),
            skip: 0,
            wanted: 0,
        }
    }

    /// Takes what the client sent.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
        while self.mode != Mode::Untouched && self.advance() {}
        if self.mode == Mode::Untouched {
            self.flush();
        }
    }

    /// Lets go of whatever is held: nothing more will come, or nothing more is to be looked at.
    pub(super) fn flush(&mut self) {
        self.mode = Mode::Untouched;
        self.outbox.unsplit(self.inbox.split());
    }

    /// What is ready to go on. The caller takes from its front.
    pub(super) fn output(&mut self) -> &mut BytesMut {
        &mut self.outbox
    }

    /// Whether nothing will be looked at any more.
    pub(super) fn is_untouched(&self) -> bool {
        self.mode == Mode::Untouched
    }

    /// Deals with the next piece of the inbox; whether there was enough of it.
    fn advance(&mut self) -> bool {
        let skipped = self.skip.min(self.inbox.len());
        self.outbox.unsplit(self.inbox.split_to(skipped));
        self.skip -= skipped;
        if self.inbox.len() < self.wanted.max(FRAME_HEADER) {
            return false;
        }
        self.wanted = 0;
        match gather(&self.inbox) {
            Gathered::NoHeaders { length } => self.skip = length,
            Gathered::Partly { wanted } => self.wanted = wanted,
            Gathered::Odd => self.mode = Mode::Untouched,
            Gathered::Block(block) => self.repair(&block),
        }
        true
    }

    fn repair(&mut self, block: &Block) {
        let found = self.headers.read(&block.fields);
        let bad = |literal: &&Literal| !literal.valid && literal.length > 0;
        match found {
            Ok(found) if found.iter().any(|literal| bad(&literal)) => {
                self.mode = Mode::Repairing;
                let fields = rewrite(&block.fields, found.iter().filter(bad));
                self.inbox.advance(block.length);
                block.write(&fields, &mut self.outbox);
            }
            Ok(_) if self.mode == Mode::Repairing => self.skip = block.length,
            // Fine as it is, or broken: then the server says so.
            Ok(_) | Err(_) => self.mode = Mode::Untouched,
        }
    }
}

/// The block with other authorities. It never grows.
fn rewrite<'a>(fields: &[u8], bad: impl Iterator<Item = &'a Literal>) -> Vec<u8> {
    let mut output = Vec::with_capacity(fields.len());
    let mut done = 0;
    for literal in bad {
        output.extend_from_slice(&fields[done..literal.place.start]);
        output.extend(letters(literal.length));
        done = literal.place.end;
    }
    output.extend_from_slice(&fields[done..]);
    output
}

/// What stands at the front of the inbox.
enum Gathered {
    /// A frame of another type; nobody needs to see it whole.
    NoHeaders { length: usize },
    /// A header block that is not all there.
    Partly { wanted: usize },
    /// What no server takes, or what is too much to hold.
    Odd,
    /// A whole one.
    Block(Block),
}

/// A header block, from however many frames.
struct Block {
    /// Bytes of all its frames.
    length: usize,
    stream: [u8; 4],
    /// Those of its first frame, without padding.
    flags: u8,
    priority: Vec<u8>,
    fields: Vec<u8>,
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: [u8; 4],
    payload: &'a [u8],
}

/// Why there is no frame to look at.
enum Missing {
    /// There must be this many bytes first.
    Bytes(usize),
    /// It is larger than the server takes.
    Never,
}

/// The frame at `at`.
fn frame(bytes: &[u8], at: usize) -> Result<Frame<'_>, Missing> {
    let header = bytes.get(at..at + FRAME_HEADER);
    let Some(&[l0, l1, l2, kind, flags, s0, s1, s2, s3]) = header else {
        return Err(Missing::Bytes(at + FRAME_HEADER));
    };
    let length = length_of([l0, l1, l2]);
    if length > MAX_FRAME_BYTES as usize {
        return Err(Missing::Never);
    }
    let end = at + FRAME_HEADER + length;
    let payload = bytes.get(at + FRAME_HEADER..end);
    let payload = payload.ok_or(Missing::Bytes(end))?;
    Ok(Frame {
        kind,
        flags,
        stream: [s0, s1, s2, s3],
        payload,
    })
}

fn length_of([l0, l1, l2]: [u8; 3]) -> usize {
    usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2)
}

fn gather(bytes: &[u8]) -> Gathered {
    let &[l0, l1, l2, kind, ..] = bytes else {
        return Gathered::Partly {
            wanted: FRAME_HEADER,
        };
    };
    let length = length_of([l0, l1, l2]);
    if kind != HEADERS {
        return Gathered::NoHeaders {
            length: FRAME_HEADER + length,
        };
    }
    let first = match frame(bytes, 0) {
        Ok(first) => first,
        Err(missing) => return missing.into(),
    };
    let Some(mut block) = Block::begin(&first) else {
        return Gathered::Odd;
    };
    let mut ended = first.flags & END_HEADERS != 0;
    while !ended {
        match frame(bytes, block.length) {
            Ok(next) if next.kind == CONTINUATION && next.stream == block.stream => {
                block.go_on(&next);
                ended = next.flags & END_HEADERS != 0;
            }
            Ok(_) => return Gathered::Odd,
            Err(missing) => return missing.into(),
        }
    }
    Gathered::Block(block)
}

impl From<Missing> for Gathered {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Bytes(wanted) if wanted <= MAX_BLOCK_BYTES => Self::Partly { wanted },
            Missing::Bytes(_) | Missing::Never => Self::Odd,
        }
    }
}

impl Block {
    /// `None` if padding or priority do not fit the frame.
    fn begin(frame: &Frame<'_>) -> Option<Self> {
        let mut rest = frame.payload;
        if frame.flags & PADDED != 0 {
            let (padding, padded) = rest.split_first()?;
            rest = &padded[..padded.len().checked_sub(usize::from(*padding))?];
        }
        let has_priority = frame.flags & HAS_PRIORITY != 0;
        let (priority, fields) = rest.split_at_checked(if has_priority { PRIORITY } else { 0 })?;
        Some(Self {
            length: FRAME_HEADER + frame.payload.len(),
            stream: frame.stream,
            flags: frame.flags & !PADDED,
            priority: priority.to_vec(),
            fields: fields.to_vec(),
        })
    }

    fn go_on(&mut self, frame: &Frame<'_>) {
        self.length += FRAME_HEADER + frame.payload.len();
        self.fields.extend_from_slice(frame.payload);
    }

    /// Writes the block with other fields, in as few frames as can be, without padding.
    fn write(&self, fields: &[u8], output: &mut BytesMut) {
        let payload = [&self.priority, fields].concat();
        let mut pieces = payload.chunks(MAX_FRAME_BYTES as usize).peekable();
        let (mut kind, mut flags) = (HEADERS, self.flags & !END_HEADERS);
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                flags |= END_HEADERS;
            }
            // A piece is no longer than a frame, whose length has three bytes.
            output.put_uint(piece.len() as u64, 3);
            output.put_u8(kind);
            output.put_u8(flags);
            output.put_slice(&self.stream);
            output.put_slice(piece);
            (kind, flags) = (CONTINUATION, 0);
        }
    }
}
