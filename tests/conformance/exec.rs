//! Execs: their streams, their ends, and what is left of them.

use std::time::Duration;

use wharf_api::ErrorReason;
use wharf_api::v1::exit_status::Reason;
use wharf_api::v1::{self, exec::State, process_input::Kind as Input};

use crate::harness::streams::{exec, exec_with_stdin, exec_with_terminal};
use crate::harness::{Client, not_by_crun, scenario, spec};

#[test]
fn the_output_and_the_exit_code_of_an_exec_arrive_whole_and_in_order() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let script = "echo one; echo two >&2; exit 7";
        let whole = client
            .exec_whole("box", &["sh", "-c", script])
            .await
            .unwrap();
        assert_eq!((whole.out(), whole.err()), ("one\n", "two\n"));
        assert_eq!(whole.exit.reason(), Reason::Exited);
        assert_eq!(whole.exit.code, 7);
        assert!(!whole.exit.output_truncated);
    });
}

#[test]
fn stdin_can_be_half_closed_and_the_output_still_arrives_whole() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        for (args, input, expected) in [
            (&["cat"][..], "hello\n", "hello\n"),
            (&["wc", "-c"], "12345", "5\n"),
            (&["sh", "-c", "cat; echo done"], "x\n", "x\ndone\n"),
            (&["cat"], "", ""),
        ] {
            let mut joined = client.run_exec("box", exec_with_stdin(args)).await.unwrap();
            joined.write(input).await;
            joined.half_close();
            let whole = joined.whole().await.unwrap();
            assert_eq!(whole.out(), expected, "{args:?}");
            assert_eq!(whole.exit.code, 0, "{args:?}");
        }
    });
}

#[test]
fn a_terminal_has_its_size_from_the_first_instruction_and_takes_another_one() {
    not_by_crun(
        "crun 1.8 starts the program of an exec before its terminal is all there, which may stay nobody's controlling one",
        async |world| {
            let client = world.up().await;
            client.run("box", spec::PATIENT).await.unwrap();
            let script = "trap 'stty size; exit 0' WINCH; stty size; while :; do sleep 0.05; done";
            let spec = exec_with_terminal(&["sh", "-c", script], 33, 77);
            let mut joined = client.run_exec("box", spec).await.unwrap();
            assert!(joined.attached.terminal);
            let first = joined.until(|w| w.stdout.ends_with(b"\n")).await.unwrap();
            assert_eq!(first.out(), "33 77\r\n");
            let size = v1::TerminalSize {
                rows: 50,
                columns: 120,
            };
            joined.send(Input::Resize(size)).await;
            let mut rest = Vec::new();
            while let Some(next) = joined.next().await.unwrap() {
                if let v1::process_output::Kind::Output(chunk) = next {
                    rest.extend_from_slice(&chunk.data);
                }
            }
            assert_eq!(String::from_utf8_lossy(&rest), "50 120\r\n");
        },
    );
}

#[test]
fn real_exit_statuses_are_told_and_starts_that_fail_are_errors() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        for code in [0, 1, 42, 255] {
            let script = format!("exit {code}");
            let whole = client.exec_whole("box", &["sh", "-c", &script]).await;
            let exit = whole.unwrap().exit;
            assert_eq!((exit.reason(), exit.code), (Reason::Exited, code));
        }
        let whole = client.exec_whole("box", &["sh", "-c", "kill -9 $$"]).await;
        let exit = whole.unwrap().exit;
        assert_eq!((exit.reason(), exit.code), (Reason::Signaled, 137));
        assert_eq!(exit.signal, "SIGKILL");

        let refused = |spec| fails(&client, spec);
        assert_eq!(
            refused(exec(&["/nope"])).await,
            ErrorReason::ExecutableNotFound
        );
        assert_eq!(
            refused(exec(&["nope-nope"])).await,
            ErrorReason::ExecutableNotFound
        );
        assert_eq!(
            refused(exec(&["/etc/passwd"])).await,
            ErrorReason::ExecutableNotPermitted
        );
        let mut there = exec(&["true"]);
        there.process.as_mut().unwrap().working_dir = "/no/such/dir".to_owned();
        assert_eq!(refused(there).await, ErrorReason::WorkingDirInvalid);
        let mut nobody = exec(&["true"]);
        nobody.process.as_mut().unwrap().user = "no-such-user".to_owned();
        assert_eq!(refused(nobody).await, ErrorReason::UserNotFound);
    });
}

