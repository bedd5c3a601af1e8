//! Writing one regular file: beside its place, then into it, whole or not at all.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, fchmod, fchown, fstat, fsync, linkat, mkdirat, openat,
    readlinkat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use uuid::Uuid;

use super::Owner;
use super::content::copy_sparse;
use super::error::FileError;
use super::open::{self, HOLD, own_path};
use super::read::{PathStat, describe};
use super::root::Root;

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;
const DEFAULT_MODE: u32 = 0o644;
const PARENT_MODE: u32 = 0o755;

/// What to write where.
#[derive(Debug, Clone)]
pub struct WriteFile {
    /// Absolute, without `..`; links are followed.
    pub path: String,
    /// Permission bits; of the file replaced, else 0644.
    pub mode: Option<u32>,
    /// Owner; of the file replaced, else the container's user.
    pub uid: Option<u32>,
    /// Group; of the file replaced, else the container's group.
    pub gid: Option<u32>,
    /// Whether missing directories above are made, and for whom.
    pub create_parents: bool,
    /// The container's user and group.
    pub owner: Owner,
}

/// The directory that the file is to be in, and its name there.
struct Place {
    directory: OwnedFd,
    name: Vec<u8>,
    /// The path with which the directory was found.
    parent: Vec<u8>,
}

/// A file that is not in its place yet; one that does not get there is removed. Where the file system can do
/// it, it has no name until it is whole: then nothing is left of it whoever is killed.
struct Draft<'a> {
    place: &'a Place,
    name: String,
    file: File,
    is_named: bool,
}

/// Writes all of `contents` to a file and says what is there then. Until the end nothing is to be seen of
/// it; if anything fails, never.
///
/// # Errors
/// [`FileError`].
pub fn write(root: &Root, what: &WriteFile, contents: impl Read) -> Result<PathStat, FileError> {
    root.require_writable(&what.path)?;
    root.require_seen(&what.path)?;
    let failed = |errno| FileError::of(errno, &what.path);
    if what.create_parents {
        make_parents(root, &what.path, what.owner)?;
    }
    let place = find(root, &what.path)?;
    root.require_seen_at(&place.directory, &place.name, &what.path)?;
    let mut draft = Draft::create(&place).map_err(failed)?;
    copy_sparse(contents, &mut draft.file).map_err(|error| FileError::of_io(&error, &what.path))?;
    draft.finish(what)?;
    let stat = fstat(&draft.file).map_err(failed)?;
    Ok(describe(&what.path, &stat, FileType::RegularFile, b""))
}

/// Makes the directories above `path` that are missing. Links on the way are followed inside.
fn make_parents(root: &Root, path: &str, owner: Owner) -> Result<(), FileError> {
    let failed = |errno| FileError::of(errno, path);
    let hold = |path: &str| open::in_root(root, path, HOLD | OFlags::DIRECTORY);
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1);
    let mut above = hold("/").map_err(failed)?;
    let mut begin = 1;
    for end in ends {
        let directory = match hold(&path[..end]) {
            Err(Errno::NOENT) => {
                let name = &path[begin..end];
                root.require_seen_at(&above, name.as_bytes(), path)?;
                make_directory(&above, name, owner).map_err(failed)?;
                hold(&path[..end]).map_err(failed)?
            }
            found => found.map_err(failed)?,
        };
        (above, begin) = (directory, end + 1);
    }
    Ok(())
}

