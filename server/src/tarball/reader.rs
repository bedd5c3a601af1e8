//! Reads tar streams that may be hostile: every allocation is bounded, nothing is written.
//!
//! The `tar` crate decodes the headers; its own iterator is not used, because it reads long names and
//! extended headers of any declared size into memory. What counts as an entry's data follows Go's
//! archive/tar, which is what containerd unpacks layers with: two readers that differ could be made to
//! see different files.
//!
//! Formats: tar(5) of libarchive; POSIX pax, "pax Interchange Format"; GNU tar manual, "Basic Tar Format".

use std::io::{self, Read};

use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// Extended headers and long names of one entry, all together: room for many xattrs, none for an attack.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;
/// Largest entry: far above any limit of ours, and low enough to count with.
const MAX_DATA_BYTES: u64 = 1 << 60;
/// What the names of extended attributes begin with in pax headers.
pub(super) const XATTR_PREFIX: &str = "SCHILY.xattr.";
/// Where an old GNU sparse header, and each of its continuations, says that one more follows.
const SPARSE_MORE: usize = 482;
const SPARSE_CONTINUED_MORE: usize = 504;
const MODE_BITS: u32 = 0o7777;
const NANOSECONDS: u32 = 1_000_000_000;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file: its data can be read.
    File,
    Directory,
    Symlink,
    Hardlink,
    Fifo,
    Device,
}

/// One entry. Its data is read from the [`TarReader`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As in the archive.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// Target of a link.
    pub(crate) link: Vec<u8>,
    /// Bytes of data that follow.
    pub(crate) size: u64,
    pub(crate) metadata: Metadata,
}

/// What an archive says of a file besides its contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// Permission bits, 0..=07777.
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) modified: Timestamp,
    /// Extended attributes: names with their values.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the data is a map of holes and what is between them, in one of GNU tar's forms.
    pub(crate) is_sparse: bool,
    /// Of a device: which one.
    pub(crate) device: Option<Device>,
}

/// A device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) is_block: bool,
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// A time since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Timestamp {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// A tar stream. As a reader it gives the current entry's data.
#[derive(Debug)]
pub(crate) struct TarReader<R> {
    inner: R,
    data: u64,
    padding: u64,
    ended: bool,
}

