//! Sessions against a scripted server: what is delivered, what is asked for again, what is cancelled.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::time::Duration;

use prost::Message;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use wharf_api::v1::process_input::Kind as In;
use wharf_api::v1::process_output::Kind as Out;
use wharf_api::v1::*;

use super::{InputError, Output, Session};
use crate::testing::{RequestEnd, Server, Step, away, ok, send};
use crate::{Address, CallOptions, Client, Error, ErrorReason, RetryPolicy};

const LIMIT: Duration = Duration::from_secs(20);

/// A message of RunExec, AttachExec or FollowExec, which look the same on the wire.
fn attached(terminal: bool) -> Step {
    let attached = Attached {
        container_id: "c1".into(),
        exec_id: "e1".into(),
        terminal,
    };
    send(&RunExecResponse {
        response: Some(run_exec_response::Response::Attached(attached)),
    })
}

fn output(kind: Out) -> Step {
    let output = ProcessOutput { kind: Some(kind) };
    send(&RunExecResponse {
        response: Some(run_exec_response::Response::Output(output)),
    })
}

fn started() -> Step {
    run_started(1)
}

fn run_started(run: u64) -> Step {
    output(Out::Started(ProcessStarted {
        run,
        ..Default::default()
    }))
}

fn chunk(stream: OutputStream, offset: u64, data: &'static str) -> Step {
    output(Out::Output(OutputChunk {
        stream: stream.into(),
        data: data.into(),
        offset,
    }))
}

fn stdout(offset: u64, data: &'static str) -> Step {
    chunk(OutputStream::Stdout, offset, data)
}

fn exited(code: i32) -> Step {
    output(Out::Exited(ExitStatus {
        code,
        ..Default::default()
    }))
}

fn refused(code: Code, reason: &str) -> Step {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "wharf", []);
    Step::End(Status::with_error_details(code, "refused", details))
}

