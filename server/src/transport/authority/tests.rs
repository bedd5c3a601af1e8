//! Clients that send a bad authority, against a real server and against hostile bytes.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tonic::body::Body;

use super::*;

const PATH: &str = "%2Ftmp%2Fsome%2Fplace%2Fwharf.sock";
const END: u8 = 0x05;
const SETTINGS: u8 = 4;

/// An encoder with a header table, as C-core's: what is in the table is sent as an index.
#[derive(Default)]
struct Encoder {
    table: VecDeque<(String, String)>,
    block: Vec<u8>,
}

impl Encoder {
    fn add(&mut self, name: &str, value: &str) {
        let known = |entry: &(String, String)| entry.0 == name && entry.1 == value;
        if let Some(at) = self.table.iter().position(known) {
            // The static table has 61 entries; RFC 7541, 5.1.
            let index = u8::try_from(at + 62).unwrap();
            match index.checked_sub(0x7f) {
                None => self.block.push(0x80 | index),
                Some(rest) => self.block.extend([0xff, rest]),
            }
            return;
        }
        self.block.push(0x40);
        self.string(name);
        self.string(value);
        self.table.push_front((name.to_owned(), value.to_owned()));
        let bytes = |table: &VecDeque<(String, String)>| -> usize {
            table.iter().map(|(n, v)| n.len() + v.len() + 32).sum()
        };
        while bytes(&self.table) > 4_096 {
            self.table.pop_back();
        }
    }

    fn string(&mut self, text: &str) {
        let length = u8::try_from(text.len()).unwrap();
        assert!(length < 0x7f);
        self.block.push(length);
        self.block.extend(text.as_bytes());
    }

    fn request(&mut self, id: &str, authority: &str) -> Vec<u8> {
        self.add(":method", "POST");
        self.add(":scheme", "http");
        self.add(":path", "/wharf.v1.SystemService/GetVersion");
        self.add(":authority", authority);
        self.add("x-request-id", id);
        std::mem::take(&mut self.block)
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// What a server saw: authority and request id of each call.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// A server behind the repair, and the client's end of its connection.
fn server() -> (DuplexStream, Seen) {
    let (client, stream) = duplex(1 << 16);
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let authority = request.uri().authority().map(ToString::to_string);
        let id = request.headers()["x-request-id"].to_str().unwrap();
        log.lock()
            .push((authority.unwrap_or_default(), id.to_owned()));
        async { Ok::<_, Infallible>(Response::new(Body::empty())) }
    });
    let io = TokioIo::new(AuthorityRepair::new(
        stream,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ));
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(1_000)
        .serve_connection(io, service);
    // Ends with the client's half.
    drop(tokio::task::spawn(serving));
    (client, seen)
}

/// Reads frames until `answers` streams have ended; panics if one is reset, or all are.
async fn read_answers(client: &mut (impl AsyncRead + Unpin), answers: usize) {
    let mut ended = 0;
    while ended < answers {
        let mut header = [0; 9];
        client.read_exact(&mut header).await.unwrap();
        let [l0, l1, l2, kind, flags, ..] = header;
        let length = u32::from_be_bytes([0, l0, l1, l2]);
        let mut payload = vec![0; length as usize];
        client.read_exact(&mut payload).await.unwrap();
        assert!(!matches!(kind, 3 | 7), "reset or GOAWAY: {payload:?}");
        ended += usize::from(matches!(kind, 0 | 1) && flags & 1 == 1);
    }
}

async fn bounded<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), test)
        .await
        .unwrap()
}

