//! Turns at working on files: so many at a time, the rest in line.
//!
//! Work that waits for its client keeps a thread. There are few, and all that the server reads and writes
//! needs them: a client that neither takes nor sends anything may have one only while nobody waits for it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::error::FileError;
use crate::model::limits::{MAX_FILE_CALLS, TRANSFER_STALL};

/// The line. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Turns {
    free: Arc<Semaphore>,
    /// How many are in line.
    waiting: Arc<watch::Sender<usize>>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

/// For how long work waits for its client.
#[derive(Debug, Clone)]
pub struct Patience {
    turns: Turns,
    stop: CancellationToken,
}

struct InLine<'a>(&'a watch::Sender<usize>);

impl Default for Turns {
    fn default() -> Self {
        Self::of(MAX_FILE_CALLS)
    }
}

impl Turns {
    /// A line in front of `places`.
    pub(super) fn of(places: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(places)),
            waiting: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Waits in line.
    ///
    /// # Errors
    /// [`FileError::Stopped`] once `stop` is cancelled.
    pub async fn next(&self, stop: &CancellationToken) -> Result<Turn, FileError> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(Turn { _permit: permit });
        }
        let _in_line = InLine::up(&self.waiting);
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(FileError::Stopped),
            permit = Arc::clone(&self.free).acquire_owned() => Ok(Turn {
                _permit: permit.map_err(|_| FileError::Stopped)?,
            }),
        }
    }

    /// Until work has `stop` to heed.
    #[must_use]
    pub fn patience(&self, stop: CancellationToken) -> Patience {
        Patience {
            turns: self.clone(),
            stop,
        }
    }
}

impl Patience {
    /// Waits for the client to do something.
    ///
    /// # Errors
    /// [`FileError::Stopped`]; [`FileError::Stalled`] if others have to wait for that.
    pub(super) async fn wait<T>(&self, client: impl Future<Output = T>) -> Result<T, FileError> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(FileError::Stopped),
            done = client => Ok(done),
            () = self.runs_out() => Err(FileError::Stalled),
        }
    }

    async fn runs_out(&self) {
        sleep(TRANSFER_STALL).await;
        let mut waiting = self.turns.waiting.subscribe();
        // The sender is held by `self`: no error.
        drop(waiting.wait_for(|waiting| *waiting > 0).await);
    }
}

impl<'a> InLine<'a> {
    fn up(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|waiting| *waiting += 1);
        Self(waiting)
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}