/// Runs it, and returns why it does not start.
async fn fails(client: &Client, spec: v1::ExecSpec) -> ErrorReason {
    let refusal = match client.run_exec("box", spec).await {
        Ok(joined) => joined.whole().await.unwrap_err(),
        Err(refusal) => refusal,
    };
    refusal.reason()
}

#[test]
fn an_exec_is_created_started_signalled_waited_for_and_forgotten() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let created = client
            .create_exec(v1::CreateExecRequest {
                container: "box".to_owned(),
                spec: Some(exec(&["sleep", "3600"])),
                ..Default::default()
            })
            .await
            .unwrap();
        let id = created.exec.unwrap().id;
        let exec_id = || id.clone();
        let start = || v1::StartExecRequest { exec_id: exec_id() };
        let first = client.start_exec(start()).await.unwrap();
        assert!(first.changed);
        assert_eq!(first.exec.unwrap().state(), State::Running);
        assert!(!client.start_exec(start()).await.unwrap().changed);
        client
            .signal_exec(v1::SignalExecRequest {
                exec_id: exec_id(),
                signal: "TERM".to_owned(),
                ..Default::default()
            })
            .await
            .unwrap();
        let exit = client.exec_exit(&id).await.unwrap();
        assert_eq!((exit.reason(), exit.code), (Reason::Signaled, 143));
        assert_eq!(
            exit.cause.unwrap().method,
            "/wharf.v1.ExecService/SignalExec"
        );
        let deleted = client
            .delete_exec(v1::DeleteExecRequest {
                exec_id: exec_id(),
                ..Default::default()
            })
            .await;
        assert!(deleted.unwrap().changed);
        let gone = client
            .get_exec(v1::GetExecRequest { exec_id: exec_id() })
            .await
            .unwrap_err();
        assert!(gone.is(ErrorReason::ExecNotFound));
    });
}

#[test]
fn an_exec_is_killed_when_its_time_is_over() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let mut slow = exec(&["sh", "-c", "echo begun; sleep 3600"]);
        slow.timeout = Some(spec::duration(Duration::from_millis(300)));
        let whole = client
            .run_exec("box", slow)
            .await
            .unwrap()
            .whole()
            .await
            .unwrap();
        assert_eq!(whole.out(), "begun\n");
        assert_eq!(whole.exit.reason(), Reason::TimedOut);
    });
}

#[test]
fn exec_sync_returns_the_first_bytes_and_counts_the_rest() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("box", spec::PATIENT).await.unwrap();
        let mut wanted = exec(&["sh", "-c", "cat; head -c 100 /dev/zero >&2; exit 3"]);
        wanted.timeout = Some(spec::duration(Duration::from_secs(30)));
        let answer = client
            .exec_sync(v1::ExecSyncRequest {
                container: "box".to_owned(),
                spec: Some(wanted),
                stdin: "hello".into(),
                max_output_bytes: 10,
                ..Default::default()
            })
            .await
            .unwrap();
        assert_eq!(&answer.stdout[..], b"hello");
        assert_eq!(answer.stderr.len(), 10);
        assert_eq!(answer.stderr_dropped_bytes, 90);
        assert_eq!(answer.exit_status.unwrap().code, 3);
    });
}

#[test]
fn stopping_a_container_ends_its_execs_and_their_exits_stay_readable() {
    scenario(async |world| {
        let client = world.up().await;
        let container = client.run("box", spec::PATIENT).await.unwrap();
        let mut ids = Vec::new();
        let mut joined = Vec::new();
        for _ in 0..10 {
            let mut one = client
                .run_exec("box", exec(&["sleep", "3600"]))
                .await
                .unwrap();
            one.started().await.unwrap();
            ids.push(one.exec_id().to_owned());
            joined.push(one);
        }
        client.stop("box", Duration::from_secs(5)).await.unwrap();
        for one in joined {
            let exit = one.whole().await.unwrap().exit;
            assert_eq!(
                (exit.reason(), exit.signal.as_str()),
                (Reason::Signaled, "SIGKILL")
            );
        }
        for id in &ids {
            assert_eq!(client.exec_exit(id).await.unwrap().code, 137);
        }
        let events = client.events_of(&container.id).await;
        let place = |wanted: v1::event::Type| {
            let mut found = events.iter().enumerate();
            found
                .rfind(|(_, event)| event.r#type() == wanted)
                .unwrap()
                .0
        };
        let exited = place(v1::event::Type::ContainerExited);
        assert!(place(v1::event::Type::ExecExited) < exited);
    });
}
