//! Local files as a tar stream, with modes, owners, times to the nanosecond, links and attributes.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

use super::place::Top;

/// The kernel's limits: of all names of attributes together, and of one value.
const MAX_ATTRIBUTE: usize = 64 << 10;

/// Writes `path`, with all below it, as tar; its top becomes what `top` says.
pub(super) fn archive(path: &Path, top: Top, out: impl Write) -> io::Result<()> {
    let mut archiver = Archiver {
        tar: Builder::new(out),
        links: HashMap::new(),
    };
    match top {
        Top::Named(name) => archiver.all(path, Path::new(&name))?,
        Top::Dissolved => archiver.children(path, Path::new(""))?,
    }
    archiver.tar.into_inner()?.flush()
}

struct Archiver<W: Write> {
    tar: Builder<W>,
    /// The first name of each file that has several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Archiver<W> {
    fn all(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let mut left = vec![(path.to_owned(), name.to_owned())];
        while let Some((path, name)) = left.pop() {
            let about = fs::symlink_metadata(&path)?;
            self.one(&path, &name, &about)?;
            if about.is_dir() {
                left.extend(entries(&path, &name)?);
            }
        }
        Ok(())
    }

    fn children(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        for (path, name) in entries(path, name)? {
            self.all(&path, &name)?;
        }
        Ok(())
    }

    fn one(&mut self, path: &Path, name: &Path, about: &Metadata) -> io::Result<()> {
        let kind = about.file_type();
        if about.is_dir() {
            self.extensions(path, about)?;
            let mut header = header(about, EntryType::Directory, 0);
            self.tar.append_data(&mut header, name, io::empty())
        } else if about.is_symlink() {
            self.extensions(path, about)?;
            let mut header = header(about, EntryType::Symlink, 0);
            self.tar
                .append_link(&mut header, name, fs::read_link(path)?)
        } else if about.is_file() {
            self.file(path, name, about)
        } else if kind.is_fifo() {
            self.extensions(path, about)?;
            let mut header = header(about, EntryType::Fifo, 0);
            self.tar.append_data(&mut header, name, io::empty())
        } else {
            // Sockets and devices mean nothing elsewhere.
            Ok(())
        }
    }

    fn file(&mut self, path: &Path, name: &Path, about: &Metadata) -> io::Result<()> {
        let identity = (about.dev(), about.ino());
        if let Some(first) = self.links.get(&identity) {
            let mut header = header(about, EntryType::Link, 0);
            return self.tar.append_link(&mut header, name, first);
        }
        if about.nlink() > 1 {
            self.links.insert(identity, name.to_owned());
        }
        self.extensions(path, about)?;
        let mut header = header(about, EntryType::Regular, about.len());
        let data = io::Read::take(File::open(path)?, about.len());
        // One that has become shorter goes on with zeros.
        let whole = io::Read::take(io::Read::chain(data, io::repeat(0)), about.len());
        self.tar.append_data(&mut header, name, whole)
    }

    /// What the header does not hold.
    fn extensions(&mut self, path: &Path, about: &Metadata) -> io::Result<()> {
        let mut extensions = Vec::new();
        if about.mtime() < 0 || about.mtime_nsec() > 0 {
            let time = decimal(about.mtime(), about.mtime_nsec());
            extensions.push(("mtime".to_owned(), time.into_bytes()));
        }
        for (name, value) in attributes(path)? {
            extensions.push((format!("SCHILY.xattr.{name}"), value));
        }
        let extensions = extensions
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        self.tar.append_pax_extensions(extensions)
    }
}

fn entries(path: &Path, name: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    fs::read_dir(path)?
        .map(|entry| entry.map(|entry| (entry.path(), name.join(entry.file_name()))))
        .collect()
}

fn header(about: &Metadata, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata(about);
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mtime(u64::try_from(about.mtime()).unwrap_or(0));
    header
}

/// Seconds with a fraction; before 1970 both count backwards.
fn decimal(seconds: i64, nanoseconds: i64) -> String {
    match nanoseconds {
        0 => seconds.to_string(),
        _ if seconds >= 0 => format!("{seconds}.{nanoseconds:09}"),
        _ => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    }
}

/// What belongs to the file itself, and not to this machine.
fn attributes(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut list = vec![0; MAX_ATTRIBUTE];
    match llistxattr(path, list.as_mut_slice()) {
        Ok(length) => list.truncate(length),
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    let mut found = Vec::new();
    for name in list.split(|byte| *byte == 0) {
        let Ok(name) = std::str::from_utf8(name) else {
            continue;
        };
        if name.starts_with("user.") || name == "security.capability" {
            let mut value = vec![0; MAX_ATTRIBUTE];
            let path = path.as_os_str().as_bytes();
            let length = lgetxattr(path, name, value.as_mut_slice())?;
            value.truncate(length);
            found.push((name.to_owned(), value));
        }
    }
    Ok(found)
}
