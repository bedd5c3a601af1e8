//! Requests of every method that are framed as no client does it.

use std::fmt::Debug;

use bytes::Bytes;
use wharf_api::ErrorReason::{
    self, Deadline, InvalidField, OptionNotSupported, RequestTooLarge, StreamProtocol,
};
use wharf_api::METHODS;

use super::attack;
use super::requests::harmless;
use super::wire::{Call, Ending, Outcome, Wire, framed, message};

/// Calls every method with a harmless request that `change` frames otherwise, in each of its ways. Each
/// must be refused with one of `expected`; or, if it never looks at its request, as not supported.
fn every_method<W: Copy + Debug>(
    expected: &[ErrorReason],
    ways: &[W],
    change: impl for<'a> Fn(Call<'a>, Bytes, W) -> Call<'a>,
) {
    attack(async |_, socket| {
        let mut wire = Wire::connect(socket).await;
        let mut problems = Vec::new();
        for (method, way) in METHODS
            .iter()
            .flat_map(|method| ways.iter().map(move |way| (method, way)))
        {
            let (_, request) = harmless(method);
            let outcome = change(wire.call(method.path), request.into(), *way)
                .send()
                .await;
            let fits = match &outcome {
                Outcome::Refused(refusal) => expected.contains(&refusal.reason()),
                Outcome::Answered | Outcome::Broken(_) => false,
            };
            if !fits {
                problems.push(format!("{} {way:02x?}: {outcome}", method.path));
            }
        }
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    });
}

/// There is nothing to vary.
const ONE_WAY: &[()] = &[()];

#[test]
fn a_call_without_a_message_is_refused() {
    every_method(&[InvalidField, StreamProtocol], ONE_WAY, |call, _, ()| call);
}

#[test]
fn a_message_that_ends_early_is_refused() {
    // A stream of messages ends with trailers, whatever came before: then its own end is missing.
    every_method(
        &[InvalidField, StreamProtocol],
        &[Ending::End, Ending::Trailers],
        |call, request, ending| {
            call.bytes(framed(0, request.len() + 10, &request))
                .ending(ending)
        },
    );
}

#[test]
fn a_prefix_that_ends_early_is_refused() {
    every_method(&[InvalidField], &[1, 3, 4], |call, _, length| {
        call.bytes(Bytes::from_static(&[0; 4]).slice(..length))
    });
}

/// 1 says that the message is compressed, which no header has announced; others say nothing.
#[test]
fn a_flag_that_means_nothing_is_refused() {
    every_method(&[InvalidField], &[1, 2, 7, 255], |call, request, flag| {
        call.bytes(framed(flag, request.len(), &request))
    });
}

#[test]
fn compression_that_is_not_spoken_is_said_to_be_an_option() {
    let encodings = [&b"gzip"[..], b"nonsense", b"\xff\xfe", b""];
    every_method(
        &[OptionNotSupported],
        &encodings,
        |call, request, encoding| {
            call.header("grpc-encoding", encoding)
                .bytes(framed(1, request.len(), &request))
        },
    );
}

#[test]
fn another_media_type_is_refused() {
    let types = [
        Some(&b"application/json"[..]),
        Some(b"application/grpc+json"),
        Some(b"application/grpc-web"),
        Some(b"application/grpcx"),
        Some(b"\xff"),
        Some(b""),
        None,
    ];
    every_method(&[InvalidField], &types, |call, request, media_type| {
        let call = call.bytes(message(&request));
        match media_type {
            Some(media_type) => call.header("content-type", media_type),
            None => call.without("content-type"),
        }
    });
}

#[test]
fn another_http_method_is_refused() {
    let methods = ["GET", "HEAD", "PUT", "NONSENSE"];
    every_method(
        &[InvalidField, StreamProtocol],
        &methods,
        |call, _, method| call.method(method.parse().unwrap()),
    );
}

#[test]
fn a_size_over_the_limit_is_refused_before_the_message_comes() {
    let sizes = [(4 << 20) + 1, 5 << 20, u32::MAX];
    every_method(&[RequestTooLarge], &sizes, |call, _, size| {
        call.bytes(framed(0, size as usize, b"the beginning"))
            .ending(Ending::Silence)
    });
}

#[test]
fn a_request_that_never_comes_as_a_whole_ends_by_its_deadline() {
    every_method(&[Deadline], &[0, 3], |call, request, sent| {
        let beginning = framed(0, request.len() + 10, &request).slice(..sent);
        call.header("grpc-timeout", b"100m")
            .bytes(beginning)
            .ending(Ending::Silence)
    });
}

#[test]
fn a_deadline_that_is_none_is_refused() {
    let nonsense = [
        &b"soon"[..],
        b"-1S",
        b"999999999H",
        b"1",
        b"S",
        b"1 S",
        b"\xff",
        b"",
    ];
    every_method(&[InvalidField], &nonsense, |call, request, timeout| {
        call.header("grpc-timeout", timeout)
            .bytes(message(&request))
    });
}

/// More messages than a method takes: those that matter do not come, or come too late.
#[test]
fn messages_after_the_last_one_change_nothing() {
    attack(async |_, socket| {
        let mut wire = Wire::connect(socket).await;
        for method in METHODS {
            let (_, request) = harmless(method);
            let mut call = wire.call(method.path);
            for _ in 0..3 {
                call = call.bytes(message(&request));
            }
            let outcome = call.bytes(Bytes::from_static(b"\xff\xff")).send().await;
            let is_clear = match &outcome {
                Outcome::Answered => !method.client_streaming,
                Outcome::Refused(refusal) => refusal.reason.is_some(),
                Outcome::Broken(_) => false,
            };
            assert!(is_clear, "{}: {outcome}", method.path);
        }
    });
}
