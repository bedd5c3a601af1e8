//! A layer's tar into a directory that overlay takes as a lower one.
//!
//! Whiteouts become what overlay has for them: `.wh.NAME` a character device 0:0 called NAME, `.wh..wh..opq` the
//! attribute `trusted.overlay.opaque` of its directory (image-spec, "Whiteouts"; Linux's
//! Documentation/filesystems/overlayfs.rst). They are about the layers below: what the same layer has at that
//! name stays.
//!
//! Names are taken relative to the layer whatever they begin with, and `..` is refused. Links on the way to an
//! entry are followed as if the layer were the root, so nothing leads out of it; a hard link is to an entry of the
//! same layer. A layer whose entry lies behind a link that a layer below has made covers that link with a
//! directory, as with docker, which unpacks layers by themselves too. Nodes of devices are made as they are: the
//! container's device rules keep them from being opened.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags, chmod,
    chown, chownat, linkat, makedev, mkdirat, mknodat, openat, setxattr, statat, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use thiserror::Error;

use crate::files::open::{self, HOLD, own_path};
use crate::files::{attributes, remove_tree};
use crate::model::errno;
use crate::model::limits::MAX_ARCHIVE_DEPTH;
use crate::oci::image::layer_tar::{self, LayerTar, LayerTarError, expand, shown};
use crate::tarball::{Entry, Kind, Metadata, Timestamp};

/// What is written at a time, at most.
const BUFFER: usize = 128 << 10;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What aufs kept for itself.
const AUFS: &[u8] = b".wh..wh.";
const PARENT_MODE: u32 = 0o755;
/// What a file takes at least, and every file a multiple of.
const BLOCK: u64 = 4_096;

/// Why a layer cannot be unpacked.
#[derive(Debug, Error)]
pub(super) enum LayerError {
    /// It is no layer, whatever it is unpacked to.
    #[error(transparent)]
    Tar(#[from] LayerTarError),
    /// The file system refuses.
    #[error("{name:?}: {}", errno::name(*errno))]
    System {
        /// As in the layer.
        name: String,
        /// Why.
        errno: Errno,
    },
}

/// Unpacks a layer, from a blob of that size, into an empty directory, and reads it to its end. Returns what its files
/// take.
pub(super) fn unpack(
    blob: impl Read + Send,
    blob_bytes: u64,
    into: OwnedFd,
) -> Result<u64, LayerError> {
    let (_, plain) = expand(blob).map_err(LayerTarError::from)?;
    let mut tar = LayerTar::new(plain, blob_bytes);
    let mut layer = Layer {
        top: into,
        parent: None,
        times: Vec::new(),
        bytes: 0,
    };
    while let Some(entry) = tar.next_entry()? {
        layer.take(&entry, &mut tar)?;
    }
    layer.set_times()?;
    Ok(layer.bytes)
}

struct Layer {
    top: OwnedFd,
    /// The directory of the last entry: the next one is mostly in it, too.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Of directories, set when nothing changes them any more.
    times: Vec<(OwnedName, Timestamp)>,
    bytes: u64,
}

type OwnedName = Vec<u8>;

/// An entry's place: its directory, and its name in there.
struct Place<'a> {
    parent: &'a OwnedFd,
    base: &'a [u8],
    name: &'a [u8],
}

