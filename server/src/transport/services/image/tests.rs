#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use futures_util::stream;
use tokio_util::task::TaskTracker;
use tonic::Status;
use wharf_api::v1;
use wharf_api::v1::import_image_request::Request as Message;

use super::import::receive;
use super::spool::Spooled;
use crate::model::Digest;
use crate::transport::CallError;
use crate::transport::services::upload::start;

fn messages(
    messages: Vec<Message>,
) -> impl futures_util::Stream<Item = Result<v1::ImportImageRequest, Status>> + Unpin {
    stream::iter(messages.into_iter().map(|request| {
        Ok(v1::ImportImageRequest {
            request: Some(request),
        })
    }))
}

fn data(text: &'static str) -> Message {
    Message::Data(Bytes::from_static(text.as_bytes()))
}

fn end(size_bytes: i64, digest: &str) -> Message {
    Message::End(v1::TransferEnd {
        size_bytes,
        digest: digest.to_owned(),
    })
}

/// Receives what follows `start`, and says what is left in the directory afterwards.
async fn received(dir: &Path, sent: Vec<Message>) -> Result<(Vec<u8>, Digest), CallError> {
    let tasks = TaskTracker::new();
    let result = receive(&mut messages(sent), dir, &tasks).await;
    let result = result.map(|Spooled { file, digest }| (fs::read(file.path()).unwrap(), digest));
    tasks.close();
    tasks.wait().await;
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0, "files are removed");
    result
}

#[tokio::test]
async fn an_archive_arrives_as_it_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let digest = Digest::of(b"hello");
    for claimed in ["", digest.as_str()] {
        let sent = vec![data("hel"), data(""), data("lo"), end(5, claimed)];
        let (bytes, actual) = received(&dir.path().join("new"), sent).await.unwrap();
        assert_eq!((bytes.as_slice(), &actual), (&b"hello"[..], &digest));
    }
}

#[tokio::test]
async fn an_archive_that_is_not_what_its_end_says_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let other = Digest::of(b"other");
    for last in [end(4, ""), end(-1, ""), end(5, other.as_str())] {
        let result = received(dir.path(), vec![data("hello"), last]).await;
        assert!(
            matches!(result, Err(CallError::TransferMismatch { .. })),
            "{result:?}"
        );
    }
    let result = received(dir.path(), vec![end(0, "md5:x")]).await;
    assert!(matches!(result, Err(CallError::Invalid(_))), "{result:?}");
}

#[tokio::test]
async fn messages_in_a_wrong_order_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let begin = || Message::Start(v1::ImportImageStart::default());
    for (sent, got) in [
        (vec![], "end of stream"),
        (vec![data("x")], "end of stream"),
        (vec![begin()], "start"),
        (vec![end(0, ""), data("x")], "data"),
        (vec![end(0, ""), end(0, "")], "end"),
    ] {
        let result = received(dir.path(), sent).await;
        assert!(
            matches!(&result, Err(CallError::StreamProtocol { got: was, .. }) if *was == got),
            "{result:?}"
        );
    }
}

#[tokio::test]
async fn start_must_come_first() {
    let begin = Message::Start(v1::ImportImageStart::default());
    assert!(start(&mut messages(vec![begin])).await.is_ok());
    for (sent, got) in [
        (vec![], "end of stream"),
        (vec![data("x")], "data"),
        (vec![end(0, "")], "end"),
    ] {
        let result = start(&mut messages(sent)).await;
        assert!(
            matches!(
                &result,
                Err(CallError::StreamProtocol { expected: "start", got: was }) if *was == got
            ),
            "{result:?}"
        );
    }
    let mut empty = stream::iter([Ok(v1::ImportImageRequest::default())]);
    assert!(matches!(
        start(&mut empty).await,
        Err(CallError::StreamProtocol {
            got: "an empty message",
            ..
        })
    ));
}

#[tokio::test]
async fn a_piece_must_not_be_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let piece = |size| Message::Data(vec![0; size].into());
    let size = 256 << 10;
    let sent = vec![piece(size), end(256 << 10, "")];
    assert!(received(dir.path(), sent).await.is_ok());
    let result = received(dir.path(), vec![piece(size + 1)]).await;
    assert!(matches!(result, Err(CallError::Invalid(_))), "{result:?}");
}

#[tokio::test]
async fn a_broken_upload_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let tasks = TaskTracker::new();
    let mut broken = stream::iter([
        Ok(v1::ImportImageRequest {
            request: Some(data("x")),
        }),
        Err(Status::cancelled("gone")),
    ]);
    let result = receive(&mut broken, dir.path(), &tasks).await;
    assert!(matches!(result, Err(CallError::Inbound(_))), "{result:?}");
    tasks.close();
    tasks.wait().await;
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_spool_directory_that_cannot_be_made_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let result = receive(
        &mut messages(vec![]),
        &file.join("spool"),
        &TaskTracker::new(),
    )
    .await;
    assert!(matches!(result, Err(CallError::Engine(_))), "{result:?}");
}
