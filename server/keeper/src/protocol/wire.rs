//! One message, one packet: JSON and the descriptors beside it.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// A message is at most so many bytes; its reader's buffer must be as large.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// At most so many descriptors go with one message.
pub const MAX_DESCRIPTORS: usize = 4;

/// Why a message does not get through.
#[derive(Debug, Error)]
pub enum WireError {
    /// The other side has closed the connection.
    #[error("the connection is closed")]
    Closed,
    /// A non-blocking socket has nothing to read, or no room.
    #[error("the socket is not ready")]
    NotReady,
    /// The message exceeds [`MAX_MESSAGE_BYTES`], or is to bring more descriptors than
    /// [`MAX_DESCRIPTORS`].
    #[error("the message is too large")]
    TooLarge,
    /// The packet is no message.
    #[error("the packet is no message: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The socket fails.
    #[error("the socket fails: {0}")]
    Socket(Errno),
}

impl From<Errno> for WireError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::AGAIN => Self::NotReady,
            Errno::PIPE | Errno::CONNRESET => Self::Closed,
            other => Self::Socket(other),
        }
    }
}

/// Sends one message and duplicates of these descriptors. Waits for room if the socket does.
///
/// # Errors
/// [`WireError`]; then nothing was sent.
pub fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), WireError> {
    send_bytes(socket, &serde_json::to_vec(message)?, descriptors)
}

/// The same, of a message that is encoded already.
///
/// # Errors
/// [`WireError`]; then nothing was sent.
pub fn send_bytes(
    socket: impl AsFd,
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), WireError> {
    if message.len() > MAX_MESSAGE_BYTES || descriptors.len() > MAX_DESCRIPTORS {
        return Err(WireError::TooLarge);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(WireError::TooLarge);
    }
    let parts = [IoSlice::new(message)];
    retry(|| sendmsg(&socket, &parts, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives one message and its descriptors, which are closed on exec. Descriptors that this process has
/// no room for are missing. `buffer` takes the packet; it
/// should have [`MAX_MESSAGE_BYTES`]. Waits for a message if the socket does.
///
/// # Errors
/// [`WireError`]. After [`WireError::Malformed`] and [`WireError::TooLarge`] the next message is whole;
/// their descriptors have been closed.
pub fn receive<M: DeserializeOwned>(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> Result<(M, Vec<OwnedFd>), WireError> {
    let (length, descriptors) = receive_bytes(socket, buffer)?;
    let message = serde_json::from_slice(&buffer[..length])?;
    Ok((message, descriptors))
}

/// The same, without decoding: how many bytes of `buffer` are the message.
///
/// # Errors
/// [`WireError`].
pub fn receive_bytes(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>), WireError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(buffer)];
    let received = retry(|| recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let descriptors: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    if received.bytes == 0 {
        return Err(WireError::Closed);
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(WireError::TooLarge);
    }
    Ok((received.bytes, descriptors))
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}