impl Place<'_> {
    fn failed(&self, errno: Errno) -> LayerError {
        failed(self.name, errno)
    }

    fn kind(&self) -> Result<Option<FileType>, LayerError> {
        match statat(self.parent, self.base, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    /// What the layer had here before makes way.
    fn clear(&self) -> Result<(), LayerError> {
        let cleared = match unlinkat(self.parent, self.base, AtFlags::empty()) {
            Err(Errno::ISDIR) => remove_tree(self.parent, self.base, MAX_ARCHIVE_DEPTH),
            Err(Errno::NOENT) => Ok(()),
            done => done,
        };
        cleared.map_err(|errno| self.failed(errno))
    }

    fn held(&self) -> Result<OwnedFd, LayerError> {
        open::beneath(self.parent, self.base, HOLD).map_err(|errno| self.failed(errno))
    }
}

impl Layer {
    fn take(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), LayerError> {
        let name = &entry.path;
        let Some(base) = name
            .rsplit(|byte| *byte == b'/')
            .next()
            .filter(|base| !base.is_empty())
        else {
            return self.top(entry);
        };
        let above = &name[..name.len().saturating_sub(base.len() + 1)];
        // What replaces a directory, or a link that leads to one, changes what paths mean.
        let parent = self.directory_of(above, name)?;
        let place = Place {
            parent: &parent,
            base,
            name,
        };
        match whiteout(base, name)? {
            Some(Whiteout::Opaque) => make_opaque(&parent, name)?,
            Some(Whiteout::Ignored) => {}
            Some(Whiteout::Of(hidden)) => hide(&place, hidden)?,
            None => self.make(&place, entry, data)?,
        }
        self.parent = Some((above.to_vec(), parent));
        Ok(())
    }

    /// The layer's top itself.
    fn top(&mut self, entry: &Entry) -> Result<(), LayerError> {
        if entry.kind != Kind::Directory {
            return Err(refused(&entry.path, "is the top, and no directory"));
        }
        let held = open::beneath(&self.top, b"", HOLD).map_err(|errno| failed(b"/", errno))?;
        describe(&held, &entry.metadata).map_err(|errno| failed(b"/", errno))?;
        self.times.push((Vec::new(), entry.metadata.modified));
        Ok(())
    }

    fn make(
        &mut self,
        place: &Place<'_>,
        entry: &Entry,
        data: &mut impl Read,
    ) -> Result<(), LayerError> {
        match entry.kind {
            Kind::Directory => self.directory(place, entry)?,
            Kind::File => self.file(place, entry, data)?,
            Kind::Symlink => symlink(place, entry)?,
            Kind::Hardlink => self.hardlink(place, entry)?,
            Kind::Fifo => node(place, entry, FileType::Fifo, 0)?,
            Kind::Device => device(place, entry)?,
        }
        if entry.kind != Kind::Hardlink {
            self.bytes += entry.size.div_ceil(BLOCK).max(1) * BLOCK;
        }
        Ok(())
    }

    fn directory(&mut self, place: &Place<'_>, entry: &Entry) -> Result<(), LayerError> {
        let before = place.kind()?;
        if before != Some(FileType::Directory) {
            place.clear()?;
            mkdirat(place.parent, place.base, Mode::RWXU).map_err(|errno| place.failed(errno))?;
        }
        let held = place.held()?;
        if before == Some(FileType::CharacterDevice) {
            // The layer hides what is below, and then has a directory of its own here.
            set_opaque(&held).map_err(|errno| place.failed(errno))?;
        }
        describe(&held, &entry.metadata).map_err(|errno| place.failed(errno))?;
        self.times
            .push((place.name.to_vec(), entry.metadata.modified));
        Ok(())
    }

    fn file(
        &mut self,
        place: &Place<'_>,
        entry: &Entry,
        data: &mut impl Read,
    ) -> Result<(), LayerError> {
        place.clear()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(place.parent, place.base, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| place.failed(errno))?;
        let mut file = File::from(file);
        // Its buffer is what `io::copy` moves at a time.
        let buffer = usize::try_from(entry.size).unwrap_or(BUFFER).min(BUFFER);
        let mut buffered = BufWriter::with_capacity(buffer, &mut file);
        let copied = io::copy(data, &mut buffered).and_then(|_| buffered.flush());
        drop(buffered);
        copied.map_err(|error| match Errno::from_io_error(&error) {
            Some(errno) => place.failed(errno),
            None => LayerTarError::from(error).into(),
        })?;
        describe(&file, &entry.metadata)
            .and_then(|()| set_time(&file, entry.metadata.modified))
            .map_err(|errno| place.failed(errno))
    }

    fn hardlink(&self, place: &Place<'_>, entry: &Entry) -> Result<(), LayerError> {
        let not_there = || refused(place.name, "is a hard link to what the layer does not have");
        let first = &entry.link;
        if first == place.name {
            return Ok(());
        }
        let base = first
            .rsplit(|byte| *byte == b'/')
            .next()
            .unwrap_or_default();
        let above = &first[..first.len().saturating_sub(base.len() + 1)];
        let parent = self.open_directory(above).map_err(|_| not_there())?;
        let stat = statat(&parent, base, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| not_there())?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(not_there());
        }
        place.clear()?;
        linkat(&parent, base, place.parent, place.base, AtFlags::empty())
            .map_err(|errno| place.failed(errno))
    }

    /// The directory that an entry is in; what is missing of it is made.
    fn directory_of(&mut self, above: &[u8], name: &[u8]) -> Result<OwnedFd, LayerError> {
        if let Some((path, held)) = self.parent.take()
            && path == above
        {
            return Ok(held);
        }
        match self.open_directory(above) {
            Err(Errno::NOENT) => self.make_directories(above),
            opened => opened,
        }
        .map_err(|errno| match errno {
            Errno::NOTDIR | Errno::LOOP => refused(name, "is in what is no directory"),
            errno => failed(name, errno),
        })
    }

    fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        open::in_root(&self.top, path, HOLD | OFlags::DIRECTORY)
    }

    fn make_directories(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let mut above = self.open_directory(b"")?;
        let mut end = 0;
        for step in path.split(|byte| *byte == b'/') {
            end += step.len();
            above = match self.open_directory(&path[..end]) {
                Err(Errno::NOENT) => {
                    mkdirat(&above, step, Mode::from_raw_mode(PARENT_MODE))?;
                    open::beneath(&above, step, HOLD | OFlags::DIRECTORY)?
                }
                opened => opened?,
            };
            end += 1;
        }
        Ok(above)
    }

    fn set_times(&self) -> Result<(), LayerError> {
        for (name, time) in &self.times {
            match self.open_directory(name) {
                Ok(held) => set_time(&held, *time).map_err(|errno| failed(name, errno))?,
                // Something else has come in its place.
                Err(_) => continue,
            }
        }
        Ok(())
    }
}

