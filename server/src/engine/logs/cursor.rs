//! Places in a log, and the opaque cursors that name them.

use std::fmt;

use thiserror::Error;

use crate::model::{ContainerId, Run, opaque};
use crate::stdio::segment::{Offsets, Output};

/// The first byte; another layout gets another one.
const VERSION: u8 = 1;
/// Version, container, run, both offsets, stage, gaps.
const PAYLOAD: usize = 1 + 16 + 3 * 8 + 1 + 2;

/// How much of a run has been told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Its start, and its output up to the offsets.
    Within,
    /// All of it, its end too: the next run comes next.
    #[default]
    Over,
}

/// A place in a log: all that is before it has been told, nothing after it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// 0, which is over, before the first.
    pub(super) run: u64,
    pub(super) stage: Stage,
    /// The first byte of each stream that has not been told: that of an unfinished line, if there is one.
    pub(super) offsets: Offsets,
    /// Gaps told here that do not move the offsets.
    pub(super) gaps: u16,
}

impl Position {
    pub(super) fn within(run: u64, offsets: Offsets) -> Self {
        Self {
            run,
            stage: Stage::Within,
            offsets,
            gaps: 0,
        }
    }

    pub(super) fn over(run: u64) -> Self {
        Self {
            run,
            ..Self::default()
        }
    }

    /// Bytes of a stream have been told, or that they are missing.
    pub(super) fn advance(&mut self, output: Output, bytes: u64) {
        let offset = match output {
            Output::Stdout => &mut self.offsets.stdout,
            Output::Stderr => &mut self.offsets.stderr,
        };
        *offset = offset.saturating_add(bytes);
        self.gaps = 0;
    }

    /// The later of two places; within one run, of each stream.
    pub(super) fn later(self, other: Self) -> Self {
        if self.run == other.run && self.stage == Stage::Within && other.stage == Stage::Within {
            let offsets = Offsets {
                stdout: self.offsets.stdout.max(other.offsets.stdout),
                stderr: self.offsets.stderr.max(other.offsets.stderr),
            };
            return Self::within(self.run, offsets);
        }
        if (self.run, self.stage) < (other.run, other.stage) {
            other
        } else {
            self
        }
    }
}

/// A resume point in one container's log: what comes after it has not been told. As text it is base64url
/// with a checksum, opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogCursor {
    pub(super) container: ContainerId,
    pub(super) position: Position,
}

/// The text is no cursor of a log.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("not a cursor of a log")]
pub struct LogCursorError;

impl LogCursor {
    /// Reads a cursor.
    ///
    /// # Errors
    /// [`LogCursorError`] if the text is malformed or damaged.
    pub fn parse(text: &str) -> Result<Self, LogCursorError> {
        let payload = opaque::decode(text).ok_or(LogCursorError)?;
        Self::from_payload(&payload).ok_or(LogCursorError)
    }

    /// Whose log it is of.
    #[must_use]
    pub fn container(&self) -> ContainerId {
        self.container
    }

    /// The run that it is in, or behind; 0 before the first.
    #[must_use]
    pub fn run(&self) -> Run {
        Run(self.position.run)
    }

    fn from_payload(payload: &[u8; PAYLOAD]) -> Option<Self> {
        let (version, rest) = payload.split_first()?;
        let (container, rest) = rest.split_first_chunk::<16>()?;
        let (run, rest) = rest.split_first_chunk::<8>()?;
        let (stdout, rest) = rest.split_first_chunk::<8>()?;
        let (stderr, rest) = rest.split_first_chunk::<8>()?;
        let (stage, gaps) = rest.split_first()?;
        let position = Position {
            run: u64::from_be_bytes(*run),
            stage: match stage {
                0 => Stage::Within,
                1 => Stage::Over,
                _ => return None,
            },
            offsets: Offsets {
                stdout: u64::from_be_bytes(*stdout),
                stderr: u64::from_be_bytes(*stderr),
            },
            gaps: u16::from_be_bytes(gaps.try_into().ok()?),
        };
        (*version == VERSION).then_some(Self {
            container: ContainerId::from_bytes(*container),
            position,
        })
    }
}

impl fmt::Display for LogCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position {
            run,
            stage,
            offsets,
            gaps,
        } = self.position;
        let mut payload = Vec::with_capacity(PAYLOAD);
        payload.push(VERSION);
        payload.extend_from_slice(self.container.as_bytes());
        for number in [run, offsets.stdout, offsets.stderr] {
            payload.extend_from_slice(&number.to_be_bytes());
        }
        payload.push(match stage {
            Stage::Within => 0,
            Stage::Over => 1,
        });
        payload.extend_from_slice(&gaps.to_be_bytes());
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
        fn cursors()(
            container: [u8; 16],
            run: u64,
            offsets: (u64, u64),
            over: bool,
            gaps: u16,
        ) -> LogCursor {
            let (stdout, stderr) = offsets;
            let stage = if over { Stage::Over } else { Stage::Within };
            let offsets = Offsets { stdout, stderr };
            LogCursor {
                container: ContainerId::from_bytes(container),
                position: Position { run, stage, offsets, gaps },
            }
        }
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back_as_it_shows_itself(cursor in cursors()) {
            prop_assert_eq!(LogCursor::parse(&cursor.to_string()), Ok(cursor));
        }

        #[test]
        fn a_cursor_with_any_one_byte_changed_is_refused(cursor in cursors(), replacement: u8) {
            let text = cursor.to_string().into_bytes();
            for index in 0..text.len() {
                let mut damaged = text.clone();
                damaged[index] = replacement & 0x7f;
                if damaged != text {
                    let damaged = String::from_utf8(damaged).expect("ASCII");
                    prop_assert_eq!(LogCursor::parse(&damaged), Err(LogCursorError));
                }
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>(), like in "[A-Za-z0-9_=-]{60,70}") {
            prop_assert_eq!(LogCursor::parse(&text), Err(LogCursorError));
            prop_assert_eq!(LogCursor::parse(&like), Err(LogCursorError));
        }
    }
}
