//! Without a terminal: bytes, ends, signals, exit codes.

use std::collections::HashMap;
use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use wharf_client::v1::process_input::Kind as In;
use wharf_client::v1::*;

use crate::replies::*;
use crate::testing::{RequestEnd, Server, Step, away, ok, send};
use crate::wharf::{LIMIT, Wharf, command, run};

#[tokio::test]
async fn output_and_errors_stay_apart_and_the_exit_code_is_the_processs() {
    let steps = vec![
        stdout(0, "out"),
        chunk(OutputStream::Stderr, 0, "err"),
        stdout(3, "\x00\n"),
    ];
    let server = Server::start(vec![session(false, steps, 3)]);
    let ran = run(&server, &["exec", "web", "ls", "-l"]).await;
    assert_eq!(
        (ran.code, &ran.out[..], &ran.err[..]),
        (3, "out\0\n", "err")
    );
    let start = run_exec(&server.calls()[0]);
    let spec = start.spec.unwrap();
    assert_eq!(spec.process.unwrap().args, ["ls", "-l"]);
    assert!(!spec.stdin_open && !start.attach.unwrap().stdin);
}

#[tokio::test]
async fn input_arrives_whole_and_its_end_ends_nothing_else() {
    let data: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    // 16 pieces at least, then the end; the output comes after it.
    let steps = vec![Step::Await(1 + 16 + 1), stdout(0, "counted")];
    let server = Server::start(vec![session(false, steps, 0)]);
    let mut wharf =
        Wharf::start(command(&server, &["exec", "-i", "web", "wc"]).stdin(Stdio::piped()));
    wharf.type_in(data.clone()).await;
    wharf.close_stdin();
    let closed = |calls: &[crate::testing::Call]| calls.first().is_some_and(|it| stdin(it).1);
    timeout(LIMIT, server.until(closed)).await.unwrap();
    let ran = wharf.output().await;
    assert_eq!((ran.code, &ran.out[..]), (0, "counted"));
    assert!(stdin(&server.calls()[0]).0 == data);
}

#[tokio::test]
async fn the_end_of_the_process_waits_for_no_input() {
    let server = Server::start(vec![session(false, vec![], 0)]);
    let wharf =
        Wharf::start(command(&server, &["exec", "-i", "web", "true"]).stdin(Stdio::piped()));
    // The pipe stays open until it has ended.
    assert_eq!(wharf.output().await.code, 0);
}

#[tokio::test]
async fn a_megabyte_comes_out_as_it_was_without_waiting_for_the_end() {
    let chunks =
        (0..32).map(|n| stdout(n << 15, vec![b'a' + u8::try_from(n % 26).unwrap(); 1 << 15]));
    let mut script = vec![attached(false), started()];
    script.extend(chunks);
    script.push(Step::Await(2));
    script.extend([exited(0), ok()]);
    let server = Server::start(vec![script]);
    let mut wharf =
        Wharf::start(command(&server, &["exec", "-i", "web", "cat"]).stdin(Stdio::piped()));
    let mut out = wharf.child().stdout.take().unwrap();
    let read = spawn_blocking(move || {
        let mut data = vec![0; 1 << 20];
        out.read_exact(&mut data).unwrap();
        (out, data)
    });
    let (_out, data) = timeout(LIMIT, read).await.unwrap().unwrap();
    let runs = data.chunk_by(|a, b| a == b).map(<[u8]>::len);
    assert_eq!(runs.collect::<Vec<_>>(), [1 << 15; 32]);
    // Only now the process may end.
    wharf.close_stdin();
    assert_eq!(wharf.output().await.code, 0);
}

#[tokio::test]
async fn a_reader_that_leaves_ends_it_quietly_and_cancels_the_call() {
    let mut script = vec![attached(false), started()];
    script.extend((0..64).map(|n| stdout(n << 15, vec![b'x'; 1 << 15])));
    script.push(Step::Hang);
    let server = Server::start(vec![script]);
    let mut wharf = Wharf::start(&mut command(&server, &["exec", "web", "yes"]));
    drop(wharf.child().stdout.take());
    let ran = wharf.output().await;
    assert_eq!((ran.code, &ran.err[..]), (141, ""));
    let cancelled = |calls: &[crate::testing::Call]| calls[0].end == Some(RequestEnd::Cancelled);
    timeout(LIMIT, server.until(cancelled)).await.unwrap();
}

