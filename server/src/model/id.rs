//! Identities: what names a container, a run, an event, a journal and a server.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

/// Sixteen bytes, shown as 32 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Hex16([u8; 16]);

/// The text is not 32 lower-case hex digits.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not 32 lower-case hex digits")]
pub struct InvalidId;

impl FromStr for Hex16 {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 32 || !text.bytes().all(is_digit) {
            return Err(InvalidId);
        }
        u128::from_str_radix(text, 16)
            .map(|number| Self(number.to_be_bytes()))
            .map_err(|_| InvalidId)
    }
}

impl TryFrom<String> for Hex16 {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Hex16> for String {
    fn from(id: Hex16) -> Self {
        id.to_string()
    }
}

impl fmt::Display for Hex16 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Hex16);

        impl $name {
            /// Makes one that no other has.
            #[must_use]
            pub fn generate() -> Self {
                Self(Hex16(*Uuid::new_v4().as_bytes()))
            }

            /// The sixteen bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 16] {
                &self.0.0
            }

            /// The identity that `bytes` are.
            #[must_use]
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Hex16(bytes))
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                text.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

hex_id!(
    /// A container's identity, unique for ever.
    ContainerId
);
hex_id!(
    /// An exec's identity, unique for ever.
    ExecId
);
hex_id!(
    /// A server's identity: made with its state directory, the same over restarts.
    ServerId
);
hex_id!(
    /// A journal's identity: cursors do not outlive it.
    Epoch
);

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// One start-to-exit of a container's main process, from 1; 0 stands for "never started".
    Run
);
counter!(
    /// An event's position in the journal, from 1; 0 stands for "before the first".
    Sequence
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_shows_itself() {
        let id = ContainerId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().len(), 32);
    }

    #[test]
    fn an_id_of_another_shape_is_refused() {
        for text in ["", "abc", &"g".repeat(32), &"A".repeat(32), &"+".repeat(32)] {
            assert_eq!(text.parse::<ContainerId>(), Err(InvalidId), "{text}");
        }
    }
}
