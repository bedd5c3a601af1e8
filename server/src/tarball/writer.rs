//! Writes tar streams: POSIX ustar headers, and pax headers for what does not fit into them (long or
//! unusual names, large ids and sizes, nanoseconds, extended attributes).
//!
//! Files are written as long as they are: holes are not told apart from zeros.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::reader::XATTR_PREFIX;
use super::{Kind, Metadata, Timestamp};

/// What everything in a tar is padded to; two of zeros are its end.
pub(crate) const BLOCK: usize = 512;
/// Largest values that a ustar header holds in octal.
const MAX_ID: u64 = 0o7_777_777;
const MAX_NUMBER: u64 = 0o77_777_777_777;
/// Longest names that a ustar header holds, without splitting them.
const MAX_NAME: usize = 100;

/// A tar stream that is being written.
pub(crate) struct TarWriter<W: Write> {
    builder: tar::Builder<W>,
}

/// One entry to be written. Its data, if it is a file, comes separately.
#[derive(Debug)]
pub(crate) struct WriteEntry<'a> {
    /// Relative; a directory's ends with a slash.
    pub(crate) path: &'a [u8],
    pub(crate) kind: Kind,
    /// Target of a link; empty for others.
    pub(crate) link: &'a [u8],
    /// Bytes of data; 0 for all but files.
    pub(crate) size: u64,
    pub(crate) metadata: &'a Metadata,
}

impl<W: Write> TarWriter<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            builder: tar::Builder::new(inner),
        }
    }

    /// Writes an entry and exactly `entry.size` bytes of `data`, which must have them.
    ///
    /// # Errors
    /// What reading or writing gives.
    pub(crate) fn append(&mut self, entry: &WriteEntry<'_>, data: impl Read) -> io::Result<()> {
        let extensions = extensions(entry);
        let named = extensions
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(named)?;
        self.builder.append(&header(entry), data.take(entry.size))
    }

    /// Writes the end.
    ///
    /// # Errors
    /// What writing gives.
    pub(crate) fn finish(self) -> io::Result<W> {
        self.builder.into_inner()
    }
}

/// What stands in front of an entry's data, for who writes that, and what pads it to whole blocks, piece by piece.
///
/// # Errors
/// As [`TarWriter::append`].
pub(crate) fn heading(entry: &WriteEntry<'_>) -> io::Result<Vec<u8>> {
    let mut writer = TarWriter::new(Vec::new());
    writer.append(entry, io::empty())?;
    Ok(writer.builder.get_ref().clone())
}

/// How many zeros pad data of `size` bytes.
pub(crate) fn padding(size: u64) -> usize {
    // Less than a block.
    usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or(0)
}

/// What fits is in the header, for readers that know no pax; the rest is cut there.
fn header(entry: &WriteEntry<'_>) -> Header {
    let metadata = entry.metadata;
    let mut header = Header::new_ustar();
    copy(entry.path, &mut header.as_old_mut().name);
    copy(entry.link, &mut header.as_old_mut().linkname);
    header.set_entry_type(match entry.kind {
        Kind::File => EntryType::Regular,
        Kind::Directory => EntryType::Directory,
        Kind::Symlink => EntryType::Symlink,
        Kind::Hardlink => EntryType::Link,
        Kind::Fifo => EntryType::Fifo,
        Kind::Device => EntryType::Char,
    });
    header.set_mode(metadata.mode);
    header.set_uid(metadata.uid.min(MAX_ID));
    header.set_gid(metadata.gid.min(MAX_ID));
    // Beyond octal it is in binary, which most readers take as well.
    header.set_size(entry.size);
    let seconds = u64::try_from(metadata.modified.seconds).unwrap_or(0);
    header.set_mtime(seconds.min(MAX_NUMBER));
    header.set_cksum();
    header
}

fn copy(name: &[u8], field: &mut [u8]) {
    let length = name.len().min(field.len());
    field[..length].copy_from_slice(&name[..length]);
}