fn refused(reason: &str, exit_code: Option<&str>) -> Vec<Step> {
    let mut details = ErrorDetails::new();
    let code = exit_code.map(|code| ("exitCode".to_owned(), code.to_owned()));
    details.set_error_info(reason, "wharf", code.into_iter().collect::<HashMap<_, _>>());
    let status = Status::with_error_details(Code::FailedPrecondition, "refused", details);
    vec![attached(false), Step::End(status)]
}

#[tokio::test]
async fn what_did_not_run_has_the_exit_codes_that_dockers_commands_have() {
    let cases = [
        ("EXECUTABLE_NOT_FOUND", Some("127"), 127, 127),
        ("EXECUTABLE_NOT_PERMITTED", Some("126"), 126, 126),
        ("CONTAINER_NOT_RUNNING", None, 125, 1),
    ];
    for (reason, told, run_code, exec_code) in cases {
        let server = Server::start(vec![refused(reason, told), refused(reason, told)]);
        for (code, args) in [
            (run_code, &["run", "img", "x"][..]),
            (exec_code, &["exec", "web", "x"]),
        ] {
            let ran = run(&server, args).await;
            assert_eq!((ran.code, &ran.out[..]), (code, ""), "{reason}");
            assert!(ran.err.contains(reason), "{}", ran.err);
        }
    }
}

fn signals(server: &Server) -> Vec<String> {
    let name = |input| match input {
        In::Signal(name) => Some(name),
        In::Stdin(_) | In::CloseStdin(_) | In::Resize(_) | In::Detach(_) => None,
    };
    inputs(&server.calls()[0])
        .into_iter()
        .filter_map(name)
        .collect()
}

/// Waits until the process runs, by its first output.
async fn runs(wharf: &mut Wharf) {
    let mut out = wharf.child().stdout.take().unwrap();
    let read = spawn_blocking(move || {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        out
    });
    let out = timeout(LIMIT, read).await.unwrap().unwrap();
    wharf.child().stdout = Some(out);
}

#[tokio::test]
async fn signals_are_passed_on_and_the_processs_end_is_the_end() {
    let steps = vec![stdout(0, "."), Step::Await(3)];
    let server = Server::start(vec![session(false, steps, 143)]);
    let mut wharf = Wharf::start(&mut command(&server, &["run", "img"]));
    runs(&mut wharf).await;
    wharf.signal(Signal::HUP);
    let one = |calls: &[crate::testing::Call]| calls[0].messages.len() == 2;
    timeout(LIMIT, server.until(one)).await.unwrap();
    wharf.signal(Signal::TERM);
    assert_eq!(wharf.output().await.code, 143);
    assert_eq!(signals(&server), ["HUP", "TERM"]);
}

