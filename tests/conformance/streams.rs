//! Streams under load: every byte, in order, in bounded memory, whoever is slow.

use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};
use wharf_api::v1::{
    self, BackpressurePolicy, ContainerSpec, LogSpec, process_input::Kind as Input,
};

use crate::harness::streams::{CHUNK, Joined, exec, exec_with_stdin, joining};
use crate::harness::wait::so;
use crate::harness::{Client, World, keeper, scenario, spec, tier, until};

type Hash = sha2::digest::Output<Sha256>;

/// How much goes through in CI; `make chaos` sends the whole GiB.
fn volume() -> usize {
    if tier::is_long() { 1 << 30 } else { 128 << 20 }
}

/// Resident memory of a process that is not shared with files, in KiB.
fn anonymous_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

/// The most that `wharfd` and the keeper may grow by while anything goes through them.
const FLAT_KIB: u64 = 64 << 10;

#[test]
fn random_bytes_come_back_as_they_went_in_flat_memory() {
    scenario(async |world| {
        let client = world.up().await;
        // A GiB takes a program with all its checks more than a minute.
        let client = client.with_deadline(Duration::from_secs(500));
        client.run("box", spec::PATIENT).await.unwrap();
        let pids = pids(world);
        let before = pids.map(anonymous_kib);
        let mut joined = client
            .run_exec("box", exec_with_stdin(&["cat"]))
            .await
            .unwrap();
        let writer = joined.writer();
        joined.half_close();
        let sending = tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(7);
            let mut hash = Sha256::new();
            for _ in 0..volume() / CHUNK {
                let mut chunk = vec![0; CHUNK];
                random.fill(&mut chunk[..]);
                hash.update(&chunk);
                writer.send(Input::Stdin(Bytes::from(chunk))).await.unwrap();
            }
            hash.finalize()
        });
        let (received, bytes, peak) = drain(&mut joined, pids).await;
        assert_eq!(bytes, volume() as u64);
        assert_eq!(sending.await.unwrap(), received);
        for (peak, before) in peak.into_iter().zip(before) {
            eprintln!("anonymous memory: {before} KiB before, {peak} KiB at most");
            assert!(peak < before + FLAT_KIB, "{before} KiB grew to {peak}");
        }
    });
}

/// `wharfd` and its keeper.
fn pids(world: &World) -> [u32; 2] {
    let keeper = keeper::pids(world.directory());
    assert_eq!(keeper.len(), 1);
    [world.wharfd.pid(), u32::try_from(keeper[0]).unwrap()]
}

/// Everything to the end: its hash, its length, and the most memory seen meanwhile.
async fn drain(joined: &mut Joined, pids: [u32; 2]) -> (Hash, u64, [u64; 2]) {
    let (mut hash, mut bytes, mut peak, mut chunks) = (Sha256::new(), 0, [0; 2], 0);
    while let Some(next) = joined.next().await.unwrap() {
        match next {
            v1::process_output::Kind::Output(chunk) => {
                assert_eq!(chunk.offset, bytes);
                hash.update(&chunk.data);
                bytes += chunk.data.len() as u64;
                chunks += 1;
                if chunks % 256 == 0 {
                    for (peak, pid) in peak.iter_mut().zip(pids) {
                        *peak = (*peak).max(anonymous_kib(pid));
                    }
                }
            }
            v1::process_output::Kind::Started(_) => {}
            v1::process_output::Kind::Exited(exit) => assert_eq!(exit.code, 0),
            other => panic!("{other:?}"),
        }
    }
    (hash.finalize(), bytes, peak)
}

/// Writes 64 MiB and says so; each megabyte is numbered.
const WRITER: &str = "i=0; while [ $i -lt 64 ]; do head -c 1048576 /dev/zero | tr '\\0' \"$((i%10))\"; i=$((i+1)); done; echo done >&2; touch /done";

#[test]
fn a_reader_that_stands_still_holds_the_process_back_and_loses_nothing() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let spec = exec(&["sh", "-c", WRITER]);
        let mut joined = client.run_exec("box", spec).await.unwrap();
        joined.started().await.unwrap();
        // It cannot have written everything: far more than all buffers together.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let done = client
            .exec_whole("box", &["sh", "-c", "test -e /done"])
            .await;
        assert_eq!(done.unwrap().exit.code, 1, "the writer did not wait");
        let whole = joined.whole().await.unwrap();
        assert!(whole.gaps.is_empty(), "{:?}", whole.gaps);
        assert_eq!(whole.stdout.len(), 64 << 20);
        for (number, megabyte) in whole.stdout.chunks(1 << 20).enumerate() {
            let digit = b'0' + u8::try_from(number % 10).unwrap();
            assert!(
                megabyte.iter().all(|byte| *byte == digit),
                "megabyte {number}"
            );
        }
    });
}

#[test]
fn a_log_that_keeps_little_loses_nothing_to_a_reader_that_it_waits_for() {
    scenario(async |world| {
        let client = world.up().await;
        let start = v1::RunContainerStart {
            spec: Some(ContainerSpec {
                log: Some(LogSpec {
                    max_bytes: 64 << 10,
                    max_files: 1,
                    ..LogSpec::default()
                }),
                ..spec::running(&["seq", "1", "300000"])
            }),
            ..v1::RunContainerStart::default()
        };
        let mut joined = client.run_container(start).await.unwrap();
        joined.started().await.unwrap();
        // Two megabytes are written in much less, if nobody waits.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let whole = joined.whole().await.unwrap();
        assert!(whole.gaps.is_empty(), "{:?}", whole.gaps);
        let expected: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
        assert!(whole.out() == expected, "{} bytes", whole.stdout.len());
    });
}

#[test]
fn a_reader_that_drops_learns_exactly_what_it_lost_and_holds_nobody_back() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let spec = exec(&["sh", "-c", WRITER]);
        let attach = v1::AttachOptions {
            backpressure: BackpressurePolicy::DropOldest.into(),
            ..joining(&spec)
        };
        let joined = client.run_exec_with("box", spec, attach).await.unwrap();
        is_done(&client).await;
        let whole = joined.whole().await.unwrap();
        let dropped: i64 = whole.gaps.iter().map(|gap| gap.dropped_bytes).sum();
        assert!(dropped > 0, "64 MiB were kept");
        assert_eq!(
            u64::try_from(dropped).unwrap() + whole.stdout.len() as u64,
            64 << 20
        );
    });
}

async fn is_done(client: &Client) {
    until("the writer is done", Duration::from_secs(60), async || {
        let whole = client
            .exec_whole("box", &["sh", "-c", "test -e /done"])
            .await;
        so(whole.unwrap().exit.code == 0, || "not yet".to_owned())
    })
    .await;
}
