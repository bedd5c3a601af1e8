//! Describing a path, and reading a regular file.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, OFlags, Stat, readlinkat};

use serde::{Deserialize, Serialize};

use super::error::{FileError, shown};
use super::open::{self, HOLD};
use super::pipe::Outlet;
use super::root::Root;

/// One path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStat {
    /// Base name; `/` for the root.
    pub name: String,
    /// What it is.
    pub kind: PathKind,
    /// Bytes; 0 for all but files and links.
    pub size: u64,
    /// Permission bits, 0..=07777.
    pub mode: u32,
    /// When the contents last changed.
    pub modified: SystemTime,
    /// For links: where to, unresolved.
    pub link_target: String,
    /// Owner inside.
    pub uid: u32,
    /// Group inside.
    pub gid: u32,
}

/// What a path can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, FIFO or socket.
    Other,
}

/// What is meant by a path whose last part is a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastLink {
    /// What it leads to.
    Followed,
    /// The link.
    Itself,
}

/// Describes a path, not following a link in its last part.
///
/// # Errors
/// [`FileError::NotFound`], [`FileError::Covered`].
pub fn stat(root: &Root, path: &str) -> Result<PathStat, FileError> {
    let (_, stat) = open_any(root, path, LastLink::Itself)?;
    Ok(stat)
}

/// Holds whatever is at a path.
///
/// # Errors
/// [`FileError::NotFound`], [`FileError::Covered`].
pub fn open_any(root: &Root, path: &str, link: LastLink) -> Result<(OwnedFd, PathStat), FileError> {
    let failed = |errno| FileError::of(errno, path);
    root.require_seen(path)?;
    let flags = match link {
        LastLink::Followed => HOLD,
        LastLink::Itself => HOLD | OFlags::NOFOLLOW,
    };
    let held = open::in_root(root, path, flags).map_err(failed)?;
    root.require_seen_at(&held, b"", path)?;
    let (stat, kind) = open::inspect(&held).map_err(failed)?;
    let target = match kind {
        FileType::Symlink => readlinkat(&held, "", Vec::new()).map_err(failed)?,
        _ => std::ffi::CString::default(),
    };
    let described = describe(path, &stat, kind, target.as_bytes());
    Ok((held, described))
}

/// Opens a regular file, following links. Anything else is refused without being opened.
///
/// # Errors
/// [`FileError::NotFound`], [`FileError::Covered`], [`FileError::Kind`].
pub fn open_file(root: &Root, path: &str) -> Result<(File, PathStat), FileError> {
    let (held, described) = open_any(root, path, LastLink::Followed)?;
    if described.kind != PathKind::File {
        return Err(FileError::Kind {
            path: path.to_owned(),
            want: "file",
            have: described.kind.name(),
        });
    }
    let file = open::read_again(&held).map_err(|errno| FileError::of(errno, path))?;
    Ok((file.into(), described))
}

/// Sends the contents of a file.
///
/// # Errors
/// The host's, [`FileError::Stopped`].
pub fn copy(mut file: File, path: &str, mut to: Outlet) -> Result<(), FileError> {
    io::copy(&mut file, &mut to).map_err(|error| FileError::of_io(&error, path))?;
    to.finish()
}

impl PathKind {
    /// As messages call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Directory => "directory",
            Self::Symlink => "symlink",
            Self::Other => "special file",
        }
    }

    fn of(kind: FileType) -> Self {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the rest is devices, FIFOs and sockets"
        )]
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Directory,
            FileType::Symlink => Self::Symlink,
            _ => Self::Other,
        }
    }
}

pub(super) fn describe(path: &str, stat: &Stat, kind: FileType, target: &[u8]) -> PathStat {
    let kind = PathKind::of(kind);
    let size = match kind {
        PathKind::File | PathKind::Symlink => u64::try_from(stat.st_size).unwrap_or(0),
        PathKind::Directory | PathKind::Other => 0,
    };
    let name = path.rsplit('/').find(|name| !name.is_empty());
    PathStat {
        name: name.unwrap_or("/").to_owned(),
        kind,
        size,
        mode: stat.st_mode & 0o7777,
        modified: time(stat),
        link_target: shown(target),
        uid: stat.st_uid,
        gid: stat.st_gid,
    }
}

fn time(stat: &Stat) -> SystemTime {
    let (seconds, nanoseconds) = modified(stat);
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    let fraction = Duration::from_nanos(u64::from(nanoseconds));
    time.and_then(|time| time.checked_add(fraction))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Seconds since 1970 and nanoseconds of the last change. Their types differ between machines.
pub(super) fn modified(stat: &Stat) -> (i64, u32) {
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    (stat.st_mtime, nanoseconds)
}
