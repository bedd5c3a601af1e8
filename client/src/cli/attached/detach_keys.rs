//! Leaving by keys: finds a sequence of keys in what is typed.
//!
//! Keys that may be the beginning of the sequence are held back, and sent as soon as they turn out not
//! to be.

use std::str::FromStr;

use bytes::Bytes;

/// The keys that detach; none of them for never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys {
    sequence: Vec<u8>,
    /// How much of the sequence was typed and held back.
    matched: usize,
}

/// What is to be done with typed keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Typed {
    /// For the process.
    pub(super) keys: Bytes,
    pub(super) then: Then,
}

/// What follows after the keys were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    Detach,
}

impl FromStr for DetachKeys {
    type Err = String;

    /// "ctrl-p,ctrl-q", or letters for themselves; "" for none.
    fn from_str(text: &str) -> Result<Self, String> {
        let keys = text.split(',').filter(|_| !text.is_empty());
        let sequence = keys.map(|name| {
            key(name).ok_or_else(|| {
                format!(
                    "{name:?} is not a key, such as a or ctrl-p (ctrl- and one of a-z @ [ \\ ] ^ _)"
                )
            })
        });
        Ok(Self {
            sequence: sequence.collect::<Result<_, _>>()?,
            matched: 0,
        })
    }
}

/// The byte that a terminal sends for a key.
fn key(name: &str) -> Option<u8> {
    let control = name
        .get(..5)
        .filter(|prefix| prefix.eq_ignore_ascii_case("ctrl-"))
        .map(|prefix| &name[prefix.len()..]);
    match (control.unwrap_or(name).as_bytes(), control) {
        ([letter @ (b'a'..=b'z' | b'A'..=b'Z' | b'@' | b'['..=b'_')], Some(_)) => {
            Some(letter.to_ascii_uppercase() & 0x1f)
        }
        ([letter], None) if letter.is_ascii_graphic() => Some(*letter),
        _ => None,
    }
}

impl DetachKeys {
    /// Takes keys as they are typed.
    pub(super) fn feed(&mut self, typed: Bytes) -> Typed {
        let uninvolved = |byte: &u8| Some(byte) != self.sequence.first();
        if self.matched == 0 && typed.iter().all(uninvolved) {
            return Typed {
                keys: typed,
                then: Then::GoOn,
            };
        }
        let mut keys = Vec::with_capacity(typed.len() + self.matched);
        for byte in typed {
            self.advance(byte, &mut keys);
            if self.matched == self.sequence.len() {
                self.matched = 0;
                return Typed {
                    keys: keys.into(),
                    then: Then::Detach,
                };
            }
        }
        Typed {
            keys: keys.into(),
            then: Then::GoOn,
        }
    }

    /// Keys that are held back when nothing more is typed.
    pub(super) fn held(&mut self) -> Bytes {
        let held = self.sequence[..std::mem::take(&mut self.matched)].to_vec();
        held.into()
    }

    /// Gives up as few held keys as possible: the rest may still begin the sequence.
    fn advance(&mut self, byte: u8, keys: &mut Vec<u8>) {
        while self.sequence.get(self.matched) != Some(&byte) {
            if self.matched == 0 {
                return keys.push(byte);
            }
            let shorter = self.longest_beginning();
            keys.extend_from_slice(&self.sequence[..self.matched - shorter]);
            self.matched = shorter;
        }
        self.matched += 1;
    }

    /// How much of the sequence the end of the held keys is the beginning of.
    fn longest_beginning(&self) -> usize {
        let held = &self.sequence[..self.matched];
        let begins = |&length: &usize| held.ends_with(&self.sequence[..length]);
        (0..self.matched).rev().find(begins).unwrap_or(0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    /// What the process gets of keys that arrive in these pieces, and whether they detach.
    fn typed(keys: &str, pieces: &[&'static str]) -> (String, Then) {
        let mut detach: DetachKeys = keys.parse().unwrap();
        let mut sent = Vec::new();
        for piece in pieces {
            let typed = detach.feed(Bytes::from_static(piece.as_bytes()));
            sent.extend_from_slice(&typed.keys);
            if typed.then == Then::Detach {
                return (String::from_utf8(sent).unwrap(), Then::Detach);
            }
        }
        sent.extend_from_slice(&detach.held());
        (String::from_utf8(sent).unwrap(), Then::GoOn)
    }

    const USUAL: &str = "ctrl-p,ctrl-q";

    #[test]
    fn the_sequence_detaches_in_one_piece_or_in_many() {
        assert_eq!(
            typed(USUAL, &["ls\r\x10\x11"]),
            ("ls\r".into(), Then::Detach)
        );
        assert_eq!(
            typed(USUAL, &["l", "\x10", "\x11"]),
            ("l".into(), Then::Detach)
        );
        assert_eq!(typed("ctrl-a,d", &["\x01d"]), (String::new(), Then::Detach));
    }

    #[test]
    fn keys_that_only_began_the_sequence_are_sent_in_order() {
        let all = |pieces: &[&'static str]| {
            assert_eq!(typed(USUAL, pieces), (pieces.concat(), Then::GoOn));
        };
        all(&["\x10", "x"]);
        all(&["\x11\x10"]);
        all(&["a\x10", "\x10", "b\x11"]);
        all(&["plain"]);
    }

    #[test]
    fn a_sequence_that_repeats_itself_is_found_wherever_it_begins() {
        assert_eq!(typed("a,a,b", &["aa", "ab"]), ("a".into(), Then::Detach));
        assert_eq!(typed("a,b,a,c", &["ababac"]), ("ab".into(), Then::Detach));
    }

    #[test]
    fn a_held_key_is_not_sent_before_the_next_one() {
        let mut keys: DetachKeys = USUAL.parse().unwrap();
        assert_eq!(keys.feed(Bytes::from_static(b"\x10")).keys, Bytes::new());
        assert_eq!(keys.feed(Bytes::from_static(b"a")).keys, "\x10a");
    }

    #[test]
    fn without_keys_nothing_detaches() {
        assert_eq!(typed("", &["\x10\x11"]), ("\x10\x11".into(), Then::GoOn));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["ctrl-", "ctrl-1", "ctrl-pq", "ab", "a,,b", "é"] {
            assert!(text.parse::<DetachKeys>().is_err(), "{text}");
        }
    }
}
