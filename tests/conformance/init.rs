//! Containers with an init: what it does for its program, and that everything else is as without one.

use std::fs;
use std::time::Duration;

use wharf_api::ErrorReason;
use wharf_api::v1::{
    AttachOptions, BindMount, ContainerSpec, ExitStatus, Mount, RunContainerStart, TerminalSize,
    exit_status::Reason, mount::Source,
};

use crate::harness::wait::so;
use crate::harness::{Backend, Client, scenario, spec, until};

const SOON: Duration = Duration::from_secs(120);

fn with_init(args: &[&str]) -> ContainerSpec {
    ContainerSpec {
        init: true,
        ..spec::running(args)
    }
}

fn script(text: &str) -> ContainerSpec {
    with_init(&["sh", "-c", text])
}

/// To be sent input.
fn sending(name: &str, spec: ContainerSpec) -> RunContainerStart {
    RunContainerStart {
        name: name.to_owned(),
        spec: Some(spec),
        attach: Some(AttachOptions {
            stdin: true,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Waits for a file that a program makes once it is so far.
async fn has_made(client: &Client, container: &str, file: &str) {
    until("the program is so far", SOON, async || {
        let there = client.exec_whole(container, &["ls", file]).await.unwrap();
        so(there.exit.code == 0, || there.err().to_owned())
    })
    .await;
}

fn end(exit: &ExitStatus) -> (Reason, i32, &str) {
    (exit.reason(), exit.code, &exit.signal)
}

/// Processes that nobody waits for and that end when the gate is opened, below a program that never looks.
const ORPHANS: &str = "busybox mkfifo /tmp/gate; \
    for n in 1 2 3 4 5 6 7 8; do sh -c 'cat /tmp/gate &'; done; \
    touch /tmp/made; exec sleep 3600";

/// How many processes are left whose names are the orphans', and how many of all are zombies.
const LEFT: &str = "grep -l '^Name:.cat$' /proc/[0-9]*/status | wc -l; \
    grep -l '^State:.Z' /proc/[0-9]*/status | wc -l";

#[test]
fn orphans_are_reaped_by_an_init_and_stay_zombies_without_one() {
    scenario(async |world| {
        let client = world.up().await;
        for (name, init, left) in [("with", true, "0\n0\n"), ("without", false, "8\n8\n")] {
            let spec = ContainerSpec {
                init,
                ..script(&format!("mkdir -p /tmp; {ORPHANS}"))
            };
            client.run_spec(name, spec).await.unwrap();
            has_made(&client, name, "/tmp/made").await;
            let open = ["sh", "-c", ": > /tmp/gate"];
            assert_eq!(client.exec_whole(name, &open).await.unwrap().exit.code, 0);
            until("the orphans have ended", SOON, async || {
                let found = client.exec_whole(name, &["sh", "-c", LEFT]).await.unwrap();
                so(found.out() == left, || format!("{name}: {}", found.out()))
            })
            .await;
        }
    });
}

#[test]
fn a_stop_reaches_the_program_and_its_exit_code_is_the_runs() {
    scenario(async |world| {
        let client = world.up().await;
        let waits = "trap 'exit 7' TERM; touch /made; while :; do sleep 3600 & wait $!; done";
        client.run_spec("minds", script(waits)).await.unwrap();
        has_made(&client, "minds", "/made").await;
        let stopped = client.stop("minds", SOON).await.unwrap();
        assert!(!stopped.killed);
        let exit = stopped.exit_status.unwrap();
        assert_eq!(end(&exit), (Reason::Exited, 7, ""));

        // It is not process 1, so signals do what they do by default.
        client
            .run_spec("default", with_init(spec::STUBBORN))
            .await
            .unwrap();
        client.until_it_minds_signals("default").await;
        let stopped = client.stop("default", SOON).await.unwrap();
        assert!(!stopped.killed);
        let exit = stopped.exit_status.unwrap();
        assert_eq!(end(&exit), (Reason::Signaled, 143, "SIGTERM"));
    });
}

#[test]
fn every_signal_is_forwarded_but_the_two_that_cannot_be() {
    scenario(async |world| {
        let client = world.up().await;
        // 50 is a real-time signal.
        let all = [
            "HUP", "INT", "QUIT", "USR1", "USR2", "CONT", "WINCH", "TSTP", "50",
        ];
        let traps = all.map(|signal| format!("trap 'touch /got-{signal}' {signal};"));
        let waits = format!(
            "{} touch /made; while :; do sleep 0.1; done",
            traps.concat()
        );
        client.run_spec("c", script(&waits)).await.unwrap();
        has_made(&client, "c", "/made").await;
        for signal in all {
            client.signal("c", signal).await.unwrap();
            has_made(&client, "c", &format!("/got-{signal}")).await;
        }
        client.signal("c", "KILL").await.unwrap();
        let exit = client.exit_of("c", 1).await.unwrap();
        assert_eq!(end(&exit), (Reason::Signaled, 137, "SIGKILL"));
    });
}

#[test]
fn a_run_ends_as_its_program_does() {
    scenario(async |world| {
        let client = world.up().await;
        for (text, expected) in [
            ("exit 0", (Reason::Exited, 0, "")),
            ("exit 3", (Reason::Exited, 3, "")),
            ("exit 255", (Reason::Exited, 255, "")),
            ("kill -KILL $$", (Reason::Signaled, 137, "SIGKILL")),
            ("kill -SEGV $$", (Reason::Signaled, 139, "SIGSEGV")),
            // What is left of it goes with it.
            ("sleep 3600 & exit 4", (Reason::Exited, 4, "")),
        ] {
            let whole = client.run_whole(script(text)).await.unwrap();
            assert_eq!(end(&whole.exit), expected, "{text}");
        }
        let fed = ContainerSpec {
            stdin_open: true,
            ..with_init(&["cat"])
        };
        let mut joined = client.run_container(sending("fed", fed)).await.unwrap();
        joined.write("through\n").await;
        joined.half_close();
        let whole = joined.whole().await.unwrap();
        assert_eq!((whole.out(), whole.exit.code), ("through\n", 0));
    });
}

#[test]
fn what_the_oom_killer_does_to_the_program_is_told_of_the_run() {
    scenario(async |world| {
        let client = world.up().await;
        let hog = "echo 1000 > /proc/self/oom_score_adj; x=0123456789abcdef; \
                   while :; do x=$x$x; done";
        let mut spec = script(hog);
        spec.resources.get_or_insert_default().memory_limit_bytes = Some(32 << 20);
        let whole = client.run_whole(spec).await.unwrap();
        assert_eq!(end(&whole.exit), (Reason::OomKilled, 137, "SIGKILL"));
    });
}

#[test]
fn a_programs_terminal_is_its_own_and_ctrl_c_reaches_it() {
    scenario(async |world| {
        let client = world.up().await;
        // PID (COMMAND) STATE PARENT GROUP SESSION TERMINAL FOREGROUND
        let text = "trap 'exit 9' INT; read -r stat < /proc/self/stat; echo \"$stat\"; \
                    while :; do sleep 0.1; done";
        let mut spec = script(text);
        spec.stdin_open = true;
        spec.process.get_or_insert_default().terminal = Some(TerminalSize {
            rows: 24,
            columns: 80,
        });
        let mut joined = client.run_container(sending("c", spec)).await.unwrap();
        let said = joined
            .until(|whole| whole.out().contains('\n'))
            .await
            .unwrap();
        let (id, rest) = said.out().trim().split_once(" (sh) ").unwrap();
        let fields: Vec<_> = rest.split(' ').collect();
        let (group, session, terminal, front) = (fields[2], fields[3], fields[4], fields[5]);
        assert_eq!((group, session, front), (id, id, id), "{rest}");
        assert_ne!(terminal, "0", "it has no controlling terminal: {rest}");
        joined.write("\x03").await;
        let exit = client.exit_of("c", 1).await.unwrap();
        assert_eq!(end(&exit), (Reason::Exited, 9, ""));
    });
}

#[test]
fn a_program_that_cannot_be_executed_is_told_as_without_an_init_or_as_shells_do() {
    scenario(async |world| {
        let client = world.up().await;
        for (program, reason, code) in [
            ("/bin/nowhere", ErrorReason::ExecutableNotFound, 127),
            ("nowhere-in-the-path", ErrorReason::ExecutableNotFound, 127),
            ("/etc/passwd", ErrorReason::ExecutableNotPermitted, 126),
        ] {
            let before = client.list().await.unwrap();
            let told = client.run_spec("c", with_init(&[program])).await;
            if Backend::of_this_run() == Backend::Containerd {
                // Nothing of a program's start comes back from there.
                told.unwrap();
                let exit = client.exit_of("c", 1).await.unwrap();
                assert_eq!(end(&exit), (Reason::Exited, code, ""), "{program}");
                client.delete("c").await.unwrap();
                continue;
            }
            let refusal = told.unwrap_err();
            assert_eq!(refusal.reason(), reason, "{refusal}");
            assert_eq!(refusal.metadata["path"], program);
            assert_eq!(client.list().await.unwrap(), before, "something remains");
            let without = client.run("c", &[program]).await.unwrap_err();
            assert_eq!(without.reason(), reason, "{without}");
            assert_eq!(without.metadata, refusal.metadata);
        }
        // What runs beside the program is not the init's.
        client
            .run_spec("c", with_init(spec::STUBBORN))
            .await
            .unwrap();
        let exec = client.exec_whole("c", &["/bin/nowhere"]).await.unwrap_err();
        assert_eq!(exec.reason(), ErrorReason::ExecutableNotFound);
    });
}

#[test]
fn a_read_only_root_and_a_user_without_rights_are_no_hindrance() {
    scenario(async |world| {
        let client = world.up().await;
        let mut spec = script("id -u; touch /x 2> /dev/null || echo refused");
        spec.read_only_root = true;
        let process = spec.process.get_or_insert_default();
        process.user = "app".to_owned();
        let whole = client.run_whole(spec).await.unwrap();
        assert_eq!((whole.out(), whole.exit.code), ("1000\nrefused\n", 0));
    });
}

#[test]
fn the_inits_file_is_the_hosts_and_cannot_be_changed_or_removed_from_inside() {
    scenario(async |world| {
        let client = world.up().await;
        let file = world.wharfd.state_dir().join("wharf-init");
        let before = fs::read(&file).unwrap();
        assert!(before.starts_with(b"\x7fELF"));
        client
            .run_spec("c", with_init(spec::STUBBORN))
            .await
            .unwrap();
        for attack in [
            "echo x > /dev/wharf-init",
            "echo x >> /proc/1/exe",
            "rm -f /dev/wharf-init",
            "busybox mv /dev/wharf-init /dev/x",
            "chmod 777 /dev/wharf-init",
            "mount -o remount,bind,rw /dev/wharf-init",
            "busybox umount /dev/wharf-init",
            "busybox ln -f /bin/busybox /dev/wharf-init",
        ] {
            let tried = client.exec_whole("c", &["sh", "-c", attack]).await.unwrap();
            assert_ne!(tried.exit.code, 0, "{attack}");
        }
        let options = "grep ' /dev/wharf-init ' /proc/self/mountinfo";
        let mounted = client
            .exec_whole("c", &["sh", "-c", options])
            .await
            .unwrap();
        let fields: Vec<_> = mounted.out().split(' ').collect();
        for option in ["ro", "nosuid", "nodev"] {
            assert!(fields[5].split(',').any(|is| is == option), "{fields:?}");
        }
        assert_eq!(fs::read(&file).unwrap(), before);
        // It is what the next ones start with.
        assert_eq!(
            client.run_whole(script("exit 5")).await.unwrap().exit.code,
            5
        );
    });
}

#[test]
fn a_mount_over_the_init_is_refused_beforehand() {
    scenario(async |world| {
        let client = world.up().await;
        for target in ["/dev", "/dev/wharf-init"] {
            let mut spec = with_init(&["true"]);
            spec.mounts.push(Mount {
                target: target.to_owned(),
                source: Some(Source::Bind(BindMount {
                    path: "/dev".to_owned(),
                    ..Default::default()
                })),
                ..Default::default()
            });
            let refusal = client.run_spec("c", spec).await.unwrap_err();
            assert_eq!(refusal.reason(), ErrorReason::InvalidField);
            assert!(refusal.fields().contains("spec.mounts[0].target"));
        }
    });
}

#[test]
fn a_container_with_an_init_lives_through_the_servers_death() {
    scenario(async |world| {
        let client = world.up().await;
        let waits = "trap 'exit 7' TERM; touch /made; while :; do sleep 3600 & wait $!; done";
        client.run_spec("c", script(waits)).await.unwrap();
        has_made(&client, "c", "/made").await;
        let before = client.get("c").await.unwrap();
        assert!(before.spec.unwrap().init);
        world.wharfd.kill();
        let client = world.wharfd.start().await;
        assert_eq!(client.get("c").await.unwrap().pid, before.pid);
        let exit = client.stop("c", SOON).await.unwrap().exit_status.unwrap();
        assert_eq!(end(&exit), (Reason::Exited, 7, ""));
    });
}
