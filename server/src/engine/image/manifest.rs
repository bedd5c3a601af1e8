//! What stored images are made of.

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt as _;

use crate::backend::{BackendError, ContainerBackend};
use crate::engine::Error;
use crate::engine::core::Core;
use crate::model::limits::MAX_CONFIG_BYTES;
use crate::model::{Digest, Image};
use crate::oci::image::Found;

/// Reads an image's manifest, which was verified when it came here.
pub(super) async fn stored(core: &Core, image: &Image) -> Result<Found, Error> {
    let target = &image.target;
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
    Found::of_manifest(target.clone(), manifest.into()).map_err(|error| {
        tracing::warn!(image = %image.id, %error, "a stored manifest cannot be read");
        Error::Bug {
            what: "a manifest that was taken in cannot be read",
        }
    })
}

/// What is stored is not what it was.
pub(super) fn mismatch(expected: &Digest, actual: &Digest) -> Error {
    BackendError::DigestMismatch {
        expected: expected.to_string(),
        actual: actual.to_string(),
    }
    .into()
}
