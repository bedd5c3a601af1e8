//! `run` and `attach`.

use rustix::process::Signal;

use super::{Ended, Program, READY, ended, fed, good};
use crate::harness::scenario;
use crate::harness::wharf::{IMAGE, Wharf, up};

#[test]
fn a_run_keeps_output_and_errors_apart_and_ends_as_its_program() {
    scenario(async |world| {
        let wharf = up(world).await;
        let script = "echo out; echo err >&2; exit $0";
        for (code, text) in [(0, "0"), (7, "7"), (255, "255")] {
            let words = ["run", "--rm", IMAGE, "sh", "-c", script, text];
            assert_eq!(ended(&wharf, &words).await, good(code, "out\n", "err\n"));
        }
    });
}

#[test]
fn a_run_that_cannot_be_has_dockers_exit_code_one_line_and_leaves_nothing() {
    scenario(async |world| {
        let wharf = up(world).await;
        for (code, reason, words) in [
            (
                125,
                "IMAGE_NOT_FOUND",
                &["--pull", "never", "no-such:image", "true"][..],
            ),
            (125, "INVALID_FIELD", &["-w", "relative", IMAGE, "true"]),
            (126, "EXECUTABLE_NOT_PERMITTED", &[IMAGE, "/etc/passwd"]),
            (127, "EXECUTABLE_NOT_FOUND", &[IMAGE, "nowhere"]),
        ] {
            let words = [&["run"], words].concat();
            let Ended {
                code: got,
                out,
                err,
            } = ended(&wharf, &words).await;
            assert_eq!((got, &out[..]), (Some(code), &b""[..]), "{err}");
            assert_eq!(err.lines().count(), 1, "{err}");
            assert!(err.contains(&format!("({reason}, request ")), "{err}");
            assert_eq!(wharf.ok("ps -aq").await, "", "{words:?}");
        }
    });
}

#[test]
fn a_run_whose_container_is_killed_ends_with_137() {
    scenario(async |world| {
        let wharf = up(world).await;
        let words = ["run", "--name", "box", IMAGE, "sh", "-c", READY];
        let mut run = Program::start(&wharf, &words);
        run.shows("ready\n").await;
        wharf.ok("kill -s KILL box").await;
        assert_eq!(run.ends().await, good(137, "ready\n", ""));
    });
}

#[test]
fn run_rm_shows_everything_and_leaves_nothing() {
    scenario(async |world| {
        let wharf = up(world).await;
        let numbers: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
        assert!(numbers.len() > 1 << 20);
        for _ in 0..5 {
            let words = ["run", "--rm", IMAGE, "seq", "1", "200000"];
            let ended = ended(&wharf, &words).await;
            assert!(ended.out == numbers.as_bytes(), "{} bytes", ended.out.len());
            assert_eq!((ended.code, &ended.err[..]), (Some(0), ""));
            assert_eq!(wharf.ok("ps -aq").await, "");
        }
    });
}

#[test]
fn run_i_sends_a_pipe_and_its_end_and_shows_what_comes_meanwhile() {
    scenario(async |world| {
        let wharf = up(world).await;
        let words = ["run", "--rm", "-i", IMAGE, "sh", "-c", "cat; echo done"];
        let mut run = Program::start(&wharf, &words);
        run.write(b"one\n").await;
        run.shows("one\n").await;
        run.write(b"two\n").await;
        run.shows("two\n").await;
        run.close_stdin();
        assert_eq!(run.ends().await, good(0, "one\ntwo\ndone\n", ""));
        for (command, input, output) in [
            (&["cat"][..], &b""[..], ""),
            (&["wc", "-c"], b"12345", "5\n"),
        ] {
            let words = [&["run", "--rm", "-i", IMAGE], command].concat();
            assert_eq!(fed(&wharf, &words, input).await, good(0, output, ""));
        }
        // Without -i nothing is sent, and the program sees the end at once.
        let words = ["run", "--rm", IMAGE, "cat"];
        assert_eq!(fed(&wharf, &words, b"in").await, good(0, "", ""));
    });
}

