//! Takes an archive's outer tar apart, into blobs and a map of names.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::blobs::Blobs;
use super::{ImageError, invalid};
use crate::model::Digest;
use crate::model::limits::{MAX_ARCHIVE_BYTES, MAX_PATH_BYTES};
use crate::oci::image::{layer_tar, read_error};
use crate::tarball::{Entry, Kind, TarReader};

/// Entries of one archive: each costs a name in memory. An image of 127 layers needs 130.
const MAX_ENTRIES: usize = 65_536;
/// Names of all entries, with those that links lead to.
const MAX_NAMES_BYTES: usize = 16 << 20;
/// Links followed from one name to its file.
const MAX_LINKS: usize = 8;

/// A name of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    File {
        digest: Digest,
        size_bytes: u64,
    },
    /// A link, hard or symbolic: the name it leads to.
    Link(String),
}

impl Named {
    fn target(&self) -> &str {
        match self {
            Self::File { .. } => "",
            Self::Link(target) => target,
        }
    }
}

/// The names in an archive, and what they are.
#[derive(Debug, Default)]
pub(super) struct Files {
    names: BTreeMap<String, Named>,
    names_bytes: usize,
}

impl Files {
    /// The file of that name. Links lead to other names of the archive and nowhere else; `docker save`
    /// writes them for layers that images share.
    pub(super) fn find(&self, name: &str) -> Option<(&Digest, u64)> {
        let mut name = name;
        for _ in 0..=MAX_LINKS {
            match self.names.get(name)? {
                Named::File { digest, size_bytes } => return Some((digest, *size_bytes)),
                Named::Link(target) => name = target,
            }
        }
        None
    }

    fn insert(&mut self, name: String, named: Named) -> Result<(), ImageError> {
        if self.names.len() >= MAX_ENTRIES {
            return Err(invalid(format!("it has more than {MAX_ENTRIES} entries")));
        }
        match self.names.get(&name) {
            Some(there) if *there != named => {
                Err(invalid(format!("{name:?} is there twice, and differs")))
            }
            Some(_) => Ok(()),
            None => {
                self.names_bytes += name.len() + named.target().len();
                if self.names_bytes > MAX_NAMES_BYTES {
                    let problem = format!("its names have more than {MAX_NAMES_BYTES} bytes");
                    return Err(invalid(problem));
                }
                self.names.insert(name, named);
                Ok(())
            }
        }
    }
}

/// Unpacks the archive at `path`, of any compression, into `blobs`.
pub(super) fn unpack(path: &Path, blobs: &mut Blobs) -> Result<Files, ImageError> {
    let file = File::open(path).map_err(|error| read_error(&error))?;
    let (_, plain) = layer_tar::expand(file).map_err(|error| read_error(&error))?;
    let mut tar = TarReader::new(plain.take(MAX_ARCHIVE_BYTES));
    let mut files = Files::default();
    while let Some(entry) = tar.next_entry().map_err(|error| read_error(&error))? {
        take(&entry, &mut tar, blobs, &mut files)?;
    }
    Ok(files)
}

fn take(
    entry: &Entry,
    data: &mut impl Read,
    blobs: &mut Blobs,
    files: &mut Files,
) -> Result<(), ImageError> {
    let name = relative(&entry.path)?;
    match entry.kind {
        Kind::Directory => Ok(()),
        Kind::Fifo | Kind::Device => Err(invalid(format!("{name:?} is a device or FIFO"))),
        Kind::Hardlink => files.insert(name, Named::Link(relative(&entry.link)?)),
        Kind::Symlink => {
            let target = beside(&name, &entry.link)?;
            files.insert(name, Named::Link(target))
        }
        Kind::File => {
            let (digest, size_bytes) = blobs.add(data)?;
            verify(&name, &digest)?;
            files.insert(name, Named::File { digest, size_bytes })
        }
    }
}

/// A blob's name says its digest.
fn verify(name: &str, actual: &Digest) -> Result<(), ImageError> {
    match name.strip_prefix("blobs/sha256/") {
        Some(expected) if expected != actual.hex() => Err(ImageError::DigestMismatch {
            expected: format!("sha256:{expected}"),
            actual: actual.to_string(),
        }),
        _ => Ok(()),
    }
}

/// The name an entry goes by: relative, plain, and within the archive.
fn relative(path: &[u8]) -> Result<String, ImageError> {
    let text = name_of(path)?;
    if text.starts_with('/') {
        return Err(invalid(format!("{text:?} is an absolute path")));
    }
    let parts = text.split('/').filter(|part| !matches!(*part, "" | "."));
    let parts: Vec<_> = parts.collect();
    if parts.contains(&"..") {
        return Err(invalid(format!("{text:?} leads out of the archive")));
    }
    Ok(parts.join("/"))
}

/// The name that a symbolic link at `name` leads to.
fn beside(name: &str, target: &[u8]) -> Result<String, ImageError> {
    let text = name_of(target)?;
    let outside = || invalid(format!("{name:?} links to {text:?}, out of the archive"));
    if text.starts_with('/') {
        return Err(outside());
    }
    let mut parts: Vec<_> = name.split('/').collect();
    parts.pop();
    for part in text.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part == ".." {
            parts.pop().ok_or_else(outside)?;
        } else {
            parts.push(part);
        }
    }
    Ok(parts.join("/"))
}

fn name_of(path: &[u8]) -> Result<&str, ImageError> {
    if path.len() > MAX_PATH_BYTES {
        return Err(invalid(format!("a name has {} bytes", path.len())));
    }
    std::str::from_utf8(path).map_err(|_| invalid("a name is not UTF-8"))
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_within_the_archive() {
        for (path, name) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("./", ""),
            ("a/./b", "a/b"),
        ] {
            assert_eq!(relative(path.as_bytes()).expect(path), name);
        }
        for path in ["/a", "../a", "a/../b", "a/..", "/"] {
            assert!(relative(path.as_bytes()).is_err(), "{path}");
        }
        assert!(relative(b"\xff").is_err());
        assert!(relative(&[b'a'; 5_000]).is_err());
    }

    #[test]
    fn links_stay_within_the_archive() {
        assert_eq!(beside("a/layer.tar", b"../b.tar").expect("within"), "b.tar");
        assert_eq!(beside("a/layer.tar", b"b.tar").expect("within"), "a/b.tar");
        for target in ["/etc/passwd", "../../etc/passwd", "x/../../../y"] {
            assert!(beside("a/l", target.as_bytes()).is_err(), "{target}");
        }
    }

    #[test]
    fn a_circle_of_links_leads_nowhere() {
        let mut files = Files::default();
        let link = |to: &str| Named::Link(to.to_owned());
        files.insert("a".to_owned(), link("b")).expect("new");
        files.insert("b".to_owned(), link("a")).expect("new");
        assert_eq!(files.find("a"), None);
    }

    #[test]
    fn names_have_a_limit_together() {
        let mut files = Files::default();
        let long = |number: usize| format!("{number:04000}");
        let mut insert = |number| files.insert(long(number), Named::Link(long(number)));
        let kept = (0..10_000)
            .take_while(|number| insert(*number).is_ok())
            .count();
        assert!(kept > 1_000 && kept * 8_000 <= MAX_NAMES_BYTES, "{kept}");
    }

    #[test]
    fn a_name_means_one_thing() {
        let mut files = Files::default();
        let link = |to: &str| Named::Link(to.to_owned());
        files.insert("a".to_owned(), link("b")).expect("new");
        files.insert("a".to_owned(), link("b")).expect("the same");
        assert!(files.insert("a".to_owned(), link("c")).is_err());
    }
}
