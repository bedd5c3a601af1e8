//! Opening: below a root, below a directory, and again what is held already.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat, openat2};
use rustix::io::Errno;

/// The kernel gives up on a path when something is renamed meanwhile, and wants to be asked again. This
/// often it is, which no machine keeps up for long.
const TRIES: usize = 10_000;

/// Holds a file without opening it: nothing blocks, no device is touched.
pub(crate) const HOLD: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Resolves a path with `root` as its root: links, absolute ones too, and `..` stay within. Magic links
/// (of /proc, to anywhere) are refused.
pub(crate) fn in_root(
    root: impl AsFd,
    path: impl AsRef<[u8]>,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    resolved(root, path.as_ref(), flags, resolve)
}

/// Resolves a relative path below `directory` without following a link anywhere. The empty path is the
/// directory itself.
pub(crate) fn beneath(
    directory: impl AsFd,
    path: impl AsRef<[u8]>,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let path = match path.as_ref() {
        b"" => b".",
        path => path,
    };
    resolved(directory, path, flags, resolve)
}

fn resolved(
    directory: impl AsFd,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let mut tries = 0;
    loop {
        let opened = openat2(
            &directory,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        );
        match opened {
            Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
            opened => return opened,
        }
    }
}

/// Holds an entry of a directory, which may be a link.
pub(super) fn child(directory: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    openat(directory, name, HOLD | OFlags::NOFOLLOW, Mode::empty())
}

/// Opens what `held` holds, that and nothing that has taken its place.
pub(super) fn reopen(held: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    open(own_path(held), flags | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a regular file for reading. `held` must be known to be one: for anything else, opening can block
/// or act.
pub(super) fn read_again(held: impl AsFd) -> Result<OwnedFd, Errno> {
    reopen(held, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
}

/// A path to what a descriptor holds, for system calls that take no descriptor of its kind.
pub(crate) fn own_path(held: impl AsFd) -> String {
    format!("/proc/self/fd/{}", held.as_fd().as_raw_fd())
}

/// What is held, and what kind of file it is.
pub(super) fn inspect(held: impl AsFd) -> Result<(Stat, FileType), Errno> {
    let stat = fstat(held)?;
    Ok((stat, FileType::from_raw_mode(stat.st_mode)))
}

/// As messages call it.
pub(super) fn kind_name(kind: FileType) -> &'static str {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the rest is devices, FIFOs and sockets"
    )]
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        _ => "special file",
    }
}