fn run() -> RunExecStart {
    RunExecStart {
        container: "web".into(),
        attach: Some(AttachOptions {
            stdin: true,
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn attach() -> AttachContainerStart {
    AttachContainerStart {
        container: "web".into(),
        ..Default::default()
    }
}

/// What a session delivers, in short.
async fn rest(session: &mut Session) -> Vec<String> {
    let mut seen = Vec::new();
    loop {
        match timeout(LIMIT, session.next()).await.expect("no hang") {
            Ok(Some(output)) => seen.push(short(output)),
            Ok(None) => return seen,
            Err(error) => {
                seen.push(format!("error {:?}", error.reason()));
                return seen;
            }
        }
    }
}

fn short(output: Output) -> String {
    match output {
        Output::Attached(_) => "attached".into(),
        Output::Started(_) => "started".into(),
        Output::Chunk {
            stream,
            offset,
            data,
        } => {
            let name = match stream {
                OutputStream::Stderr => "err",
                OutputStream::Stdout | OutputStream::Unspecified => "out",
            };
            format!("{name} {offset} {}", String::from_utf8_lossy(&data))
        }
        Output::Gap {
            stream,
            dropped_bytes,
        } => format!("gap {} {dropped_bytes:?}", stream.as_str_name()),
        Output::Resumed(fate) => format!("resumed {fate:?}"),
        Output::Exited(status) => format!("exited {}", status.code),
        other => format!("{other:?}"),
    }
}

async fn next(session: &mut Session) -> String {
    let output = timeout(LIMIT, session.next()).await.expect("no hang");
    output.unwrap().map_or("end".into(), short)
}

async fn ready(session: &mut Session) {
    assert_eq!(next(session).await, "attached");
    assert_eq!(next(session).await, "started");
}

#[tokio::test]
async fn a_run_delivers_everything_in_order_and_ends() {
    let server = Server::start(vec![vec![
        attached(false),
        started(),
        stdout(0, "a"),
        chunk(OutputStream::Stderr, 0, "e"),
        stdout(1, "b"),
        exited(3),
        ok(),
    ]]);
    let mut session = server.client().await.run_exec(run());
    let want = [
        "attached", "started", "out 0 a", "err 0 e", "out 1 b", "exited 3",
    ];
    assert_eq!(rest(&mut session).await, want);
    let first = server.calls()[0].message::<RunExecRequest>().request;
    let Some(run_exec_request::Request::Start(start)) = first else {
        panic!("{first:?}");
    };
    assert!(!start.idempotency_key.is_empty());
}

/// What a process writes, one message a step, as a server sends it from given offsets.
fn from(out: u64, err: u64) -> Vec<Step> {
    let steps = [
        (0, 0, stdout(0, "ab")),
        (2, 0, chunk(OutputStream::Stderr, 0, "xyz")),
        (2, 3, stdout(2, "cd")),
        (4, 3, stdout(4, "ef")),
    ];
    let left = |&(at, err_at, _): &(u64, u64, Step)| at >= out && err_at >= err;
    steps
        .into_iter()
        .filter(left)
        .map(|(_, _, step)| step)
        .collect()
}

#[tokio::test]
async fn a_run_that_is_cut_at_any_message_delivers_each_byte_once() {
    let want = ["out 0 ab", "err 0 xyz", "out 2 cd", "out 4 ef", "exited 0"];
    let ends: [fn() -> Step; 2] = [|| Step::Cut, || away("SERVER_DRAINING")];
    for end in ends {
        for delivered in 0..=4 {
            let mut before = vec![attached(false), started()];
            before.extend(from(0, 0).into_iter().take(delivered));
            before.push(end());
            let (out, err) = [(0, 0), (2, 0), (2, 3), (4, 3), (6, 3)][delivered];
            let mut after = vec![attached(false), started()];
            after.extend(from(out, err));
            after.extend([exited(0), ok()]);
            let server = Server::start(vec![before, after]);
            let mut session = server.client().await.run_exec(run());
            ready(&mut session).await;
            let mut seen = rest(&mut session).await;
            seen.retain(|what| what != "resumed Untouched");
            assert_eq!(seen, want, "cut after {delivered}");
            let offsets = resumed_offsets(&server.calls()[1].message());
            assert_eq!(offsets, [out, err], "cut after {delivered}");
        }
    }
}

/// The offsets that an attach goes on from, once everything else about it is as it should be.
fn resumed_offsets(request: &AttachExecRequest) -> Vec<u64> {
    let Some(attach_exec_request::Request::Start(start)) = &request.request else {
        panic!("{request:?}");
    };
    let options = start.options.as_ref().unwrap();
    assert_eq!(start.exec_id, "e1");
    assert!(options.stdin);
    // Those of RunExec, which are not those of AttachExec.
    assert_eq!(options.on_disconnect(), DisconnectAction::Kill);
    assert_eq!(options.backpressure(), BackpressurePolicy::Block);
    options.resume.iter().map(|resume| resume.offset).collect()
}

#[tokio::test]
async fn before_the_start_the_same_request_is_sent_again_with_its_key() {
    let server = Server::start(vec![
        vec![Step::Cut],
        vec![attached(false), away("SERVER_DRAINING")],
        vec![away("SERVER_STARTING")],
        vec![attached(false), started(), exited(0), ok()],
    ]);
    let mut session = server.client().await.run_exec(run());
    let want = ["attached", "resumed Untouched", "started", "exited 0"];
    assert_eq!(rest(&mut session).await, want);
    let calls = server.calls();
    assert_eq!(calls.len(), 4);
    for call in &calls {
        assert_eq!(call.path, "/wharf.v1.ExecService/RunExec");
        assert_eq!(call.messages[0], calls[0].messages[0]);
        assert_eq!(call.header("x-request-id"), calls[0].header("x-request-id"));
    }
}

/// What is asked for again after a cut behind `attached`, and what comes then of a process that has
/// started in between.
fn cut_before_the_start() -> Server {
    Server::start(vec![
        vec![attached(false), Step::Cut],
        vec![
            attached(false),
            run_started(3),
            stdout(0, "early"),
            exited(0),
            ok(),
        ],
    ])
}

const FROM_BYTE_0: [StreamOffset; 2] = [
    StreamOffset {
        stream: OutputStream::Stdout as i32,
        offset: 0,
    },
    StreamOffset {
        stream: OutputStream::Stderr as i32,
        offset: 0,
    },
];

#[tokio::test]
async fn who_waits_for_a_start_over_a_cut_gets_the_output_from_its_first_byte() {
    let want = [
        "attached",
        "resumed Untouched",
        "started",
        "out 0 early",
        "exited 0",
    ];
    let before = AttachOptions {
        replay_bytes: 7,
        ..Default::default()
    };
    let after = AttachOptions {
        resume: FROM_BYTE_0.to_vec(),
        ..before.clone()
    };

    let server = cut_before_the_start();
    let exec = AttachExecStart {
        exec_id: "e1".into(),
        options: Some(before.clone()),
    };
    let mut session = server.client().await.attach_exec(exec.clone());
    assert_eq!(rest(&mut session).await, want);
    let again = AttachExecStart {
        options: Some(after.clone()),
        ..exec
    };
    let sent = server.calls()[1].message::<AttachExecRequest>().request;
    assert_eq!(sent, Some(attach_exec_request::Request::Start(again)));

    let server = cut_before_the_start();
    let container = AttachContainerStart {
        container: "web".into(),
        options: Some(before),
        expected_run: None,
    };
    let mut session = server.client().await.attach_container(container.clone());
    assert_eq!(rest(&mut session).await, want);
    let again = AttachContainerStart {
        container: "c1".into(),
        options: Some(after),
        ..container
    };
    let sent = server.calls()[1]
        .message::<AttachContainerRequest>()
        .request;
    assert_eq!(sent, Some(attach_container_request::Request::Start(again)));
}

#[tokio::test]
async fn a_follower_that_waits_for_a_start_asks_only_for_streams_that_it_reads() {
    let server = cut_before_the_start();
    let request = FollowContainerRequest {
        container: "web".into(),
        streams: vec![OutputStream::Stdout.into()],
        ..Default::default()
    };
    let mut follow = server.client().await.follow_container(request.clone());
    while timeout(LIMIT, follow.next())
        .await
        .unwrap()
        .unwrap()
        .is_some()
    {}
    let again = FollowContainerRequest {
        container: "c1".into(),
        resume: FROM_BYTE_0[..1].to_vec(),
        ..request
    };
    let sent = server.calls()[1].message::<FollowContainerRequest>();
    assert_eq!(sent, again);
}

#[tokio::test]
async fn an_attach_that_was_cut_before_any_answer_is_asked_for_as_it_was() {
    let server = Server::start(vec![
        vec![Step::Cut],
        vec![
            attached(false),
            started(),
            stdout(93, "tail"),
            exited(0),
            ok(),
        ],
    ]);
    let exec = AttachExecStart {
        exec_id: "e1".into(),
        options: Some(AttachOptions {
            replay_bytes: 7,
            ..Default::default()
        }),
    };
    let mut session = server.client().await.attach_exec(exec);
    let want = ["attached", "started", "out 93 tail", "exited 0"];
    assert_eq!(rest(&mut session).await, want);
    let calls = server.calls();
    assert_eq!(calls[1].messages[0], calls[0].messages[0]);
}

#[tokio::test]
async fn bytes_that_a_server_sends_twice_are_delivered_once_and_missing_ones_announced() {
    let server = Server::start(vec![
        vec![attached(false), started(), stdout(0, "abc"), Step::Cut],
        vec![
            attached(false),
            started(),
            stdout(1, "bcd"),
            stdout(7, "h"),
            exited(0),
            ok(),
        ],
    ]);
    let mut session = server.client().await.run_exec(run());
    ready(&mut session).await;
    let want = [
        "out 0 abc",
        "resumed Untouched",
        "out 3 d",
        "gap OUTPUT_STREAM_STDOUT Some(3)",
        "out 7 h",
        "exited 0",
    ];
    assert_eq!(rest(&mut session).await, want);
}

#[tokio::test]
async fn a_stream_that_was_silent_before_a_cut_may_have_lost_something() {
    let attach = AttachExecStart {
        exec_id: "e1".into(),
        options: None,
    };
    let server = Server::start(vec![
        vec![attached(false), started(), stdout(50, "a"), Step::Cut],
        vec![attached(false), started(), exited(0), ok()],
    ]);
    let mut session = server.client().await.attach_exec(attach);
    ready(&mut session).await;
    let want = [
        "out 50 a",
        "resumed Untouched",
        "gap OUTPUT_STREAM_STDERR None",
        "exited 0",
    ];
    assert_eq!(rest(&mut session).await, want);
}

#[tokio::test]
async fn a_refusal_ends_the_session() {
    let refusal = refused(Code::FailedPrecondition, "EXECUTABLE_NOT_FOUND");
    let server = Server::start(vec![vec![attached(false), refusal]]);
    let mut session = server.client().await.run_exec(run());
    assert_eq!(next(&mut session).await, "attached");
    let error = session.next().await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::ExecutableNotFound));
    assert_eq!(session.next().await.unwrap(), None);
    let write = session.input().write("x").await;
    assert_eq!(write, Err(InputError::Ended));
}

#[tokio::test]
async fn an_end_without_exit_is_incomplete() {
    let server = Server::start(vec![vec![attached(false), started(), ok()]]);
    let mut session = server.client().await.run_exec(run());
    ready(&mut session).await;
    let error = session.next().await.unwrap_err();
    assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
}

#[tokio::test]
async fn a_policy_that_never_repeats_takes_no_session_up_again() {
    let server = Server::start(vec![vec![attached(false), started(), Step::Cut]]);
    let options = CallOptions::new().retry(RetryPolicy::never());
    let mut session = server.client().await.with(options).run_exec(run());
    ready(&mut session).await;
    let error = timeout(LIMIT, session.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Disconnected { .. }), "{error:?}");
    assert_eq!(server.calls().len(), 1);
}

#[tokio::test]
async fn a_deadline_bounds_the_session_over_its_interruptions() {
    let server = Server::start(vec![
        vec![attached(false), started(), Step::Cut],
        vec![attached(false), started(), Step::Hang],
    ]);
    let options = CallOptions::new().timeout(Duration::from_millis(300));
    let client = server.client().await.with(options);
    let mut session = client.run_exec(run());
    ready(&mut session).await;
    assert_eq!(next(&mut session).await, "resumed Untouched");
    let error = timeout(LIMIT, session.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
}

fn inputs(server: &Server, call: usize) -> Vec<In> {
    let messages = server.calls()[call].rest::<RunExecRequest>();
    let kind = |message: RunExecRequest| match message.request {
        Some(run_exec_request::Request::Input(input)) => input.kind.unwrap(),
        other => panic!("{other:?}"),
    };
    messages.into_iter().map(kind).collect()
}

#[tokio::test]
async fn input_is_cut_to_pieces_and_sent_once_the_process_runs() {
    let server = Server::start(vec![vec![
        attached(false),
        started(),
        Step::Await(1 + 3),
        exited(0),
        ok(),
    ]]);
    let mut session = server.client().await.run_exec(run());
    let mut input = session.input();
    let feed = async {
        input.write(vec![7; 65_537]).await?;
        input.close_stdin().await
    };
    let (fed, seen) = tokio::join!(feed, rest(&mut session));
    assert_eq!(fed, Ok(()));
    assert_eq!(seen, ["attached", "started", "exited 0"]);
    let want = [
        In::Stdin(vec![7; 65_536].into()),
        In::Stdin(vec![7].into()),
        In::CloseStdin(CloseStdin {}),
    ];
    assert_eq!(inputs(&server, 0), want);
    assert_eq!(input.write("more").await, Err(InputError::Ended));
}

#[tokio::test]
async fn a_writer_waits_for_a_process_that_does_not_read_and_signals_overtake_it() {
    let server = Server::start(vec![vec![attached(false), started(), Step::Hang]]);
    server.stall();
    let mut session = server.client().await.run_exec(run());
    ready(&mut session).await;
    let mut input = session.input();
    let mut other = session.input();
    let flood = input.write(vec![0; 64 << 20]);
    let watched = async { session.next().await.map(drop) };
    let waits = tokio::time::sleep(Duration::from_millis(300));
    tokio::select! {
        fed = flood => panic!("64 MiB were taken: {fed:?}"),
        other = watched => panic!("{other:?}"),
        () = waits => {}
    }
    // The queue of bytes is full, the one of signals is not.
    timeout(LIMIT, other.signal("TERM")).await.unwrap().unwrap();
}

#[tokio::test]
async fn size_signal_and_detach_need_no_running_process() {
    let detached = output(Out::Detached(Detached {}));
    let server = Server::start(vec![vec![attached(true), Step::Await(4), detached, ok()]]);
    let mut session = server.client().await.run_exec(run());
    let mut input = session.input();
    let size = TerminalSize {
        rows: 24,
        columns: 80,
    };
    let feed = async {
        input.resize(size).await?;
        input.signal("INT").await?;
        input.detach().await
    };
    let (fed, seen) = tokio::join!(feed, rest(&mut session));
    assert_eq!((fed, seen.len()), (Ok(()), 2));
    assert_eq!(seen[1], "Detached");
    let want = [
        In::Resize(size),
        In::Signal("INT".into()),
        In::Detach(Detach {}),
    ];
    assert_eq!(inputs(&server, 0), want);
}

#[tokio::test]
async fn input_whose_fate_is_unknown_is_told_to_reader_and_writer_once() {
    let server = Server::start(vec![
        vec![attached(false), started(), Step::Await(2), Step::Cut],
        vec![attached(false), started(), Step::Await(2), exited(0), ok()],
    ]);
    let mut session = server.client().await.run_exec(run());
    ready(&mut session).await;
    let mut input = session.input();
    input.write("one").await.unwrap();
    assert_eq!(next(&mut session).await, "resumed Unknown");
    let mut feed = async || {
        let first = input.write("two").await;
        (first, input.write("three").await)
    };
    let (fed, seen) = tokio::join!(feed(), rest(&mut session));
    assert_eq!(fed, (Err(InputError::Unconfirmed), Ok(())));
    assert_eq!(seen, ["exited 0"]);
    assert_eq!(inputs(&server, 1), [In::Stdin("three".into())]);
}

#[tokio::test]
async fn input_that_was_closed_and_heard_is_known_to_have_arrived() {
    let server = Server::start(vec![
        vec![attached(false), started(), Step::Await(3), Step::Cut],
        vec![refused(Code::FailedPrecondition, "STDIN_NOT_OPEN")],
        vec![attached(false), started(), exited(0), ok()],
    ]);
    let mut session = server.client().await.run_exec(run());
    ready(&mut session).await;
    let mut input = session.input();
    input.write("all").await.unwrap();
    input.close_stdin().await.unwrap();
    assert_eq!(input.write("more").await, Err(InputError::Closed));
    let want = ["resumed Delivered", "exited 0"];
    assert_eq!(rest(&mut session).await, want);
    let last = server.calls()[2].message::<AttachExecRequest>();
    let Some(attach_exec_request::Request::Start(start)) = last.request else {
        panic!("{last:?}");
    };
    assert!(!start.options.unwrap().stdin);
}

#[tokio::test]
async fn an_end_of_input_that_the_server_did_not_hear_is_said_again() {
    let server = Server::start(vec![
        vec![attached(false), started(), Step::Await(2), Step::Cut],
        vec![attached(false), started(), Step::Await(2), exited(0), ok()],
    ]);
    let mut session = server.client().await.run_exec(run());
    ready(&mut session).await;
    session.input().close_stdin().await.unwrap();
    assert_eq!(rest(&mut session).await, ["resumed Unknown", "exited 0"]);
    assert_eq!(inputs(&server, 1), [In::CloseStdin(CloseStdin {})]);
}

#[tokio::test]
async fn dropping_a_session_cancels_the_call_whoever_holds_its_input() {
    let server = Server::start(vec![vec![attached(false), started(), Step::Hang]]);
    let client = server.client().await;
    let mut session = client.run_exec(run());
    ready(&mut session).await;
    let mut input = session.input();
    input.write("x").await.unwrap();
    drop(session);
    let cancelled = |calls: &[crate::testing::Call]| calls[0].end == Some(RequestEnd::Cancelled);
    timeout(LIMIT, server.until(cancelled)).await.unwrap();
    assert_eq!(input.write("y").await, Err(InputError::Ended));
}

#[tokio::test]
async fn dropping_a_session_reaches_a_server_that_has_stopped_reading() {
    let server = Server::start(vec![vec![attached(false), started(), Step::Hang]]);
    server.stall();
    let client = server.client().await;
    let mut session = client.run_exec(run());
    ready(&mut session).await;
    let mut input = session.input();
    let flood = input.write(vec![0; 64 << 20]);
    assert!(timeout(Duration::from_millis(300), flood).await.is_err());
    assert_eq!(server.open_connections(), 2);
    drop(session);
    // The client's own connection stays.
    timeout(LIMIT, server.until_connections(1)).await.unwrap();
}

/// Takes TCP connections on behalf of a server on a Unix socket.
async fn over_tcp(server: &Server) -> (Address, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let Address::Unix(path) = server.address() else {
        panic!("no socket");
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut tcp, _)) = listener.accept().await {
            let path = path.clone();
            connections.spawn(async move {
                let mut unix = UnixStream::connect(path).await.unwrap();
                let _ = copy_bidirectional(&mut tcp, &mut unix).await;
            });
        }
    });
    (address.parse().unwrap(), tasks)
}

