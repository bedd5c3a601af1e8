//! Cursors: opaque resume points.

use std::fmt;

use thiserror::Error;

use crate::model::{Epoch, Sequence, ServerId, opaque};

/// The first byte; another layout gets another one.
const VERSION: u8 = 1;
/// Version, server, epoch, sequence.
const PAYLOAD: usize = 1 + 16 + 16 + 8;

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
        let payload = opaque::decode(text).ok_or(CursorError)?;
        Self::from_payload(&payload).ok_or(CursorError)
    }

    fn from_payload(payload: &[u8; PAYLOAD]) -> Option<Self> {
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

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut payload = Vec::with_capacity(PAYLOAD);
        payload.push(VERSION);
        payload.extend_from_slice(self.server.as_bytes());
        payload.extend_from_slice(self.epoch.as_bytes());
        payload.extend_from_slice(&self.sequence.0.to_be_bytes());
        f.write_str(&opaque::encode(&payload))
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
        fn a_cursor_that_was_cut_or_padded_is_refused(cursor in cursors(), keep in 0..60_usize) {
            let text = cursor.to_string();
            prop_assert_eq!(Cursor::parse(&text[..keep]), Err(CursorError));
            prop_assert_eq!(Cursor::parse(&format!("{text}=")), Err(CursorError));
            prop_assert_eq!(Cursor::parse(&format!(" {text}")), Err(CursorError));
        }
    }

    #[test]
    fn a_cursor_of_another_version_is_refused() {
        let text = opaque::encode(&[2; PAYLOAD]);
        assert_eq!(Cursor::parse(&text), Err(CursorError));
    }
}
