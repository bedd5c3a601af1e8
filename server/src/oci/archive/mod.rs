//! Image archives: OCI layouts and `docker save` tars, plain, gzip or zstd.
//!
//! ```text
//! archive --tarball--> entries --unpack--> blobs (scratch, by digest) + names
//! names --layout | docker--> manifest, config, layers --content--> ImageContent
//! ```
//!
//! Archives come from callers and are taken for hostile: every size, count and depth has a bound, every
//! digest is verified, and no name of an archive becomes a path on the host. Knows no backend.

mod blobs;
mod content;
mod docker;
mod documents;
mod hashing;
mod layout;
mod platform;
mod root_files;
mod unpack;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

use crate::model::Digest;
use crate::model::image::{AccountFiles, Descriptor, ImageConfig, Platform};

/// An opened archive.
#[derive(Debug)]
pub struct Archive {
    blobs: blobs::Blobs,
    files: unpack::Files,
}

/// One image of an archive: verified, of one platform, ready to be ingested. Blobs stay in the archive's
/// unpacked copy until they are read.
#[derive(Debug)]
pub struct ImageContent {
    /// References that the archive gives it, normalised.
    pub references: BTreeSet<String>,
    /// What it runs on.
    pub platform: Platform,
    /// The manifest's descriptor.
    pub target: Descriptor,
    /// The manifest, JSON (an OCI image manifest; one is made for `docker save` archives).
    pub manifest: Arc<[u8]>,
    /// The config's descriptor; its digest is the image's id.
    pub config: Descriptor,
    /// The config, JSON.
    pub config_json: Arc<str>,
    /// What the config says of the process.
    pub process: ImageConfig,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
    /// The accounts in the layers.
    pub accounts: AccountFiles,
    /// The directory that has the blobs, each by the hex digits of its digest.
    pub blobs: Arc<Path>,
}

/// One layer.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The blob as stored.
    pub descriptor: Descriptor,
    /// Digest of its uncompressed tar.
    pub diff_id: Digest,
    /// Names the stack of layers up to and with this one
    /// (image-spec, "Layer ChainID").
    pub chain_id: Digest,
}

impl Archive {
    /// Reads the archive at `path`, verifies every digest, and unpacks its blobs below `scratch`
    /// (which the caller removes). Blocking.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn open(path: &Path, scratch: &Path) -> Result<Self, ArchiveError> {
        let mut blobs = blobs::Blobs::new(scratch);
        let files = unpack::unpack(path, &mut blobs)?;
        Ok(Self { blobs, files })
    }

    /// The images for `platform`, at least one. Blocking: reads layers to verify them and to find accounts.
    ///
    /// # Errors
    /// [`ArchiveError`].
    pub fn images(&self, platform: &Platform) -> Result<Vec<ImageContent>, ArchiveError> {
        if layout::is_layout(&self.files) {
            layout::images(&self.files, &self.blobs, platform)
        } else if docker::is_saved(&self.files) {
            docker::images(&self.files, &self.blobs, platform)
        } else {
            Err(invalid(
                "it is neither an OCI layout nor made by docker save",
            ))
        }
    }
}

impl ImageContent {
    /// Opens a layer's blob, as stored.
    ///
    /// # Errors
    /// If the scratch directory is gone.
    pub fn open_layer(&self, layer: &Layer) -> io::Result<Box<dyn Read + Send>> {
        let file = File::open(blobs::path(&self.blobs, &layer.descriptor.digest))?;
        Ok(Box::new(file))
    }
}

/// The platforms that an archive has images for, besides the one wanted.
#[derive(Debug, Default)]
struct Offers(BTreeSet<String>);

impl Offers {
    fn add(&mut self, platform: &Platform) {
        // What builders call their attestations.
        if platform.os != "unknown" {
            self.0.insert(platform.to_string());
        }
    }

    fn not_found(self, wanted: &Platform) -> ArchiveError {
        if self.0.is_empty() {
            return invalid("it has no image");
        }
        ArchiveError::PlatformNotFound {
            platform: wanted.to_string(),
            available: self.0.into_iter().collect::<Vec<_>>().join(", "),
        }
    }
}

fn invalid(problem: impl Into<String>) -> ArchiveError {
    ArchiveError::Invalid {
        problem: problem.into(),
    }
}

#[cfg(test)]
mod tests;

/// What can be wrong with an archive.
#[derive(Debug, Clone, Error)]
pub enum ArchiveError {
    /// It is no archive of a known form, or breaks its form.
    #[error("the archive cannot be read: {problem}")]
    Invalid {
        /// What.
        problem: String,
    },
    /// A blob is not what its digest says.
    #[error("blob {expected} is {actual}")]
    DigestMismatch {
        /// What it should be.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// It has no image for the platform.
    #[error("the archive has nothing for {platform}; it has {available}")]
    PlatformNotFound {
        /// What was asked for.
        platform: String,
        /// What there is, comma-separated.
        available: String,
    },
    /// The disk is full.
    #[error("no space left to unpack the archive in {path}")]
    NoSpace {
        /// The scratch directory.
        path: String,
    },
    /// The scratch directory cannot be used.
    #[error("the archive cannot be unpacked: {detail}")]
    Io {
        /// What the system says.
        detail: String,
    },
}
