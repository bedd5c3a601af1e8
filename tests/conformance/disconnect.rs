//! A caller that goes, and what becomes of its process.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use wharf_api::v1::exit_status::Reason;
use wharf_api::v1::{self, DisconnectAction, RunContainerStart, exec::State};

use crate::harness::streams::{Joined, exec, joining};
use crate::harness::wait::so;
use crate::harness::{Client, scenario, spec, until};

/// What the caller's going does must be done by then.
const SOON: Duration = Duration::from_secs(1);

/// Says which signal it got, and ends with a code of its own.
const TELLS: &[&str] = &[
    "sh",
    "-c",
    "trap 'exit 21' HUP; trap 'exit 22' TERM; echo ready; while :; do sleep 0.02; done",
];

async fn joined(client: &Client, action: DisconnectAction) -> Joined {
    let spec = exec(TELLS);
    let attach = v1::AttachOptions {
        on_disconnect: action.into(),
        ..joining(&spec)
    };
    let mut joined = client.run_exec_with("box", spec, attach).await.unwrap();
    joined.until(|w| w.out() == "ready\n").await.unwrap();
    joined
}

/// How it ends, within a second of its caller's going.
async fn end_of(client: &Client, id: &str, since: Instant) -> v1::ExitStatus {
    let exit = client.exec_exit(id).await.unwrap();
    let took = since.elapsed();
    assert!(took < SOON + Duration::from_millis(500), "it took {took:?}");
    exit
}

#[test]
fn a_caller_that_goes_has_done_what_it_asked_for() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        for (action, reason, code) in [
            (DisconnectAction::Kill, Reason::Signaled, 137),
            (DisconnectAction::Unspecified, Reason::Signaled, 137),
            (DisconnectAction::Hangup, Reason::Exited, 21),
            (DisconnectAction::Stop, Reason::Exited, 22),
        ] {
            let joined = joined(&client.with_id(format!("call-{action:?}")), action).await;
            let id = joined.exec_id().to_owned();
            let since = Instant::now();
            drop(joined);
            let exit = end_of(&client, &id, since).await;
            assert_eq!((exit.reason(), exit.code), (reason, code), "{action:?}");
        }
    });
}

#[test]
fn callers_that_go_while_their_execs_wait_to_be_started_leave_none_running() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        // Far more than are started at a time.
        let calls = (0..40).map(|_| client.run_exec("box", exec(TELLS)));
        let joined: Vec<Joined> = join_all(calls)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        drop(joined);
        until("all have ended", Duration::from_secs(60), async || {
            let execs = client.list_execs(v1::ListExecsRequest::default()).await;
            let mut states = execs.unwrap().execs.into_iter().map(|exec| exec.state());
            let open = states.find(|state| !matches!(state, State::Exited | State::Failed));
            so(open.is_none(), || format!("{open:?}"))
        })
        .await;
    });
}

#[test]
fn a_caller_that_goes_from_a_detached_process_leaves_it_running_with_its_stdin_open() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        for _ in 0..20 {
            let spec = v1::ExecSpec {
                stdin_open: true,
                ..exec(&["cat"])
            };
            let attach = v1::AttachOptions {
                on_disconnect: DisconnectAction::Detach.into(),
                ..joining(&spec)
            };
            let mut first = client.run_exec_with("box", spec, attach).await.unwrap();
            first.started().await.unwrap();
            first.write("one\n").await;
            first.until(|w| w.out() == "one\n").await.unwrap();
            let id = first.exec_id().to_owned();
            drop(first);
            let resume = v1::AttachOptions {
                stdin: true,
                resume: vec![v1::StreamOffset {
                    stream: v1::OutputStream::Stdout.into(),
                    offset: 4,
                }],
                ..Default::default()
            };
            let mut second = client.attach_exec(&id, resume).await.unwrap();
            second.started().await.unwrap();
            second.write("two\n").await;
            second.half_close();
            let mut rest = Vec::new();
            while let Some(next) = second.next().await.unwrap() {
                match next {
                    v1::process_output::Kind::Output(chunk) => {
                        assert_eq!(chunk.offset, 4 + rest.len() as u64);
                        rest.extend_from_slice(&chunk.data);
                    }
                    v1::process_output::Kind::Exited(exit) => assert_eq!(exit.code, 0),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(rest, b"two\n");
        }
    });
}

