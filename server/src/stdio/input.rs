//! Standard input of one process: one writer that all callers share, and its end.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

use super::StdioError;

/// The input of a process.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// The write end, while it is open. Callers borrow it for a write only, so that it is closed when
    /// they say so and not when the last of them leaves.
    sender: Mutex<Option<Arc<pipe::Sender>>>,
    closed: CancellationToken,
    /// Whether the last byte written left a line unfinished.
    mid_line: AtomicBool,
}

impl Input {
    /// The write end is there.
    pub(super) fn open(&self, end: OwnedFd) -> Result<(), StdioError> {
        if self.closed.is_cancelled() {
            return Ok(());
        }
        let sender =
            pipe::Sender::from_owned_fd(end).map_err(|source| StdioError::Input { source })?;
        *self.sender.lock() = Some(Arc::new(sender));
        Ok(())
    }

    pub(super) fn is_open(&self) -> bool {
        self.sender.lock().is_some()
    }

    /// Writes all of it. What is closed meanwhile is not waited for.
    pub(super) async fn write(&self, data: &[u8]) -> Result<(), StdioError> {
        let sender = self.sender.lock().clone().ok_or(StdioError::InputClosed)?;
        let written = self.closed.run_until_cancelled(write_all(&sender, data));
        match written.await {
            Some(Ok(())) => {}
            Some(Err(source)) => return Err(StdioError::Input { source }),
            None => return Err(StdioError::InputClosed),
        }
        if let Some(last) = data.last() {
            self.mid_line.store(*last != b'\n', Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the last byte written left a line unfinished.
    pub(super) fn is_mid_line(&self) -> bool {
        self.mid_line.load(Ordering::Relaxed)
    }

    /// Closes it for everybody; false if it was closed.
    pub(super) fn close(&self) -> bool {
        self.closed.cancel();
        self.sender.lock().take().is_some()
    }
}

async fn write_all(sender: &pipe::Sender, mut data: &[u8]) -> std::io::Result<()> {
    while !data.is_empty() {
        sender.ready(Interest::WRITABLE).await?;
        match sender.try_write(data) {
            Ok(written) => data = &data[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
