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
}

impl<R: Read> Read for Expanding<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.plain.read(buffer)?;
        self.given += got as u64;
        if self.given > most_of(self.taken.load(Ordering::Relaxed)) {
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

fn refused(name: &[u8], problem: &'static str) -> LayerTarError {
    LayerTarError::Entry {
        name: shown(name),
        problem,
    }
}

/// A name as messages show it, at most a line.
pub(crate) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(256)]).into_owned()
}
