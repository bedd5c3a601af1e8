//! The place of an entry: its parent directory, held, with what was there before out of the way.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, fchown, mkdirat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::Unpacker;
use super::name::Name;
use crate::files::error::FileError;
use crate::files::open::{self, HOLD};
use crate::files::remove_tree;
use crate::model::limits::MAX_ARCHIVE_DEPTH;

const PARENT_MODE: u32 = 0o755;
/// How often a place is cleared that is taken again in the same moment.
const TRIES: usize = 100;

/// A directory below the target, and a name in it.
pub(super) struct Place<'a> {
    pub(super) parent: OwnedFd,
    pub(super) name: &'a [u8],
}

impl Unpacker<'_> {
    /// Where an entry goes; directories above it that the archive does not name are made.
    pub(super) fn place<'n>(&self, name: &'n Name) -> Result<Place<'n>, FileError> {
        let (parent, base) = name
            .split()
            .ok_or_else(|| FileError::archive("its top is no directory"))?;
        let opened = match self.open_directory(parent) {
            Err(Errno::NOENT) => self.make_directories(parent),
            opened => opened,
        };
        let parent = opened.map_err(|errno| match errno {
            Errno::NOTDIR => Self::kind_mismatch(name, "directory", FileType::RegularFile),
            errno => name.failed(errno),
        })?;
        Ok(Place { parent, name: base })
    }

    pub(super) fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        open::beneath(&self.target, path, HOLD | OFlags::DIRECTORY)
    }

    fn make_directories(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let mut above = self.open_directory(b"")?;
        let mut end = 0;
        for step in path.split(|byte| *byte == b'/') {
            end += step.len();
            above = match self.open_directory(&path[..end]) {
                Err(Errno::NOENT) => self.make_directory(&above, step)?,
                opened => opened?,
            };
            end += 1;
        }
        Ok(above)
    }

    fn make_directory(&self, above: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
        match mkdirat(above, name, Mode::from_raw_mode(PARENT_MODE)) {
            // Something inside was quicker: opening it tells what it is.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let made = open::beneath(above, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let owner = self.what.owner;
        fchmod(&made, Mode::from_raw_mode(PARENT_MODE))?;
        fchown(
            &made,
            Some(Uid::from_raw(owner.uid)),
            Some(Gid::from_raw(owner.gid)),
        )?;
        Ok(made)
    }

    /// Makes an entry where nothing is. Something inside may be quicker each time: then it wins.
    pub(super) fn make<T>(
        &self,
        name: &Name,
        place: &Place<'_>,
        want: &'static str,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, FileError> {
        for _ in 0..TRIES {
            self.clear(name, place, want)?;
            match make() {
                Err(Errno::EXIST) => {}
                made => return made.map_err(|errno| name.failed(errno)),
            }
        }
        Err(name.failed(Errno::EXIST))
    }

    /// Removes what is in an entry's place, as far as it may.
    fn clear(&self, name: &Name, place: &Place<'_>, want: &'static str) -> Result<(), FileError> {
        let failed = |errno| name.failed(errno);
        match place.kind().map_err(failed)? {
            None => Ok(()),
            Some(FileType::Directory) if self.what.allow_kind_change => {
                remove_tree(&place.parent, place.name, MAX_ARCHIVE_DEPTH).map_err(failed)
            }
            Some(FileType::Directory) => Err(Self::kind_mismatch(name, want, FileType::Directory)),
            Some(_) => place.unlink().map_err(failed),
        }
    }
}

impl Place<'_> {
    /// What is there, not following a link.
    pub(super) fn kind(&self) -> Result<Option<FileType>, Errno> {
        match statat(&self.parent, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Removes what is there, if it is no directory.
    pub(super) fn unlink(&self) -> Result<(), Errno> {
        match unlinkat(&self.parent, self.name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            removed => removed,
        }
    }
}
