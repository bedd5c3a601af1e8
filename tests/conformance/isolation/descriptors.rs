//! Which descriptors a process is born with: 0, 1 and 2, and those lead where they should.

use wharf_api::v1::{ContainerSpec, FollowContainerRequest, RunContainerStart, TerminalSize};

use super::{exec_said, exec_spec_said, run, running, start, up, waiting};
use crate::harness::streams::{exec, exec_with_stdin, exec_with_terminal};
use crate::harness::{Client, scenario};

const PROBE: &[&str] = &["probe", "descriptors"];
const SIZE: TerminalSize = TerminalSize {
    rows: 24,
    columns: 80,
};

fn numbers(text: &str) -> Vec<u32> {
    let lines = text.lines().map(str::trim);
    lines.map(|line| line.parse().unwrap()).collect()
}

async fn of_run(client: &Client, spec: ContainerSpec) -> Vec<u32> {
    let whole = run(client, spec).await;
    assert_eq!(whole.exit.code, 0, "{}", whole.err());
    numbers(whole.out())
}

#[test]
fn a_main_process_has_three_descriptors_in_every_form() {
    scenario(async |world| {
        let client = up(world).await;
        for stdin_open in [false, true] {
            for terminal in [None, Some(SIZE)] {
                let mut spec = running(PROBE);
                spec.stdin_open = stdin_open;
                spec.process.get_or_insert_default().terminal = terminal;
                let found = of_run(&client, spec).await;
                assert_eq!(
                    found,
                    [0, 1, 2],
                    "stdin {stdin_open}, terminal {terminal:?}"
                );
            }
        }
        // Nor has one with an init, whichever way that tells of its program.
        for terminal in [None, Some(SIZE)] {
            let mut spec = running(PROBE);
            spec.init = true;
            spec.process.get_or_insert_default().terminal = terminal;
            assert_eq!(of_run(&client, spec).await, [0, 1, 2], "{terminal:?}");
        }
        // As it is by a start that nobody is attached to.
        start(
            &client,
            "alone",
            super::script("probe descriptors; sleep 3600"),
        )
        .await;
        let follow = FollowContainerRequest {
            container: "alone".to_owned(),
            replay_bytes: 1 << 10,
            ..Default::default()
        };
        let mut followed = client.follow_container(follow).await.unwrap();
        let whole = followed
            .until(|whole| whole.out().lines().count() >= 3)
            .await
            .unwrap();
        assert_eq!(numbers(whole.out()), [0, 1, 2]);
    });
}

#[test]
fn an_exec_has_three_descriptors_in_every_form() {
    scenario(async |world| {
        let client = up(world).await;
        start(&client, "c", waiting()).await;
        for spec in [
            exec(PROBE),
            exec_with_stdin(PROBE),
            exec_with_terminal(PROBE, 24, 80),
        ] {
            let found = numbers(&exec_spec_said(&client, "c", spec.clone()).await);
            assert_eq!(found, [0, 1, 2], "{spec:?}");
        }
        start(
            &client,
            "init",
            ContainerSpec {
                init: true,
                ..waiting()
            },
        )
        .await;
        let of_init = exec_said(&client, "init", &["ls", "/proc/1/fd"]).await;
        assert_eq!(of_init, "1\n2\n");
        // The main process has got none meanwhile, either.
        let of_main = exec_said(&client, "c", &["ls", "/proc/1/fd"]).await;
        assert_eq!(of_main, "0\n1\n2\n");
    });
}

#[test]
fn descriptors_lead_to_streams_and_to_no_file_of_the_host() {
    const LINKS: &[&str] = &[
        "sh",
        "-c",
        "for n in 0 1 2; do busybox readlink /proc/self/fd/$n; stat -L -c %F /proc/self/fd/$n; done",
    ];
    scenario(async |world| {
        let client = up(world).await;
        start(&client, "c", waiting()).await;
        let place = world.directory().display().to_string();
        let mut spec = running(LINKS);
        spec.process.get_or_insert_default().terminal = Some(SIZE);
        let by_terminal = run(&client, spec).await;
        for line in by_terminal.out().lines().map(str::trim) {
            let is_own = line.starts_with("/dev/pts/") || line == "/dev/console";
            assert!(is_own || line == "character special file", "{line}");
        }
        for whole in [
            run(&client, running(LINKS)).await,
            client.exec_whole("c", LINKS).await.unwrap(),
        ] {
            for kind in whole.out().lines().skip(1).step_by(2) {
                let is_stream = ["fifo", "character special file"].contains(&kind);
                assert!(is_stream, "{kind}: {}", whole.out());
            }
        }
        // A FIFO may be named after its place on the host, where the container has nothing.
        let there = format!("ls {place}");
        assert_ne!(
            client
                .exec_whole("c", &["sh", "-c", &there])
                .await
                .unwrap()
                .exit
                .code,
            0
        );
    });
}

#[test]
fn streams_that_were_given_as_terminal_are_the_processs_own_session() {
    scenario(async |world| {
        let client = up(world).await;
        let mut spec =
            super::script("cat /proc/self/stat; busybox tty; stat -L -c %u /proc/self/fd/0");
        let process = spec.process.get_or_insert_default();
        process.terminal = Some(SIZE);
        process.user = "app".to_owned();
        let start = RunContainerStart {
            spec: Some(spec),
            ..Default::default()
        };
        let joined = client.run_container(start).await.unwrap();
        let whole = joined.whole().await.unwrap();
        let lines: Vec<_> = whole.out().lines().map(str::trim).collect();
        // PID (COMMAND) STATE PARENT GROUP SESSION TERMINAL
        let after = lines[0].rsplit_once(") ").unwrap().1;
        let fields: Vec<_> = after.split(' ').collect();
        assert_eq!(fields[3], "1", "its session is not of process 1: {lines:?}");
        assert_ne!(fields[4], "0", "it has no controlling terminal: {lines:?}");
        assert!(lines[1].starts_with("/dev/"), "{lines:?}");
        assert_eq!(
            lines[2], "1000",
            "the terminal is not its user's: {lines:?}"
        );
    });
}
