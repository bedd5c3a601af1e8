//! Bytes between the blocking side and the asynchronous one: bounded channels, seen as a reader or a
//! writer on the blocking side.
//!
//! The blocking side waits no longer than until the other side has left, or its patience ends.

use std::io::{self, Read, Write};

use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::error::FileError;
use super::turns::Patience;
use crate::model::limits::MAX_ARCHIVE_CHUNK;

/// Chunks that wait for a slow receiver.
const QUEUE: usize = 4;

/// A part of what is written.
#[derive(Debug)]
pub enum Piece {
    /// Some of it.
    Data(Bytes),
    /// All of it has come. A channel that closes without it was cut.
    End,
}

/// Where chunks are put that go to a caller.
#[derive(Debug)]
pub struct Outlet {
    chunks: mpsc::Sender<Bytes>,
    buffer: BytesMut,
    patience: Patience,
}

/// Where pieces come from that a caller sends.
#[derive(Debug)]
pub struct Inlet {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
    patience: Patience,
}

/// A channel to a caller.
#[must_use]
pub fn outlet(patience: Patience) -> (Outlet, mpsc::Receiver<Bytes>) {
    let (chunks, receiver) = mpsc::channel(QUEUE);
    let outlet = Outlet {
        chunks,
        buffer: BytesMut::new(),
        patience,
    };
    (outlet, receiver)
}

/// A channel from a caller: what it sends, and where that is read.
#[must_use]
pub fn inlet() -> (mpsc::Sender<Piece>, mpsc::Receiver<Piece>) {
    mpsc::channel(QUEUE)
}

impl Outlet {
    /// Sends what is left. Without it the other side does not get the last chunk.
    ///
    /// # Errors
    /// [`FileError::Stopped`], [`FileError::Stalled`].
    pub fn finish(mut self) -> Result<(), FileError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.send()
    }

    fn send(&mut self) -> Result<(), FileError> {
        let chunk = self.buffer.split().freeze();
        let sent = self.patience.wait(self.chunks.send(chunk));
        Handle::current()
            .block_on(sent)?
            .map_err(|_| FileError::Stopped)
    }
}

impl Write for Outlet {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.buffer.reserve(MAX_ARCHIVE_CHUNK - self.buffer.len());
        let length = data.len().min(MAX_ARCHIVE_CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&data[..length]);
        if self.buffer.len() == MAX_ARCHIVE_CHUNK {
            self.send()?;
        }
        Ok(length)
    }

    /// Chunks are sent when they are full: small ones would cost more than they bring.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Inlet {
    /// Reads what `pieces` brings.
    #[must_use]
    pub fn new(pieces: mpsc::Receiver<Piece>, patience: Patience) -> Self {
        Self {
            pieces,
            current: Bytes::new(),
            ended: false,
            patience,
        }
    }

    /// The next data; nothing after the end.
    fn next(&mut self) -> Result<(), FileError> {
        let piece = self.patience.wait(self.pieces.recv());
        match Handle::current().block_on(piece)? {
            Some(Piece::Data(data)) => self.current = data,
            Some(Piece::End) => self.ended = true,
            None => return Err(FileError::Stopped),
        }
        Ok(())
    }
}

impl Read for Inlet {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            self.next()?;
        }
        let length = self.current.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}