#[tokio::test]
async fn signals_that_come_at_once_are_all_passed_on() {
    let steps = vec![stdout(0, "."), Step::Await(1 + 6)];
    let server = Server::start(vec![session(false, steps, 0)]);
    let mut wharf = Wharf::start(&mut command(&server, &["run", "img"]));
    runs(&mut wharf).await;
    // A process that is stopped finds them all when it goes on.
    wharf.signal(Signal::STOP);
    for signal in [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::TERM,
        Signal::USR1,
        Signal::USR2,
    ] {
        wharf.signal(signal);
    }
    wharf.signal(Signal::CONT);
    assert_eq!(wharf.output().await.code, 0);
    let mut told = signals(&server);
    told.sort();
    assert_eq!(told, ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2"]);
}

#[tokio::test]
async fn the_third_interrupt_leaves_a_process_that_does_not_heed_them() {
    let script = vec![attached(false), started(), stdout(0, "."), Step::Hang];
    let server = Server::start(vec![script]);
    let mut wharf = Wharf::start(&mut command(&server, &["exec", "web", "stubborn"]));
    runs(&mut wharf).await;
    for sent in 2..=3 {
        wharf.signal(Signal::INT);
        let told = |calls: &[crate::testing::Call]| calls[0].messages.len() == sent;
        timeout(LIMIT, server.until(told)).await.unwrap();
    }
    wharf.signal(Signal::INT);
    let ran = wharf.output().await;
    assert_eq!((ran.code, &ran.err[..]), (130, ""));
}

#[tokio::test]
async fn three_interrupts_leave_also_while_the_server_is_away() {
    let script = vec![attached(false), started(), stdout(0, "."), Step::Hang];
    let mut server = Server::start(vec![script]);
    let mut wharf = Wharf::start(&mut command(&server, &["exec", "web", "x"]));
    runs(&mut wharf).await;
    server.stop().await;
    // Signals of one kind that come too fast are one signal; these are not.
    for signal in [Signal::INT, Signal::TERM] {
        wharf.signal(signal);
    }
    let insist = async {
        loop {
            wharf.signal(Signal::INT);
            if wharf.child().try_wait().unwrap().is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, insist).await.unwrap();
    let ran = wharf.output().await;
    assert_eq!((ran.code, &ran.err[..]), (130, ""));
}

#[tokio::test]
async fn a_signal_before_the_start_ends_the_attempt() {
    let server = Server::start(vec![vec![attached(false), Step::Hang]]);
    let mut wharf = Wharf::start(&mut command(&server, &["run", "img"]));
    let called = |calls: &[crate::testing::Call]| calls.len() == 1;
    timeout(LIMIT, server.until(called)).await.unwrap();
    wharf.signal(Signal::INT);
    assert_eq!(wharf.output().await.code, 130);
}

#[tokio::test]
async fn a_terminal_that_is_not_there_is_remarked_on_and_no_failure() {
    let server = Server::start(vec![session(true, vec![stdout(0, "x")], 0)]);
    let ran = run(&server, &["exec", "-it", "web", "sh"]).await;
    assert_eq!((ran.code, &ran.out[..]), (0, "x"));
    assert!(ran.err.contains("not a terminal"), "{}", ran.err);
    let process = run_exec(&server.calls()[0]).spec.unwrap().process.unwrap();
    assert!(process.terminal.is_some());
}

#[tokio::test]
async fn output_goes_on_over_a_drain_and_what_is_missing_is_remarked_on() {
    let gap = output(process_output::Kind::Gap(OutputGap {
        stream: OutputStream::Stdout.into(),
        dropped_bytes: 4,
    }));
    let server = Server::start(vec![
        vec![
            attached(false),
            started(),
            stdout(0, "ab"),
            away("SERVER_DRAINING"),
        ],
        session(false, vec![gap, stdout(6, "g")], 0),
    ]);
    let ran = run(&server, &["exec", "web", "x"]).await;
    assert_eq!((ran.code, &ran.out[..]), (0, "abg"));
    assert!(
        ran.err.contains("4 bytes of standard output"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn input_that_may_have_been_lost_is_a_failure() {
    let server = Server::start(vec![
        vec![
            attached(false),
            started(),
            Step::Await(2),
            away("SERVER_DRAINING"),
        ],
        session(false, vec![], 0),
    ]);
    let mut wharf =
        Wharf::start(command(&server, &["exec", "-i", "web", "cat"]).stdin(Stdio::piped()));
    wharf.type_in(b"some".to_vec()).await;
    let ran = wharf.output().await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("input may be lost"), "{}", ran.err);
}

#[tokio::test]
async fn run_tells_warnings_writes_the_id_file_and_never_over_another() {
    let created = ContainerCreated {
        container: Some(Container {
            id: "c1".into(),
            ..Default::default()
        }),
        warnings: vec![Warning {
            message: "mind the step".into(),
            ..Default::default()
        }],
    };
    let created = send(&RunContainerResponse {
        response: Some(run_container_response::Response::Created(Box::new(created))),
    });
    let mut script = vec![created];
    script.extend(session(false, vec![], 0));
    let gone = wait_container_response::Response::Result(WaitResult::default());
    let gone = answer(&WaitContainerResponse {
        response: Some(gone),
    });
    let server = Server::start(vec![script, gone]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("id");
    let args = [
        "run",
        "--rm",
        "-i",
        "-a",
        "stdout",
        "--cidfile",
        file.to_str().unwrap(),
        "img",
    ];
    let ran = run(&server, &args).await;
    assert_eq!((ran.code, &ran.out[..]), (0, ""));
    assert!(ran.err.contains("mind the step"), "{}", ran.err);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "c1");
    let start = run_container(&server.calls()[0]);
    let attach = start.attach.unwrap();
    assert!(start.spec.unwrap().auto_delete && !attach.stdin);
    assert_eq!(attach.streams().collect::<Vec<_>>(), [OutputStream::Stdout]);
    // It is waited for until it is gone.
    let wait = server.calls()[1].message::<WaitContainerRequest>();
    assert_eq!(wait.container, "c1");
    let deleted = wait_container_request::Condition::Deleted;
    assert_eq!(wait.conditions, [i32::from(deleted)]);
    assert_eq!(run(&server, &args).await.code, 125);
    assert_eq!(server.calls().len(), 2);
}

#[tokio::test]
async fn an_exec_in_the_background_prints_its_id() {
    let exec = Exec {
        id: "e7".into(),
        ..Default::default()
    };
    let server = Server::start(vec![
        answer(&CreateExecResponse { exec: Some(exec) }),
        answer(&StartExecResponse::default()),
    ]);
    let args = [
        "exec",
        "-d",
        "--timeout",
        "5s",
        "--privileged",
        "-e",
        "A=b",
        "-w",
        "/",
        "-u",
        "1",
        "web",
        "x",
    ];
    let ran = run(&server, &args).await;
    assert_eq!((ran.code, &ran.out[..]), (0, "e7\n"));
    let calls = server.calls();
    let spec = calls[0].message::<CreateExecRequest>().spec.unwrap();
    // The limit is the process's, and not the call's.
    assert_eq!(spec.timeout.unwrap().seconds, 5);
    assert_eq!(calls[0].header("grpc-timeout"), None);
    assert!(spec.privileged);
    let process = spec.process.unwrap();
    assert_eq!(
        (
            &process.env["A"][..],
            &process.working_dir[..],
            &process.user[..]
        ),
        ("b", "/", "1")
    );
    assert_eq!(calls[1].message::<StartExecRequest>().exec_id, "e7");
}

fn container(stdin_open: bool, terminal: bool) -> Vec<Step> {
    let process = ProcessSpec {
        terminal: terminal.then_some(TerminalSize {
            rows: 1,
            columns: 1,
        }),
        ..Default::default()
    };
    answer(&GetContainerResponse {
        container: Some(Container {
            id: "c1".into(),
            spec: Some(ContainerSpec {
                stdin_open,
                process: Some(process),
                ..Default::default()
            }),
            ..Default::default()
        }),
    })
}

#[tokio::test]
async fn an_attach_to_nobody_fails_with_one() {
    let server = Server::start(vec![refused("CONTAINER_NOT_FOUND", None)]);
    let ran = run(&server, &["attach", "nobody"]).await;
    assert_eq!((ran.code, &ran.out[..]), (1, ""));
    assert!(ran.err.contains("CONTAINER_NOT_FOUND"), "{}", ran.err);
}

#[tokio::test]
async fn attach_sends_input_only_to_who_takes_it() {
    let cases = [
        (true, "--sig-proxy", true),
        (false, "--sig-proxy", false),
        (true, "--no-stdin", false),
    ];
    for (open, flag, sent) in cases {
        let server = Server::start(vec![
            container(open, false),
            session(false, vec![stdout(90, "x")], 5),
        ]);
        let ran = run(
            &server,
            &["attach", flag, "--on-disconnect", "hangup", "web"],
        )
        .await;
        assert_eq!((ran.code, &ran.out[..]), (5, "x"));
        let start = attach_container(&server.calls()[1]);
        let options = start.options.unwrap();
        assert_eq!((options.stdin, &start.container[..]), (sent, "c1"));
        assert_eq!(options.on_disconnect(), DisconnectAction::Hangup);
    }
}
