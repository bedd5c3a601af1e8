//! Where the socket is, and how each side opens it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The socket's name in the keeper's directory.
pub const SOCKET_NAME: &str = "keeper.sock";

/// The file that a running keeper holds a lock on.
pub const LOCK_NAME: &str = "keeper.lock";

const BACKLOG: i32 = 16;

/// Connects to the keeper of this directory, with a blocking socket.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` if none is running there.
pub fn connect(directory: &Path) -> io::Result<OwnedFd> {
    let socket = socket(SocketFlags::CLOEXEC)?;
    let (address, _directory) = address(directory)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Listens for daemons, with a non-blocking socket of mode 0600. An earlier socket is replaced: the caller
/// holds the lock. Sets the process's umask for a moment, so it is for a process with one thread.
///
/// # Errors
/// Those of the system calls.
pub fn listen(directory: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(directory.join(SOCKET_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let (address, _directory) = address(directory)?;
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = rustix::net::bind(&socket, &address);
    rustix::process::umask(before);
    bound?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok(socket)
}

/// An address has room for 107 bytes, a directory's path may be longer: so by way of a descriptor, which
/// must stay open while the address is used.
fn address(directory: &Path) -> io::Result<(SocketAddrUnix, OwnedFd)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{SOCKET_NAME}", opened.as_raw_fd());
    Ok((SocketAddrUnix::new(path)?, opened))
}
