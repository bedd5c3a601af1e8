//! What output survives: the death of the server, of the keeper, restarts and rotation.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rustix::process::Signal;
use wharf_api::v1::process_output::Kind as Output;
use wharf_api::v1::write_stdin_request::Target;
use wharf_api::v1::{self, ContainerSpec, LogSpec};

use crate::harness::streams::{exec, exec_with_stdin};
use crate::harness::wait::so;
use crate::harness::{Client, World, keeper, scenario, spec, tier, until};
use crate::logs::Lines;

const WRITERS: usize = 20;

/// Numbered lines as fast as it can, and a last word when it is asked to end.
const NUMBERS: &str = "trap 'echo bye; exit 0' TERM; i=0; while :; do echo $i; i=$((i+1)); done";

/// Every line once, in order, to the last word. How many.
fn must_be_whole(name: &str, text: &[u8]) -> u64 {
    let text = std::str::from_utf8(text).unwrap();
    let numbers = text.strip_suffix("bye\n");
    let numbers = numbers.unwrap_or_else(|| panic!("{name} ends without its last word"));
    let mut next = 0;
    for line in numbers.lines() {
        assert_eq!(
            line.parse(),
            Ok(next),
            "{name}: a line is missing, doubled or torn"
        );
        next += 1;
    }
    next
}

/// The whole log of a container whose run is over.
async fn whole_log<'a>(client: &'a Client, name: &str) -> Lines<'a> {
    let mut lines = Lines::of(client);
    let over = |lines: &Lines<'_>| lines.marks.iter().any(|mark| mark.starts_with("exited"));
    assert!(
        lines.read(name, over).await,
        "the log of {name} does not end"
    );
    lines
}

#[test]
fn faults_of_the_server_lose_no_line_of_twenty_containers_that_write_at_full_speed() {
    scenario(async |world| {
        let client = world.up().await;
        let names: Vec<_> = (0..WRITERS).map(|n| format!("writer-{n}")).collect();
        for name in &names {
            client
                .run_spec(name, spec::running(&["sh", "-c", NUMBERS]))
                .await
                .unwrap();
        }
        // One reader goes on by itself over everything.
        let address = format!("unix://{}", world.wharfd.socket().display());
        let library = wharf_client::Client::connect(address.as_str())
            .await
            .unwrap();
        let following = tokio::spawn(follow(library, names[0].clone()));
        let mut random = StdRng::seed_from_u64(tier::seed());
        let kills = if tier::is_long() { 20 } else { 5 };
        for _ in 0..kills {
            tokio::time::sleep(Duration::from_millis(random.random_range(100..1_500))).await;
            world.wharfd.kill();
            tokio::time::sleep(Duration::from_millis(random.random_range(0..500))).await;
            world.wharfd.start().await;
        }
        let stops = names
            .iter()
            .map(|name| client.stop(name, Duration::from_secs(30)));
        for stopped in join_all(stops).await {
            assert_eq!(stopped.unwrap().exit_status.unwrap().code, 0);
        }
        let mut total = 0;
        for name in &names {
            let lines = whole_log(&client, name).await;
            assert_eq!(lines.marks, ["started 1", "exited 1"], "{name}");
            total += must_be_whole(name, &lines.text);
        }
        eprintln!("{total} lines of {WRITERS} containers lived through {kills} kills");
        must_be_whole("the reader that went on", &following.await.unwrap());
    });
}

/// Reads a log with the client library, which takes it up again after each break.
async fn follow(client: wharf_client::Client, container: String) -> Vec<u8> {
    let mut logs = client.logs(v1::StreamLogsRequest {
        container,
        follow: true,
        stop_at_exit: true,
        ..Default::default()
    });
    let mut text = Vec::new();
    while let Some(message) = logs.next().await.unwrap() {
        match message.response {
            Some(v1::stream_logs_response::Response::Entries(batch)) => {
                for entry in batch.entries {
                    text.extend_from_slice(&entry.data);
                }
            }
            Some(v1::stream_logs_response::Response::Gap(gap)) => panic!("{gap:?}"),
            _ => {}
        }
    }
    text
}

