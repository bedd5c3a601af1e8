//! Bytes on the socket that are no gRPC, no HTTP/2, or nothing at all.

use std::path::Path;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::attack;
use super::wire::PATIENCE;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// What the client does once it has sent its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It waits for the server to end the connection.
    Wait,
    /// It has nothing more to say, and waits for the same.
    Close,
}

/// Sends bytes; the server must end the connection in time. What it says before is its own affair.
async fn must_end(socket: &Path, bytes: &[u8], then: Then) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let exchange = async {
        // The server may have heard enough before the end.
        if stream.write_all(bytes).await.is_err() {
            return;
        }
        if then == Then::Close {
            stream.shutdown().await.ok();
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
    };
    timeout(PATIENCE, exchange)
        .await
        .unwrap_or_else(|_| panic!("still open {PATIENCE:?} after {:02x?}", shown(bytes)));
}

fn shown(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(128)]
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn after_preface(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = [PREFACE, EMPTY_SETTINGS].concat();
    bytes.extend(frames.concat());
    bytes
}

#[test]
fn other_protocols_are_ended_at_once() {
    attack(async |_, socket| {
        for other in [
            &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
            b"GET /\r\n",
            b"POST /wharf.v1.SystemService/GetVersion HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
            b"\0",
            b"\n",
        ] {
            must_end(socket, other, Then::Wait).await;
        }
    });
}

#[test]
fn connections_that_end_early_are_ended_too() {
    attack(async |_, socket| {
        must_end(socket, b"", Then::Close).await;
        for length in 1..PREFACE.len() {
            must_end(socket, &PREFACE[..length], Then::Close).await;
        }
        must_end(socket, PREFACE, Then::Close).await;
        for length in 0..EMPTY_SETTINGS.len() {
            let bytes = [PREFACE, &EMPTY_SETTINGS[..length]].concat();
            must_end(socket, &bytes, Then::Close).await;
        }
    });
}

#[test]
fn frames_that_break_http2_end_their_connection() {
    attack(async |_, socket| {
        let no_headers = frame(0, 1, 1, b"data of a stream that is not there");
        let bad_hpack = frame(1, 5, 1, &[0xff; 64]);
        let padding_beyond = frame(1, 0xd, 1, &[0xff, 0x82]);
        let settings_with_ack = frame(4, 1, 0, &[0; 6]);
        let settings_of_a_stream = frame(4, 0, 1, &[]);
        let odd_settings = frame(4, 0, 0, &[0; 5]);
        let no_window = frame(8, 0, 0, &[0; 4]);
        let headers_of_no_stream = frame(1, 5, 0, &[0x82]);
        let even_stream = frame(1, 5, 2, &[0x82]);
        let push = frame(5, 4, 1, &[0, 0, 0, 2, 0x82]);
        let lone_continuation = frame(9, 4, 1, &[0x82]);
        let short_ping = frame(6, 0, 0, &[0; 7]);
        let mut oversize = frame(0, 0, 1, &[]);
        oversize[..3].copy_from_slice(&[0xff, 0xff, 0xff]);
        for frames in [
            no_headers,
            bad_hpack,
            padding_beyond,
            settings_with_ack,
            settings_of_a_stream,
            odd_settings,
            no_window,
            headers_of_no_stream,
            even_stream,
            push,
            lone_continuation,
            short_ping,
            oversize,
        ] {
            must_end(socket, &after_preface(&[frames]), Then::Wait).await;
        }
    });
}

/// CVE-2024-27316: a header block that never ends.
#[test]
fn headers_without_end_end_their_connection() {
    attack(async |_, socket| {
        let literal = [&[0x40, 1, b'a', 0x7f, 0x81, 0x07][..], &[b'x'; 1_024]].concat();
        let mut frames = vec![frame(1, 1, 1, &literal)];
        frames.extend(vec![frame(9, 0, 1, &literal); 4_096]);
        must_end(socket, &after_preface(&frames), Then::Wait).await;
        let empty = vec![frame(9, 0, 1, &[]); 20_000];
        let frames = [vec![frame(1, 1, 1, &[0x82])], empty].concat();
        must_end(socket, &after_preface(&frames), Then::Wait).await;
    });
}

/// CVE-2023-44487 and its like: streams that are begun and given up, as fast as can be.
#[test]
fn streams_that_are_reset_at_once_cost_only_their_connection() {
    attack(async |client, socket| {
        // :method POST, :scheme http, :path /, :authority localhost; all literal or static.
        let mut block = vec![0x83, 0x86, 0x84, 0x41, 9];
        block.extend(b"localhost");
        let mut frames = Vec::new();
        for stream in (1..40_000).step_by(2) {
            frames.push(frame(1, 4, stream, &block));
            frames.push(frame(3, 0, stream, &[0, 0, 0, 8]));
        }
        let flood = after_preface(&frames);
        let flooding = must_end(socket, &flood, Then::Close);
        let others = async {
            for _ in 0..20 {
                client.info().await.unwrap();
            }
        };
        tokio::join!(flooding, others);
    });
}

#[test]
fn random_bytes_harm_nobody() {
    const SEED: u64 = 7;
    attack(async |_, socket| {
        let mut random = StdRng::seed_from_u64(SEED);
        for round in 0..300 {
            let mut bytes = vec![0; random.random_range(1..4_096)];
            random.fill_bytes(&mut bytes);
            let bytes = match round % 3 {
                0 => bytes,
                1 => [PREFACE, &bytes].concat(),
                _ => after_preface(&random_frames(&mut random, &bytes)),
            };
            must_end(socket, &bytes, Then::Close).await;
        }
    });
}

/// Frames whose headers are right and whose rest is chance.
fn random_frames(random: &mut StdRng, bytes: &[u8]) -> Vec<Vec<u8>> {
    let pieces = bytes.chunks(random.random_range(1..512));
    pieces
        .map(|piece| {
            let stream = random.random_range(0..4) * 2 + 1;
            frame(random.random_range(0..10), random.random(), stream, piece)
        })
        .collect()
}

#[test]
fn many_silent_connections_are_in_nobodys_way() {
    attack(async |client, socket| {
        let mut silent = Vec::new();
        for _ in 0..500 {
            silent.push(UnixStream::connect(socket).await.unwrap());
        }
        let hasty = client.with_deadline(Duration::from_secs(10));
        for _ in 0..20 {
            hasty.info().await.unwrap();
        }
    });
}
