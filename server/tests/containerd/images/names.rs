//! Names keep content, and only they do.

use wharf_server::backend::{BackendError, ContainerBackend};
use wharf_server::model::ServerId;

use super::Counts;
use super::archive::{Layer, archive};
use crate::harness::{Daemon, until_connected};

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

#[tokio::test]
async fn a_server_has_the_names_that_it_gave_and_no_others() {
    let daemon = Daemon::empty();
    let ours = daemon.backend();
    let theirs = daemon.backend_of(ServerId::generate());
    until_connected(&theirs).await;
    let taken = daemon.ingest(&ours, &image(Some(ONE), "a")).await;
    let (first, _) = taken.expect("ours");
    let taken = daemon.ingest(&theirs, &image(Some(TWO), "b")).await;
    taken.expect("theirs");
    // With all its labels.
    daemon.ctr(&["images", "tag", ONE, "wharf.test/app:by-others"]);
    assert_eq!(ours.names().await.unwrap(), [ONE]);
    assert_eq!(theirs.names().await.unwrap(), [TWO]);
    // A name that moves to another server is that one's; the content stays the first one's.
    let taken = daemon.ingest(&theirs, &image(Some(ONE), "c")).await;
    taken.expect("theirs");
    assert_eq!(ours.names().await.unwrap(), [first.dangling_name()]);
    let mut names = theirs.names().await.unwrap();
    names.sort();
    assert_eq!(names, [ONE, TWO]);
    for (backend, names) in [(&ours, vec![first.dangling_name()]), (&theirs, names)] {
        for name in names {
            backend.untag(&name).await.unwrap();
        }
    }
    daemon.ctr(&["images", "rm", "--sync", "wharf.test/app:by-others"]);
    assert_eq!(daemon.counts(), Counts::NOTHING);
    theirs.shutdown().await;
    ours.shutdown().await;
}
