//! Blobs of images, read a chunk at a time.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::stream::{self, Stream};

use super::BackendError;
use crate::model::image::Descriptor;

/// A blob as it is stored: all its bytes, or an error at the end.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes, BackendError>> + Send>>;

/// Reads `blob` in chunks of at most `chunk` bytes, each when it is asked for, so that whoever takes them slowly holds
/// nothing in the backend. `read` gets an offset and a number of bytes.
pub(super) fn chunks<F>(
    blob: &Descriptor,
    chunk: u64,
    read: impl Fn(u64, u64) -> F + Send + 'static,
) -> BlobStream
where
    F: Future<Output = Result<Bytes, BackendError>> + Send + 'static,
{
    let blob = blob.clone();
    let start = (read, blob, 0);
    Box::pin(stream::try_unfold(
        start,
        move |(read, blob, offset)| async move {
            let wanted = chunk.min(blob.size_bytes.saturating_sub(offset));
            if wanted == 0 {
                return Ok(None);
            }
            let bytes = read(offset, wanted).await?;
            let next = offset + bytes.len() as u64;
            if next != offset + wanted {
                return Err(wrong_size(&blob, next));
            }
            Ok(Some((bytes, (read, blob, next))))
        },
    ))
}

/// A blob that is not as long as it is said to be is not what its digest says.
pub(super) fn wrong_size(blob: &Descriptor, actual: u64) -> BackendError {
    BackendError::DigestMismatch {
        expected: blob.digest.to_string(),
        actual: format!("{actual} of {} bytes", blob.size_bytes),
    }
}

/// A blob that is not there.
pub(super) fn missing(blob: &Descriptor) -> BackendError {
    BackendError::BlobMissing {
        digest: blob.digest.to_string(),
    }
}
