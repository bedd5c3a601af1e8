//! What a process finds of its own: limits, names, place, environment, groups.

use std::collections::BTreeMap;

use wharf_api::v1::{ContainerSpec, ExecSpec, ProcessSpec, Rlimit};

use super::{
    exec_said, exec_spec_said, field, probe, run, running, said, script, start, up, waiting,
};
use crate::harness::streams::exec;
use crate::harness::{World, not_by_runc, scenario};

fn rlimit(name: &str, soft: u64, hard: u64) -> Rlimit {
    Rlimit {
        name: name.to_owned(),
        soft,
        hard,
    }
}

fn with_process(mut spec: ContainerSpec, change: impl FnOnce(&mut ProcessSpec)) -> ContainerSpec {
    change(spec.process.get_or_insert_default());
    spec
}

/// Starts a container with these limits; what all its processes have.
async fn every_process_has(world: &mut World, rlimits: Vec<Rlimit>, expected: &[(&str, &str)]) {
    let client = up(world).await;
    let spec = ContainerSpec {
        rlimits,
        ..waiting()
    };
    start(&client, "c", spec).await;
    for of in ["/proc/1/limits", "/proc/self/limits"] {
        let limits = exec_said(&client, "c", &["cat", of]).await;
        for (name, soft_and_hard) in expected {
            let mut lines = limits.lines();
            let line = lines.find(|line| line.starts_with(name)).unwrap();
            let words: Vec<_> = line[name.len()..].split_whitespace().collect();
            assert_eq!(words[..2].join(" "), *soft_and_hard, "{name} in {of}");
        }
    }
}

#[test]
fn limits_of_processes_are_those_asked_for_in_every_process() {
    scenario(async |world| {
        let rlimits = vec![
            rlimit("RLIMIT_NOFILE", 200, 200),
            rlimit("RLIMIT_CORE", 0, 0),
            rlimit("RLIMIT_STACK", 1 << 20, 2 << 20),
        ];
        let expected = [
            ("Max open files", "200 200"),
            ("Max core file size", "0 0"),
            ("Max stack size", "1048576 2097152"),
        ];
        every_process_has(world, rlimits, &expected).await;
    });
}

#[test]
fn a_soft_limit_of_open_files_below_the_hard_one_holds_for_execs_too() {
    not_by_runc(
        "built by Go 1.19 and later, its execs now and then have the hard limit for the soft one (runc #4195)",
        async |world| {
            let rlimits = vec![rlimit("RLIMIT_NOFILE", 100, 200)];
            every_process_has(world, rlimits, &[("Max open files", "100 200")]).await;
        },
    );
}

#[test]
fn a_process_is_as_killable_as_any_and_has_the_usual_mask_and_name() {
    const LOOK: &str =
        "cat /proc/self/oom_score_adj; umask; hostname; cat /proc/sys/kernel/hostname; pwd";
    scenario(async |world| {
        let client = up(world).await;
        let spec = ContainerSpec {
            hostname: "of-its-own".to_owned(),
            ..with_process(script(LOOK), |process| {
                "/home/app".clone_into(&mut process.working_dir)
            })
        };
        let expected = "0\n0022\nof-its-own\nof-its-own\n/home/app\n";
        assert_eq!(said(&client, spec).await, expected);

        let container = start(&client, "c", waiting()).await;
        let digits = &container.id[..12];
        let expected = format!("0\n0022\n{digits}\n{digits}\n/\n");
        assert_eq!(exec_said(&client, "c", &["sh", "-c", LOOK]).await, expected);
    });
}

