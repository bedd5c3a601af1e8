//! What does not work: exit codes, and the one line that says why.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use super::{IMAGE, Wharf, tell, up};
use crate::harness::scenario;

#[test]
fn a_run_ends_with_dockers_codes_and_leaves_nothing() {
    scenario(async |world| {
        let wharf = up(world).await;
        for (code, arguments, reason) in [
            (127, "busybox:test no-such-program", "EXECUTABLE_NOT_FOUND"),
            (127, "busybox:test /bin/nothing", "EXECUTABLE_NOT_FOUND"),
            (
                126,
                "busybox:test /bin/not-executable",
                "EXECUTABLE_NOT_PERMITTED",
            ),
            (126, "busybox:test /etc", "EXECUTABLE_NOT_PERMITTED"),
            (125, "--pull never no-such-image:1 true", "IMAGE_NOT_FOUND"),
            (125, "-u nobody-here busybox:test true", "USER_NOT_FOUND"),
            (
                125,
                "-w /etc/passwd busybox:test true",
                "WORKING_DIR_INVALID",
            ),
            (
                125,
                "--runtime no-such-runtime busybox:test true",
                "RUNTIME_NOT_FOUND",
            ),
            (125, "--name Not_A_Name! busybox:test true", "INVALID_FIELD"),
            (125, "--memory 1 busybox:test true", "INVALID_FIELD"),
        ] {
            let line = format!("--request-id asked-{code} run -d {arguments}");
            let said = wharf.fails(code, &line).await;
            let why = format!("({reason}, request asked-{code})");
            assert!(said.contains(&why), "{line}: {said}");
        }
        assert_eq!(wharf.ok("ps -aq").await, "");
    });
}

#[test]
fn every_wrong_field_is_named_at_once() {
    scenario(async |world| {
        let wharf = up(world).await;
        let line =
            "run -d -w relative --name UPPER --stop-signal NOPE --memory 1 busybox:test true";
        let said = wharf.fails(125, line).await;
        for field in [
            "name: ",
            "spec.process.working_dir: ",
            "spec.stop_signal: ",
            "spec.resources.memory_limit_bytes: ",
        ] {
            assert!(said.contains(field), "no {field} in {said}");
        }
    });
}

#[test]
fn what_a_later_version_brings_is_refused_and_never_ignored() {
    scenario(async |world| {
        let wharf = up(world).await;
        for (flags, field) in [
            ("--privileged", "spec.security.privileged"),
            (
                "--security-opt apparmor=mine",
                "spec.security.apparmor_profile",
            ),
            (
                "--mount type=image,source=busybox:test,target=/image",
                "spec.mounts[0].image",
            ),
        ] {
            let said = wharf
                .fails(125, &format!("run -d {flags} busybox:test true"))
                .await;
            assert!(
                said.contains("(OPTION_NOT_SUPPORTED, request "),
                "{flags}: {said}"
            );
            assert!(said.contains(field), "{flags}: {said}");
        }
    });
}

#[test]
fn bad_usage_is_125_and_one_line_and_asks_no_server() {
    scenario(async |world| {
        // Nothing runs here, and nobody notices.
        let wharf = Wharf::of(world);
        for line in [
            "no-such-command",
            "ps --no-such-flag",
            "run -d",
            "run --on-disconnect never busybox:test",
            "exec web",
            "logs",
            "cp web:/etc/passwd",
            "run -d --memory lots busybox:test",
            "run -d --network bridge busybox:test",
            "run -d --env-file /nonexistent busybox:test",
            "run -d --entrypoint= busybox:test",
            "update web",
            "stop",
            "ps -f color=red",
            "events -f type=container-danced",
            "--request-id two\twords ps",
            "--timeout soon ps",
            "-H nowhere ps",
            "-H tcp://127.0.0.1 ps",
        ] {
            let said = wharf.fails(125, line).await;
            assert!(!said.contains("is wharfd running"), "{line}: {said}");
        }
    });
}