/// What extended headers say of the entry that follows them.
#[derive(Debug, Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<Timestamp>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    is_sparse: bool,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            data: 0,
            padding: 0,
            ended: false,
        }
    }

    /// The stream beneath, as far as it was read.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    /// Goes to the next entry, past what is left of the current one; `None` at the end.
    ///
    /// # Errors
    /// `UnexpectedEof` or `InvalidData` for what is no tar; whatever the stream beneath gives.
    pub(crate) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        let mut extension = Extension::default();
        let mut room = MAX_EXTENSION_BYTES;
        loop {
            self.skip()?;
            let Some(block) = self.header()? else {
                return Ok(None);
            };
            let header = Header::from_byte_slice(&block);
            let kind = header.entry_type();
            if kind.is_pax_local_extensions() {
                extension.read_pax(&self.extension(header, &mut room)?)?;
            } else if kind.is_pax_global_extensions() {
                self.extension(header, &mut room)?;
            } else if kind.is_gnu_longname() {
                extension.path = Some(self.long_name(header, &mut room)?);
            } else if kind.is_gnu_longlink() {
                extension.link = Some(self.long_name(header, &mut room)?);
            } else {
                return self.entry(&block, kind, extension).map(Some);
            }
        }
    }

    fn entry(
        &mut self,
        block: &[u8; BLOCK],
        kind: EntryType,
        mut extension: Extension,
    ) -> io::Result<Entry> {
        let header = Header::from_byte_slice(block);
        if kind == EntryType::GNUSparse {
            self.skip_sparse_map(block)?;
            extension.is_sparse = true;
        }
        let path = extension.path.take();
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extension
            .link
            .take()
            .or_else(|| header.link_name_bytes().map(|link| link.into_owned()))
            .unwrap_or_default();
        let kind = kind_of(kind, &path)?;
        let size = match (kind, extension.size) {
            (Kind::File, Some(size)) => size,
            (Kind::File, None) => header.entry_size()?,
            // Whatever the header says: these have no data.
            (Kind::Directory | Kind::Symlink | Kind::Hardlink | Kind::Fifo | Kind::Device, _) => 0,
        };
        self.begin(size)?;
        Ok(Entry {
            path,
            kind,
            link,
            size,
            metadata: Metadata {
                device: device_of(kind, header),
                ..extension.metadata(header)?
            },
        })
    }

    fn begin(&mut self, size: u64) -> io::Result<()> {
        if size > MAX_DATA_BYTES {
            return Err(invalid("a tar entry is too large to be true"));
        }
        let block = BLOCK as u64;
        self.data = size;
        self.padding = (block - size % block) % block;
        Ok(())
    }

    /// One header, or `None` at the end: a block of zeros, or the stream's end between entries.
    fn header(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        if self.ended {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        let got = read_up_to(&mut self.inner, &mut block)?;
        if got == 0 || (got == BLOCK && block == [0; BLOCK]) {
            self.ended = true;
            return Ok(None);
        }
        if got < BLOCK {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if checksum(&block) != Header::from_byte_slice(&block).cksum()? {
            return Err(invalid("a tar header's checksum is wrong"));
        }
        Ok(Some(block))
    }

    /// The data of an extended header, for which there must be room.
    fn extension(&mut self, header: &Header, room: &mut u64) -> io::Result<Vec<u8>> {
        let size = header.entry_size()?;
        let left = room.checked_sub(size);
        *room = left.ok_or_else(|| invalid("the extended headers of a tar entry are too large"))?;
        self.begin(size)?;
        let mut data = Vec::new();
        self.read_to_end(&mut data)?;
        Ok(data)
    }

    fn long_name(&mut self, header: &Header, room: &mut u64) -> io::Result<Vec<u8>> {
        let mut name = self.extension(header, room)?;
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    fn skip_sparse_map(&mut self, block: &[u8; BLOCK]) -> io::Result<()> {
        let mut more = block[SPARSE_MORE] != 0;
        while more {
            let mut continuation = [0; BLOCK];
            self.inner.read_exact(&mut continuation)?;
            more = continuation[SPARSE_CONTINUED_MORE] != 0;
        }
        Ok(())
    }

    /// Reads past the rest of the current entry. The padding after the last one may be missing: some
    /// tools leave it out (umoci), and Go's reader takes that for the end.
    fn skip(&mut self) -> io::Result<()> {
        if self.discard(self.data)? < self.data {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.discard(self.padding)? < self.padding {
            self.ended = true;
        }
        (self.data, self.padding) = (0, 0);
        Ok(())
    }

    fn discard(&mut self, bytes: u64) -> io::Result<u64> {
        io::copy(&mut (&mut self.inner).take(bytes), &mut io::sink())
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.data).unwrap_or(usize::MAX);
        let most = most.min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let got = self.inner.read(&mut buffer[..most])?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.data -= got as u64;
        Ok(got)
    }
}

impl Extension {
    /// Records of the form `length key=value\n`, where the length counts the record itself.
    fn read_pax(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let (record, rest) =
                split_record(data).ok_or_else(|| invalid("a pax header is malformed"))?;
            self.set(record)?;
            data = rest;
        }
        Ok(())
    }

    fn set(&mut self, (key, value): (&[u8], &[u8])) -> io::Result<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"mtime" => {
                let time = Timestamp::parse(value);
                self.modified = Some(time.ok_or_else(|| invalid("a pax time is malformed"))?);
            }
            _ if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
            _ => {
                let xattr = key.strip_prefix(XATTR_PREFIX.as_bytes());
                self.xattrs
                    .extend(xattr.map(|name| (name.to_vec(), value.to_vec())));
            }
        }
        Ok(())
    }

    fn metadata(self, header: &Header) -> io::Result<Metadata> {
        let old = header.as_old();
        let seconds = || -> io::Result<Timestamp> {
            let seconds = numeric(&old.mtime, || header.mtime())?;
            Ok(Timestamp {
                seconds: i64::try_from(seconds).map_err(|_| invalid("a tar time is malformed"))?,
                nanoseconds: 0,
            })
        };
        Ok(Metadata {
            mode: numeric(&old.mode, || header.mode())? & MODE_BITS,
            uid: self
                .uid
                .map_or_else(|| numeric(&old.uid, || header.uid()), Ok)?,
            gid: self
                .gid
                .map_or_else(|| numeric(&old.gid, || header.gid()), Ok)?,
            modified: self.modified.map_or_else(seconds, Ok)?,
            xattrs: self.xattrs,
            is_sparse: self.is_sparse,
            device: None,
        })
    }
}

