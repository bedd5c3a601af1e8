//! Exporting: what the archive is made of is known at once; its blobs are read as fast as the caller takes them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use sha2::{Digest as _, Sha256};

use super::manifest::{mismatch, stored};
use super::references::named_by;
use crate::backend::{BlobStream, ContainerBackend};
use crate::engine::core::Core;
use crate::engine::{Engine, Error};
use crate::model::Digest;
use crate::model::image::{Descriptor, Platform};
use crate::model::limits::MAX_ARCHIVE_CHUNK;
use crate::oci::image::save::{self, Part, SavedImage};

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
            let saved = match images.entry(image.target.digest.clone()) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(missing) => missing.insert(SavedImage {
                    found: stored(&self.core, &image).await?,
                    platform: image.platform.clone(),
                }),
            };
            saved.found.references.extend(named_by(&image, key));
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

impl Export {
    /// The next bytes, at most [`MAX_ARCHIVE_CHUNK`]; `None` after the last.
    ///
    /// # Errors
    /// Backend: [`crate::backend::BackendError::BlobMissing`] if an image was deleted meanwhile.
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
