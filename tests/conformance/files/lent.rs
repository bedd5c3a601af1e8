//! The root of a container that does not run: lent by its actor, seen by nobody else, and given back.

use std::fs;
use std::time::Duration;

use tokio::time::timeout;
use tonic::Streaming;
use wharf_api::ErrorReason as R;
use wharf_api::v1::container::State;
use wharf_api::v1::{self, ReadFileResponse};

use super::{Archive, BUSY, into};
use crate::harness::client::answer;
use crate::harness::{Client, Refusal, scenario};

/// Much more than what waits in all the buffers between.
const LARGE: usize = 64 << 20;

/// A file that is being read by somebody who does not go on.
async fn stuck_reader(client: &Client, container: &str) -> Streaming<ReadFileResponse> {
    let start = v1::WriteFileStart {
        container: container.to_owned(),
        path: "/large".to_owned(),
        ..Default::default()
    };
    client.write_file(start, vec![b'x'; LARGE]).await.unwrap();
    let request = client.request(v1::ReadFileRequest {
        container: container.to_owned(),
        path: "/large".to_owned(),
    });
    let mut messages = answer(client.files().read_file(request).await).unwrap();
    assert!(messages.message().await.unwrap().is_some(), "the stat");
    messages
}

async fn refusal_of(mut messages: Streaming<ReadFileResponse>) -> Refusal {
    loop {
        match messages.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it was read to its end"),
            Err(status) => return Refusal::from(status),
        }
    }
}

#[test]
fn a_reader_that_does_not_go_on_holds_up_neither_start_nor_deletion() {
    scenario(async |world| {
        let client = world.up().await;
        client.create("c", BUSY).await.unwrap();
        let reader = stuck_reader(&client, "c").await;
        let soon = Duration::from_secs(30);
        timeout(soon, client.start("c"))
            .await
            .expect("it is not held up")
            .unwrap();
        let refused = refusal_of(reader).await;
        assert!(refused.is(R::OperationInProgress), "{refused}");
        assert_eq!(refused.metadata["operation"], "start");

        // Of the run that is over, somebody still has the root.
        let reader = stuck_reader(&client, "c").await;
        client.stop("c", Duration::ZERO).await.unwrap();
        client.put("c", "/after", "x").await.unwrap();
        timeout(soon, client.delete("c"))
            .await
            .expect("it is not held up")
            .unwrap();
        let refused = refusal_of(reader).await;
        assert!(refused.is(R::DeletedConcurrently), "{refused}");
    });
}

#[test]
fn the_root_is_in_nobodys_mount_table_and_files_stay() {
    scenario(async |world| {
        let client = world.up().await;
        client
            .create("c", &["cat", "/put/first", "/put/second"])
            .await
            .unwrap();
        let before = fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .count();
        let reader = stuck_reader(&client, "c").await;
        // Others have it lent at the same time.
        let start = v1::WriteFileStart {
            container: "c".to_owned(),
            path: "/put/first".to_owned(),
            create_parents: true,
            mode: Some(0o600),
            ..Default::default()
        };
        let stat = client.write_file(start, &b"1"[..]).await.unwrap();
        assert_eq!(
            (stat.mode, stat.size_bytes, stat.name.as_str()),
            (0o600, 1, "first")
        );
        let archive = Archive::default().file("second", "2").end();
        client
            .write_archive(into("c", "/put"), archive)
            .await
            .unwrap();
        let ours = |line: &&str| line.contains(world.directory().to_str().unwrap());
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(table.lines().count() <= before || !table.lines().any(|line| ours(&line)));
        drop(reader);
        client.start("c").await.unwrap();
        let exit = client.exit_of("c", 0).await.unwrap();
        assert_eq!(exit.code, 0, "the process has read both");
        assert_eq!(client.get("c").await.unwrap().state(), State::Exited);
        assert_eq!(client.read_file("c", "/put/first").await.unwrap(), b"1");
    });
}

#[test]
fn a_write_with_a_key_is_done_once() {
    scenario(async |world| {
        let client = world.up().await;
        client.create("c", BUSY).await.unwrap();
        let start = v1::WriteArchiveStart {
            idempotency_key: "once".to_owned(),
            ..into("c", "/tmp")
        };
        let archive = Archive::default().file("file", "first").end();
        let first = client
            .write_archive(start.clone(), archive.clone())
            .await
            .unwrap();
        assert_eq!((first.entries, first.content_bytes), (1, 5));
        client.put("c", "/tmp/file", "changed since").await.unwrap();
        let again = client
            .write_archive(start.clone(), archive.clone())
            .await
            .unwrap();
        assert_eq!(again, first);
        let content = client.read_file("c", "/tmp/file").await.unwrap();
        assert_eq!(content, b"changed since");
        let other = v1::WriteArchiveStart {
            path: "/etc".to_owned(),
            ..start
        };
        let refused = client.write_archive(other, archive).await.unwrap_err();
        assert!(refused.is(R::IdempotencyKeyMismatch), "{refused}");
    });
}
