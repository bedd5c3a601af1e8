//! `exec`.

use std::process::Command;
use std::time::Duration;

use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};
use rustix::process::Signal;
use wharf_api::v1::{self, exec::State};

use super::{Ended, Program, READY, ended, fed, good};
use crate::harness::wait::so;
use crate::harness::wharf::{Wharf, tell};
use crate::harness::{Client, World, binaries, scenario, spec, until};

/// A container that runs, named `box`.
async fn with_box(world: &mut World) -> (Client, Wharf) {
    let client = world.up().await;
    client.run("box", spec::PATIENT).await.unwrap();
    (client, Wharf::of(world))
}

#[test]
fn an_exec_keeps_output_and_errors_apart_and_ends_as_its_program() {
    scenario(async |world| {
        let (_, wharf) = with_box(world).await;
        let script = "echo out; echo err >&2; exit $0";
        for (code, text) in [(0, "0"), (7, "7"), (255, "255")] {
            let words = ["exec", "box", "sh", "-c", script, text];
            assert_eq!(ended(&wharf, &words).await, good(code, "out\n", "err\n"));
        }
        let words = ["exec", "box", "sh", "-c", "kill -9 $$"];
        assert_eq!(ended(&wharf, &words).await, good(137, "", ""));
    });
}

#[test]
fn an_exec_that_cannot_be_has_dockers_exit_code_and_one_line() {
    scenario(async |world| {
        let (_, wharf) = with_box(world).await;
        for (code, reason, words) in [
            (1, "CONTAINER_NOT_FOUND", ["nobody", "true"]),
            (126, "EXECUTABLE_NOT_PERMITTED", ["box", "/etc/passwd"]),
            (127, "EXECUTABLE_NOT_FOUND", ["box", "nowhere"]),
        ] {
            let words = [&["exec"][..], &words].concat();
            let Ended {
                code: got,
                out,
                err,
            } = ended(&wharf, &words).await;
            assert_eq!((got, &out[..]), (Some(code), &b""[..]), "{err}");
            assert_eq!(err.lines().count(), 1, "{err}");
            assert!(err.contains(&format!("({reason}, request ")), "{err}");
        }
    });
}

#[test]
fn bytes_come_back_as_they_went_and_nothing_is_added_to_them() {
    scenario(async |world| {
        let (_, wharf) = with_box(world).await;
        let mut random = vec![0; 4 << 20];
        StdRng::seed_from_u64(9).fill_bytes(&mut random);
        let Ended { code, out, err } = fed(&wharf, &["exec", "-i", "box", "cat"], &random).await;
        assert!(out == random, "{} of {} bytes", out.len(), random.len());
        assert_eq!((code, &err[..]), (Some(0), ""));
        for (command, input, output) in [
            (&["wc", "-c"][..], &b"12345"[..], "5\n"),
            (&["sh", "-c", "cat; echo done"], b"x\n", "x\ndone\n"),
            (&["cat"], b"", ""),
        ] {
            let words = [&["exec", "-i", "box"], command].concat();
            assert_eq!(fed(&wharf, &words, input).await, good(0, output, ""));
        }
    });
}

#[test]
fn user_directory_and_environment_are_those_of_the_flags() {
    scenario(async |world| {
        let (_, wharf) = with_box(world).await;
        let flags = ["-u", "app", "-w", "/home/app", "-e", "A=b=c d"];
        let words = [&["exec"], &flags[..], &["box", "sh", "-c"]].concat();
        let script = ["id -un; pwd; echo \"$A\"; echo $IMAGE"];
        let ended = ended(&wharf, &[&words[..], &script].concat()).await;
        assert_eq!(ended, good(0, "app\n/home/app\nb=c d\nbusybox\n", ""));
    });
}

#[test]
fn an_exec_in_the_background_is_told_by_its_id_and_goes_on_alone() {
    scenario(async |world| {
        let (client, wharf) = with_box(world).await;
        let script = "sh -c 'exit 0'; exit 5";
        let id = wharf
            .ok_words(&["exec", "-d", "box", "sh", "-c", script])
            .await;
        assert_eq!(client.exec_exit(&id).await.unwrap().code, 5);
    });
}

#[test]
fn a_signal_to_the_command_reaches_the_program() {
    scenario(async |world| {
        let (_, wharf) = with_box(world).await;
        let mut exec = Program::start(&wharf, &["exec", "box", "sh", "-c", READY]);
        exec.shows("ready\n").await;
        exec.signal(Signal::TERM);
        assert_eq!(exec.ends().await, good(9, "ready\ngot\n", ""));
    });
}

#[test]
fn a_command_that_is_killed_has_done_what_on_disconnect_says() {
    scenario(async |world| {
        let (client, wharf) = with_box(world).await;
        let tells = "trap 'exit 8' HUP; ";
        let script = format!("{tells}{READY}");
        for (flags, code) in [
            (&[][..], 137),
            (&["--on-disconnect", "kill"], 137),
            (&["--on-disconnect", "hangup"], 8),
            (&["--on-disconnect", "stop"], 9),
        ] {
            let id = killed(&wharf, &client, flags, &script).await;
            assert_eq!(client.exec_exit(&id).await.unwrap().code, code, "{flags:?}");
        }
        let id = killed(&wharf, &client, &["--on-disconnect", "detach"], &script).await;
        // By now the others have ended by the same means; this one minds a signal as before.
        let request = v1::SignalExecRequest {
            exec_id: id.clone(),
            signal: "TERM".to_owned(),
            ..Default::default()
        };
        client.signal_exec(request).await.unwrap();
        assert_eq!(client.exec_exit(&id).await.unwrap().code, 9);
    });
}

/// The id of an exec whose command was killed.
async fn killed(wharf: &Wharf, client: &Client, flags: &[&str], script: &str) -> String {
    let words = [&["exec"], flags, &["box", "sh", "-c", script]].concat();
    let mut exec = Program::start(wharf, &words);
    exec.shows("ready\n").await;
    let running = running(client).await;
    assert_eq!(running.len(), 1);
    exec.signal(Signal::KILL);
    assert_eq!(exec.ends().await.code, None);
    running[0].clone()
}

/// Ids of the execs that run.
async fn running(client: &Client) -> Vec<String> {
    let request = v1::ListExecsRequest {
        container: "box".to_owned(),
        ..Default::default()
    };
    let listed = client.list_execs(request).await.unwrap().execs;
    let running = listed
        .into_iter()
        .filter(|exec| exec.state() == State::Running);
    running.map(|exec| exec.id).collect()
}

#[test]
fn a_reader_that_has_enough_ends_the_command_quietly_and_its_program_too() {
    scenario(async |world| {
        let (client, wharf) = with_box(world).await;
        let mut pipeline = Command::new("bash");
        pipeline
            .args(["-c", "\"$0\" exec box yes | head -1; exit ${PIPESTATUS[0]}"])
            .arg(binaries::wharf())
            .env("WHARF_HOST", wharf.host());
        let told = tell(pipeline).await;
        assert_eq!((&told.out[..], &told.err[..]), ("y\n", ""));
        assert_eq!(told.code, 141);
        until("yes is over", Duration::from_secs(60), async || {
            let running = running(&client).await;
            so(running.is_empty(), || format!("{running:?}"))
        })
        .await;
    });
}
