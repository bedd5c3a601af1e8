//! What can go wrong with a container's files.

use std::io;

use rustix::io::Errno;
use thiserror::Error;

use crate::model::errno;

/// Why something was not read or not written. Paths are those of the caller, or an archive's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FileError {
    /// There is nothing at the path; also when a part of it cannot be followed inside the root.
    #[error("path {path:?} does not exist")]
    NotFound {
        /// Which.
        path: String,
    },
    /// Something else is there than what the call needs.
    #[error("path {path:?} is a {have}, not a {want}")]
    Kind {
        /// Which.
        path: String,
        /// `file`, `directory`.
        want: &'static str,
        /// `file`, `directory`, `symlink`, `mount point`, `special file`.
        have: &'static str,
    },
    /// Something is mounted there while the container runs, and it does not.
    #[error("something is mounted over {path:?} while the container runs")]
    Covered {
        /// Which.
        path: String,
    },
    /// The root or a mount is read-only, or the file must not be changed.
    #[error("path {path:?} is read-only")]
    ReadOnly {
        /// Which.
        path: String,
    },
    /// The disk is full, or the quota.
    #[error("no space left to write {path:?}")]
    NoSpace {
        /// Which.
        path: String,
    },
    /// The archive is damaged, or asks for what is never done.
    #[error("the archive cannot be unpacked: {problem}")]
    Archive {
        /// What is wrong with it.
        problem: String,
    },
    /// Directories are nested too deeply.
    #[error("path {path:?} has more than {limit} directories within each other")]
    TooDeep {
        /// Which was asked for.
        path: String,
        /// How many are archived.
        limit: usize,
    },
    /// A file has more attributes than are archived.
    #[error("path {path:?} has more than {limit} bytes of extended attributes")]
    Attributes {
        /// Which file.
        path: String,
        /// How many are archived.
        limit: usize,
    },
    /// The host failed.
    #[error("{resource}: {errno}")]
    Host {
        /// `disk`, `descriptors`, `memory`.
        resource: &'static str,
        /// The error's name or number.
        errno: String,
    },
    /// The root cannot be mounted.
    #[error("the root cannot be mounted from {source_path:?}: {errno}")]
    Mount {
        /// What of.
        source_path: String,
        /// The error's name or number.
        errno: String,
    },
    /// The kernel is too old.
    #[error("the kernel lacks {feature}")]
    KernelFeature {
        /// What is missing.
        feature: &'static str,
    },
    /// The process whose root it was to be has ended.
    #[error("the process has ended")]
    ProcessEnded,
    /// The client neither took nor sent anything, and others waited for their turn.
    #[error("the transfer has stood still while others wait")]
    Stalled,
    /// Whoever was to take or give the bytes has left, or the root is needed for something else.
    #[error("the transfer was stopped")]
    Stopped,
}

impl FileError {
    /// What a failed system call on `path` means.
    pub(super) fn of(errno: Errno, path: &(impl AsRef<[u8]> + ?Sized)) -> Self {
        let path = || shown(path.as_ref());
        match errno {
            // A link that leads in circles, or out of the root, leads to nothing.
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG => {
                Self::NotFound { path: path() }
            }
            Errno::ROFS | Errno::PERM | Errno::ACCESS => Self::ReadOnly { path: path() },
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace { path: path() },
            Errno::BUSY => Self::Kind {
                path: path(),
                want: "file",
                have: "mount point",
            },
            Errno::MFILE | Errno::NFILE => Self::host("descriptors", errno),
            Errno::NOMEM => Self::host("memory", errno),
            errno => Self::host("disk", errno),
        }
    }

    /// What failed I/O on `path` means. One of our own readers' and writers' failures is what it was.
    pub(super) fn of_io(error: &io::Error, path: &(impl AsRef<[u8]> + ?Sized)) -> Self {
        let own = error.get_ref().and_then(|source| source.downcast_ref());
        match (own, Errno::from_io_error(error)) {
            (Some(own), _) => Self::clone(own),
            (None, Some(errno)) => Self::of(errno, path),
            (None, None) => Self::Host {
                resource: "disk",
                errno: error.kind().to_string(),
            },
        }
    }

    pub(super) fn archive(problem: impl Into<String>) -> Self {
        Self::Archive {
            problem: problem.into(),
        }
    }

    fn host(resource: &'static str, errno: Errno) -> Self {
        Self::Host {
            resource,
            errno: errno::name(errno),
        }
    }
}

impl From<FileError> for io::Error {
    fn from(error: FileError) -> Self {
        Self::other(error)
    }
}

/// A path as messages show it.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
