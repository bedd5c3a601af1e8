//! Bridging the time in which a server is away, for reads that can go on where they stopped.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::Error;
use crate::retry::backoff;

/// A server that has been away for this long is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The attempts of one interruption.
#[derive(Debug, Default)]
pub(crate) struct Interruptions {
    attempts: u32,
    since: Option<Instant>,
    /// Whether the server ever answered: one that was never there is not an interruption.
    connected: bool,
}

impl Interruptions {
    /// The server answered: the next interruption is a new one.
    pub(crate) fn over(&mut self) {
        *self = Self {
            connected: true,
            ..Self::default()
        };
    }

    /// Waits until it is time to try again: as long as the server asked for, else with backoff.
    ///
    /// # Errors
    /// `error` itself, if it is no interruption, or has lasted too long.
    pub(crate) async fn bridge(&mut self, error: Error) -> Result<(), Error> {
        self.connected |= matches!(error, Error::Disconnected { .. });
        if !error.is_interruption() || !self.connected {
            return Err(error);
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            return Err(error);
        }
        self.attempts += 1;
        let asked = error.call().and_then(|call| call.retry_after);
        sleep(
            asked
                .unwrap_or_else(|| backoff(self.attempts))
                .min(PATIENCE),
        )
        .await;
        Ok(())
    }
}
