//! The kinds of entries: each is made where nothing is, then given its owner, mode, attributes and time.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, chmod, chownat, linkat,
    mkdirat, mknodat, openat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::name::Name;
use super::place::Place;
use super::{Unpacker, unreadable};
use crate::files::content::copy_sparse;
use crate::files::error::FileError;
use crate::files::open::{self, HOLD, own_path};
use crate::files::{Owner, attributes};
use crate::tarball::{Entry, Timestamp};

impl Unpacker<'_> {
    /// One that is there stays, and becomes what the archive says.
    pub(super) fn directory(&mut self, name: Name, entry: &Entry) -> Result<(), FileError> {
        let failed = |errno| name.failed(errno);
        let owner = self.owner(&name, entry)?;
        if name.split().is_some() {
            let place = self.place(&name)?;
            self.make_room_for_directory(&name, &place)?;
        }
        let held = self.open_directory(name.path()).map_err(failed)?;
        set_metadata(&held, entry, owner).map_err(failed)?;
        self.remember_time(name, entry.metadata.modified)
    }

    fn make_room_for_directory(&self, name: &Name, place: &Place<'_>) -> Result<(), FileError> {
        match place.kind().map_err(|errno| name.failed(errno))? {
            Some(FileType::Directory) => return Ok(()),
            Some(_) if self.what.allow_kind_change => {
                place.unlink().map_err(|errno| name.failed(errno))?;
            }
            Some(other) => return Err(Self::kind_mismatch(name, "directory", other)),
            None => {}
        }
        match mkdirat(&place.parent, place.name, Mode::RWXU) {
            // Something inside was quicker: opening it tells what it is.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(name.failed(errno)),
        }
    }

    /// One that does not become whole is removed. The bytes of its contents.
    pub(super) fn file(
        &self,
        name: &Name,
        entry: &Entry,
        data: &mut impl Read,
    ) -> Result<u64, FileError> {
        let owner = self.owner(name, entry)?;
        let place = self.place(name)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.make(name, &place, "file", || {
            openat(&place.parent, place.name, flags, Mode::RUSR | Mode::WUSR)
        })?;
        let written = fill(File::from(file), name, entry, owner, data);
        if written.is_err()
            && let Err(errno) = place.unlink()
        {
            tracing::warn!(file = %name, %errno, "an unfinished file is not removed");
        }
        written
    }

    /// Its target may be anything: nothing here ever follows it.
    pub(super) fn symlink(&self, name: &Name, entry: &Entry) -> Result<(), FileError> {
        let failed = |errno| name.failed(errno);
        let owner = self.owner(name, entry)?;
        let place = self.place(name)?;
        self.make(name, &place, "symlink", || {
            symlinkat(entry.link.as_slice(), &place.parent, place.name)
        })?;
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        let (uid, gid) = ids(owner);
        chownat(&place.parent, place.name, uid, gid, nofollow).map_err(failed)?;
        let times = times(entry.metadata.modified);
        utimensat(&place.parent, place.name, &times, nofollow).map_err(failed)
    }

    /// A further name of a file below the target: an earlier entry, or what is there already.
    pub(super) fn hardlink(&self, name: &Name, entry: &Entry) -> Result<(), FileError> {
        let first = Name::parse(&entry.link)?;
        let source = self.link_source(name, &first)?;
        if first == *name {
            return Ok(());
        }
        let place = self.place(name)?;
        self.make(name, &place, "file", || {
            let (from, to) = (&source, &place);
            linkat(
                &from.parent,
                from.name,
                &to.parent,
                to.name,
                AtFlags::empty(),
            )
        })
    }

    fn link_source<'n>(&self, name: &Name, first: &'n Name) -> Result<Place<'n>, FileError> {
        let refused = || FileError::archive(format!("{name} links to {first}, which is not there"));
        let (parent, base) = first.split().ok_or_else(refused)?;
        let parent = self.open_directory(parent).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => refused(),
            errno => first.failed(errno),
        })?;
        let stat = statat(&parent, base, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| refused())?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Symlink | FileType::Fifo => {
                Ok(Place { parent, name: base })
            }
            _ => Err(refused()),
        }
    }

    pub(super) fn fifo(&self, name: &Name, entry: &Entry) -> Result<(), FileError> {
        let failed = |errno| name.failed(errno);
        let owner = self.owner(name, entry)?;
        let place = self.place(name)?;
        let mode = Mode::RUSR | Mode::WUSR;
        self.make(name, &place, "special file", || {
            mknodat(&place.parent, place.name, FileType::Fifo, mode, 0)
        })?;
        let held = open::beneath(&place.parent, place.name, HOLD).map_err(failed)?;
        set_metadata(&held, entry, owner).map_err(failed)?;
        set_time(&held, entry.metadata.modified).map_err(failed)
    }

    fn owner(&self, name: &Name, entry: &Entry) -> Result<Owner, FileError> {
        if !self.what.preserve_owners {
            return Ok(self.what.owner);
        }
        // The largest id means "unchanged" to the kernel.
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        match (id(entry.metadata.uid), id(entry.metadata.gid)) {
            (Some(uid), Some(gid)) => Ok(Owner { uid, gid }),
            _ => Err(FileError::archive(format!(
                "{name} has an impossible owner"
            ))),
        }
    }
}

fn fill(
    mut file: File,
    name: &Name,
    entry: &Entry,
    owner: Owner,
    data: &mut impl Read,
) -> Result<u64, FileError> {
    let written = copy_sparse(data, &mut file).map_err(|error| copy_failed(&error, name))?;
    let held = OwnedFd::from(file);
    set_metadata(&held, entry, owner).map_err(|errno| name.failed(errno))?;
    set_time(&held, entry.metadata.modified).map_err(|errno| name.failed(errno))?;
    Ok(written)
}

/// What the system says is about the file; all else is about the archive.
fn copy_failed(error: &io::Error, name: &Name) -> FileError {
    match Errno::from_io_error(error) {
        Some(errno) => name.failed(errno),
        None => unreadable(error),
    }
}

/// Owner first, since changing it takes set-user-id bits and capabilities away.
fn set_metadata(held: &OwnedFd, entry: &Entry, owner: Owner) -> Result<(), Errno> {
    let (uid, gid) = ids(owner);
    chownat(held, "", uid, gid, AtFlags::EMPTY_PATH)?;
    chmod(own_path(held), Mode::from_raw_mode(entry.metadata.mode))?;
    attributes::write(held, &entry.metadata.xattrs)
}

fn ids(owner: Owner) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(owner.uid)),
        Some(Gid::from_raw(owner.gid)),
    )
}

pub(super) fn set_time(held: impl AsFd, time: Timestamp) -> Result<(), Errno> {
    utimensat(CWD, own_path(held), &times(time), AtFlags::empty())
}

fn times(time: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: time.seconds,
            tv_nsec: time.nanoseconds.into(),
        },
    }
}
