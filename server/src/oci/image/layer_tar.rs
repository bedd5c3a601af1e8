//! A layer's tar as both read it: who verifies a layer, and who unpacks one. What no file system could take, or what is
//! there to exhaust one, is refused here, so that all backends refuse the same.

use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use thiserror::Error;

use crate::model::limits::{
    ARCHIVE_NAME_OVERHEAD_BYTES, MAX_ARCHIVE_DEPTH, MAX_EXPANSION, MAX_EXPANSION_FREE_BYTES,
    MAX_LAYER_DIRECTORY_BYTES, MAX_LAYER_ENTRIES, MAX_PATH_BYTES, MAX_UNPACKED_BYTES,
};
use crate::tarball::{Compression, Entry, Kind, TarReader, decompress};

const BUFFER: usize = 128 << 10;
/// Longest name of one file, as the kernel allows.
const MAX_STEP_BYTES: usize = 255;

/// Why a layer is none.
#[derive(Debug, Error)]
pub(crate) enum LayerTarError {
    /// It is no tar, or breaks off.
    #[error("the layer cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// An entry makes no sense, or would be outside of the layer.
    #[error("entry {name:?} {problem}")]
    Entry {
        /// As in the layer.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// What may come of so many bytes.
fn most_of(packed: u64) -> u64 {
    let most = packed.saturating_mul(MAX_EXPANSION);
    MAX_UNPACKED_BYTES.min(most.saturating_add(MAX_EXPANSION_FREE_BYTES))
}

/// The plain stream of what may be a bomb, and how it was compressed. It fails, with `FileTooLarge`, once more has come
/// of it than may.
///
/// # Errors
/// If the start cannot be read.
pub(crate) fn expand<'a>(
    packed: impl Read + Send + 'a,
) -> io::Result<(Compression, impl Read + Send + 'a)> {
    expand_to(packed, most_of)
}

fn expand_to<'a>(
    packed: impl Read + Send + 'a,
    most: fn(u64) -> u64,
) -> io::Result<(Compression, impl Read + Send + 'a)> {
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Counted {
        inner: packed,
        taken: Arc::clone(&taken),
    };
    let (compression, plain) = decompress(BufReader::with_capacity(BUFFER, counted))?;
    let expanding = Expanding {
        plain,
        given: 0,
        taken,
        most,
    };
    Ok((compression, expanding))
}

struct Counted<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.taken.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}

struct Expanding<R> {
    plain: R,
    given: u64,
    taken: Arc<AtomicU64>,
    most: fn(u64) -> u64,
}

impl<R: Read> Read for Expanding<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.plain.read(buffer)?;
        self.given += got as u64;
        if self.given > (self.most)(self.taken.load(Ordering::Relaxed)) {
            let problem = "it expands to more than any content does";
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
        }
        Ok(got)
    }
}

/// The entries of a layer. As a reader it gives the current entry's data.
#[derive(Debug)]
pub(crate) struct LayerTar<R> {
    tar: TarReader<R>,
    largest: u64,
    entries: u64,
    directory_bytes: usize,
}

impl<R: Read> LayerTar<R> {
    /// Of a plain stream, from a blob of that size.
    pub(crate) fn new(plain: R, blob_bytes: u64) -> Self {
        Self {
            tar: TarReader::new(plain),
            largest: most_of(blob_bytes),
            entries: 0,
            directory_bytes: 0,
        }
    }

    /// The stream beneath, as far as it was read.
    pub(crate) fn into_inner(self) -> R {
        self.tar.into_inner()
    }

    /// Goes to the next entry. Its path, and what it is a hard link to, are relative and plain.
    ///
    /// # Errors
    /// [`LayerTarError`].
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, LayerTarError> {
        let Some(mut entry) = self.tar.next_entry()? else {
            return Ok(None);
        };
        self.check(&entry)?;
        entry.path = plain(&entry.path)?;
        if entry.kind == Kind::Hardlink {
            entry.link = plain(&entry.link)?;
        }
        Ok(Some(entry))
    }