#[test]
fn a_deadline_and_an_ended_connection_are_a_callers_going_too() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let hasty = client.with_deadline(Duration::from_secs(2));
        let by_deadline = joined(&hasty, DisconnectAction::Kill).await;
        let id = by_deadline.exec_id().to_owned();
        let refusal = by_deadline.whole().await.unwrap_err();
        assert!(refusal.is(wharf_api::ErrorReason::Deadline), "{refusal:?}");
        end_of(&client, &id, Instant::now()).await;

        let other = world.wharfd.client();
        let by_connection = joined(&other, DisconnectAction::Hangup).await;
        let id = by_connection.exec_id().to_owned();
        let since = Instant::now();
        drop((by_connection, other));
        assert_eq!(end_of(&client, &id, since).await.code, 21);
    });
}

#[test]
fn the_container_of_a_caller_that_goes_is_stopped_unless_it_says_otherwise() {
    scenario(async |world| {
        let client = world.up().await;
        let mut running = run(&client, DisconnectAction::Unspecified).await;
        running.until(|w| w.out() == "ready\n").await.unwrap();
        let id = running.created.as_ref().unwrap().id.clone();
        drop(running);
        let exit = client.exit_of(&id, 1).await.unwrap();
        assert_eq!((exit.reason(), exit.code), (Reason::Exited, 22));
        assert_eq!(
            exit.cause.unwrap().method,
            "/wharf.v1.ContainerService/RunContainer"
        );

        let mut kept = run(&client, DisconnectAction::Detach).await;
        kept.until(|w| w.out() == "ready\n").await.unwrap();
        let id = kept.created.as_ref().unwrap().id.clone();
        drop(kept);
        tokio::time::sleep(SOON).await;
        let state = client.state(&id).await.unwrap();
        assert_eq!(state, v1::container::State::Running);
    });
}

async fn run(client: &Client, action: DisconnectAction) -> Joined {
    client
        .run_container(RunContainerStart {
            spec: Some(spec::running(TELLS)),
            attach: Some(v1::AttachOptions {
                on_disconnect: action.into(),
                ..Default::default()
            }),
            ..Default::default()
        })
        .await
        .unwrap()
}

#[test]
fn the_servers_own_end_is_no_callers_going_but_who_does_not_come_back_has_gone() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let taken_up = joined(&client, DisconnectAction::Kill).await;
        let left = joined(&client, DisconnectAction::Kill).await;
        let ids = [taken_up.exec_id().to_owned(), left.exec_id().to_owned()];
        world.wharfd.kill();
        drop((taken_up, left));
        let client = world.wharfd.start().await;
        for id in &ids {
            assert_eq!(state(&client, id).await, State::Running);
        }
        let again = v1::AttachOptions::default();
        let kept = client.attach_exec(&ids[0], again).await.unwrap();
        until("the other is killed", Duration::from_secs(45), async || {
            let state = state(&client, &ids[1]).await;
            so(state == State::Exited, || format!("{state:?}"))
        })
        .await;
        assert_eq!(state(&client, &ids[0]).await, State::Running);
        drop(kept);
        assert_eq!(state(&client, &ids[0]).await, State::Running);
    });
}

async fn state(client: &Client, id: &str) -> State {
    let request = v1::GetExecRequest {
        exec_id: id.to_owned(),
    };
    client
        .get_exec(request)
        .await
        .unwrap()
        .exec
        .unwrap()
        .state()
}
