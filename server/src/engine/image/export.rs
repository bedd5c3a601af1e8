//! Exporting: what the archive is made of is known at once; its blobs are read as fast as the caller takes them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt};
use sha2::{Digest as _, Sha256};

use crate::backend::{BackendError, BlobStream, ContainerBackend};
use crate::engine::core::Core;
use crate::engine::{Engine, Error};
use crate::model::image::{Descriptor, Platform};
use crate::model::limits::{MAX_ARCHIVE_CHUNK, MAX_CONFIG_BYTES};
use crate::model::{Digest, Image};
use crate::oci::reference::ImageKey;
use crate::oci::save::{self, Manifest, Part, SavedImage};

/// An archive of images, as it comes. Dropping it ends the reading.
pub struct Export {
    core: Arc<Core>,
    parts: VecDeque<Part>,
    /// What is left of the piece that came last.
    rest: Bytes,
    blob: Option<OpenBlob>,
}

/// A blob that is being read.
struct OpenBlob {
    expected: Digest,
    hash: Sha256,
    chunks: BlobStream,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("parts", &self.parts.len())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Archives images as an OCI layout that `docker load` reads, too. One that is named by a reference has that in the
    /// archive; by an id or a digest it has no name there.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`], [`Error::PlatformNotFound`], backend.
    pub async fn export_images(
        &self,
        keys: &[String],
        platform: Option<&Platform>,
    ) -> Result<Export, Error> {
        let mut images: BTreeMap<Digest, SavedImage> = BTreeMap::new();
        for key in keys {
            let image = self.core.images.find_for(key, platform)?;
            let digest = image.target.digest.clone();
            if !images.contains_key(&digest) {
                let saved = saved(&self.core, &image).await?;
                images.insert(digest.clone(), saved);
            }
            let named = images.get_mut(&digest).zip(name(&image, key));
            if let Some((saved, name)) = named {
                saved.references.insert(name);
            }
        }
        let parts = save::parts(&images).map_err(|_| Error::Bug {
            what: "an archive's headers cannot be written",
        })?;
        Ok(Export {
            core: Arc::clone(&self.core),
            parts,
            rest: Bytes::new(),
            blob: None,
        })
    }
}

/// The reference that `key` is, if it is one.
fn name(image: &Image, key: &str) -> Option<String> {
    match ImageKey::parse(key) {
        Ok(ImageKey::Reference(reference)) => image.references.get(&reference).cloned(),
        Ok(ImageKey::Id(_)) | Err(_) => None,
    }
}

async fn saved(core: &Core, image: &Image) -> Result<SavedImage, Error> {
    let manifest = read_manifest(core, &image.target).await?;
    let manifest = Manifest::parse(&manifest).map_err(|error| {
        tracing::warn!(image = %image.id, %error, "a stored manifest cannot be read");
        Error::Bug {
            what: "a manifest that was taken in cannot be read",
        }
    })?;
    Ok(SavedImage {
        target: image.target.clone(),
        platform: image.platform.clone(),
        references: [].into(),
        manifest,
    })
}

async fn read_manifest(core: &Core, target: &Descriptor) -> Result<BytesMut, Error> {
    if target.size_bytes > MAX_CONFIG_BYTES as u64 {
        return Err(Error::Bug {
            what: "a manifest that was taken in is too large",
        });
    }
    let chunks = core.backend.open_blob(target).await?;
    let gather = async |mut all: BytesMut, chunk: Bytes| {
        all.extend_from_slice(&chunk);
        Ok(all)
    };
    let manifest = chunks.try_fold(BytesMut::new(), gather).await?;
    let actual = Digest::of(&manifest);
    if actual != target.digest {
        return Err(mismatch(&target.digest, &actual));
    }
    Ok(manifest)
}

fn mismatch(expected: &Digest, actual: &Digest) -> Error {
    BackendError::DigestMismatch {
        expected: expected.to_string(),
        actual: actual.to_string(),
    }
    .into()
}

impl Export {
    /// The next bytes, at most [`MAX_ARCHIVE_CHUNK`]; `None` after the last.
    ///
    /// # Errors
    /// Backend: [`BackendError::BlobMissing`] if an image was deleted meanwhile.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        while self.rest.is_empty() {
            if let Some(blob) = &mut self.blob {
                match blob.next().await? {
                    Some(chunk) => self.rest = chunk,
                    None => self.blob = None,
                }
                continue;
            }
            match self.parts.pop_front() {
                Some(Part::Bytes(bytes)) => self.rest = bytes,
                Some(Part::Blob(blob)) => self.blob = Some(open(&self.core, blob).await?),
                None => return Ok(None),
            }
        }
        let length = self.rest.len().min(MAX_ARCHIVE_CHUNK);
        Ok(Some(self.rest.split_to(length)))
    }
}

async fn open(core: &Core, blob: Descriptor) -> Result<OpenBlob, Error> {
    Ok(OpenBlob {
        chunks: core.backend.open_blob(&blob).await?,
        expected: blob.digest,
        hash: Sha256::new(),
    })
}

impl OpenBlob {
    /// What has changed on disk is told before the archive counts as whole.
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(chunk) = self.chunks.next().await {
            let chunk = chunk?;
            self.hash.update(&chunk);
            return Ok(Some(chunk));
        }
        let actual = Digest::from_hash(self.hash.finalize_reset().into());
        if actual != self.expected {
            return Err(mismatch(&self.expected, &actual));
        }
        Ok(None)
    }
}