#[tokio::test]
async fn ten_thousand_calls_on_one_connection_are_answered() {
    const CALLS: usize = 10_000;
    let (client, seen) = server();
    let (mut from, mut to) = tokio::io::split(client);
    let write = async {
        to.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        let mut encoder = Encoder::default();
        for call in 0..CALLS {
            let stream = u32::try_from(call * 2 + 1).unwrap();
            let block = encoder.request(&format!("call-{call}"), PATH);
            to.write_all(&frame(1, END, stream, &block)).await.unwrap();
            if call % 100 == 99 {
                to.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    };
    bounded(async { tokio::join!(write, read_answers(&mut from, CALLS)) }).await;
    let seen = seen.lock();
    let ids: HashSet<&String> = seen.iter().map(|(_, id)| id).collect();
    assert_eq!((seen.len(), ids.len()), (CALLS, CALLS));
    let letters = "a".repeat(PATH.len());
    assert!(seen.iter().all(|(authority, _)| *authority == letters));
}

/// One call with these frames, and the authority that the server saw.
async fn authority_of(frames: Vec<Vec<u8>>) -> String {
    let (mut client, seen) = server();
    let sent = [vec![frame(SETTINGS, 0, 0, &[])], frames].concat();
    client.write_all(&sent.concat()).await.unwrap();
    bounded(read_answers(&mut client, 1)).await;
    seen.lock()[0].0.clone()
}

#[tokio::test]
async fn a_valid_authority_is_not_touched() {
    let block = Encoder::default().request("id", "localhost:7");
    let seen = authority_of(vec![frame(1, END, 1, &block)]).await;
    assert_eq!(seen, "localhost:7");
}

#[tokio::test]
async fn padding_priority_and_continuations_are_understood() {
    let block = Encoder::default().request("id", PATH);
    let (first, rest) = block.split_at(90);
    let (second, third) = rest.split_at(7);
    let mut padded = vec![3, 0, 0, 0, 0, 16];
    padded.extend(first);
    padded.extend([0; 3]);
    let seen = authority_of(vec![
        frame(1, 0x01 | 0x08 | 0x20, 1, &padded),
        frame(9, 0, 1, second),
        frame(9, 0x04, 1, third),
    ]);
    assert_eq!(seen.await, "a".repeat(PATH.len()));
}

#[tokio::test]
async fn a_huffman_coded_path_is_repaired() {
    // "/tmp/x" in the code of RFC 7541, appendix B, with the name from the static table.
    let path = [0x61, 0x34, 0xd6, 0xc7, 0x9f];
    assert_eq!(huffman::decode(&path).unwrap(), b"/tmp/x");
    let mut block = vec![0x41, 0x80 | 5];
    block.extend(path);
    let mut encoder = Encoder::default();
    encoder.add(":method", "POST");
    encoder.add(":scheme", "http");
    encoder.add(":path", "/a/b");
    encoder.add("x-request-id", "id");
    block.extend(&encoder.block[..]);
    assert_eq!(authority_of(vec![frame(1, END, 1, &block)]).await, "aaaaaa");
}

fn repair_in_pieces(bytes: &[u8], piece: usize) -> BytesMut {
    let mut repair = Repair::new(b"");
    for piece in bytes.chunks(piece) {
        repair.feed(piece);
    }
    repair.flush();
    repair.output().split()
}

fn stream(authority: &str, calls: u32) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut bytes = frame(SETTINGS, 0, 0, &[0; 6]);
    for call in 0..calls {
        let block = encoder.request(&format!("id-{call}"), authority);
        bytes.extend(frame(1, 0x04, call * 2 + 1, &block));
        bytes.extend(frame(0, 1, call * 2 + 1, &[0; 5]));
    }
    bytes
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_lose_any(bytes: Vec<u8>, piece in 1_usize..64) {
        let mut repair = Repair::new(b"");
        for piece in bytes.chunks(piece) {
            repair.feed(piece);
        }
        repair.flush();
        prop_assert!(repair.output().len() <= bytes.len());
    }

    #[test]
    fn a_damaged_stream_comes_out_the_same_in_pieces_of_any_size(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        piece in 1_usize..200,
    ) {
        let mut bytes = stream(PATH, 20);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let whole = repair_in_pieces(&bytes, bytes.len());
        prop_assert!(whole.len() <= bytes.len());
        prop_assert_eq!(repair_in_pieces(&bytes, piece), whole);
    }

    #[test]
    fn a_stream_with_a_valid_authority_comes_out_as_it_went_in(piece in 1_usize..200) {
        let bytes = stream("localhost", 20);
        prop_assert_eq!(&repair_in_pieces(&bytes, piece)[..], &bytes[..]);
    }

    #[test]
    fn any_bad_authority_is_replaced(authority in "[/%][0-9%]{2,40}") {
        let output = repair_in_pieces(&stream(&authority, 3), 100);
        let contains = |needle: &[u8]| output.windows(needle.len()).any(|part| part == needle);
        prop_assert!(!contains(authority.as_bytes()));
    }
}

#[test]
fn a_header_block_without_end_is_not_held() {
    let mut repair = Repair::new(b"");
    repair.feed(&frame(1, 0, 1, &[0; 100]));
    for _ in 0..100 {
        repair.feed(&frame(9, 0, 1, &[0; 1_000]));
    }
    assert!(repair.is_untouched());
    assert_eq!(repair.output().len(), 109 + 100 * 1_009);
}
