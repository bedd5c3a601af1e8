//! Names keep content, and only they do.

use wharf_server::backend::{BackendError, ContainerBackend};

use super::Counts;
use super::archive::{Layer, archive};
use crate::harness::Daemon;

const ONE: &str = "wharf.test/app:one";
const TWO: &str = "wharf.test/app:two";

fn image(name: Option<&str>, contents: &str) -> Vec<u8> {
    archive(name, &[Layer::of(&[("file", contents)]).gzip()])
}

#[tokio::test]
async fn content_goes_with_its_last_name() {
    let daemon = Daemon::empty();
    let backend = daemon.backend();
    let taken = daemon.ingest(&backend, &image(Some(ONE), "a")).await;
    let (image, _) = taken.expect("taken in");
    backend.tag(&image, TWO).await.expect("tagged");
    backend.tag(&image, TWO).await.expect("tagged again");
    assert_eq!(
        daemon.ctr(&["images", "ls", "-q"]),
        format!("{ONE}\n{TWO}\n")
    );

    backend.untag(ONE).await.expect("untagged");
    let kept = daemon.counts();
    assert_eq!((kept.images, kept.blobs, kept.snapshots), (1, 3, 1));

    backend.untag(TWO).await.expect("untagged");
    assert_eq!(daemon.counts(), Counts::NOTHING);
    backend.untag(TWO).await.expect("untagged again");
    backend.shutdown().await;
}

#[tokio::test]
async fn an_image_without_a_name_stays_until_it_is_removed() {
    let daemon = Daemon::empty();
    let backend = daemon.backend();
    let taken = daemon.ingest(&backend, &image(None, "a")).await;
    let (image, _) = taken.expect("taken in");
    daemon.collect_garbage();
    let kept = daemon.counts();
    assert_eq!((kept.images, kept.blobs, kept.snapshots), (1, 3, 1));

    backend
        .untag(&image.dangling_name())
        .await
        .expect("removed");
    assert_eq!(daemon.counts(), Counts::NOTHING);
    backend.shutdown().await;
}

#[tokio::test]
async fn an_image_that_loses_its_name_to_another_keeps_its_content() {
    let daemon = Daemon::empty();
    let backend = daemon.backend();
    let first = daemon.ingest(&backend, &image(Some(ONE), "first")).await;
    let (first, _) = first.expect("taken in");
    let second = daemon.ingest(&backend, &image(Some(ONE), "second")).await;
    let (second, _) = second.expect("taken in");
    daemon.collect_garbage();

    let listed = daemon.ctr(&["images", "ls"]);
    let line = |name: &str| {
        let line = listed.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{name}: {listed}"))
            .to_owned()
    };
    assert!(line(ONE).contains(second.target.digest.as_str()));
    assert!(line(&first.dangling_name()).contains(first.target.digest.as_str()));
    let kept = daemon.counts();
    assert_eq!((kept.blobs, kept.snapshots), (6, 2));

    backend
        .untag(&first.dangling_name())
        .await
        .expect("removed");
    let kept = daemon.counts();
    assert_eq!((kept.images, kept.blobs, kept.snapshots), (1, 3, 1));
    backend.shutdown().await;
}

#[tokio::test]
async fn an_image_that_is_gone_cannot_be_tagged() {
    let daemon = Daemon::empty();
    let backend = daemon.backend();
    let (image, _) = daemon.read_one(&image(Some(ONE), "a"));
    let error = backend.tag(&image, TWO).await.expect_err("not there");
    assert!(
        matches!(error, BackendError::ImageContentMissing { .. }),
        "{error}"
    );
    assert_eq!(daemon.counts(), Counts::NOTHING);
    backend.shutdown().await;
}