    fn check(&mut self, entry: &Entry) -> Result<(), LayerTarError> {
        self.entries += 1;
        if entry.kind == Kind::Directory {
            self.directory_bytes += entry.path.len() + ARCHIVE_NAME_OVERHEAD_BYTES;
        }
        let problem = if self.entries > MAX_LAYER_ENTRIES {
            "is one too many"
        } else if self.directory_bytes > MAX_LAYER_DIRECTORY_BYTES {
            "is a directory too many"
        } else if entry.metadata.is_sparse {
            "is sparse in a form that is not read"
        } else if entry.size > self.largest {
            "is larger than what can come of the layer"
        } else if entry.link.len() > MAX_PATH_BYTES {
            "leads to too long a name"
        } else {
            return Ok(());
        };
        Err(refused(&entry.path, problem))
    }
}

impl<R: Read> Read for LayerTar<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tar.read(buffer)
    }
}

/// Relative, without empty steps, `.` and `..`.
fn plain(path: &[u8]) -> Result<Vec<u8>, LayerTarError> {
    let steps = path.split(|byte| *byte == b'/');
    let steps: Vec<&[u8]> = steps.filter(|step| !matches!(*step, b"" | b".")).collect();
    let problem = if path.contains(&0) {
        "has a zero byte"
    } else if path.len() > MAX_PATH_BYTES || steps.iter().any(|it| it.len() > MAX_STEP_BYTES) {
        "is too long a name"
    } else if steps.contains(&&b".."[..]) {
        "leads out of the layer"
    } else if steps.len() > MAX_ARCHIVE_DEPTH {
        "is too deep"
    } else {
        return Ok(steps.join(&b'/'));
    };
    Err(refused(path, problem))
}

/// What is wrong with an entry.
pub(crate) fn refused(name: &[u8], problem: &'static str) -> LayerTarError {
    LayerTarError::Entry {
        name: shown(name),
        problem,
    }
}

/// A name as messages show it, at most a line.
pub(crate) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(256)]).into_owned()
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "tests fail by panicking")]
mod tests {
    use std::io::Write as _;

    use tar::{EntryType, Header};

    use super::*;

