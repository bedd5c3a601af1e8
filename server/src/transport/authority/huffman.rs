//! The Huffman code of HPACK (RFC 7541, appendix B). It is canonical: the lengths of its codes are all
//! there is to know of it.

/// Length of each symbol's code, in bits. The symbol that ends a string is not among them: it may not
/// occur in one.
#[rustfmt::skip] // A table.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// The longest code, in bits.
const LONGEST: usize = 30;

/// The string is not of this code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The symbols in the order of their codes, and how many there are of each length.
struct Code {
    symbols: [u8; 256],
    counts: [u32; LONGEST + 1],
}

const CODE: Code = Code::new();

impl Code {
    const fn new() -> Self {
        let mut symbols = [0; 256];
        let mut counts = [0; LONGEST + 1];
        let (mut length, mut sorted) = (1, 0);
        while length <= LONGEST {
            let mut symbol = 0;
            while symbol < LENGTHS.len() {
                if LENGTHS[symbol] as usize == length {
                    symbols[sorted] = symbol.to_le_bytes()[0];
                    sorted += 1;
                    counts[length] += 1;
                }
                symbol += 1;
            }
            length += 1;
        }
        Self { symbols, counts }
    }

    /// The symbol of a code of `length` bits whose distance to the first code of that length is
    /// `offset`, given how many symbols have shorter codes.
    fn symbol(&self, shorter: u32, offset: u32) -> Option<u8> {
        let at = usize::try_from(shorter + offset).ok()?;
        self.symbols.get(at).copied()
    }
}

/// Decodes a string.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    // The shortest code has five bits.
    let mut text = Vec::with_capacity(bytes.len() * 8 / 5);
    let mut bits = Bits { bytes, at: 0 };
    loop {
        let start = bits.at;
        match symbol(&mut bits) {
            Some(symbol) => text.push(symbol),
            None if is_padding(bytes, start) => return Ok(text),
            None => return Err(Malformed),
        }
    }
}

/// The next symbol; `None` at the end, and if there is none with such a code.
fn symbol(bits: &mut Bits<'_>) -> Option<u8> {
    let (mut code, mut first, mut shorter) = (0_u32, 0_u32, 0_u32);
    for count in &CODE.counts[1..] {
        code = code << 1 | bits.next()?;
        first <<= 1;
        if code - first < *count {
            return CODE.symbol(shorter, code - first);
        }
        first += count;
        shorter += count;
    }
    None
}

/// Whether all that is left from bit `start` is less than a byte of ones.
fn is_padding(bytes: &[u8], start: usize) -> bool {
    let mut rest = Bits { bytes, at: start };
    bytes.len() * 8 - start < 8 && rest.all(|bit| bit == 1)
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Iterator for Bits<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit.into())
    }
}

/// `length` times the letter a, encoded. No other string of as many symbols is shorter.
pub(super) fn encode_letters(length: usize) -> Vec<u8> {
    // The letter's code is 00011; ones fill the last byte.
    let bits = length * 5;
    let bit = |at: usize| u8::from(at >= bits || at % 5 >= 3);
    (0..bits.div_ceil(8))
        .map(|byte| (0..8).fold(0, |all, n| all << 1 | bit(byte * 8 + n)))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_decoded() {
        // RFC 7541, C.4.1 and C.6.1.
        let authority = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decode(&authority).unwrap(), b"www.example.com");
        let location = [
            0x9d, 0x29, 0xad, 0x17, 0x18, 0x63, 0xc7, 0x8f, 0x0b, 0x97, 0xc8, 0xe9, 0xae, 0x82,
            0xae, 0x43, 0xd3,
        ];
        assert_eq!(decode(&location).unwrap(), b"https://www.example.com");
    }

    #[test]
    fn letters_read_back() {
        for length in 0..100 {
            assert_eq!(decode(&encode_letters(length)).unwrap(), vec![b'a'; length]);
        }
    }

    #[test]
    fn wrong_padding_and_the_end_symbol_are_refused() {
        assert_eq!(decode(&[0x00]), Err(Malformed), "zeros after a symbol");
        assert_eq!(decode(&[0xff]), Err(Malformed), "a whole byte of padding");
        assert_eq!(decode(&[0xff; 4]), Err(Malformed), "the end symbol");
        assert_eq!(decode(&[]), Ok(Vec::new()));
    }
}
