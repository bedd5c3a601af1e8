//! What a child tells the keeper: one packet of eight bytes each, a terminal's with its descriptor. What an init
//! tells is shorter: see `wharf_init`.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use wharf_keeper::protocol::launch::LaunchStep;

const BYTES: usize = 8;
const TERMINAL: u8 = 1;
const READY: u8 = 2;
const FAILED: u8 = 3;

/// What failed in a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) step: LaunchStep,
    pub(crate) index: u16,
    pub(crate) errno: Errno,
}

/// What a child has told.
#[derive(Debug)]
pub(crate) enum Report {
    /// It has a terminal; this is the other side.
    Terminal(OwnedFd),
    /// It is about to become the program.
    Ready,
    /// It ends without becoming the program.
    Failed(Failure),
    /// There is no more: it has become the program, or is no more.
    Over,
}

pub(super) fn terminal(to: impl AsFd, terminal: impl AsFd) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [terminal.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let bytes = [TERMINAL; BYTES];
    sendmsg(
        to,
        &[IoSlice::new(&bytes)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

pub(super) fn ready(to: impl AsFd) -> Result<(), Errno> {
    rustix::io::write(to, &[READY; BYTES]).map(drop)
}

pub(super) fn failed(to: impl AsFd, failure: Failure) {
    let known = LaunchStep::ALL.iter();
    let step = known.take_while(|step| **step != failure.step).count();
    let [index_low, index_high] = failure.index.to_le_bytes();
    let [a, b, c, d] = failure.errno.raw_os_error().to_le_bytes();
    let step = u8::try_from(step).unwrap_or(u8::MAX);
    // If nobody listens any more, nobody is to be told.
    let _ = rustix::io::write(to, &[FAILED, step, index_low, index_high, a, b, c, d]);
}

/// Takes the next report; `None` if there is none yet.
pub(crate) fn receive(from: &OwnedFd) -> Option<Report> {
    let mut bytes = [0; BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let buffer = &mut [IoSliceMut::new(&mut bytes)];
    let received = match recvmsg(from, buffer, &mut ancillary, flags) {
        Ok(received) => received.bytes,
        Err(Errno::AGAIN | Errno::INTR) => return None,
        Err(_) => return Some(Report::Over),
    };
    match received {
        BYTES => {}
        wharf_init::REPORT_BYTES => return Some(Report::Failed(of_init(bytes))),
        _ => return Some(Report::Over),
    }
    let [kind, step, index_low, index_high, errno @ ..] = bytes;
    Some(match kind {
        TERMINAL => terminal_of(ancillary)?,
        READY => Report::Ready,
        _ => Report::Failed(Failure {
            step: LaunchStep::ALL
                .get(usize::from(step))
                .copied()
                .unwrap_or(LaunchStep::Killed),
            index: u16::from_le_bytes([index_low, index_high]),
            errno: Errno::from_raw_os_error(i32::from_le_bytes(errno)),
        }),
    })
}

/// The init is there, its program is not.
fn of_init(bytes: [u8; BYTES]) -> Failure {
    let [a, b, c, d, ..] = bytes;
    Failure {
        step: LaunchStep::Execute,
        index: LaunchStep::BY_INIT,
        errno: Errno::from_raw_os_error(wharf_init::errno([a, b, c, d])),
    }
}

fn terminal_of(mut ancillary: RecvAncillaryBuffer<'_>) -> Option<Report> {
    ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => {
            descriptors.next().map(Report::Terminal)
        }
        _ => None,
    })
}
