//! Roots of containers: the directories that nothing leads out of.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

use super::cover::Cover;
use super::error::{FileError, shown};
use super::mount;
use super::open::HOLD;
use crate::model::container::RootMount;

/// The root of one container, as a directory descriptor. A detached mount ends with it.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
    writable: Writable,
    cover: Cover,
}

/// Whether a root may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writable {
    /// Yes.
    Yes,
    /// No: as its container sees it.
    No,
}

impl Root {
    /// What process `pid` has as its root, with all that is mounted there in its namespace. The process
    /// must be in a control group whose path has `group` in it: the pid may be another process's by now.
    ///
    /// # Errors
    /// [`FileError::ProcessEnded`].
    pub fn of_process(pid: u32, group: &str) -> Result<Self, FileError> {
        // This directory stays this process's: it has nothing in it once the process is gone.
        let process = open(
            format!("/proc/{pid}"),
            HOLD | OFlags::DIRECTORY,
            Mode::empty(),
        )
        .map_err(|errno| ended_or(errno, pid))?;
        let directory = openat(&process, "root", HOLD | OFlags::DIRECTORY, Mode::empty())
            .map_err(|errno| ended_or(errno, pid))?;
        if !groups_of(&process, pid)?.contains(group) {
            return Err(FileError::ProcessEnded);
        }
        // A read-only root is mounted so.
        Ok(Self {
            directory,
            writable: Writable::Yes,
            cover: Cover::default(),
        })
    }

    /// The root of a container that does not run, mounted for this alone and seen by nobody else. Of what
    /// is mounted inside while it runs, on `targets`, nothing is there, and what that covers is refused.
    ///
    /// # Errors
    /// [`FileError::Mount`], [`FileError::KernelFeature`].
    pub fn of_mounts(
        mounts: &[RootMount],
        writable: Writable,
        targets: &[&str],
    ) -> Result<Self, FileError> {
        Self {
            directory: mount::detached(mounts)?,
            writable,
            cover: Cover::default(),
        }
        .covered(targets)
    }

    /// With something mounted on `targets` at other times.
    pub(super) fn covered(self, targets: &[&str]) -> Result<Self, FileError> {
        let cover = Cover::of(&self.directory, targets);
        Ok(Self {
            cover: cover.map_err(|errno| FileError::of(errno, "/"))?,
            ..self
        })
    }

    /// A directory of the host.
    ///
    /// # Errors
    /// If it is none.
    pub fn of_directory(path: &Path) -> Result<Self, FileError> {
        let directory = open(path, HOLD | OFlags::DIRECTORY, Mode::empty())
            .map_err(|errno| FileError::of(errno, path.as_os_str().as_encoded_bytes()))?;
        Ok(Self {
            directory,
            writable: Writable::Yes,
            cover: Cover::default(),
        })
    }

    /// Refuses a path that is covered as it is named.
    pub(super) fn require_seen(&self, path: &str) -> Result<(), FileError> {
        refuse(self.cover.has(path.as_bytes()), path)
    }

    /// Refuses what is held, or an entry `name` of it, if it is covered. `path` has led there.
    pub(super) fn require_seen_at(
        &self,
        held: impl AsFd,
        name: &[u8],
        path: &(impl AsRef<[u8]> + ?Sized),
    ) -> Result<(), FileError> {
        let covered = self.cover.has_held(held, name);
        refuse(covered.map_err(|errno| FileError::of(errno, path))?, path)
    }

    /// Refuses to write to `path` in a root that is read-only for its container.
    pub(super) fn require_writable(&self, path: &str) -> Result<(), FileError> {
        match self.writable {
            Writable::Yes => Ok(()),
            Writable::No => Err(FileError::ReadOnly {
                path: path.to_owned(),
            }),
        }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

fn refuse(covered: bool, path: &(impl AsRef<[u8]> + ?Sized)) -> Result<(), FileError> {
    if covered {
        let path = shown(path.as_ref());
        return Err(FileError::Covered { path });
    }
    Ok(())
}

/// The text of the process's control groups.
fn groups_of(process: &OwnedFd, pid: u32) -> Result<String, FileError> {
    let file = openat(
        process,
        "cgroup",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| ended_or(errno, pid))?;
    let mut text = String::new();
    match std::fs::File::from(file).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(_) => Err(FileError::ProcessEnded),
    }
}

fn ended_or(errno: Errno, pid: u32) -> FileError {
    match errno {
        Errno::NOENT | Errno::SRCH => FileError::ProcessEnded,
        errno => FileError::of(errno, &format!("/proc/{pid}")),
    }
}