fn extensions(entry: &WriteEntry<'_>) -> Vec<(String, Vec<u8>)> {
    let metadata = entry.metadata;
    let mut extensions = Vec::new();
    let mut add = |key: &str, value: Vec<u8>| extensions.push((key.to_owned(), value));
    for (key, name) in [("path", entry.path), ("linkpath", entry.link)] {
        if name.len() > MAX_NAME || !name.is_ascii() {
            add(key, name.to_vec());
        }
    }
    for (key, number, most) in [
        ("uid", metadata.uid, MAX_ID),
        ("gid", metadata.gid, MAX_ID),
        ("size", entry.size, MAX_NUMBER),
    ] {
        if number > most {
            add(key, number.to_string().into_bytes());
        }
    }
    let whole = u64::try_from(metadata.modified.seconds).is_ok_and(|time| time <= MAX_NUMBER);
    if !whole || metadata.modified.nanoseconds > 0 {
        add("mtime", decimal(metadata.modified).into_bytes());
    }
    for (name, value) in &metadata.xattrs {
        // A pax key is text up to the first "="; attributes with other names cannot be told.
        if let Ok(name) = std::str::from_utf8(name)
            && !name.contains('=')
        {
            add(&format!("{XATTR_PREFIX}{name}"), value.clone());
        }
    }
    extensions
}

/// Seconds with a fraction; before 1970 both count backwards.
fn decimal(time: Timestamp) -> String {
    let Timestamp {
        seconds,
        nanoseconds,
    } = time;
    match nanoseconds {
        0 => seconds.to_string(),
        _ if seconds >= 0 => format!("{seconds}.{nanoseconds:09}"),
        _ => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tarball::TarReader;

    fn round_trip(entry: &WriteEntry<'_>, data: &[u8]) -> (crate::tarball::Entry, Vec<u8>) {
        let mut writer = TarWriter::new(Vec::new());
        writer.append(entry, data).unwrap();
        let bytes = writer.finish().unwrap();
        let mut reader = TarReader::new(&bytes[..]);
        let read = reader.next_entry().unwrap().unwrap();
        let mut contents = Vec::new();
        reader.read_to_end(&mut contents).unwrap();
        assert_eq!(reader.next_entry().unwrap(), None);
        (read, contents)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            path in "[a-zé/]{1,300}[a-z]",
            mode in 0_u32..0o10000,
            uid: u32,
            seconds in -10_000_000_000_i64..100_000_000_000,
            nanoseconds in 0_u32..1_000_000_000,
            value: Vec<u8>,
            data: Vec<u8>,
        ) {
            let metadata = Metadata {
                device: None,
                mode,
                uid: uid.into(),
                gid: u64::from(uid / 2),
                modified: Timestamp { seconds, nanoseconds },
                xattrs: vec![(b"user.x".to_vec(), value)],
                is_sparse: false,
            };
            let size = data.len() as u64;
            let entry = WriteEntry { path: path.as_bytes(), kind: Kind::File, link: b"", size, metadata: &metadata };
            let (read, contents) = round_trip(&entry, &data);
            prop_assert_eq!(read.path, path.as_bytes());
            prop_assert_eq!(read.metadata, metadata);
            prop_assert_eq!(contents, data);
        }
    }

    #[test]
    fn what_is_written_piece_by_piece_is_what_the_writer_writes() {
        let metadata = Metadata::default();
        for size in [0_usize, 1, 511, 512, 513] {
            let data = vec![b'x'; size];
            let entry = WriteEntry {
                path: b"piece",
                kind: Kind::File,
                link: b"",
                size: size as u64,
                metadata: &metadata,
            };
            let mut writer = TarWriter::new(Vec::new());
            writer.append(&entry, data.as_slice()).unwrap();
            let mut pieces = heading(&entry).unwrap();
            pieces.extend(&data);
            pieces.resize(pieces.len() + padding(size as u64) + 2 * BLOCK, 0);
            assert_eq!(pieces, writer.finish().unwrap());
        }
    }

    #[test]
    fn a_size_beyond_octal_is_told_by_pax() {
        let metadata = Metadata::default();
        let entry = WriteEntry {
            path: b"large",
            kind: Kind::File,
            link: b"",
            size: 1 << 40,
            metadata: &metadata,
        };
        let mut bytes = Vec::new();
        // The data is not there: only the headers are looked at.
        let mut writer = TarWriter::new(&mut bytes);
        writer.append(&entry, io::empty()).unwrap();
        writer.finish().unwrap();
        let read = TarReader::new(&bytes[..]).next_entry().unwrap().unwrap();
        assert_eq!(read.size, 1 << 40);
    }
}
