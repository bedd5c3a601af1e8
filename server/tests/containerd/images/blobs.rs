//! Content that is read again.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use wharf_server::backend::{BackendError, ContainerBackend};
use wharf_server::model::Digest;
use wharf_server::model::image::Descriptor;

use super::archive::{Layer, archive};
use crate::harness::Daemon;

const NAME: &str = "wharf.test/read:1";

fn image() -> Vec<u8> {
    let large = "0123456789abcdef".repeat(1 << 18);
    archive(
        Some(NAME),
        &[
            Layer::of(&[("large", &large)]),
            Layer::of(&[("small", "x")]).gzip(),
        ],
    )
}

#[tokio::test]
async fn every_blob_is_read_as_it_came_in() {
    let daemon = Daemon::empty();
    let backend = daemon.backend();
    let (image, content) = daemon.read_one(&image());
    let blobs = [content.target.clone(), content.config.clone()];
    let layers = content.layers.iter().map(|layer| layer.descriptor.clone());
    let blobs: Vec<Descriptor> = layers.chain(blobs).collect();
    backend.ingest(&image, content).await.expect("taken in");
    for blob in blobs {
        let chunks = backend.open_blob(&blob).await.expect("there");
        let chunks: Vec<Bytes> = chunks.try_collect().await.expect("read");
        assert!(chunks.iter().all(|chunk| chunk.len() <= 1 << 20));
        assert_eq!(Digest::of(&chunks.concat()), blob.digest);
    }
    backend.shutdown().await;
}

#[tokio::test]
async fn a_blob_that_goes_while_it_is_read_ends_with_an_error() {
    let daemon = Daemon::empty();
    let backend = daemon.backend();
    let (image, content) = daemon.read_one(&image());
    let large = content.layers[0].descriptor.clone();
    backend.ingest(&image, content).await.expect("taken in");
    let mut chunks = backend.open_blob(&large).await.expect("there");
    let first = chunks.try_next().await.expect("read");
    assert_eq!(first.map(|first| first.len()), Some(1 << 20));

    backend.untag(NAME).await.expect("untagged");
    let rest = chunks.try_collect::<Vec<Bytes>>().await.expect_err("gone");
    assert!(matches!(rest, BackendError::BlobMissing { .. }), "{rest}");
    let again = backend.open_blob(&large).await.err();
    assert!(matches!(again, Some(BackendError::BlobMissing { .. })));
    backend.shutdown().await;
}

#[tokio::test]
async fn a_blob_of_another_size_than_its_descriptor_says_is_refused() {
    let daemon = Daemon::empty();
    let backend = daemon.backend();
    let (image, content) = daemon.read_one(&image());
    let mut config = content.config.clone();
    backend.ingest(&image, content).await.expect("taken in");
    config.size_bytes += 1;
    let error = backend.open_blob(&config).await.err();
    assert!(matches!(error, Some(BackendError::DigestMismatch { .. })));
    backend.shutdown().await;
}
