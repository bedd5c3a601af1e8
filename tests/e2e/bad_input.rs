//! Bad input for every RPC: a clear typed error, a server that lives, and nothing changed.

mod every_field;
mod fields;
mod framing;
mod garbage;
mod mutations;
pub(crate) mod raw;
mod requests;
mod streams;
pub mod wire;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tonic::Code;
use wharf_api::v1::{Container, GetVersionRequest, Image, ListImagesRequest};
use wharf_api::{ErrorReason, METHODS, Method};

use crate::harness::{Client, World, scenario, spec};
use requests::VICTIM;

/// What must be the same before and after.
#[derive(Debug, PartialEq)]
struct Everything {
    containers: Vec<Container>,
    images: Vec<Image>,
    newest_event: u64,
    in_backend: BTreeSet<String>,
}

async fn everything(client: &Client, world: &World) -> Everything {
    let images = client
        .list_images(ListImagesRequest::default())
        .await
        .unwrap()
        .images;
    Everything {
        containers: client.list().await.unwrap(),
        images,
        newest_event: client
            .every_event()
            .await
            .last()
            .map_or(0, |event| event.sequence),
        in_backend: world.in_backend().await,
    }
}

/// Runs a scenario that must change nothing, with one running container to attack.
fn changes_nothing(body: impl AsyncFnOnce(&Client)) {
    attack(async |client, _| body(client).await);
}

/// The same with the server's socket.
fn attack(body: impl AsyncFnOnce(&Client, &Path)) {
    scenario(async |world| {
        let client = world.up().await;
        client.run(VICTIM, spec::PATIENT).await.unwrap();
        let before = everything(&client, world).await;
        let pid = world.wharfd.pid();
        body(&client, &world.wharfd.socket()).await;
        // Over a connection of its own, as the next client would.
        let next = world.wharfd.client();
        next.get_version(GetVersionRequest {}).await.unwrap();
        assert_eq!(everything(&next, world).await, before);
        assert_eq!(spooled(world), Vec::<PathBuf>::new(), "archives are left");
        assert!(
            Path::new(&format!("/proc/{pid}")).exists(),
            "wharfd has died"
        );
        assert!(
            !world.wharfd.log().contains("panicked"),
            "wharfd has panicked"
        );
    });
}

/// Archives that were received and not removed.
fn spooled(world: &World) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.wharfd.state_dir().join("spool"));
    let entries = entries.into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn methods() -> impl Iterator<Item = &'static Method> {
    METHODS.iter()
}

/// An empty request is fine for these: they list, describe or watch.
fn empty_is_fine(method: &Method) -> bool {
    matches!(
        method.name,
        "ListContainers"
            | "PruneContainers"
            | "PruneImages"
            | "GetDiskUsage"
            | "WatchEvents"
            | "ListEvents"
            | "ListImages"
            | "ListExecs"
            | "FollowLogs"
            | "ListStats"
            | "StreamStats"
            | "GetVersion"
            | "GetCapabilities"
            | "GetInfo"
    )
}

#[test]
fn an_empty_request_is_answered_or_refused_with_a_reason_on_every_method() {
    changes_nothing(async |client| {
        for method in methods() {
            let answer = raw::first_answer(client, method, Bytes::new()).await;
            match answer {
                Ok(()) => assert!(
                    empty_is_fine(method),
                    "{} took nothing for something",
                    method.path
                ),
                Err(refusal) => {
                    assert!(!empty_is_fine(method), "{}: {refusal}", method.path);
                    let expected = [ErrorReason::InvalidField, ErrorReason::StreamProtocol];
                    assert!(
                        expected.contains(&refusal.reason()),
                        "{}: {refusal}",
                        method.path
                    );
                }
            }
        }
    });
}

