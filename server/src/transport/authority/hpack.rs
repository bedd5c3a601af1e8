//! Reads header blocks (HPACK, RFC 7541) as far as it takes to find the `:authority` in them.
//!
//! It follows the sizes of the dynamic table, not its contents: enough to know which of its entries
//! are authorities, since a literal may take its name from one.

use std::collections::VecDeque;
use std::ops::Range;

use http::uri::Authority;

use super::huffman;

const AUTHORITY: &[u8] = b":authority";

/// What the server lets the client's table grow to, in the RFC's measure: the default, which hyper
/// does not change.
const TABLE_BYTES: usize = 4_096;
/// What an entry costs beyond its name and value (RFC 7541, 4.1).
const ENTRY_BYTES: usize = 32;

/// The block breaks the format.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A value of `:authority` that stands in a block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Literal {
    /// Its place, from the length to the end of the string.
    pub(super) place: Range<usize>,
    /// Its length once decoded.
    pub(super) length: usize,
    /// Whether the server would take it.
    pub(super) valid: bool,
}

/// What remains of one block to the next.
#[derive(Debug)]
pub(super) struct Headers {
    table: Table,
}

impl Headers {
    pub(super) fn new() -> Self {
        Self {
            table: Table {
                entries: VecDeque::new(),
                bytes: 0,
                limit: TABLE_BYTES,
            },
        }
    }

    /// The authorities in the next block of the connection.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Vec<Literal>, Malformed> {
        let mut input = Input { block, at: 0 };
        let mut found = Vec::new();
        while let Some(first) = input.peek() {
            match Kind::of(first) {
                Kind::Indexed => {
                    input.integer(7)?;
                }
                Kind::Resize => self.table.resize(input.integer(5)?),
                Kind::Indexing => found.extend(self.literal(&mut input, Kind::Indexing)?),
                Kind::Plain => found.extend(self.literal(&mut input, Kind::Plain)?),
            }
        }
        Ok(found)
    }

    fn literal(&mut self, input: &mut Input<'_>, kind: Kind) -> Result<Option<Literal>, Malformed> {
        let prefix = if kind == Kind::Indexing { 6 } else { 4 };
        let name = match input.integer(prefix)? {
            0 => Name::of(&input.string()?),
            index => self.table.name(index).ok_or(Malformed)?,
        };
        let start = input.at;
        let value = input.string()?;
        if kind == Kind::Indexing {
            self.table.insert(name, value.len());
        }
        Ok(name.authority.then(|| Literal {
            place: start..input.at,
            length: value.len(),
            valid: Authority::try_from(value.as_slice()).is_ok(),
        }))
    }
}

/// `length` letters as a string of a block.
pub(super) fn letters(length: usize) -> Vec<u8> {
    let text = huffman::encode_letters(length);
    let mut string = Vec::with_capacity(text.len() + 4);
    write_integer(&mut string, 0x80, 7, text.len());
    string.extend(text);
    string
}

/// The representations of a header field, and the one thing that is none (RFC 7541, 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Indexed,
    Indexing,
    Resize,
    /// A literal that goes into no table.
    Plain,
}

impl Kind {
    fn of(first: u8) -> Self {
        match first.leading_zeros() {
            0 => Self::Indexed,
            1 => Self::Indexing,
            2 => Self::Resize,
            _ => Self::Plain,
        }
    }
}

/// What matters of a header's name.
#[derive(Debug, Clone, Copy)]
struct Name {
    length: usize,
    authority: bool,
}