#[tokio::test]
async fn a_session_with_input_works_over_tcp_too() {
    let server = Server::start(vec![vec![
        attached(false),
        started(),
        Step::Await(2),
        exited(0),
        ok(),
    ]]);
    let (address, _tasks) = over_tcp(&server).await;
    let mut session = Client::connect(address).await.unwrap().run_exec(run());
    ready(&mut session).await;
    session.input().write("x").await.unwrap();
    assert_eq!(rest(&mut session).await, ["exited 0"]);
    assert_eq!(inputs(&server, 0), [In::Stdin("x".into())]);
}

#[tokio::test]
async fn next_can_be_dropped_at_any_time_without_opening_twice() {
    let server = Server::start(vec![
        vec![attached(false), started(), Step::Cut],
        vec![attached(false), started(), exited(0), ok()],
    ]);
    let mut session = server.client().await.run_exec(run());
    let mut seen = Vec::new();
    // A reader that gives up at every turn.
    while seen.last().is_none_or(|last| last != "exited 0") {
        tokio::select! {
            biased;
            output = session.next() => seen.push(short(output.unwrap().unwrap())),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(
        seen,
        ["attached", "started", "resumed Untouched", "exited 0"]
    );
    assert_eq!(server.calls().len(), 2);
}

fn waited(code: i32) -> Vec<Step> {
    let result = WaitResult {
        exit_status: Some(ExitStatus {
            code,
            ..Default::default()
        }),
        ..Default::default()
    };
    let message = WaitContainerResponse {
        response: Some(wait_container_response::Response::Result(result)),
    };
    vec![send(&message), ok()]
}

#[tokio::test]
async fn a_run_that_cannot_be_attached_to_any_more_still_says_how_it_ended() {
    for reason in ["RUN_CHANGED", "CONTAINER_NOT_FOUND"] {
        let server = Server::start(vec![
            vec![attached(false), run_started(4), stdout(9, "a"), Step::Cut],
            vec![refused(Code::FailedPrecondition, reason)],
            waited(7),
        ]);
        let mut session = server.client().await.attach_container(attach());
        ready(&mut session).await;
        let want = [
            "out 9 a",
            "gap OUTPUT_STREAM_STDOUT None",
            "gap OUTPUT_STREAM_STDERR None",
            "exited 7",
        ];
        assert_eq!(rest(&mut session).await, want, "{reason}");
        let calls = server.calls();
        let again = calls[1].message::<AttachContainerRequest>().request;
        let Some(attach_container_request::Request::Start(start)) = again else {
            panic!("{again:?}");
        };
        assert_eq!((&start.container[..], start.expected_run), ("c1", Some(4)));
        let wait = calls[2].message::<WaitContainerRequest>();
        assert_eq!((&wait.container[..], wait.run), ("c1", 4));
    }
}

#[tokio::test]
async fn a_run_that_nobody_knows_any_more_ends_the_session_with_an_error() {
    let unknown = || vec![refused(Code::NotFound, "CONTAINER_NOT_FOUND")];
    let server = Server::start(vec![
        vec![attached(false), run_started(4), stdout(9, "a"), Step::Cut],
        unknown(),
        unknown(),
    ]);
    let mut session = server.client().await.attach_container(attach());
    ready(&mut session).await;
    let want = [
        "out 9 a",
        "gap OUTPUT_STREAM_STDOUT None",
        "gap OUTPUT_STREAM_STDERR None",
        "error Some(ContainerNotFound)",
    ];
    assert_eq!(rest(&mut session).await, want);
    assert_eq!(next(&mut session).await, "end");
    assert_eq!(server.calls().len(), 3);
}

#[tokio::test]
async fn a_session_never_goes_on_with_another_run() {
    let server = Server::start(vec![
        vec![attached(false), run_started(4), Step::Cut],
        vec![
            attached(false),
            run_started(5),
            stdout(0, "other"),
            Step::Hang,
        ],
        waited(1),
    ]);
    let mut session = server.client().await.attach_container(attach());
    ready(&mut session).await;
    let seen = rest(&mut session).await;
    assert!(!seen.iter().any(|what| what.contains("other")), "{seen:?}");
    assert_eq!(seen.last().unwrap(), "exited 1");
}

#[tokio::test]
async fn a_container_run_tells_pull_and_creation_once() {
    let reply = |response| {
        send(&RunContainerResponse {
            response: Some(response),
        })
    };
    use run_container_response::Response;
    let created = || reply(Response::Created(Box::default()));
    let progress = || reply(Response::Progress(TransferProgress::default()));
    let server = Server::start(vec![
        vec![progress(), created(), Step::Cut],
        vec![
            created(),
            attached(false),
            started(),
            stdout(0, "a"),
            Step::Cut,
        ],
        vec![attached(false), started(), exited(0), ok()],
    ]);
    let mut session = server
        .client()
        .await
        .run_container(RunContainerStart::default());
    let seen = rest(&mut session).await;
    assert_eq!(seen.len(), 7, "{seen:?}");
    assert_eq!(
        seen[2..],
        [
            "attached",
            "started",
            "out 0 a",
            "resumed Untouched",
            "exited 0"
        ]
    );
    let again = server.calls()[2].message::<AttachContainerRequest>();
    let Some(attach_container_request::Request::Start(start)) = again.request else {
        panic!("{again:?}");
    };
    let options = start.options.unwrap();
    assert_eq!(options.on_disconnect(), DisconnectAction::Stop);
}

#[tokio::test]
async fn a_follower_goes_on_from_its_offsets() {
    let request = FollowExecRequest {
        exec_id: "e1".into(),
        streams: vec![OutputStream::Stdout.into()],
        replay_bytes: 10,
        ..Default::default()
    };
    let server = Server::start(vec![
        vec![attached(false), started(), stdout(5, "abc"), Step::Cut],
        vec![attached(false), started(), exited(0), ok()],
    ]);
    let mut follow = server.client().await.follow_exec(request.clone());
    let mut last = String::new();
    while let Some(output) = timeout(LIMIT, follow.next()).await.unwrap().unwrap() {
        last = short(output);
    }
    assert_eq!(last, "exited 0");
    let again = server.calls()[1].message::<FollowExecRequest>();
    let resume = vec![StreamOffset {
        stream: OutputStream::Stdout.into(),
        offset: 8,
    }];
    assert_eq!(again, FollowExecRequest { resume, ..request });
}

/// The encodings of the three exec streams' answers are the same, which the scripts rely on.
#[test]
fn one_encoding_serves_all_sessions() {
    let attached = Attached {
        exec_id: "e".into(),
        ..Default::default()
    };
    let run = RunExecResponse {
        response: Some(run_exec_response::Response::Attached(attached.clone())),
    };
    let container = RunContainerResponse {
        response: Some(run_container_response::Response::Attached(attached)),
    };
    assert_eq!(run.encode_to_vec(), container.encode_to_vec());
}