#[test]
fn faults_of_the_keeper_are_told_as_gaps_and_output_is_recorded_again() {
    scenario(async |world| {
        let client = world.up().await;
        client
            .run_spec("writer", spec::running(&["sh", "-c", NUMBERS]))
            .await
            .unwrap();
        // Not before the last fault: what it writes while there is no keeper belongs to a gap.
        let script = "while [ ! -e /tmp/late ]; do sleep 0.05; done; echo late; exit 5";
        let mut joined = client
            .run_exec("writer", exec(&["sh", "-c", script]))
            .await
            .unwrap();
        joined.started().await.unwrap();
        let mut lines = Lines::of(&client);
        let kills = 5;
        for kill in 0..=kills {
            if kill > 0 {
                kill_keeper(world).await;
                let told = |lines: &Lines<'_>| lines.gaps.len() == kill;
                assert!(lines.read("writer", told).await, "no gap is told");
            }
            let before = lines.text.len();
            let more = |lines: &Lines<'_>| lines.text.len() > before + 10_000;
            assert!(lines.read("writer", more).await, "nothing is recorded");
        }
        assert_eq!(lines.gaps.len(), kills, "{:?}", lines.marks);
        let state = client.state("writer").await.unwrap();
        assert_eq!(state, v1::container::State::Running);
        must_rise(&lines);
        // The exec lived through it, too.
        let released = client
            .run_exec("writer", exec(&["touch", "/tmp/late"]))
            .await;
        assert_eq!(released.unwrap().whole().await.unwrap().exit.code, 0);
        let whole = joined.whole().await.unwrap();
        assert_eq!((whole.out(), whole.exit.code), ("late\n", 5));
    });
}

async fn kill_keeper(world: &World) {
    let before = keeper::pids(world.directory());
    assert_eq!(before.len(), 1);
    keeper::signal(world.directory(), Signal::KILL);
    until(
        "another keeper is there",
        Duration::from_secs(60),
        async || {
            let now = keeper::pids(world.directory());
            so(now.len() == 1 && now != before, || format!("{now:?}"))
        },
    )
    .await;
}

/// Between two gaps each number follows the one before; a gap may cut a line, and only skips.
fn must_rise(lines: &Lines<'_>) {
    let ends = lines.gaps.iter().copied().chain([lines.text.len()]);
    let mut begin = 0;
    let mut last: Option<u64> = None;
    for end in ends {
        let piece = std::str::from_utf8(&lines.text[begin..end]).unwrap();
        let whole = if begin == 0 {
            piece
        } else {
            piece.split_once('\n').map_or("", |(_torn, rest)| rest)
        };
        let whole = whole.rsplit_once('\n').map_or("", |(whole, _torn)| whole);
        let numbers: Vec<u64> = whole.lines().map(|line| line.parse().unwrap()).collect();
        assert!(numbers.len() > 100, "{} lines between gaps", numbers.len());
        assert!(numbers.iter().is_sorted_by(|a, b| **b == **a + 1));
        assert!(
            last < numbers.first().copied(),
            "after a gap output is told again"
        );
        last = numbers.last().copied();
        begin = end;
    }
}

#[test]
fn faults_of_the_keeper_open_no_input_that_was_closed() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let reads_late =
            exec_with_stdin(&["sh", "-c", "until [ -e /go ]; do sleep 0.1; done; wc -c"]);
        let mut joined = client.run_exec("box", reads_late).await.unwrap();
        joined.started().await.unwrap();
        // More than the process's own pipe and the shim's buffer take: the rest is in the FIFO.
        for last in [false, true] {
            let write = v1::WriteStdinRequest {
                target: Some(Target::ExecId(joined.exec_id().to_owned())),
                data: vec![b'x'; 64 << 10].into(),
                close: last,
                ..Default::default()
            };
            client.write_stdin(write).await.unwrap();
        }
        kill_keeper(world).await;
        let follow = v1::FollowExecRequest {
            exec_id: joined.exec_id().to_owned(),
            ..Default::default()
        };
        // The keeper that is there has it again once it says so.
        client.follow_exec(follow).await.unwrap();
        world.wharfd.kill();
        let client = world.wharfd.start().await;
        let touched = client.exec_whole("box", &["touch", "/go"]).await.unwrap();
        assert_eq!(touched.exit.code, 0);
        // It may have told of it already.
        let whole = client.follow_exec(v1::FollowExecRequest {
            exec_id: joined.exec_id().to_owned(),
            resume: vec![v1::StreamOffset {
                stream: v1::OutputStream::Stdout.into(),
                offset: 0,
            }],
            ..Default::default()
        });
        let whole = whole.await.unwrap().whole().await.unwrap();
        assert_eq!((whole.out(), whole.exit.code), ("131072\n", 0));
    });
}