fn make_directory(above: &OwnedFd, name: &str, owner: Owner) -> Result<(), Errno> {
    match mkdirat(above, name, Mode::from_raw_mode(PARENT_MODE)) {
        // Somebody else was quicker, or a link leads nowhere: opening it tells.
        Err(Errno::EXIST) => return Ok(()),
        made => made?,
    }
    let made = open::beneath(above, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
    // What is made is subject to the daemon's umask.
    fchmod(&made, Mode::from_raw_mode(PARENT_MODE))?;
    fchown(
        &made,
        Some(Uid::from_raw(owner.uid)),
        Some(Gid::from_raw(owner.gid)),
    )
}

/// Follows links in the last part, which the kernel cannot do for a file that may not exist.
fn find(root: &Root, path: &str) -> Result<Place, FileError> {
    let failed = |errno| FileError::of(errno, path);
    let mut path_now = path.as_bytes().to_vec();
    for _ in 0..MAX_LINKS {
        let place = Place::of(root, &path_now).map_err(failed)?;
        let place = place.ok_or_else(|| not_a_file(path, "directory"))?;
        match readlinkat(&place.directory, place.name.as_slice(), Vec::new()) {
            Ok(target) => path_now = joined(&place.parent, target.as_bytes()),
            // It is no link, or is not there.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(place),
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(failed(Errno::LOOP))
}

fn joined(parent: &[u8], target: &[u8]) -> Vec<u8> {
    if target.starts_with(b"/") {
        target.to_vec()
    } else {
        [parent, b"/", target].concat()
    }
}

fn not_a_file(path: &str, have: &'static str) -> FileError {
    FileError::Kind {
        path: path.to_owned(),
        want: "file",
        have,
    }
}

impl Place {
    /// None for what can only be a directory.
    fn of(root: &Root, path: &[u8]) -> Result<Option<Self>, Errno> {
        let split = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let (parent, name) = (&path[..split], path.get(split + 1..).unwrap_or_default());
        if matches!(name, b"" | b"." | b"..") {
            return Ok(None);
        }
        let absolute = [b"/", parent].concat();
        Ok(Some(Self {
            directory: open::in_root(root, absolute, HOLD | OFlags::DIRECTORY)?,
            name: name.to_vec(),
            parent: parent.to_vec(),
        }))
    }

    /// Mode and owner of what is replaced.
    fn replaced(&self) -> Result<Option<(FileType, u32, Owner)>, Errno> {
        match statat(
            &self.directory,
            self.name.as_slice(),
            AtFlags::SYMLINK_NOFOLLOW,
        ) {
            Ok(stat) => {
                let owner = Owner {
                    uid: stat.st_uid,
                    gid: stat.st_gid,
                };
                let kind = FileType::from_raw_mode(stat.st_mode);
                Ok(Some((kind, stat.st_mode & 0o7777, owner)))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

impl<'a> Draft<'a> {
    fn create(place: &'a Place) -> Result<Self, Errno> {
        let name = format!(".wharf-{}", Uuid::new_v4().simple());
        let open = |name: &str, flags| {
            let flags = OFlags::RDWR | OFlags::CLOEXEC | flags;
            openat(&place.directory, name, flags, Mode::RUSR | Mode::WUSR)
        };
        let (file, is_named) = match open(".", OFlags::TMPFILE) {
            // The second is what kernels say that do not know it.
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
                (open(&name, flags)?, true)
            }
            file => (file?, false),
        };
        Ok(Self {
            place,
            name,
            file: file.into(),
            is_named,
        })
    }

    /// Gives the file its owner, mode and place. What is there is looked at last: it may have come
    /// meanwhile.
    fn finish(&mut self, what: &WriteFile) -> Result<(), FileError> {
        let failed = |errno| FileError::of(errno, &what.path);
        let replaced = self.place.replaced().map_err(failed)?;
        if let Some((kind, ..)) = replaced
            && kind != FileType::RegularFile
        {
            return Err(not_a_file(&what.path, open::kind_name(kind)));
        }
        let (_, mode, owner) =
            replaced.unwrap_or((FileType::RegularFile, DEFAULT_MODE, what.owner));
        let (uid, gid) = (what.uid.unwrap_or(owner.uid), what.gid.unwrap_or(owner.gid));
        fchown(
            &self.file,
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
        )
        .map_err(failed)?;
        // After the owner: changing that takes set-user-id bits away.
        let mode = Mode::from_raw_mode(what.mode.unwrap_or(mode));
        fchmod(&self.file, mode).map_err(failed)?;
        fsync(&self.file).map_err(failed)?;
        self.put_in_place().map_err(failed)
    }

    fn put_in_place(&mut self) -> Result<(), Errno> {
        let directory = &self.place.directory;
        if !self.is_named {
            // Only a file with a name can take another's place.
            let (from, flags) = (own_path(&self.file), AtFlags::SYMLINK_FOLLOW);
            linkat(CWD, from, directory, &self.name, flags)?;
            self.is_named = true;
        }
        renameat(directory, &self.name, directory, self.place.name.as_slice())?;
        self.is_named = false;
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.is_named
            && let Err(errno) = unlinkat(&self.place.directory, &self.name, AtFlags::empty())
        {
            tracing::warn!(file = %self.name, %errno, "an unfinished file is not removed");
        }
    }
}