/// `None` for what is no device, and for one whose number makes no sense: who makes devices refuses it.
fn device_of(kind: Kind, header: &Header) -> Option<Device> {
    let number = |number: io::Result<Option<u32>>| number.ok().flatten();
    (kind == Kind::Device).then_some(())?;
    Some(Device {
        is_block: header.entry_type().is_block_special(),
        major: number(header.device_major())?,
        minor: number(header.device_minor())?,
    })
}

impl Timestamp {
    /// `seconds`, `seconds.fraction`, or either with a minus sign.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let (sign, digits) = match text.strip_prefix(b"-") {
            Some(digits) => (-1, digits),
            None => (1, text),
        };
        let mut parts = digits.splitn(2, |byte| *byte == b'.');
        let seconds = i64::try_from(decimal(parts.next()?)?).ok()? * sign;
        let fraction = parts.next().map_or(Some(0), nanoseconds)?;
        Some(match (sign, fraction) {
            // What is before a full second is counted from the one before.
            (-1, 1..) => Self {
                seconds: seconds.checked_sub(1)?,
                nanoseconds: NANOSECONDS - fraction,
            },
            _ => Self {
                seconds,
                nanoseconds: fraction,
            },
        })
    }
}

/// The first nine digits of a fraction.
fn nanoseconds(fraction: &[u8]) -> Option<u32> {
    let mut digits = fraction.to_vec();
    digits.resize(9, b'0');
    u32::try_from(decimal(&digits)?).ok()
}

/// A field of a header; one that is empty counts as 0, as with Go's reader.
fn numeric<T: Default>(field: &[u8], read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Ok(T::default());
    }
    read().map_err(|_| invalid("a tar header has a malformed number"))
}

fn number(text: &[u8]) -> io::Result<u64> {
    decimal(text).ok_or_else(|| invalid("a pax header has a malformed number"))
}

type Record<'a> = (&'a [u8], &'a [u8]);

fn split_record(data: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let space = data.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&data[..space])?).ok()?;
    let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some(((&record[..equals], &record[equals + 1..]), &data[length..]))
}

fn decimal(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok())?
}

fn kind_of(kind: EntryType, path: &[u8]) -> io::Result<Kind> {
    if kind.is_file() && path.ends_with(b"/") {
        // How tars older than POSIX say "directory".
        return Ok(Kind::Directory);
    }
    if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
        Ok(Kind::File)
    } else if kind.is_dir() {
        Ok(Kind::Directory)
    } else if kind.is_symlink() {
        Ok(Kind::Symlink)
    } else if kind.is_hard_link() {
        Ok(Kind::Hardlink)
    } else if kind.is_fifo() {
        Ok(Kind::Fifo)
    } else if kind.is_character_special() || kind.is_block_special() {
        Ok(Kind::Device)
    } else {
        Err(invalid("a tar entry is of an unknown type"))
    }
}

