//! Content comes in whole, stays, and leaves nothing when it does not come in.

use std::sync::Arc;

use wharf_server::backend::{BackendError, ContainerBackend};

use super::Counts;
use super::archive::{Layer, archive};
use crate::harness::Daemon;

const NAME: &str = "wharf.test/app:v1";

/// Layers of every compression, the last with a whiteout.
fn layers() -> [Layer; 4] {
    [
        Layer::busybox(),
        Layer::of(&[("etc/old", "old"), ("etc/kept", "kept")]).gzip(),
        Layer::of(&[("etc/.wh.old", ""), ("etc/new", "new")]).zstd(),
        Layer::of(&[("etc/last", "last")]),
    ]
}

/// What those are in containerd, under one name.
const WHOLE: Counts = Counts {
    images: 1,
    blobs: 6,
    snapshots: 4,
    leases: 0,
};

#[tokio::test]
async fn an_image_runs_after_a_forced_collection() {
    let daemon = Daemon::empty();
    let backend = daemon.backend();
    let archive = archive(Some(NAME), &layers());
    let (_, size) = daemon.ingest(&backend, &archive).await.expect("taken in");
    daemon.collect_garbage();

    assert_eq!(daemon.counts(), WHOLE);
    assert!(size > 100_000, "{size}");
    let script = "cat /etc/kept /etc/new /etc/last; cat /etc/old || echo gone";
    let script = script.replace("cat", "/bin/busybox cat");
    let output = daemon.ctr_run(NAME, &["/bin/busybox", "sh", "-c", &script]);
    assert_eq!(output, "keptnewlastgone\n");
    backend.shutdown().await;
}

#[tokio::test]
async fn taking_an_image_in_again_changes_nothing() {
    let daemon = Daemon::empty();
    let backend = daemon.backend();
    let archive = archive(Some(NAME), &layers());
    let (_, first) = daemon.ingest(&backend, &archive).await.expect("once");
    let (_, second) = daemon.ingest(&backend, &archive).await.expect("twice");
    assert_eq!(first, second);
    daemon.collect_garbage();
    assert_eq!(daemon.counts(), WHOLE);
    backend.shutdown().await;
}

#[tokio::test]
async fn an_image_may_come_in_many_times_at_once() {
    let daemon = Daemon::empty();
    let backend = daemon.backend();
    let (image, content) = daemon.read_one(&archive(Some(NAME), &layers()));
    let ingest = || backend.ingest(&image, Arc::clone(&content));
    let (a, b, c, d) = tokio::join!(ingest(), ingest(), ingest(), ingest());
    for size in [b, c, d] {
        assert_eq!(size.expect("taken in"), *a.as_ref().expect("taken in"));
    }
    daemon.collect_garbage();
    assert_eq!(daemon.counts(), WHOLE);
    backend.shutdown().await;
}

#[tokio::test]
async fn images_share_the_layers_they_have_in_common() {
    let daemon = Daemon::empty();
    let backend = daemon.backend();
    let one = archive(Some("wharf.test/one"), &layers());
    let [low, next, ..] = layers();
    let two = archive(
        Some("wharf.test/two"),
        &[low, next, Layer::of(&[("a", "b")])],
    );
    daemon.ingest(&backend, &one).await.expect("one");
    daemon.ingest(&backend, &two).await.expect("two");
    daemon.collect_garbage();
    let counts = daemon.counts();
    assert_eq!((counts.blobs, counts.snapshots), (9, 5));
    backend.shutdown().await;
}

#[tokio::test]
async fn content_that_lost_its_labels_is_held_again() {
    let daemon = Daemon::empty();
    let backend = daemon.backend();
    let archive = archive(Some(NAME), &layers());
    let (image, _) = daemon.ingest(&backend, &archive).await.expect("once");
    for digest in [&image.id, &image.target.digest] {
        let info = daemon.ctr(&["content", "ls"]);
        let line = info.lines().find(|line| line.starts_with(digest.as_str()));
        let labels = line.and_then(|line| line.split_whitespace().last());
        let labels = labels.expect("labels").split(',');
        for (key, _) in labels.filter_map(|label| label.split_once('=')) {
            daemon.ctr(&["content", "label", digest.as_str(), &format!("{key}=")]);
        }
    }
    assert!(!daemon.ctr(&["content", "ls"]).contains("gc.ref"));
    daemon.ingest(&backend, &archive).await.expect("twice");
    daemon.collect_garbage();
    assert_eq!(daemon.counts(), WHOLE);
    backend.shutdown().await;
}

#[tokio::test]
async fn an_image_that_cannot_be_read_leaves_nothing() {
    let daemon = Daemon::empty();
    let backend = daemon.backend();
    let (image, content) = daemon.read_one(&archive(Some(NAME), &layers()));
    let last = content.layers.last().expect("a layer");
    let blob = content.source.file(last).unwrap();
    std::fs::remove_file(blob).expect("removed");

    let error = backend
        .ingest(&image, content)
        .await
        .expect_err("unreadable");
    assert!(matches!(error, BackendError::NotFound { .. }), "{error}");
    daemon.collect_garbage();
    assert_eq!(daemon.counts(), Counts::NOTHING);
    backend.shutdown().await;
}

#[tokio::test]
async fn content_that_was_changed_on_its_way_leaves_nothing() {
    let daemon = Daemon::empty();
    let backend = daemon.backend();
    let (image, content) = daemon.read_one(&archive(Some(NAME), &layers()));
    let last = content.layers.last().expect("a layer");
    let blob = content.source.file(last).unwrap();
    let mut bytes = std::fs::read(&blob).expect("read");
    bytes[600] ^= 1;
    std::fs::write(&blob, bytes).expect("written");

    backend.ingest(&image, content).await.expect_err("changed");
    daemon.collect_garbage();
    assert_eq!(daemon.counts(), Counts::NOTHING);
    backend.shutdown().await;
}

#[tokio::test]
async fn a_large_layer_comes_in_by_pieces() {
    let daemon = Daemon::empty();
    let backend = daemon.backend();
    let large = "0123456789abcdef".repeat(1 << 18);
    let archive = archive(Some(NAME), &[Layer::of(&[("large", &large)])]);
    let (_, size) = daemon.ingest(&backend, &archive).await.expect("taken in");
    assert!(size >= 4 << 20, "{size}");
    backend.shutdown().await;
}