/// What an entry says about layers below.
enum Whiteout<'a> {
    Of(&'a [u8]),
    Opaque,
    Ignored,
}

fn whiteout<'a>(base: &'a [u8], name: &[u8]) -> Result<Option<Whiteout<'a>>, LayerError> {
    if base == OPAQUE {
        return Ok(Some(Whiteout::Opaque));
    }
    if base.starts_with(AUFS) {
        return Ok(Some(Whiteout::Ignored));
    }
    match base.strip_prefix(WHITEOUT) {
        None => Ok(None),
        Some(b"" | b"." | b"..") => Err(refused(name, "hides nothing that can be there")),
        Some(hidden) => Ok(Some(Whiteout::Of(hidden))),
    }
}

/// What the layer itself has at that name stays; a directory then shows nothing of those below.
fn hide(place: &Place<'_>, hidden: &[u8]) -> Result<(), LayerError> {
    let place = Place {
        base: hidden,
        ..*place
    };
    match place.kind()? {
        Some(FileType::Directory) => {
            set_opaque(&place.held()?).map_err(|errno| place.failed(errno))
        }
        Some(_) => Ok(()),
        None => {
            let (kind, mode) = (FileType::CharacterDevice, Mode::empty());
            mknodat(place.parent, place.base, kind, mode, makedev(0, 0))
                .map_err(|errno| place.failed(errno))
        }
    }
}

fn make_opaque(directory: &OwnedFd, name: &[u8]) -> Result<(), LayerError> {
    set_opaque(directory).map_err(|errno| failed(name, errno))
}

fn set_opaque(held: impl AsFd) -> Result<(), Errno> {
    let flags = XattrFlags::empty();
    setxattr(own_path(held), c"trusted.overlay.opaque", b"y", flags)
}

fn symlink(place: &Place<'_>, entry: &Entry) -> Result<(), LayerError> {
    place.clear()?;
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    let (uid, gid) = owner(&entry.metadata, place.name)?;
    symlinkat(entry.link.as_slice(), place.parent, place.base)
        .and_then(|()| chownat(place.parent, place.base, Some(uid), Some(gid), nofollow))
        .and_then(|()| {
            let times = times(entry.metadata.modified);
            utimensat(place.parent, place.base, &times, nofollow)
        })
        .map_err(|errno| place.failed(errno))
}

fn device(place: &Place<'_>, entry: &Entry) -> Result<(), LayerError> {
    let device = entry.metadata.device;
    let device = device.ok_or_else(|| refused(place.name, "is a device without a number"))?;
    let kind = if device.is_block {
        FileType::BlockDevice
    } else {
        FileType::CharacterDevice
    };
    if (device.is_block, device.major, device.minor) == (false, 0, 0) {
        // To overlay that is a whiteout.
        return Err(refused(place.name, "is the device 0:0"));
    }
    node(place, entry, kind, makedev(device.major, device.minor))
}

fn node(place: &Place<'_>, entry: &Entry, kind: FileType, number: u64) -> Result<(), LayerError> {
    place.clear()?;
    mknodat(
        place.parent,
        place.base,
        kind,
        Mode::RUSR | Mode::WUSR,
        number,
    )
    .map_err(|errno| place.failed(errno))?;
    let held = place.held()?;
    describe(&held, &entry.metadata)
        .and_then(|()| set_time(&held, entry.metadata.modified))
        .map_err(|errno| place.failed(errno))
}

/// The owner first, because it takes the mode's special bits and the capabilities with it.
fn describe(held: impl AsFd, metadata: &Metadata) -> Result<(), Errno> {
    let path = own_path(&held);
    let (uid, gid) = ids(metadata).ok_or(Errno::INVAL)?;
    chown(&path, Some(uid), Some(gid))?;
    chmod(&path, Mode::from_raw_mode(metadata.mode))?;
    attributes::write(held, &metadata.xattrs)
}

fn owner(metadata: &Metadata, name: &[u8]) -> Result<(Uid, Gid), LayerError> {
    ids(metadata).ok_or_else(|| refused(name, "has an owner that none can be"))
}

/// The largest id means "unchanged" to the kernel.
fn ids(metadata: &Metadata) -> Option<(Uid, Gid)> {
    let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
    Some((
        Uid::from_raw(id(metadata.uid)?),
        Gid::from_raw(id(metadata.gid)?),
    ))
}

fn set_time(held: impl AsFd, time: Timestamp) -> Result<(), Errno> {
    utimensat(CWD, own_path(held), &times(time), AtFlags::empty())
}

fn times(modified: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: modified.seconds,
            tv_nsec: modified.nanoseconds.into(),
        },
    }
}

fn refused(name: &[u8], problem: &'static str) -> LayerError {
    layer_tar::refused(name, problem).into()
}

fn failed(name: &[u8], errno: Errno) -> LayerError {
    LayerError::System {
        name: shown(name),
        errno,
    }
}
