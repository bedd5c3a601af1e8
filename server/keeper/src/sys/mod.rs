//! The system interfaces that have no safe form: the only `unsafe` there is.

#![allow(
    unsafe_code,
    reason = "descriptors inherited over exec, exec of a descriptor, signals as a descriptor, processes made by hand"
)]

pub(crate) mod child;

use std::ffi::{CString, NulError, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::ptr;

use rustix::io::FdFlags;

/// Takes a descriptor that the process before this one has left open, and closes it on exec from now on.
///
/// # Errors
/// If there is no such descriptor.
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: borrowed only to ask the kernel whether it is open, which is sound for any number >= 0.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and was left for this process by the state it was started with, which names
    // each descriptor once; nothing else here knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Becomes the program in `binary`; returns only if that fails. (The standard library's `exec` would have
/// a shell read a file that is no program.)
pub(crate) fn execute(
    binary: &OwnedFd,
    args: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = OsString>,
) -> io::Error {
    let strings = |strings: Vec<OsString>| -> Result<Vec<CString>, NulError> {
        let strings = strings.into_iter();
        strings.map(|text| CString::new(text.into_vec())).collect()
    };
    let args = strings(args.into_iter().collect());
    let environment = strings(environment.into_iter().collect());
    let (Ok(args), Ok(environment)) = (args, environment) else {
        return io::ErrorKind::InvalidInput.into();
    };
    let (args, environment) = (pointers(&args), pointers(&environment));
    // SAFETY: both lists end with a null pointer; the strings they point to live until after the call.
    unsafe { libc::fexecve(binary.as_raw_fd(), args.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    let pointers = strings.iter().map(|text| text.as_ptr());
    pointers.chain([ptr::null()]).collect()
}

/// Blocks SIGHUP, SIGINT and SIGTERM and returns a descriptor they can be read from. For a process with
/// one thread: later ones inherit the mask, and so does the program after an exec, so that no signal
/// ends it in between.
///
/// # Errors
/// Those of the system calls.
pub(crate) fn signals() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initializes the set; the other calls get a set that is initialized, and a
    // null pointer where none is wanted back. The descriptor is new and owned by nobody else.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGTERM] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        match libc::signalfd(-1, set.as_ptr(), flags) {
            -1 => Err(io::Error::last_os_error()),
            descriptor => Ok(OwnedFd::from_raw_fd(descriptor)),
        }
    }
}

/// Reads the next signal; `None` if there is none.
pub(crate) fn next_signal(signals: &OwnedFd) -> Option<i32> {
    let mut info = [0; size_of::<libc::signalfd_siginfo>()];
    let read = rustix::io::read(signals, &mut info).ok()?;
    let number = info[..read].first_chunk()?;
    i32::try_from(u32::from_ne_bytes(*number)).ok()
}

/// Whether a signal asks for the end.
pub(crate) fn is_terminate(signal: i32) -> bool {
    signal == libc::SIGTERM
}