#[test]
fn a_signal_to_the_command_reaches_the_program_unless_it_is_kept() {
    scenario(async |world| {
        let wharf = up(world).await;
        let words = ["run", "--rm", IMAGE, "sh", "-c", READY];
        let mut run = Program::start(&wharf, &words);
        run.shows("ready\n").await;
        run.signal(Signal::TERM);
        assert_eq!(run.ends().await, good(9, "ready\ngot\n", ""));

        let kept = ["run", "--sig-proxy=false", "--name", "kept"];
        let words = [&kept[..], &[IMAGE, "sh", "-c", READY]].concat();
        let mut run = Program::start(&wharf, &words);
        run.shows("ready\n").await;
        run.signal(Signal::TERM);
        assert_eq!(run.ends().await, good(143, "ready\n", ""));
        // The command has left, which stops the container.
        assert_eq!(wharf.ok("wait kept").await, "9");
    });
}

#[test]
fn a_command_that_is_killed_has_done_what_on_disconnect_says() {
    scenario(async |world| {
        let wharf = up(world).await;
        for (name, flags, code) in [
            ("killed", &["--on-disconnect", "kill"][..], "137"),
            ("stopped", &["--on-disconnect", "stop"], "9"),
            ("by-default", &[], "9"),
        ] {
            let start = [&["run", "--name", name], flags].concat();
            let words = [&start[..], &[IMAGE, "sh", "-c", READY]].concat();
            let mut run = Program::start(&wharf, &words);
            run.shows("ready\n").await;
            run.signal(Signal::KILL);
            assert_eq!(run.ends().await.code, None);
            assert_eq!(wharf.ok(&format!("wait {name}")).await, code, "{name}");
        }
    });
}

#[test]
fn a_command_that_is_killed_can_leave_its_program_to_the_next_one() {
    scenario(async |world| {
        let wharf = up(world).await;
        let words = ["run", "-i", "--on-disconnect", "detach", "--name", "box"];
        let mut run = Program::start(&wharf, &[&words[..], &[IMAGE, "cat"]].concat());
        run.write(b"one\n").await;
        run.shows("one\n").await;
        run.signal(Signal::KILL);
        assert_eq!(run.ends().await.code, None);
        let mut again = Program::start(&wharf, &["attach", "box"]);
        again.write(b"two\n").await;
        again.shows("two\n").await;
        again.close_stdin();
        assert_eq!(again.ends().await, good(0, "two\n", ""));
        assert_eq!(wharf.ok("logs box").await, "one\ntwo");
    });
}

#[test]
fn attach_sends_input_only_if_it_may() {
    scenario(async |world| {
        let client = world.up().await;
        let wharf = Wharf::of(world);
        wharf.ok("run -d -i --name box busybox:test cat").await;
        let mut looks_on = Program::start(&wharf, &["attach", "--no-stdin", "box"]);
        looks_on.write(b"never\n").await;
        looks_on.close_stdin();
        let mut talks = Program::start(&wharf, &["attach", "box"]);
        talks.write(b"one\n").await;
        talks.shows("one\n").await;
        assert_eq!(wharf.ok("logs box").await, "one");
        talks.write(b"two\n").await;
        talks.shows("two\n").await;
        talks.close_stdin();
        assert_eq!(talks.ends().await, good(0, "one\ntwo\n", ""));
        let ended = looks_on.ends().await;
        assert_eq!((ended.code, &ended.err[..]), (Some(0), ""));
        assert!(b"one\ntwo\n".ends_with(&ended.out), "{ended:?}");
        assert_eq!(client.exit_of("box", 1).await.unwrap().code, 0);
    });
}

#[test]
fn attach_waits_for_a_container_that_does_not_run_yet() {
    scenario(async |world| {
        let wharf = up(world).await;
        wharf.ok("create -i --name later busybox:test cat").await;
        let mut attached = Program::start(&wharf, &["attach", "later"]);
        attached.write(b"early\n").await;
        wharf.ok("start later").await;
        attached.shows("early\n").await;
        attached.close_stdin();
        assert_eq!(attached.ends().await, good(0, "early\n", ""));
    });
}
