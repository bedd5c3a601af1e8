//! Room for names that are remembered: how many there are, and how long, somebody else decides.

use crate::model::limits::ARCHIVE_NAME_OVERHEAD_BYTES;

/// What is left of it, in bytes.
#[derive(Debug)]
pub(super) struct Room(usize);

impl Room {
    pub(super) fn of(bytes: usize) -> Self {
        Self(bytes)
    }

    /// Whether there was room for a name.
    pub(super) fn take(&mut self, name: &[u8]) -> bool {
        let left = self.0.checked_sub(name.len() + ARCHIVE_NAME_OVERHEAD_BYTES);
        self.0 = left.unwrap_or(self.0);
        left.is_some()
    }
}
