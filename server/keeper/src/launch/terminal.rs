//! A terminal of the container's own.

use std::os::fd::OwnedFd;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::filesystem;

/// linux/magic.h.
const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// Makes a terminal, which becomes this process's controlling one and its standard streams. Returns its master.
/// With `console`, `/dev/console` is it, too.
pub(super) fn make(rows: u16, columns: u16, uid: u32, console: bool) -> Result<OwnedFd, Errno> {
    let master = open_multiplexer()?;
    rustix::pty::unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    // By the master: a path could lead to another file by now.
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&slave, size)?;
    rustix::fs::fchown(&slave, Some(Uid::from_raw(uid)), None::<Gid>)?;
    if console {
        filesystem::mount_file(&slave, c"/dev/console")?;
    }
    rustix::process::ioctl_tiocsctty(&slave)?;
    rustix::stdio::dup2_stdin(&slave)?;
    rustix::stdio::dup2_stdout(&slave)?;
    rustix::stdio::dup2_stderr(&slave)?;
    Ok(master)
}

/// Of the container's own instance, which must be one: a running container could have put anything there.
fn open_multiplexer() -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let directory = filesystem::open(c"/dev/pts", OFlags::PATH | OFlags::DIRECTORY)?;
    if rustix::fs::fstatfs(&directory)?.f_type != DEVPTS_SUPER_MAGIC {
        return Err(Errno::NOTTY);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    rustix::fs::openat2(&directory, c"ptmx", flags, Mode::empty(), resolve)
}
