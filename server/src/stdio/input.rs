//! Standard input of one process: one writer that all callers share, and its end.

use std::io;
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
    end: Mutex<Option<End>>,
    closed: CancellationToken,
    /// Whether the last byte written left a line unfinished.
    mid_line: AtomicBool,
}

/// The write end.
#[derive(Debug)]
enum End {
    /// Nobody has written yet. Tokio does not know of it: a FIFO without a reader looks as if its reader had
    /// gone, and once seen so, it counts as ready for ever. The process opens its end before it runs.
    Unused(OwnedFd),
    Used(Arc<pipe::Sender>),
}

impl End {
    fn into_sender(self) -> io::Result<Arc<pipe::Sender>> {
        match self {
            Self::Unused(end) => {
                let flags = rustix::fs::fcntl_getfl(&end)?;
                rustix::fs::fcntl_setfl(&end, flags | rustix::fs::OFlags::NONBLOCK)?;
                // A terminal is no pipe, but is written to and waited for like one.
                pipe::Sender::from_file_unchecked(end.into()).map(Arc::new)
            }
            Self::Used(sender) => Ok(sender),
        }
    }
}

impl Input {
    /// The write end is there.
    pub(super) fn open(&self, end: OwnedFd) {
        if !self.closed.is_cancelled() {
            *self.end.lock() = Some(End::Unused(end));
        }
    }

    /// Another one takes the place of the write end, unless it is closed: that of a terminal.
    pub(super) fn replace(&self, end: OwnedFd) {
        let mut current = self.end.lock();
        if current.is_some() {
            *current = Some(End::Unused(end));
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.end.lock().is_some()
    }

    fn sender(&self) -> Result<Arc<pipe::Sender>, StdioError> {
        let mut end = self.end.lock();
        let open = end.take().ok_or(StdioError::InputClosed)?;
        let sender = open.into_sender();
        let sender = sender.map_err(|source| StdioError::Input { source })?;
        *end = Some(End::Used(Arc::clone(&sender)));
        Ok(sender)
    }

    /// Writes all of it, to a process that runs. What is closed meanwhile is not waited for.
    pub(super) async fn write(&self, data: &[u8]) -> Result<(), StdioError> {
        let sender = self.sender()?;
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
        self.end.lock().take().is_some()
    }
}

async fn write_all(sender: &pipe::Sender, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        sender.ready(Interest::WRITABLE).await?;
        match sender.try_write(data) {
            Ok(written) => data = &data[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