#[test]
fn the_environment_is_what_was_asked_for_and_not_a_word_more() {
    scenario(async |world| {
        let client = up(world).await;
        let asked = BTreeMap::from([
            ("A".to_owned(), "one two\nthree".to_owned()),
            ("EMPTY".to_owned(), String::new()),
        ]);
        let spec = with_process(waiting(), |process| process.env = asked);
        start(&client, "c", spec).await;
        let expected = "A=one two\nthree\0EMPTY=\0HOME=/root\0IMAGE=busybox\0PATH=/bin\0";
        let of_main = exec_said(&client, "c", &["cat", "/proc/1/environ"]).await;
        assert_eq!(of_main, expected);
        let of_exec = exec_said(&client, "c", &["cat", "/proc/self/environ"]).await;
        assert_eq!(of_exec, expected);
        let more = ExecSpec {
            process: Some(ProcessSpec {
                env: BTreeMap::from([("EMPTY".to_owned(), "no more".to_owned())]),
                ..exec(&["cat", "/proc/self/environ"]).process.unwrap()
            }),
            ..Default::default()
        };
        let of_exec = exec_spec_said(&client, "c", more).await;
        assert_eq!(of_exec, expected.replace("EMPTY=", "EMPTY=no more"));
    });
}

#[test]
fn users_and_groups_are_those_of_the_containers_own_files() {
    const IDS: &str = "cat /proc/self/status; pwd; echo $HOME";
    scenario(async |world| {
        let client = up(world).await;
        // `daemon` and `video` are others on the host, or nobody.
        let image = probe::image_with("docker.io/library/accounts:test", |layer| {
            layer.file(
                "etc/passwd",
                0o644,
                b"root:x:0:0::/root:/bin/sh\ndaemon:x:4711:4712::/tmp:/bin/sh\n",
            );
            layer.file(
                "etc/group",
                0o644,
                b"root:x:0:\nvideo:x:4713:daemon\nlate:x:4714:\n",
            );
        });
        client.import(image).await.unwrap();
        let spec = ContainerSpec {
            image: "docker.io/library/accounts:test".to_owned(),
            ..script(IDS)
        };
        let spec = with_process(spec, |process| {
            "daemon".clone_into(&mut process.user);
            process.supplemental_groups = vec!["late".to_owned(), "4715".to_owned()];
        });
        let said = said(&client, spec.clone()).await;
        assert_eq!(field(&said, "Uid"), "4711\t4711\t4711\t4711");
        assert_eq!(field(&said, "Gid"), "4712\t4712\t4712\t4712");
        assert_eq!(field(&said, "Groups"), "4712 4713 4714 4715");
        assert!(said.ends_with("/\n/tmp\n"), "{said}");

        // Root has no group of the host's either.
        let root = said_by_root(&client).await;
        assert_eq!(field(&root, "Groups"), "0");
        let unknown = with_process(running(&["true"]), |process| {
            "nobody-knows".clone_into(&mut process.user);
        });
        let request = wharf_api::v1::CreateContainerRequest {
            spec: Some(unknown),
            ..Default::default()
        };
        let refused = client.create_container(request).await.unwrap_err();
        assert!(
            refused.is(wharf_api::ErrorReason::UserNotFound),
            "{refused}"
        );
    });
}

async fn said_by_root(client: &crate::harness::Client) -> String {
    said(client, running(&["cat", "/proc/self/status"])).await
}

/// None is blocked, and none ignored; but for 32, which glibc ignores in all that its `posix_spawn` starts,
/// and which is inherited.
fn must_be_default(status: &str) {
    let mask = |set| u64::from_str_radix(&field(status, set), 16).unwrap() & !(1 << 31);
    assert_eq!((mask("SigBlk"), mask("SigIgn")), (0, 0), "{status}");
}

#[test]
fn a_process_has_default_signals_and_leads_its_own_session() {
    scenario(async |world| {
        let client = up(world).await;
        // The program itself, for a shell changes what it inherits.
        let status = said(&client, running(&["cat", "/proc/self/status"])).await;
        must_be_default(&status);
        start(&client, "c", waiting()).await;
        let status = exec_said(&client, "c", &["cat", "/proc/self/status"]).await;
        must_be_default(&status);
        let stat = said(&client, running(&["cat", "/proc/self/stat"])).await;
        // PID (COMMAND) STATE PARENT GROUP SESSION TERMINAL
        assert!(stat.starts_with("1 (cat) R 0 1 1 0 "), "{stat}");
        let whole = run(&client, script("kill -9 1; echo alive")).await;
        assert_eq!(
            whole.out(),
            "alive\n",
            "process 1 is not its namespace's first"
        );
    });
}
