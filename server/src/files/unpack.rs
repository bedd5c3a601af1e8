//! A tar stream into a directory.
//!
//! Each entry's parent is opened anew below the target, step by step, without following any link, whoever
//! made it: neither an archive that has a link and then a file "in" it, nor a process inside that swaps
//! directories for links, leads an entry elsewhere. Names that are absolute or have `..`, hard links to what
//! is not below the target, and devices are refused before anything of them is written.
//!
//! What mounts cover is refused as well: without links, an entry's name says where it goes.
//!
//! An entry replaces what is in its place. Modes, times and attributes are the archive's; the times of
//! directories are set last, when nothing changes them any more.

mod entry;
mod name;
mod place;

use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use self::name::Name;
use super::error::FileError;
use super::open::{self, HOLD};
use super::pipe::Inlet;
use super::room::Room;
use super::root::Root;
use super::{Owner, read};
use crate::model::limits::MAX_ARCHIVE_DIRECTORY_BYTES;
use crate::tarball::{Entry, Kind, TarReader, Timestamp, decompress};

/// What may follow the end of an archive in its stream: tools fill up their last block.
const MAX_TRAILER: u64 = 1 << 20;
const BUFFER: usize = 64 << 10;

/// How to unpack an archive.
#[derive(Debug, Clone)]
pub struct Unpack {
    /// A directory: absolute, without `..`; links are followed.
    pub path: String,
    /// Whether a file may take a directory's place, and the other way round.
    pub allow_kind_change: bool,
    /// Whether owners are those in the archive.
    pub preserve_owners: bool,
    /// The container's user and group: of everything else.
    pub owner: Owner,
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// Entries.
    pub entries: u64,
    /// Bytes of file contents.
    pub content_bytes: u64,
}

/// What stopped an archive from being unpacked, and how far it had come. What was written stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// Entries that were written before, each as a whole.
    pub entries: u64,
    /// Why no more were.
    pub error: FileError,
}

/// Unpacks an archive (plain, gzip or zstd) and reads its stream to the end. Stops soon once `stop` is
/// cancelled, however much there is to decompress.
///
/// # Errors
/// [`Partial`].
pub fn unpack(
    root: &Root,
    what: &Unpack,
    archive: Inlet,
    stop: &CancellationToken,
) -> Result<Unpacked, Partial> {
    let mut done = Unpacked::default();
    let result = target(root, what).and_then(|target| {
        let mut unpacker = Unpacker {
            root,
            target,
            what,
            done: &mut done,
            directory_times: Vec::new(),
            room: Room::of(MAX_ARCHIVE_DIRECTORY_BYTES),
        };
        unpacker.run(archive, stop)
    });
    match result {
        Ok(()) => Ok(done),
        Err(error) => Err(Partial {
            entries: done.entries,
            error,
        }),
    }
}

/// The directory that all goes into.
fn target(root: &Root, what: &Unpack) -> Result<OwnedFd, FileError> {
    root.require_writable(&what.path)?;
    let (held, stat) = read::open_any(root, &what.path, read::LastLink::Followed)?;
    match stat.kind {
        read::PathKind::Directory => Ok(held),
        other => Err(FileError::Kind {
            path: what.path.clone(),
            want: "directory",
            have: other.name(),
        }),
    }
}

struct Unpacker<'a> {
    root: &'a Root,
    target: OwnedFd,
    what: &'a Unpack,
    done: &'a mut Unpacked,
    directory_times: Vec<(Name, Timestamp)>,
    /// For the names of these.
    room: Room,
}