#[test]
fn help_and_versions_need_no_server() {
    scenario(async |world| {
        let wharf = Wharf::of(world);
        let help = wharf.ok("--help").await;
        let commands = [
            "run", "create", "start", "stop", "restart", "kill", "rm", "ps", "inspect", "wait",
            "pause", "unpause", "top", "events", "trace", "update", "rename", "prune", "images",
            "pull", "push", "tag", "rmi", "save", "load", "login", "logout", "df", "version",
            "info", "exec", "attach", "logs", "cp",
        ];
        for command in commands {
            let row = format!("\n  {command} ");
            assert!(help.contains(&row), "no {command} in {help}");
            let own = wharf.ok(&format!("{command} --help")).await;
            assert!(own.contains("Usage: wharf "), "{own}");
        }
        assert_eq!(
            wharf.ok("--version").await,
            concat!("wharf ", env!("CARGO_PKG_VERSION"))
        );
        // The server's version cannot be told, and the client's is told all the same.
        let told = wharf.run("version").await;
        assert_eq!(told.code, 1);
        assert!(told.out.starts_with("Client:\n Version:"), "{told:?}");
        assert_eq!(told.err.lines().count(), 1, "{told:?}");
    });
}

#[test]
fn a_server_that_cannot_be_reached_is_told_with_its_address_and_at_once() {
    scenario(async |world| {
        let wharf = Wharf::of(world);
        let begun = Instant::now();
        for (code, line) in [
            (1, "ps"),
            (1, "stop web"),
            (1, "events"),
            (125, "run -d busybox:test"),
        ] {
            let said = wharf.fails(code, line).await;
            assert!(
                said.contains(wharf.host()) && said.ends_with("; is wharfd running?"),
                "{said}"
            );
        }
        let elsewhere = wharf.fails(1, "-H tcp://127.0.0.1:1 ps").await;
        assert!(elsewhere.contains("tcp://127.0.0.1:1"), "{elsewhere}");
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{:?}",
            begun.elapsed()
        );
    });
}

#[test]
fn the_flag_says_where_the_server_is_and_else_the_environment() {
    scenario(async |world| {
        let wharf = up(world).await;
        let mut command = wharf.command(["-H", wharf.host(), "ps", "-aq"]);
        command.env("WHARF_HOST", "unix:///nonexistent/wharf.sock");
        assert_eq!(tell(command).await.ok("-H"), "");
        let mut command = wharf.command(["ps", "-aq", "--host", wharf.host()]);
        command.env_remove("WHARF_HOST");
        assert_eq!(tell(command).await.ok("--host"), "");
        let mut command = wharf.command(["ps", "-aq"]);
        command.env("WHARF_HOST", "nowhere");
        let said = tell(command).await.failed(1, "WHARF_HOST=nowhere ps");
        assert!(
            said.contains("nowhere") && said.contains("unix://"),
            "{said}"
        );
    });
}

#[test]
fn a_call_that_takes_too_long_is_given_up_and_the_container_goes_on() {
    scenario(async |world| {
        let wharf = up(world).await;
        wharf
            .ok_words(&["run", "-d", "--name", "web", IMAGE, "sleep", "3600"])
            .await;
        let begun = Instant::now();
        let said = wharf
            .fails(1, "--timeout 300ms --request-id impatient wait web")
            .await;
        assert!(said.contains("(DEADLINE, request impatient)"), "{said}");
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!(wharf.inspect("web").await["state"], "STATE_RUNNING");

        // The server goes on with a stop that its caller no longer waits for.
        let said = wharf.fails(1, "--timeout 200ms stop -t 1 web").await;
        assert!(said.contains("(DEADLINE, request "), "{said}");
        assert_eq!(wharf.ok("wait web").await, "137");
    });
}

#[test]
fn a_server_that_accepts_and_says_nothing_does_not_hold_a_command_forever() {
    scenario(async |world| {
        let wharf = Wharf::of(world);
        let mute = UnixListener::bind(world.wharfd.socket()).unwrap();
        let said = wharf.fails(1, "--timeout 500ms ps").await;
        assert!(!said.is_empty());
        drop(mute);
    });
}

#[test]
fn a_reader_that_leaves_ends_a_command_without_a_word() {
    scenario(async |world| {
        let wharf = up(world).await;
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = wharf.command(["version"]);
        command.stdout(writer).stderr(std::process::Stdio::piped());
        let child = command.spawn().unwrap();
        let output = tokio::task::spawn_blocking(|| child.wait_with_output());
        let output = output.await.unwrap().unwrap();
        assert_eq!(output.status.code(), Some(141));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    });
}
