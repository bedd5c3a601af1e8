//! Standard input, read by a thread that nobody waits for: a read that nobody answers ends with the
//! process.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::thread;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::sink::wait_until_ready;
use rustix::event::PollFlags;

/// What is read at once, at most: the API's limit for one message.
const PIECE: usize = 64 << 10;
/// Pieces that were read and not taken yet.
const AHEAD: usize = 2;

/// Begins to read. The channel ends with the input.
pub(super) fn read() -> io::Result<mpsc::Receiver<io::Result<Bytes>>> {
    let (pieces, reader) = mpsc::channel(AHEAD);
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    thread::Builder::new()
        .name("stdin".into())
        .spawn(move || while pass_on(&input, &pieces) {})?;
    Ok(reader)
}

/// Reads one piece; false at the end.
fn pass_on(mut input: &File, pieces: &mpsc::Sender<io::Result<Bytes>>) -> bool {
    let mut piece = vec![0; PIECE];
    match input.read(&mut piece) {
        Ok(0) => false,
        Ok(length) => {
            piece.truncate(length);
            pieces.blocking_send(Ok(piece.into())).is_ok()
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            wait_until_ready(input, PollFlags::IN).is_ok()
        }
        Err(error) => {
            // Whoever reads learns why it ends here, if anybody still does.
            let _ = pieces.blocking_send(Err(error));
            false
        }
    }
}