impl Unpacker<'_> {
    fn run(&mut self, archive: Inlet, stop: &CancellationToken) -> Result<(), FileError> {
        let mut stream = BufReader::with_capacity(BUFFER, archive);
        let (_, plain) = decompress(&mut stream).map_err(|error| unreadable(&error))?;
        let mut tar = TarReader::new(Stoppable {
            inner: plain,
            stop: stop.clone(),
        });
        while let Some(entry) = tar.next_entry().map_err(|error| unreadable(&error))? {
            self.take(&entry, &mut tar)?;
            self.done.entries += 1;
        }
        // The checksum of what is compressed comes last.
        let rest = io::copy(&mut tar.into_inner().take(MAX_TRAILER), &mut io::sink());
        if rest.map_err(|error| unreadable(&error))? == MAX_TRAILER {
            return Err(FileError::archive("its stream goes on after its end"));
        }
        io::copy(&mut stream, &mut io::sink()).map_err(|error| unreadable(&error))?;
        self.set_directory_times()
    }

    fn take(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), FileError> {
        let name = Name::parse(&entry.path)?;
        let root = self.root;
        root.require_seen_at(&self.target, name.path(), name.path())?;
        if entry.metadata.is_sparse {
            let problem = format!("{name} is sparse in a form of GNU tar's, which is not read");
            return Err(FileError::archive(problem));
        }
        match entry.kind {
            Kind::Directory => self.directory(name, entry),
            Kind::File => {
                let written = self.file(&name, entry, data)?;
                self.done.content_bytes += written;
                Ok(())
            }
            Kind::Symlink => self.symlink(&name, entry),
            Kind::Hardlink => self.hardlink(&name, entry),
            Kind::Fifo => self.fifo(&name, entry),
            Kind::Device => Err(FileError::archive(format!("{name} is a device"))),
        }
    }

    fn remember_time(&mut self, name: Name, time: Timestamp) -> Result<(), FileError> {
        if !self.room.take(name.path()) {
            return Err(FileError::archive("it has too many directories"));
        }
        self.directory_times.push((name, time));
        Ok(())
    }

    fn set_directory_times(&self) -> Result<(), FileError> {
        for (name, time) in &self.directory_times {
            let held = open::beneath(&self.target, name.path(), HOLD | OFlags::DIRECTORY);
            match held.and_then(|held| entry::set_time(&held, *time)) {
                // Something inside has taken it away since.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                set => set.map_err(|errno| name.failed(errno))?,
            }
        }
        Ok(())
    }

    /// Refuses what is not of the kind that an entry needs.
    fn kind_mismatch(name: &Name, want: &'static str, have: FileType) -> FileError {
        FileError::Kind {
            path: name.to_string(),
            want,
            have: open::kind_name(have),
        }
    }
}

/// What reading the archive gives: our own failures are what they are, all else is damage.
fn unreadable(error: &io::Error) -> FileError {
    let own = error.get_ref().and_then(|source| source.downcast_ref());
    match own {
        Some(own) => FileError::clone(own),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            FileError::archive("it ends too early")
        }
        None => FileError::archive(error.to_string()),
    }
}

/// A stream that ends in an error once it is to stop: a few compressed bytes can stand for any number.
struct Stoppable<R> {
    inner: R,
    stop: CancellationToken,
}

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.is_cancelled() {
            return Err(FileError::Stopped.into());
        }
        self.inner.read(buffer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn directories_are_remembered_only_as_far_as_there_is_room() {
        let what = Unpack {
            path: "/".to_owned(),
            allow_kind_change: false,
            preserve_owners: false,
            owner: Owner { uid: 0, gid: 0 },
        };
        let mut unpacker = Unpacker {
            root: &Root::of_directory(&std::env::temp_dir()).unwrap(),
            target: tempfile::tempfile().unwrap().into(),
            what: &what,
            done: &mut Unpacked::default(),
            directory_times: Vec::new(),
            room: Room::of(MAX_ARCHIVE_DIRECTORY_BYTES),
        };
        let long = Name::parse(&[b'x'; 4_000]).unwrap();
        let mut remember = || unpacker.remember_time(long.clone(), Timestamp::default());
        let kept = (0..100_000).take_while(|_| remember().is_ok()).count();
        assert!(kept > 1_000 && kept * 4_000 < MAX_ARCHIVE_DIRECTORY_BYTES);
        assert!(matches!(remember(), Err(FileError::Archive { .. })));
    }
}
