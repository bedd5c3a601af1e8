//! Images: their documents, what those say, and whether layers are what they say.
//!
//! Whatever brings an image in (an archive here, a registry elsewhere) reads its manifest by [`Found`],
//! its layers by [`scan`], and hands an [`ImageContent`] to a backend. Documents and layers are taken for
//! hostile: every size, count and depth has a bound.

mod archive;
mod documents;
mod hashing;
pub(crate) mod layer_tar;
mod platform;
mod root_files;
pub(crate) mod save;
pub mod scan;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

pub use self::archive::Archive;
pub use self::documents::{Document, Entry, MANIFEST_TYPES, MAX_INDEX_DEPTH, SelfDescribed};
pub use self::platform::{Offers, distance};
use crate::model::image::{AccountFiles, Descriptor, ImageConfig, Platform};
use crate::model::limits::MAX_LAYERS;
use crate::model::{Digest, errno};

/// What a manifest says of an image, before its config and layers are read.
#[derive(Debug, Clone)]
pub struct Found {
    /// References that it is to have, normalised.
    pub references: BTreeSet<String>,
    /// The manifest's descriptor.
    pub target: Descriptor,
    /// The manifest, JSON.
    pub manifest: Vec<u8>,
    /// The config's descriptor.
    pub config: Descriptor,
    /// The layers' blobs, lowest first.
    pub layers: Vec<Descriptor>,
}

/// One image: verified, of one platform, ready to be ingested.
#[derive(Debug)]
pub struct ImageContent {
    /// References that it is to have, normalised.
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
    /// The accounts in the layers; empty as long as those are still coming in.
    pub accounts: AccountFiles,
    /// Where the layers' blobs are.
    pub source: Arc<dyn LayerSource>,
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

/// Where the blobs of an image's layers come from. They may still be on their way: then what is asked for blocks.
pub trait LayerSource: fmt::Debug + Send + Sync {
    /// A layer's blob, as stored, while it comes in. What has been read is right only once [`Self::verified`] says so.
    ///
    /// # Errors
    /// If it cannot be had.
    fn open(&self, layer: &Layer) -> io::Result<Box<dyn Read + Send>>;

    /// The file that has a layer's blob, whole and of its digest; what is in it is known only once [`Self::verified`]
    /// says so. It may be linked, and nobody changes it.
    ///
    /// # Errors
    /// If it cannot be had, or is something else.
    fn file(&self, layer: &Layer) -> io::Result<PathBuf>;

    /// Returns once a layer's blob and tar are known to be what their digests say.
    ///
    /// # Errors
    /// If they are something else, or nobody will know.
    fn verified(&self, layer: &Layer) -> io::Result<()>;

    /// Returns once all of the image is known to be right. Nothing names it before.
    ///
    /// # Errors
    /// If something of it is not, or nobody will know.
    fn accepted(&self) -> io::Result<()>;

    /// The backend begins to unpack a layer, which it does not have.
    fn unpacking(&self, _layer: &Layer) {}

    /// The backend has this layer.
    fn unpacked(&self, _layer: &Layer) {}
}

impl Found {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`ImageError::Invalid`] if it is none, or not one of a container's image.
    pub fn of_manifest(target: Descriptor, manifest: Vec<u8>) -> Result<Self, ImageError> {
        let what = format!("manifest {}", target.digest);
        let read = documents::manifest(&manifest, &what)?;
        if Document::of(&read.config.media_type) != Document::Config {
            return Err(invalid(format!(
                "{what} is of {:?}, not of a container",
                read.config.media_type
            )));
        }
        Ok(Self {
            references: BTreeSet::new(),
            config: (&read.config).into(),
            layers: read.layers.iter().map(Descriptor::from).collect(),
            target,
            manifest,
        })
    }
}

impl ImageContent {
    /// Puts together what a manifest and its config say.
    ///
    /// # Errors
    /// [`ImageError::Invalid`] if they contradict each other.
    pub fn new(
        found: Found,
        config_json: Vec<u8>,
        source: Arc<dyn LayerSource>,
    ) -> Result<Self, ImageError> {
        let what = format!("config {}", found.config.digest);
        let config_json =
            String::from_utf8(config_json).map_err(|_| invalid(format!("{what} is not UTF-8")))?;
        let config: documents::ConfigJson = documents::parse(config_json.as_bytes(), &what)?;
        let diff_ids = config.rootfs.diff_ids.as_deref().unwrap_or_default();
        Ok(Self {
            layers: stack(&found, diff_ids)?,
            references: found.references,
            target: found.target,
            manifest: found.manifest.into(),
            config: found.config,
            process: config.process(),
            platform: config.platform.into(),
            config_json: config_json.into(),
            accounts: AccountFiles::default(),
            source,
        })
    }
}

/// Puts the manifest's layers and the config's diff ids together.
fn stack(found: &Found, diff_ids: &[Digest]) -> Result<Vec<Layer>, ImageError> {
    let count = found.layers.len();
    if count != diff_ids.len() {
        return Err(invalid(format!(
            "manifest {} has {count} layers, its config {}",
            found.target.digest,
            diff_ids.len()
        )));
    }
    if count == 0 || count > MAX_LAYERS {
        return Err(invalid(format!(
            "image {} has {count} layers; 1 to {MAX_LAYERS} can be stacked",
            found.config.digest
        )));
    }
    let mut chain_id: Option<Digest> = None;
    let layers = found.layers.iter().zip(diff_ids);
    let layers = layers.map(|(descriptor, diff_id)| {
        let chain_id = chain_id.insert(chained(chain_id.as_ref(), diff_id)).clone();
        Layer {
            descriptor: descriptor.clone(),
            diff_id: diff_id.clone(),
            chain_id,
        }
    });
    Ok(layers.collect())
}

/// image-spec, config.md, "Layer ChainID".
fn chained(below: Option<&Digest>, diff_id: &Digest) -> Digest {
    match below {
        None => diff_id.clone(),
        Some(below) => {
            let hash = Sha256::digest(format!("{below} {diff_id}").as_bytes());
            Digest::from_hash(hash.into())
        }
    }
}

fn invalid(problem: impl Into<String>) -> ImageError {
    ImageError::Invalid {
        problem: problem.into(),
    }
}

/// What it means that content cannot be read.
fn read_error(error: &io::Error) -> ImageError {
    match error.raw_os_error() {
        Some(_) => ImageError::Io {
            detail: error.to_string(),
        },
        None => invalid(error.to_string()),
    }
}

impl ImageError {
    /// What it means that the directory that an image comes into cannot be used.
    pub(crate) fn of_disk(directory: &Path, error: &io::Error) -> Self {
        if errno::is_full(error) {
            return Self::NoSpace {
                path: directory.display().to_string(),
            };
        }
        Self::Io {
            detail: error.to_string(),
        }
    }
}

/// What can be wrong with an image that comes in.
#[derive(Debug, Clone, Error)]
pub enum ImageError {
    /// It is of no known form, or breaks its form.
    #[error("the image cannot be read: {problem}")]
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
    /// It has no content for the platform.
    #[error("the image has nothing for {platform}; it has {available}")]
    PlatformNotFound {
        /// What was asked for.
        platform: String,
        /// What there is, comma-separated.
        available: String,
    },
    /// The disk is full.
    #[error("no space left for the image in {path}")]
    NoSpace {
        /// The directory that it comes into.
        path: String,
    },
    /// The directory that it comes into cannot be used.
    #[error("the image cannot be taken in: {detail}")]
    Io {
        /// What the system says.
        detail: String,
    },
}
