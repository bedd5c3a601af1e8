//! The unpacked copy of an archive: files by digest in the scratch directory, and nothing else on disk.
//!
//! Names from the archive are keys of a map here; none of them ever becomes a path.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{ImageError, Layer, invalid};
use crate::model::Digest;
use crate::model::image::Descriptor;
use crate::model::limits::MAX_CONFIG_BYTES;
use crate::oci::image::documents::{self, ConfigJson};
use crate::oci::image::{LayerSource, read_error};

/// Where a blob is until its digest is known.
const INCOMING: &str = "incoming";
const BUFFER_BYTES: usize = 128 << 10;

#[derive(Debug)]
pub(super) struct Blobs {
    directory: PathBuf,
    sizes: HashMap<Digest, u64>,
}

impl Blobs {
    /// An empty store in `directory`, which must exist.
    pub(super) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
            sizes: HashMap::new(),
        }
    }

    /// Keeps what `data` gives; returns what it is.
    pub(super) fn add(&mut self, data: &mut impl Read) -> Result<(Digest, u64), ImageError> {
        let incoming = self.directory.join(INCOMING);
        let unusable = |error| ImageError::of_disk(&self.directory, &error);
        let mut file = File::create(&incoming).map_err(unusable)?;
        let (digest, size) = copy(data, &mut file, &self.directory)?;
        fs::rename(&incoming, path(&self.directory, &digest)).map_err(unusable)?;
        self.sizes.insert(digest.clone(), size);
        Ok((digest, size))
    }

    /// Opens what `descriptor` points at, which must be there in its size.
    pub(super) fn open(&self, descriptor: &Descriptor) -> Result<File, ImageError> {
        let digest = &descriptor.digest;
        match self.sizes.get(digest) {
            None => Err(invalid(format!("blob {digest} is missing"))),
            Some(size) if *size != descriptor.size_bytes => Err(invalid(format!(
                "blob {digest} has {size} bytes, not {}",
                descriptor.size_bytes
            ))),
            Some(_) => File::open(path(&self.directory, digest))
                .map_err(|error| ImageError::of_disk(&self.directory, &error)),
        }
    }

    /// Reads a JSON document: an index, manifest or config.
    pub(super) fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        if descriptor.size_bytes > MAX_CONFIG_BYTES as u64 {
            return Err(invalid(format!(
                "document {} has {} bytes, more than {MAX_CONFIG_BYTES}",
                descriptor.digest, descriptor.size_bytes
            )));
        }
        let mut bytes = Vec::new();
        self.open(descriptor)?
            .read_to_end(&mut bytes)
            .map_err(|error| ImageError::of_disk(&self.directory, &error))?;
        Ok(bytes)
    }

    /// Reads a config.
    pub(super) fn config(&self, descriptor: &Descriptor) -> Result<ConfigJson, ImageError> {
        let what = format!("config {}", descriptor.digest);
        documents::parse(&self.document(descriptor)?, &what)
    }
}

/// The blobs of an archive, for who ingests its images. The archive has verified them.
#[derive(Debug)]
pub(super) struct Unpacked {
    directory: PathBuf,
}

impl Unpacked {
    pub(super) fn of(blobs: &Blobs) -> Self {
        Self {
            directory: blobs.directory.clone(),
        }
    }
}

impl LayerSource for Unpacked {
    fn open(&self, layer: &Layer) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.file(layer)?)?))
    }

    fn file(&self, layer: &Layer) -> io::Result<PathBuf> {
        Ok(path(&self.directory, &layer.descriptor.digest))
    }

    fn verified(&self, _: &Layer) -> io::Result<()> {
        Ok(())
    }

    fn accepted(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the blob is in a store's directory.
pub(super) fn path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join(digest.hex())
}

/// Copies and hashes. Errors of either side mean different things, so `io::copy` will not do.
fn copy(
    data: &mut impl Read,
    file: &mut File,
    directory: &Path,
) -> Result<(Digest, u64), ImageError> {
    let mut hasher = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let got = match data.read(&mut buffer) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_error(&error)),
        };
        hasher.update(&buffer[..got]);
        file.write_all(&buffer[..got])
            .map_err(|error| ImageError::of_disk(directory, &error))?;
        size += got as u64;
    }
    Ok((Digest::from_hash(hasher.finalize().into()), size))
}