#[test]
fn a_message_of_five_mebibytes_is_refused_with_its_size_on_every_method() {
    const SIZE: usize = 5 << 20;
    changes_nothing(async |client| {
        // One unknown field that fills the message: harmless, were it not for the size.
        let mut message = vec![0xfa, 0xff, 0xff, 0xff, 0x0f];
        let filler = SIZE - message.len() - 4;
        prost::encoding::encode_varint(filler as u64, &mut message);
        message.resize(SIZE, 0);
        let message = Bytes::from(message);
        for method in methods() {
            let refusal = raw::first_answer(client, method, message.clone())
                .await
                .unwrap_err();
            let is_said = refusal.is(ErrorReason::RequestTooLarge);
            assert!(is_said, "{}: {refusal}", method.path);
            assert_eq!(refusal.metadata["limitBytes"], (4 << 20).to_string());
            assert_eq!(refusal.metadata["actualBytes"], SIZE.to_string());
        }
    });
}

#[test]
fn bytes_that_are_no_message_are_refused_with_a_reason_on_every_method() {
    changes_nothing(async |client| {
        // A length-delimited field that claims more than there is, and a group that never ends.
        for garbage in [
            &b"\x0a\xff\xff\xff\xff\x0fxx"[..],
            b"\x0b\x0b\x0b",
            b"\xff\xff\xff\xff",
        ] {
            for method in methods() {
                let garbage = Bytes::from_static(garbage);
                let refusal = raw::first_answer(client, method, garbage)
                    .await
                    .unwrap_err();
                let expected = [ErrorReason::InvalidField, ErrorReason::StreamProtocol];
                assert!(
                    expected.contains(&refusal.reason()),
                    "{}: {refusal}",
                    method.path
                );
            }
        }
    });
}

#[test]
fn fields_that_nobody_knows_yet_are_ignored() {
    changes_nothing(async |client| {
        // Field 1000, a string: what a newer client might send.
        let unknown = Bytes::from_static(b"\xc2\x3e\x03new");
        for method in methods().filter(|method| empty_is_fine(method)) {
            let answer = raw::first_answer(client, method, unknown.clone()).await;
            assert!(answer.is_ok(), "{}: {answer:?}", method.path);
        }
    });
}

#[test]
fn a_method_or_service_that_does_not_exist_is_unimplemented() {
    changes_nothing(async |client| {
        for path in [
            "/wharf.v1.ContainerService/Nope",
            "/wharf.v1.ContainerService/",
            "/wharf.v9.ContainerService/GetContainer",
            "/nonsense",
            "/../../etc/passwd",
        ] {
            let refusal = raw::unary(client, path, Bytes::new()).await.unwrap_err();
            assert_eq!(refusal.code, Code::Unimplemented, "{path}: {refusal}");
            assert_eq!(refusal.reason(), ErrorReason::MethodNotSupported, "{path}");
        }
    });
}

#[test]
fn metadata_that_is_no_text_or_far_too_long_hurts_nobody() {
    changes_nothing(async |client| {
        for key in [
            "x-request-id",
            "traceparent",
            "tracestate",
            "user-agent",
            "x-anything",
        ] {
            for value in [&b"\xff\xfe\xfd"[..], b"\xc3\x28", b"\t\t", &[b'a'; 4_000]] {
                let answer = raw::with_header(client, key, value).await;
                assert!(answer.is_ok(), "{key}: {value:?}: {answer:?}");
            }
        }
        // Beyond the limit of a header list the connection's own rules apply: refused, and no harm.
        let refusal = raw::with_header(client, "x-anything", &[b'a'; 64 << 10])
            .await
            .unwrap_err();
        assert_ne!(refusal.code, Code::Ok);
        client.info().await.unwrap();
    });
}

#[test]
fn a_deadline_that_is_over_or_nonsense_is_refused_or_ignored() {
    changes_nothing(async |client| {
        // An answer may be quicker than the timer that would refuse it.
        // It may also be later than the client's own.
        let refusal = raw::with_header(client, "grpc-timeout", b"1n").await.err();
        if let Some(reason) = refusal.and_then(|refusal| refusal.reason) {
            assert_eq!(reason, ErrorReason::Deadline);
        }
        for nonsense in [&b"soon"[..], b"-1S", b"99999999999999H", b""] {
            raw::with_header(client, "grpc-timeout", nonsense)
                .await
                .ok();
            client
                .with_deadline(Duration::from_secs(5))
                .info()
                .await
                .unwrap();
        }
    });
}
