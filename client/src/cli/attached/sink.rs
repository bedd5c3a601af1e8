//! Standard output and error, written by a thread: a reader that has stopped must not stop the rest.
//! Nothing is buffered here beyond a few chunks, and nothing waits for the end of a line.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::thread;

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::{mpsc, oneshot};
use wharf_client::v1::OutputStream;

use crate::cli::failure::Failure;

/// Chunks that were taken and not written yet.
const BEHIND: usize = 4;

/// The way to both streams.
#[derive(Debug)]
pub(super) struct Sink {
    chunks: mpsc::Sender<(OutputStream, Bytes)>,
    /// `None` once it was told.
    result: Option<oneshot::Receiver<io::Result<()>>>,
}

impl Sink {
    pub(super) fn start() -> io::Result<Self> {
        let (chunks, queue) = mpsc::channel(BEHIND);
        let (end, result) = oneshot::channel();
        let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let err = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let work = move || {
            // Whoever waited for the end may have left.
            let _ = end.send(write_all(queue, &out, &err));
        };
        thread::Builder::new().name("stdout".into()).spawn(work)?;
        Ok(Self {
            chunks,
            result: Some(result),
        })
    }

    /// Takes a chunk, once there is room. Fails with what went wrong with an earlier one.
    pub(super) async fn write(&mut self, stream: OutputStream, data: Bytes) -> Result<(), Failure> {
        match self.chunks.send((stream, data)).await {
            Ok(()) => Ok(()),
            Err(_) => outcome(self.result.take()).await,
        }
    }

    /// Waits until everything is written. A failure that [`Self::write`] told is not told again.
    pub(super) async fn finish(self) -> Result<(), Failure> {
        drop(self.chunks);
        outcome(self.result).await
    }
}

async fn outcome(result: Option<oneshot::Receiver<io::Result<()>>>) -> Result<(), Failure> {
    match result {
        Some(result) => result
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
            .map_err(Failure::Output),
        None => Ok(()),
    }
}

fn write_all(
    mut chunks: mpsc::Receiver<(OutputStream, Bytes)>,
    out: &File,
    err: &File,
) -> io::Result<()> {
    while let Some((stream, data)) = chunks.blocking_recv() {
        match stream {
            OutputStream::Stderr => write(err, &data)?,
            OutputStream::Stdout | OutputStream::Unspecified => write(out, &data)?,
        }
    }
    Ok(())
}

/// A terminal that others have made non-blocking is waited for.
fn write(mut file: &File, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        match file.write(data) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => data = &data[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait_until_ready(file, PollFlags::OUT)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Blocks this thread until `file` can be read from or written to.
pub(super) fn wait_until_ready(file: impl AsFd, flags: PollFlags) -> io::Result<()> {
    let mut waiting = [PollFd::new(&file, flags)];
    match poll(&mut waiting, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