#[test]
fn faults_of_a_keeper_that_is_late_let_nobody_resume_in_the_wrong_place() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let mut joined = client
            .run_exec_with(
                "box",
                exec_with_stdin(&["sh", "-c", "echo ready; cat"]),
                v1::AttachOptions {
                    stdin: true,
                    on_disconnect: v1::DisconnectAction::Detach.into(),
                    ..Default::default()
                },
            )
            .await
            .unwrap();
        joined
            .until(|whole| whole.out() == "ready\n")
            .await
            .unwrap();
        world.wharfd.kill();
        keeper::signal(world.directory(), Signal::STOP);
        let client = world.wharfd.start_without_backend().await;
        let again = v1::AttachOptions {
            stdin: true,
            resume: vec![v1::StreamOffset {
                stream: v1::OutputStream::Stdout.into(),
                offset: 6,
            }],
            ..Default::default()
        };
        let thaw = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            keeper::signal(world.directory(), Signal::CONT);
        };
        let (again, ()) = tokio::join!(client.attach_exec(joined.exec_id(), again), thaw);
        let mut again = again.unwrap();
        again.write("more").await;
        again.half_close();
        let mut told = Vec::new();
        while let Some(next) = again.next().await.unwrap() {
            match next {
                Output::Output(chunk) => told.push((chunk.offset, chunk.data)),
                Output::Started(_) => {}
                Output::Exited(exit) => assert_eq!(exit.code, 0),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told, [(6, Bytes::from_static(b"more"))]);
    });
}

#[test]
fn faults_and_rotation_leave_a_follower_no_line_short_and_slow_readers_slow_nobody() {
    scenario(async |world| {
        let client = world.up().await;
        let lines = if tier::is_long() { 2_000_000 } else { 300_000 };
        let script =
            format!("i=0; while [ $i -lt {lines} ]; do echo $i; i=$((i+1)); done; echo bye");
        // Many small segments, and all of them kept.
        let rotating = ContainerSpec {
            log: Some(LogSpec {
                max_bytes: 512 << 10,
                max_files: 100,
                ..Default::default()
            }),
            ..spec::running(&["sh", "-c", &script])
        };
        client.run_spec("writer", rotating).await.unwrap();
        // Sixteen readers at different speeds. Half of them read nothing at all: on connections of their
        // own, since what they do not take fills a connection's window for all of its streams.
        let still: Vec<_> = (0..8).map(|_| world.wharfd.client()).collect();
        let standing = join_all(still.iter().map(standing_still)).await;
        let readers = (0..8).map(|speed| read_at(&client, Duration::from_millis(speed * 10)));
        let read = tokio::spawn(join_all(readers.collect::<Vec<_>>()));
        client.exit_of("writer", 1).await.unwrap();
        drop(standing);
        for text in read.await.unwrap() {
            assert_eq!(must_be_whole("writer", &text), lines);
        }
    });
}

/// A follower that takes its first message and no other.
async fn standing_still(client: &Client) -> tonic::Streaming<v1::StreamLogsResponse> {
    let request = client.request(v1::StreamLogsRequest {
        container: "writer".to_owned(),
        follow: true,
        ..Default::default()
    });
    let mut messages = client
        .logs()
        .stream_logs(request)
        .await
        .unwrap()
        .into_inner();
    messages.message().await.unwrap();
    messages
}

/// The whole log, with a pause after every 64 KiB.
fn read_at(client: &Client, pause: Duration) -> impl Future<Output = Vec<u8>> + use<> {
    let client = client.clone();
    async move {
        let request = client.request(v1::StreamLogsRequest {
            container: "writer".to_owned(),
            follow: true,
            stop_at_exit: true,
            ..Default::default()
        });
        let mut messages = client
            .logs()
            .stream_logs(request)
            .await
            .unwrap()
            .into_inner();
        let mut text = Vec::new();
        while let Some(message) = messages.message().await.unwrap() {
            match message.response {
                Some(v1::stream_logs_response::Response::Entries(batch)) => {
                    let (entries, before) = (batch.entries.iter(), text.len());
                    entries.for_each(|entry| text.extend_from_slice(&entry.data));
                    if text.len() >> 16 != before >> 16 {
                        tokio::time::sleep(pause).await;
                    }
                }
                Some(v1::stream_logs_response::Response::Gap(gap)) => panic!("{gap:?}"),
                _ => {}
            }
        }
        text
    }
}
