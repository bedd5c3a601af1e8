//! A tree as a tar stream.
//!
//! What is archived: directories, regular files, symbolic and hard links, FIFOs, with modes, owners,
//! times to the nanosecond and attributes. What is not: sockets and devices, which mean nothing elsewhere,
//! and what is in file systems that the kernel makes up (/proc, /sys): of those only the directory.
//! A file has the length that it had when its turn came: what it grows is left out, what it lacks is zeros.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, FileType, OFlags, Stat, fstatfs, readlinkat};
use rustix::io::Errno;

use super::attributes;
use super::error::{FileError, shown};
use super::open;
use super::pipe::Outlet;
use super::read::modified;
use super::room::Room;
use crate::model::limits::{MAX_ARCHIVE_DEPTH, MAX_ARCHIVE_LINK_BYTES, MAX_ATTRIBUTES_BYTES};
use crate::tarball::{Kind, Metadata, TarWriter, Timestamp, WriteEntry};

/// The magic numbers (linux/magic.h) of file systems that the kernel makes up: what is in them has no end,
/// or means nothing elsewhere.
const MADE_UP: [u64; 11] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6e73_6673, // nsfs
];

/// Streams what is held, with all below it, as tar. The first entry is called `name`, or `.` if that is
/// empty.
///
/// # Errors
/// [`FileError::TooDeep`], [`FileError::Attributes`], the host's, [`FileError::Stopped`].
pub fn pack(held: OwnedFd, name: &str, to: Outlet) -> Result<(), FileError> {
    let name = if name.is_empty() { "." } else { name };
    let mut packer = Packer {
        tar: TarWriter::new(to),
        links: Links::default(),
        path: name.as_bytes().to_vec(),
    };
    packer.walk(held)?;
    let path = packer.path;
    let outlet = packer.tar.finish();
    outlet
        .map_err(|error| FileError::of_io(&error, &path))?
        .finish()
}

struct Packer {
    tar: TarWriter<Outlet>,
    links: Links,
    /// Of the current entry.
    path: Vec<u8>,
}

/// Files with several names, by device and inode, and the first name of each.
struct Links {
    first: HashMap<(u64, u64), Vec<u8>>,
    room: Room,
}

/// A directory that is being gone through.
struct Level {
    entries: Dir,
    path_length: usize,
}

