//! How slow a transfer may be.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::limits::REGISTRY_SLOWEST_BYTES;

/// Whether a transfer moves fast enough to be waited for.
pub(super) struct Pace {
    window: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    pub(super) fn new(window: Duration) -> Self {
        Self {
            window,
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// How long the next chunk may take.
    pub(super) fn left(&self) -> Duration {
        self.window.saturating_sub(self.since.elapsed())
    }

    /// A window ends with enough bytes, and the next one begins.
    pub(super) fn moved(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bytes >= REGISTRY_SLOWEST_BYTES * self.window.as_secs().max(1) {
            *self = Self::new(self.window);
        }
    }
}
