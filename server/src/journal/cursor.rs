//! Cursors: opaque resume points.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use thiserror::Error;

use crate::model::{Epoch, Sequence, ServerId};

/// The first byte; another layout gets another one.
const VERSION: u8 = 1;
/// Version, server, epoch, sequence.
const PAYLOAD: usize = 1 + 16 + 16 + 8;
/// With the checksum: a multiple of three, so that the text has no spare bits.
const BYTES: usize = PAYLOAD + 4;
/// Length of the text.
const CHARS: usize = BYTES / 3 * 4;

/// A resume point: just after one event of one journal of one server. As text it is base64url of all
/// four with a checksum, opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Whose.
    pub server: ServerId,
    /// Of which journal.
    pub epoch: Epoch,
    /// After which event.
    pub sequence: Sequence,
}

/// The text is no cursor.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a cursor")]
pub struct CursorError;

impl Cursor {
    /// Reads a cursor.
    ///
    /// # Errors
    /// [`CursorError`] if the text is malformed or damaged.
    pub fn parse(text: &str) -> Result<Self, CursorError> {
        // Checked first: nothing is allocated for an overlong text.
        if text.len() != CHARS {
            return Err(CursorError);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        let payload = checked(&bytes).ok_or(CursorError)?;
        Self::from_payload(payload).ok_or(CursorError)
    }

    fn from_payload(payload: &[u8]) -> Option<Self> {
        let (version, rest) = payload.split_first()?;
        let (server, rest) = rest.split_first_chunk::<16>()?;
        let (epoch, sequence) = rest.split_first_chunk::<16>()?;
        (*version == VERSION).then_some(Self {
            server: ServerId::from_bytes(*server),
            epoch: Epoch::from_bytes(*epoch),
            sequence: Sequence(u64::from_be_bytes(sequence.try_into().ok()?)),
        })
    }
}

/// The payload of `bytes`, if the checksum after it is right. CRC-32 finds every change of up to 32
/// neighbouring bits, so also any change of one character.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (payload, checksum) = bytes.split_last_chunk::<4>()?;
    (payload.len() == PAYLOAD && checksum_of(payload) == *checksum).then_some(payload)
}

fn checksum_of(payload: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(payload);
    crc.sum().to_be_bytes()
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        bytes.extend_from_slice(self.server.as_bytes());
        bytes.extend_from_slice(self.epoch.as_bytes());
        bytes.extend_from_slice(&self.sequence.0.to_be_bytes());
        let checksum = checksum_of(&bytes);
        bytes.extend_from_slice(&checksum);
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn cursors()(server: [u8; 16], epoch: [u8; 16], sequence: u64) -> Cursor {
            Cursor {
                server: ServerId::from_bytes(server),
                epoch: Epoch::from_bytes(epoch),
                sequence: Sequence(sequence),
            }
        }
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back_as_it_shows_itself(cursor in cursors()) {
            prop_assert_eq!(Cursor::parse(&cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn a_cursor_with_any_one_byte_changed_is_refused(cursor in cursors(), replacement: u8) {
            let text = cursor.to_string().into_bytes();
            for index in 0..text.len() {
                let mut damaged = text.clone();
                damaged[index] = replacement & 0x7f;
                if damaged != text {
                    let damaged = String::from_utf8(damaged).expect("ASCII");
                    prop_assert_eq!(Cursor::parse(&damaged), Err(CursorError));
                }
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>(), like in "[A-Za-z0-9_=-]{55,65}") {
            prop_assert_eq!(Cursor::parse(&text), Err(CursorError));
            prop_assert_eq!(Cursor::parse(&like), Err(CursorError));
        }

        #[test]
        fn a_cursor_that_was_cut_or_padded_is_refused(cursor in cursors(), keep in 0..CHARS) {
            let text = cursor.to_string();
            prop_assert_eq!(Cursor::parse(&text[..keep]), Err(CursorError));
            prop_assert_eq!(Cursor::parse(&format!("{text}=")), Err(CursorError));
            prop_assert_eq!(Cursor::parse(&format!(" {text}")), Err(CursorError));
        }
    }

    #[test]
    fn a_cursor_of_another_version_is_refused() {
        let mut bytes = vec![2; PAYLOAD];
        let checksum = checksum_of(&bytes);
        bytes.extend_from_slice(&checksum);
        assert_eq!(
            Cursor::parse(&URL_SAFE_NO_PAD.encode(bytes)),
            Err(CursorError)
        );
    }
}