    const FILE: EntryType = EntryType::Regular;
    const DIRECTORY: EntryType = EntryType::Directory;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(plain).expect("in memory");
        encoder.finish().expect("in memory")
    }

    /// What comes of it, and how it ends.
    fn expanded(packed: &[u8]) -> (usize, io::Result<()>) {
        let tenfold = |packed| packed * 10;
        let (_, mut plain) = expand_to(packed, tenfold).expect("a start");
        let mut all = Vec::new();
        let ended = plain.read_to_end(&mut all).map(drop);
        (all.len(), ended)
    }

    /// A tar of one entry, whose path, link and size are written as they are.
    fn entry(kind: EntryType, path: &str, link: &str, size: u64) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_pax_extensions([("path", path.as_bytes()), ("linkpath", link.as_bytes())])
            .expect("in memory");
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        tar.append(&header, io::empty()).expect("in memory");
        tar.into_inner().expect("in memory")
    }

    fn layer(bytes: &[u8]) -> LayerTar<&[u8]> {
        LayerTar::new(bytes, bytes.len() as u64)
    }

    #[track_caller]
    fn assert_refused(bytes: &[u8], part: &str) {
        match layer(bytes).next_entry() {
            Err(LayerTarError::Entry { problem, .. }) => {
                assert!(problem.contains(part), "{problem}")
            }
            other => assert!(
                matches!(other, Err(LayerTarError::Entry { .. })),
                "{other:?}"
            ),
        }
    }

    #[test]
    fn content_expands_and_bombs_do_not() {
        let text: Vec<u8> = (0..200_000_u32)
            .flat_map(|n| n.wrapping_pow(2).to_le_bytes())
            .collect();
        let (zeros, at_most) = (vec![0; 8 << 20], (8 << 20) / 10);
        for packed in [
            gzip(&text),
            zstd::encode_all(&*text, 3).expect("in memory"),
            text.clone(),
        ] {
            let (bytes, ended) = expanded(&packed);
            assert_eq!((bytes, ended.is_ok()), (text.len(), true));
        }
        for packed in [
            gzip(&zeros),
            zstd::encode_all(&*zeros, 3).expect("in memory"),
        ] {
            let (bytes, ended) = expanded(&packed);
            let error = ended.expect_err("a bomb");
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
            assert!(bytes < at_most, "{bytes}");
        }
    }

    #[test]
    fn zeros_in_good_company_are_no_bomb() {
        let noise: Vec<u8> = (0..50_000_u32)
            .flat_map(|n| n.wrapping_pow(3).to_le_bytes())
            .collect();
        let whole = [&noise[..], &vec![0; 1 << 20]].concat();
        let (bytes, ended) = expanded(&gzip(&whole));
        assert_eq!((bytes, ended.is_ok()), (whole.len(), true));
    }

    #[test]
    fn what_can_never_come_of_a_blob_is_refused_by_its_header() {
        assert_refused(&entry(FILE, "large", "", 1 << 40), "larger");
        assert_refused(&entry(FILE, "larger", "", 5 << 30), "larger");
        let largest = entry(FILE, "large", "", 4 << 30);
        let taken = layer(&largest).next_entry();
        assert_eq!(taken.expect("it can").expect("one").size, 4 << 30);
    }

    #[test]
    fn names_that_no_file_system_takes_are_refused() {
        assert_refused(&entry(FILE, &"n".repeat(256), "", 0), "too long");
        assert_refused(&entry(FILE, &"name/".repeat(1_000), "", 0), "too long");
        assert_refused(&entry(DIRECTORY, &"d/".repeat(257), "", 0), "too deep");
        assert_refused(
            &entry(EntryType::Symlink, "link", &"l/".repeat(3_000), 0),
            "too long",
        );
        assert_refused(
            &entry(EntryType::Link, "link", "../../etc/passwd", 0),
            "leads out",
        );
        assert_refused(&entry(FILE, "a/../../b", "", 0), "leads out");
        let plain = entry(
            FILE,
            &format!("./{}//{}", "d/".repeat(255), "n".repeat(255)),
            "",
            0,
        );
        let taken = layer(&plain).next_entry().expect("fits").expect("one");
        assert_eq!(taken.path.len(), 2 * 255 + 255);
    }

    #[test]
    fn names_of_a_megabyte_are_not_even_read() {
        let bytes = entry(FILE, &"n".repeat(1 << 20), "", 0);
        let read = layer(&bytes).next_entry();
        assert!(
            matches!(read, Err(LayerTarError::Unreadable(_))),
            "{read:?}"
        );
    }

    #[test]
    fn sparse_files_of_any_size_are_refused() {
        assert_refused(&entry(EntryType::GNUSparse, "holes", "", 0), "sparse");
        let mut tar = tar::Builder::new(Vec::new());
        let terabyte = b"1099511627776".as_slice();
        let map = b"0,0".as_slice();
        tar.append_pax_extensions([("GNU.sparse.size", terabyte), ("GNU.sparse.map", map)])
            .expect("in memory");
        let bytes = [
            tar.into_inner().expect("in memory"),
            entry(FILE, "holes", "", 0),
        ];
        let pax_alone = &bytes[0][..bytes[0].len() - 1_024];
        assert_refused(&[pax_alone, &bytes[1]].concat(), "sparse");
    }

    #[test]
    fn entries_and_directories_are_counted() {
        let bytes = entry(FILE, "a", "", 0);
        let mut last = layer(&bytes);
        last.entries = MAX_LAYER_ENTRIES - 1;
        last.next_entry().expect("the last one").expect("one");
        let mut beyond = layer(&bytes);
        beyond.entries = MAX_LAYER_ENTRIES;
        beyond.next_entry().expect_err("one too many");

        let bytes = entry(DIRECTORY, "a", "", 0);
        let mut beyond = layer(&bytes);
        beyond.directory_bytes = MAX_LAYER_DIRECTORY_BYTES;
        beyond.next_entry().expect_err("one too many");
    }
}