impl Name {
    fn of(name: &[u8]) -> Self {
        Self {
            length: name.len(),
            authority: name == AUTHORITY,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    name: Name,
    bytes: usize,
}

/// The dynamic table, newest entry first.
#[derive(Debug)]
struct Table {
    entries: VecDeque<Entry>,
    bytes: usize,
    limit: usize,
}

impl Table {
    fn name(&self, index: usize) -> Option<Name> {
        match STATIC_NAMES.get(index.checked_sub(1)?) {
            Some(name) => Some(Name::of(name.as_bytes())),
            None => {
                let entry = self.entries.get(index - 1 - STATIC_NAMES.len());
                entry.map(|entry| entry.name)
            }
        }
    }

    fn insert(&mut self, name: Name, value: usize) {
        let bytes = name.length + value + ENTRY_BYTES;
        self.evict(self.limit.saturating_sub(bytes));
        if bytes <= self.limit {
            self.bytes += bytes;
            self.entries.push_front(Entry { name, bytes });
        }
    }

    /// More than the server allows is an error that the server answers.
    fn resize(&mut self, limit: usize) {
        self.limit = limit.min(TABLE_BYTES);
        self.evict(self.limit);
    }

    fn evict(&mut self, limit: usize) {
        while self.bytes > limit {
            let Some(oldest) = self.entries.pop_back() else {
                return;
            };
            self.bytes -= oldest.bytes;
        }
    }
}

/// A block being read.
struct Input<'a> {
    block: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn peek(&self) -> Option<u8> {
        self.block.get(self.at).copied()
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = self.peek().ok_or(Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    /// An integer with a prefix of `bits` (RFC 7541, 5.1). None that matters here needs more than
    /// four bytes after it.
    fn integer(&mut self, bits: u32) -> Result<usize, Malformed> {
        let mask = usize::from(u8::MAX >> (8 - bits));
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = usize::from(self.byte()?);
            value += (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn string(&mut self) -> Result<Vec<u8>, Malformed> {
        let huffman = self.peek().is_some_and(|first| first >= 0x80);
        let length = self.integer(7)?;
        let end = self.at.checked_add(length).ok_or(Malformed)?;
        let bytes = self.block.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        if huffman {
            huffman::decode(bytes).map_err(|huffman::Malformed| Malformed)
        } else {
            Ok(bytes.to_vec())
        }
    }
}

/// Writes an integer with a prefix of `bits`, below the bits of `flags`.
fn write_integer(output: &mut Vec<u8>, flags: u8, bits: u32, value: usize) {
    let mask = u8::MAX >> (8 - bits);
    match u8::try_from(value) {
        Ok(small) if small < mask => output.push(flags | small),
        _ => {
            output.push(flags | mask);
            let mut rest = value - usize::from(mask);
            while rest >= 0x80 {
                output.push(rest.to_le_bytes()[0] | 0x80);
                rest >>= 7;
            }
            output.push(rest.to_le_bytes()[0]);
        }
    }
}

/// The names of the static table (RFC 7541, appendix A).
#[rustfmt::skip] // A table.
const STATIC_NAMES: [&str; 61] = [
    ":authority", ":method", ":method", ":path", ":path", ":scheme", ":scheme", ":status",
    ":status", ":status", ":status", ":status", ":status", ":status", "accept-charset",
    "accept-encoding", "accept-language", "accept-ranges", "accept",
    "access-control-allow-origin", "age", "allow", "authorization", "cache-control",
    "content-disposition", "content-encoding", "content-language", "content-length",
    "content-location", "content-range", "content-type", "cookie", "date", "etag", "expect",
    "expires", "from", "host", "if-match", "if-modified-since", "if-none-match", "if-range",
    "if-unmodified-since", "last-modified", "link", "location", "max-forwards",
    "proxy-authenticate", "proxy-authorization", "range", "referer", "refresh", "retry-after",
    "server", "set-cookie", "strict-transport-security", "transfer-encoding", "user-agent",
    "vary", "via", "www-authenticate",
];

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn string(text: &[u8]) -> Vec<u8> {
        let mut output = Vec::new();
        write_integer(&mut output, 0, 7, text.len());
        output.extend(text);
        output
    }

    fn literal(first: u8, name: Option<&[u8]>, value: &[u8]) -> Vec<u8> {
        let name = name.map(string).unwrap_or_default();
        [vec![first], name, string(value)].concat()
    }

    #[test]
    fn every_literal_form_is_found() {
        let path = b"%2Frun%2Fwharf.sock";
        for first in [0x41, 0x01, 0x11] {
            let found = Headers::new().read(&literal(first, None, path)).unwrap();
            assert_eq!((found[0].length, found[0].valid), (path.len(), false));
        }
        for first in [0x40, 0x00, 0x10] {
            let block = literal(first, Some(AUTHORITY), b"localhost");
            let found = Headers::new().read(&block).unwrap();
            assert_eq!((found[0].length, found[0].valid), (9, true));
        }
    }

    #[test]
    fn a_name_from_the_dynamic_table_is_known_until_it_is_evicted() {
        let mut headers = Headers::new();
        headers
            .read(&literal(0x40, Some(AUTHORITY), b"/a"))
            .unwrap();
        // Index 62 is the newest entry.
        let again = literal(0x7e, None, b"/b");
        assert_eq!(headers.read(&again).unwrap().len(), 1);
        headers.read(&[0x20]).unwrap();
        assert_eq!(headers.read(&again), Err(Malformed));
    }

    #[test]
    fn letters_are_a_valid_authority_of_the_same_decoded_length() {
        for length in 1..600 {
            let block = [vec![0x41], letters(length)].concat();
            let found = Headers::new().read(&block).unwrap();
            assert_eq!((found[0].length, found[0].valid), (length, true));
            assert!(letters(length).len() <= string(&vec![b'/'; length]).len());
        }
    }

    proptest! {
        #[test]
        fn integers_read_back(value in 0_usize..1_000_000, bits in 4_u32..8) {
            let mut block = Vec::new();
            write_integer(&mut block, 0, bits, value);
            let mut input = Input { block: &block, at: 0 };
            prop_assert_eq!(input.integer(bits), Ok(value));
            prop_assert_eq!(input.at, block.len());
        }

        #[test]
        fn no_bytes_make_it_panic(blocks in prop::collection::vec(any::<Vec<u8>>(), 0..4)) {
            let mut headers = Headers::new();
            for block in blocks {
                let _ = headers.read(&block);
            }
        }
    }
}