/// The sum of all bytes, the checksum's own counted as blanks.
fn checksum(block: &[u8; BLOCK]) -> u32 {
    let own = 148..156;
    let bytes = block.iter().enumerate();
    bytes
        .map(|(at, byte)| u32::from(if own.contains(&at) { b' ' } else { *byte }))
        .sum()
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match reader.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, data) in files {
            let mut header = Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            builder
                .append_data(&mut header, path, *data)
                .expect("appended");
        }
        builder.into_inner().expect("finished")
    }

    fn read_all(bytes: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut reader = TarReader::new(bytes);
        let mut found = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let mut data = Vec::new();
            reader.read_to_end(&mut data)?;
            found.push((String::from_utf8_lossy(&entry.path).into_owned(), data));
        }
        Ok(found)
    }

    #[test]
    fn files_come_with_their_data_and_long_names() {
        let long = "d/".repeat(200) + "file";
        let bytes = tar_of(&[("a", b"one"), (&long, &[7; 1_000]), ("empty", b"")]);
        let found = read_all(&bytes).expect("a tar");
        assert_eq!(found[0], ("a".to_owned(), b"one".to_vec()));
        assert_eq!(found[1], (long, vec![7; 1_000]));
        assert_eq!(found[2], ("empty".to_owned(), Vec::new()));
    }

    #[test]
    fn pax_headers_may_hold_binary_values() {
        let mut data = b"21 xattr.a=1\n2=\x00\xff\n34\n".to_vec();
        data.extend(b"17 path=pax-name\n15 size=000003\n");
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(data.len() as u64);
        header.set_path("pax").expect("a path");
        header.set_cksum();
        builder.append(&header, &data[..]).expect("appended");
        let mut header = Header::new_ustar();
        header.set_size(3);
        builder
            .append_data(&mut header, "other", &b"abc"[..])
            .expect("appended");
        let found = read_all(&builder.into_inner().expect("finished")).expect("a tar");
        assert_eq!(found, [("pax-name".to_owned(), b"abc".to_vec())]);
    }

    #[test]
    fn a_stream_that_stops_within_an_entry_is_an_error() {
        let bytes = tar_of(&[("a", &[1; 600])]);
        for cut in [1, 511, 513, 1_100, 1_111] {
            let error = read_all(&bytes[..cut]).expect_err("cut");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{cut}");
        }
        for cut in [1_112, 1_535] {
            assert_eq!(read_all(&bytes[..cut]).expect("only padding").len(), 1);
        }
    }

    #[test]
    fn a_huge_extension_is_refused_before_it_is_read() {
        for kind in [EntryType::GNULongName, EntryType::XHeader] {
            let mut header = Header::new_gnu();
            header.set_entry_type(kind);
            header.set_size(1 << 40);
            header.set_cksum();
            let error = read_all(header.as_bytes()).expect_err("too large");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn headers_that_each_are_small_are_refused_together() {
        let record = [&b"262144 SCHILY.xattr.user.a="[..], &[7; 262_116], b"\n"].concat();
        assert_eq!(record.len(), 262_144);
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(record.len() as u64);
        header.set_cksum();
        let extension = [header.as_bytes(), &record[..]].concat();
        let of = |count| [extension.repeat(count), tar_of(&[("a", b"one")])].concat();
        let read = |bytes: &[u8]| TarReader::new(bytes).next_entry();
        let entry = read(&of(4)).expect("a tar").expect("an entry");
        assert_eq!(entry.metadata.xattrs.len(), 4);
        let error = read(&of(5)).expect_err("too large");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_size_that_cannot_be_is_refused() {
        let mut header = Header::new_gnu();
        header.set_size(u64::MAX);
        header.set_cksum();
        let error = read_all(header.as_bytes()).expect_err("too large");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_broken_header_is_refused() {
        let mut bytes = tar_of(&[("a", b"one")]);
        bytes[0] ^= 1;
        let error = read_all(&bytes).expect_err("checksum");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(read_all(b"").expect("empty").is_empty());
        assert!(read_all(&[0; 1_024]).expect("ended").is_empty());
    }

    #[test]
    fn times_have_nanoseconds_and_may_be_before_1970() {
        let time = |seconds, nanoseconds| {
            Some(Timestamp {
                seconds,
                nanoseconds,
            })
        };
        assert_eq!(Timestamp::parse(b"12"), time(12, 0));
        assert_eq!(Timestamp::parse(b"12.5"), time(12, 500_000_000));
        assert_eq!(Timestamp::parse(b"12.0000000019"), time(12, 1));
        assert_eq!(Timestamp::parse(b"-1"), time(-1, 0));
        assert_eq!(Timestamp::parse(b"-1.25"), time(-2, 750_000_000));
        for malformed in [
            &b""[..],
            b"-",
            b"1.x",
            b"x",
            b".5",
            b"1.2.3",
            b"99999999999999999999",
        ] {
            assert_eq!(Timestamp::parse(malformed), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = read_all(&bytes);
        }

        #[test]
        fn a_mutated_tar_is_read_or_refused(at in 0_usize..2_048, value: u8) {
            let mut bytes = tar_of(&[("a", b"one"), ("b", &[2; 300])]);
            let at = at % bytes.len();
            bytes[at] = value;
            let _ = read_all(&bytes);
        }

        #[test]
        fn any_pax_header_is_read_or_refused(data: Vec<u8>) {
            let _ = Extension::default().read_pax(&data);
        }
    }
}