impl Packer {
    /// Keeps one descriptor for each directory on the way, so that renames cannot lead it elsewhere.
    fn walk(&mut self, top: OwnedFd) -> Result<(), FileError> {
        let mut levels = Vec::new();
        levels.extend(self.append(&top)?);
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.path_length);
            let Some(child) = self.next_child(level)? else {
                levels.pop();
                continue;
            };
            let directory = self.append(&child)?;
            if directory.is_some() && levels.len() == MAX_ARCHIVE_DEPTH {
                return Err(FileError::TooDeep {
                    path: shown(&self.path),
                    limit: MAX_ARCHIVE_DEPTH,
                });
            }
            levels.extend(directory);
        }
        Ok(())
    }

    /// The next entry of a directory, held; `path` is its then. What has vanished is stepped over.
    fn next_child(&mut self, level: &mut Level) -> Result<Option<OwnedFd>, FileError> {
        while let Some(entry) = level.entries.read() {
            let entry = entry.map_err(|errno| self.failed(errno))?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            match self.hold(&level.entries, name) {
                Err(Errno::NOENT) => {}
                held => {
                    self.path.push(b'/');
                    self.path.extend_from_slice(name.to_bytes());
                    return held.map(Some).map_err(|errno| self.failed(errno));
                }
            }
        }
        Ok(None)
    }

    fn hold(&self, directory: &Dir, name: &CStr) -> Result<OwnedFd, Errno> {
        open::child(directory.fd()?, name)
    }

    /// Writes one entry; for a directory to be gone into, its level.
    fn append(&mut self, held: &OwnedFd) -> Result<Option<Level>, FileError> {
        let (stat, kind) = open::inspect(held).map_err(|errno| self.failed(errno))?;
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the rest is devices and sockets"
        )]
        match kind {
            FileType::Directory => return self.directory(held, &stat),
            FileType::RegularFile => self.file(held, &stat)?,
            FileType::Symlink => {
                let target =
                    readlinkat(held, "", Vec::new()).map_err(|errno| self.failed(errno))?;
                self.write(held, &stat, Kind::Symlink, target.as_bytes())?;
            }
            FileType::Fifo => self.write(held, &stat, Kind::Fifo, b"")?,
            _ => {}
        }
        Ok(None)
    }

    fn directory(&mut self, held: &OwnedFd, stat: &Stat) -> Result<Option<Level>, FileError> {
        let path_length = self.path.len();
        self.path.push(b'/');
        self.write(held, stat, Kind::Directory, b"")?;
        self.path.truncate(path_length);
        if is_made_up(held).map_err(|errno| self.failed(errno))? {
            return Ok(None);
        }
        let opened = open::reopen(held, OFlags::RDONLY | OFlags::DIRECTORY);
        let entries = opened.and_then(Dir::new);
        Ok(Some(Level {
            entries: entries.map_err(|errno| self.failed(errno))?,
            path_length,
        }))
    }

    fn file(&mut self, held: &OwnedFd, stat: &Stat) -> Result<(), FileError> {
        if stat.st_nlink > 1 {
            let identity = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.first_name(identity, &self.path) {
                return self.write(held, stat, Kind::Hardlink, &first);
            }
        }
        self.contents(held, stat)
    }

    fn contents(&mut self, held: &OwnedFd, stat: &Stat) -> Result<(), FileError> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let metadata = self.metadata(held, stat)?;
        let data = open::read_again(held).map_err(|errno| self.failed(errno))?;
        let entry = WriteEntry {
            path: &self.path,
            kind: Kind::File,
            link: b"",
            size,
            metadata: &metadata,
        };
        let data = Whole {
            file: File::from(data),
        };
        self.tar
            .append(&entry, data)
            .map_err(|error| FileError::of_io(&error, &self.path))
    }

    fn write(
        &mut self,
        held: &OwnedFd,
        stat: &Stat,
        kind: Kind,
        link: &[u8],
    ) -> Result<(), FileError> {
        let metadata = self.metadata(held, stat)?;
        let entry = WriteEntry {
            path: &self.path,
            kind,
            link,
            size: 0,
            metadata: &metadata,
        };
        self.tar
            .append(&entry, io::empty())
            .map_err(|error| FileError::of_io(&error, &self.path))
    }

    fn metadata(&self, held: &OwnedFd, stat: &Stat) -> Result<Metadata, FileError> {
        let (seconds, nanoseconds) = modified(stat);
        Ok(Metadata {
            device: None,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid.into(),
            gid: stat.st_gid.into(),
            modified: Timestamp {
                seconds,
                nanoseconds,
            },
            xattrs: attributes::read(held).map_err(|errno| self.unread(errno))?,
            is_sparse: false,
        })
    }

    fn unread(&self, errno: Errno) -> FileError {
        match errno {
            Errno::TOOBIG => FileError::Attributes {
                path: shown(&self.path),
                limit: MAX_ATTRIBUTES_BYTES,
            },
            errno => self.failed(errno),
        }
    }

    fn failed(&self, errno: Errno) -> FileError {
        FileError::of(errno, &self.path)
    }
}

impl Default for Links {
    fn default() -> Self {
        Self {
            first: HashMap::new(),
            room: Room::of(MAX_ARCHIVE_LINK_BYTES),
        }
    }
}

impl Links {
    /// The name under which the file was met before; else `name` is remembered. Without room for that,
    /// further names become files of their own: correct, only larger.
    fn first_name(&mut self, identity: (u64, u64), name: &[u8]) -> Option<Vec<u8>> {
        let first = self.first.get(&identity).cloned();
        if first.is_none() && self.room.take(name) {
            self.first.insert(identity, name.to_vec());
        }
        first
    }
}

fn is_made_up(held: impl AsFd) -> Result<bool, Errno> {
    let kind = fstatfs(held)?.f_type;
    Ok(u64::try_from(kind).is_ok_and(|kind| MADE_UP.contains(&kind)))
}

/// A file that has become shorter than its header says goes on with zeros.
struct Whole {
    file: File,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read(buffer)? {
            0 => {
                buffer.fill(0);
                Ok(buffer.len())
            }
            got => Ok(got),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links_are_remembered_only_as_far_as_there_is_room() {
        let mut links = Links::default();
        let long = vec![b'x'; 64 << 10];
        for inode in 0..1_000 {
            assert_eq!(links.first_name((1, inode), &long), None);
        }
        let kept: usize = links.first.values().map(Vec::len).sum();
        assert!(kept > MAX_ARCHIVE_LINK_BYTES / 2 && kept <= MAX_ARCHIVE_LINK_BYTES);
        assert_eq!(links.first_name((1, 0), b"other"), Some(long));
        assert_eq!(links.first_name((1, 999), b"other"), None);
    }
}
