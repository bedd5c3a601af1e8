//! Streams of requests whose messages come in no order that was agreed on.

use bytes::Bytes;
use wharf_api::v1::attach_exec_request::Request::Input;
use wharf_api::v1::import_image_request::Request::{self, Data, End, Start};
use wharf_api::v1::process_input::Kind;
use wharf_api::v1::{
    AttachExecRequest, Detach, ImportImageRequest, ImportImageStart, ProcessInput, TransferEnd,
};
use wharf_api::{ErrorReason, METHODS, v1};

use super::attack;
use super::wire::{Ending, Outcome, Wire, message};

/// Calls that join a process's streams: they all begin in the same way.
const JOINS: [&str; 4] = [
    "/wharf.v1.ContainerService/AttachContainer",
    "/wharf.v1.ContainerService/RunContainer",
    "/wharf.v1.ExecService/AttachExec",
    "/wharf.v1.ExecService/RunExec",
];
const IMPORT: &str = "/wharf.v1.ImageService/ImportImage";
/// Uploads to a container: start, data, end, as an import.
const UPLOADS: [&str; 2] = [
    "/wharf.v1.FileService/WriteArchive",
    "/wharf.v1.FileService/WriteFile",
];

fn start() -> Option<Request> {
    Some(Start(ImportImageStart::default()))
}

fn data(length: usize) -> Option<Request> {
    Some(Data(Bytes::from(vec![b'x'; length])))
}

fn end(size_bytes: i64, digest: &str) -> Option<Request> {
    Some(End(TransferEnd {
        size_bytes,
        digest: digest.to_owned(),
    }))
}

/// Sends these messages, and compares what comes of them.
async fn expect(wire: &mut Wire, reason: ErrorReason, messages: &[Option<Request>]) {
    let mut call = wire.call(IMPORT);
    for request in messages {
        call = call.message(&ImportImageRequest {
            request: request.clone(),
        });
    }
    let refusal = call.send().await.refusal();
    assert!(refusal.is(reason), "{messages:?}: {refusal}");
}

/// Whoever adds a stream of requests says here what its wrong orders are.
#[test]
fn every_method_that_takes_a_stream_is_known_here() {
    for method in METHODS.iter().filter(|method| method.client_streaming) {
        assert!(
            method.path == IMPORT || JOINS.contains(&method.path) || UPLOADS.contains(&method.path),
            "{} has no wrong orders",
            method.path
        );
    }
}

#[test]
fn streams_of_processes_must_begin_with_their_start() {
    // All of them have the input in the same place.
    let input = |kind| AttachExecRequest {
        request: Some(Input(ProcessInput { kind })),
    };
    attack(async |_, socket| {
        let wire = &mut Wire::connect(socket).await;
        for path in JOINS {
            for first in [
                None,
                Some(AttachExecRequest::default()),
                Some(input(None)),
                Some(input(Some(Kind::Stdin(Bytes::from_static(b"x"))))),
                Some(input(Some(Kind::Detach(Detach {})))),
            ] {
                let mut call = wire.call(path);
                if let Some(first) = &first {
                    call = call.message(first);
                }
                let refusal = call.send().await.refusal();
                assert!(
                    refusal.is(ErrorReason::StreamProtocol),
                    "{path} {first:?}: {refusal}"
                );
            }
        }
    });
}

#[test]
fn uploads_of_files_must_begin_with_their_start() {
    // Their data stands in the same place.
    let chunk = v1::WriteFileRequest {
        request: Some(v1::write_file_request::Request::Data(Bytes::from_static(
            b"x",
        ))),
    };
    attack(async |_, socket| {
        let wire = &mut Wire::connect(socket).await;
        for path in UPLOADS {
            for first in [
                None,
                Some(v1::WriteFileRequest::default()),
                Some(chunk.clone()),
            ] {
                let mut call = wire.call(path);
                if let Some(first) = &first {
                    call = call.message(first);
                }
                let refusal = call.send().await.refusal();
                assert!(
                    refusal.is(ErrorReason::StreamProtocol),
                    "{path} {first:?}: {refusal}"
                );
            }
        }
    });
}

#[test]
fn an_import_in_the_wrong_order_says_what_was_expected() {
    attack(async |_, socket| {
        let wire = &mut Wire::connect(socket).await;
        for wrong in [
            &[][..],
            &[None],
            &[data(1)],
            &[end(0, "")],
            &[start()],
            &[start(), None],
            &[start(), start()],
            &[start(), data(1), start()],
            &[start(), data(1)],
            &[start(), data(1), None],
            &[start(), data(1), end(1, ""), data(1)],
            &[start(), data(1), end(1, ""), end(1, "")],
            &[start(), end(0, ""), None],
        ] {
            expect(wire, ErrorReason::StreamProtocol, wrong).await;
        }
    });
}

#[test]
fn an_import_that_is_not_what_it_says_is_refused() {
    let other = format!("sha256:{}", "0".repeat(64));
    attack(async |_, socket| {
        let wire = &mut Wire::connect(socket).await;
        for (reason, wrong) in [
            (
                ErrorReason::InvalidField,
                vec![start(), data((256 << 10) + 1)],
            ),
            (
                ErrorReason::DigestMismatch,
                vec![start(), data(1), end(2, "")],
            ),
            (
                ErrorReason::DigestMismatch,
                vec![start(), data(1), end(-1, "")],
            ),
            (
                ErrorReason::DigestMismatch,
                vec![start(), data(1), end(i64::MAX, "")],
            ),
            (
                ErrorReason::DigestMismatch,
                vec![start(), data(1), end(1, &other)],
            ),
            (
                ErrorReason::InvalidField,
                vec![start(), data(1), end(1, "sha256:x")],
            ),
            (
                ErrorReason::InvalidField,
                vec![start(), data(1), end(1, "../..")],
            ),
            (ErrorReason::ImageInvalid, vec![start(), end(0, "")]),
            (
                ErrorReason::ImageInvalid,
                vec![start(), data(5_000), end(5_000, "")],
            ),
        ] {
            expect(wire, reason, &wrong).await;
        }
    });
}

#[test]
fn an_import_that_breaks_off_leaves_nothing() {
    attack(async |_, socket| {
        // The connection goes while the archive is on its way.
        for _ in 0..10 {
            let mut wire = Wire::connect(socket).await;
            let begun = [start(), data(256 << 10)].map(|request| {
                let bytes = prost::Message::encode_to_vec(&ImportImageRequest { request });
                message(&bytes)
            });
            let mut call = wire.call(IMPORT).ending(Ending::Silence);
            for bytes in begun {
                call = call.bytes(bytes);
            }
            let sent = tokio::time::timeout(std::time::Duration::from_millis(50), call.send());
            assert!(sent.await.is_err(), "an import without an end was answered");
        }
        // One that ends in the middle of a message.
        let mut wire = Wire::connect(socket).await;
        let outcome = wire
            .call(IMPORT)
            .message(&ImportImageRequest { request: start() })
            .bytes(Bytes::from_static(&[0, 0, 0, 1, 0, 7]))
            .send()
            .await;
        let Outcome::Refused(refusal) = outcome else {
            panic!("{outcome}");
        };
        assert!(refusal.is(ErrorReason::InvalidField), "{refusal}");
    });
}
