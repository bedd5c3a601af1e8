//! Archives that want more than they get, and processes inside that swap links.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tar::EntryType as E;
use wharf_api::ErrorReason as R;
use wharf_api::v1::{self, write_archive_request::Request};

use super::{Archive, BUSY, into};
use crate::harness::{Client, scenario};

async fn is_there(client: &Client, container: &str, path: &str) -> bool {
    let request = v1::StatPathRequest {
        container: container.to_owned(),
        path: path.to_owned(),
    };
    match client.stat_path(request).await {
        Ok(_) => true,
        Err(refusal) if refusal.is(R::PathNotFound) => false,
        Err(refusal) => panic!("{refusal}"),
    }
}

#[test]
fn hostile_archives_are_refused_with_nothing_written_outside() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("running", BUSY).await.unwrap();
        client.create("stopped", BUSY).await.unwrap();
        let victim = world.directory().join("victim").display().to_string();
        let upwards = format!("{}{victim}", "../".repeat(12).trim_end_matches('/'));
        for container in ["running", "stopped"] {
            client.put(container, "/tmp/kept", "kept").await.unwrap();
            for archive in [
                Archive::default().file(&victim, "x"),
                Archive::default().file(&upwards, "x"),
                Archive::default()
                    .add("a", E::Symlink, "/", b"")
                    .file("a/victim", "x"),
                Archive::default()
                    .add("b", E::Symlink, &upwards, b"")
                    .file("b/victim", "x"),
                Archive::default().add("c", E::Link, "/etc/passwd", b""),
                Archive::default().add("c", E::Link, "../etc/passwd", b""),
                Archive::default().add("c", E::Block, "", b""),
                Archive::default().add("c", E::Char, "", b""),
                Archive::default().claim("c", E::Regular, "", 10 << 30),
            ] {
                let refused = client
                    .write_archive(into(container, "/tmp"), archive.end())
                    .await;
                let refused = refused.unwrap_err();
                assert!(refused.is(R::ArchiveInvalid), "{refused}");
            }
            for path in ["/tmp/c", "/victim", "/tmp/victim"] {
                assert!(
                    !is_there(&client, container, path).await,
                    "{container}:{path}"
                );
            }
            let kept = client.read_file(container, "/tmp/kept").await.unwrap();
            assert_eq!(kept, b"kept");
        }
        assert!(!world.directory().join("victim").exists());
    });
}

#[test]
fn a_failure_in_the_middle_says_how_far_it_came() {
    scenario(async |world| {
        let client = world.up().await;
        client.create("c", BUSY).await.unwrap();
        let archive =
            Archive::default()
                .file("one", "1")
                .file("two", "2")
                .add("three", E::Char, "", b"");
        let refused = client
            .write_archive(into("c", "/tmp"), archive.end())
            .await
            .unwrap_err();
        assert!(refused.is(R::ArchiveInvalid), "{refused}");
        assert_eq!(refused.metadata["entries"], "2");

        // Without its end, what came stays, and half a file does not.
        let data = Archive::default()
            .file("four", "4")
            .claim("five", E::Regular, "", 9)
            .0;
        let parts = vec![
            Request::Start(into("c", "/tmp")),
            Request::Data(Bytes::from(data)),
        ];
        let refused = client.send_archive(parts).await.unwrap_err();
        assert!(refused.is(R::StreamProtocol), "{refused}");
        assert_eq!(refused.metadata["entries"], "1");
        assert!(is_there(&client, "c", "/tmp/four").await);
        assert!(!is_there(&client, "c", "/tmp/five").await);
    });
}

#[test]
fn a_process_inside_that_swaps_links_leads_nothing_out() {
    /// Now `d` is a directory, now a link to the root, now one that climbs as far as it can.
    const SWAP: &str = "mkdir /work; cd /work; while :; do \
        mkdir d; echo inside > d/secret; rm -r d; ln -s / d; rm d; \
        ln -s ../../../../../../../.. d; rm d; done";
    scenario(async |world| {
        let client = world.up().await;
        client.run("swaps", &["sh", "-c", SWAP]).await.unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        let (mut written, mut refused, mut round) = (0, 0, 0);
        while Instant::now() < end {
            round += 1;
            let archive = Archive::default()
                .file(&format!("d/planted-{round}"), "x")
                .add("d/planted-dir", E::Directory, "", b"")
                .file("d/planted-dir/file", "x");
            match client
                .write_archive(into("swaps", "/work"), archive.end())
                .await
            {
                Ok(_) => written += 1,
                Err(refusal) => {
                    let expected = [R::ArchiveInvalid, R::PathNotFound, R::PathKindMismatch];
                    assert!(
                        expected.iter().any(|reason| refusal.is(*reason)),
                        "{refusal}"
                    );
                    refused += 1;
                }
            }
            if let Ok(secret) = client.read_file("swaps", "/work/d/secret").await {
                assert!(secret.is_empty() || secret == b"inside\n");
            }
        }
        assert!(
            written > 0 && refused > 0,
            "{written} written, {refused} refused"
        );
        for path in ["/planted-dir", "/planted-1", &format!("/planted-{round}")] {
            assert!(!is_there(&client, "swaps", path).await, "{path}");
            assert!(!std::path::Path::new(path).exists(), "{path} on the host");
        }
    });
}
