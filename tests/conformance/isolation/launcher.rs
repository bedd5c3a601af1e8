//! The programs that launch containers cannot be reached from inside, not even while they launch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use sha2::{Digest as _, Sha256};
use wharf_api::v1::{self, ExecSpec, ProcessSpec};

use super::{directory, exec_said, memory, run, running, start, up, waiting, with_capabilities};
use crate::harness::streams::exec;
use crate::harness::wait::so;
use crate::harness::{Client, binaries, scenario, until};

const SECONDS: &str = "6";
const EXECS_AT_A_TIME: usize = 4;
const SOON: Duration = Duration::from_secs(120);

/// Whatever may launch, with what is in it.
fn launchers() -> BTreeMap<PathBuf, Vec<u8>> {
    let built = binaries::wharfd();
    let keeper = built.with_file_name("wharf-keeper");
    let path = std::env::var("PATH").unwrap();
    let found = ["runc", "crun", "containerd-shim-runc-v2"]
        .into_iter()
        .filter_map(|name| {
            let places = path.split(':').map(|place| Path::new(place).join(name));
            places.into_iter().find(|place| place.is_file())
        });
    let all = found.chain([built, keeper]);
    all.map(|file| {
        (
            file.clone(),
            Sha256::digest(std::fs::read(file).unwrap()).to_vec(),
        )
    })
    .collect()
}

/// Execs one after the other until the probe has said what it saw.
async fn execs_until_it_ends(client: &Client, container: &str) -> usize {
    let mut count = 0;
    loop {
        let round = (0..EXECS_AT_A_TIME).map(|_| client.exec_whole(container, &["true"]));
        for one in join_all(round).await {
            match one {
                Ok(whole) if whole.exit.code == 0 => count += 1,
                _ => return count,
            }
        }
    }
}

#[test]
fn no_program_of_the_host_is_opened_from_inside_while_execs_are_launched() {
    scenario(async |world| {
        let client = up(world).await;
        let before = launchers();
        let watch = v1::RunContainerStart {
            name: "c".to_owned(),
            spec: Some(running(&["probe", "programs", SECONDS])),
            ..Default::default()
        };
        let mut watching = client.run_container(watch).await.unwrap();
        watching.started().await.unwrap();
        let (whole, execs) = tokio::join!(watching.whole(), execs_until_it_ends(&client, "c"));
        let whole = whole.unwrap();
        let said: Vec<_> = whole.out().lines().collect();
        assert!(execs >= EXECS_AT_A_TIME, "only {execs} execs");
        let seen: usize = said
            .last()
            .unwrap()
            .strip_prefix("highest ")
            .unwrap()
            .parse()
            .unwrap();
        assert!(seen > execs / 2, "it saw processes up to {seen} of {execs}");
        assert_eq!(said.len(), 1, "it opened {said:?}");
        assert!(launchers() == before, "a program of the host has changed");
    });
}

#[test]
fn what_launches_cannot_be_had_as_the_program() {
    scenario(async |world| {
        let client = up(world).await;
        let before = launchers();
        start(&client, "c", with_capabilities(waiting(), &[], &[])).await;
        let own = "/proc/self/exe";
        // Refused, or a copy that ends: whatever it is, it changes nothing outside.
        let mut by_exec = exec(&[own]);
        by_exec.timeout = Some(crate::harness::spec::duration(Duration::from_secs(5)));
        if let Ok(joined) = client.run_exec("c", by_exec).await {
            joined.whole().await.ok();
        }
        let request = v1::CreateContainerRequest {
            name: "own".to_owned(),
            spec: Some(running(&[own])),
            start: true,
            ..Default::default()
        };
        if client.create_container(request).await.is_ok() {
            client.stop("own", Duration::from_secs(1)).await.unwrap();
        }
        assert!(launchers() == before, "a program of the host has changed");
        // And the server launches as ever.
        assert_eq!(exec_said(&client, "c", &["echo", "well"]).await, "well\n");
    });
}

/// What a process in `working_dir` says about where it is.
const WHERE: &[&str] = &["sh", "-c", "pwd -P; ls -a .; ls ../../../../.."];

#[test]
fn no_descriptor_of_the_launcher_serves_as_a_working_directory() {
    scenario(async |world| {
        let client = up(world).await;
        std::fs::write(world.directory().join("of-the-host"), "").unwrap();
        start(&client, "c", waiting()).await;
        for number in 0..=20 {
            let place = format!("/proc/self/fd/{number}");
            let process = ProcessSpec {
                working_dir: place.clone(),
                args: WHERE.iter().map(|arg| (*arg).to_owned()).collect(),
                ..Default::default()
            };
            let spec = ExecSpec {
                process: Some(process.clone()),
                ..Default::default()
            };
            let by_exec = match client.run_exec("c", spec).await {
                Ok(joined) => joined.whole().await.map(|whole| whole.out().to_owned()),
                Err(refusal) => Err(refusal),
            };
            must_be_inside(&place, by_exec);
            let spec = v1::ContainerSpec {
                process: Some(process),
                ..running(&[])
            };
            let by_run = client.run_whole(spec).await;
            must_be_inside(&place, by_run.map(|whole| whole.out().to_owned()));
        }
    });
}

fn must_be_inside<E>(place: &str, said: Result<String, E>) {
    let Ok(said) = said else { return };
    let has = |name: &str| said.lines().any(|line| line == name);
    let of_the_host = [
        "boot",
        "lib64",
        "sbin",
        "of-the-host",
        "cgroup.procs",
        "unified",
        "config.json",
    ];
    let seen: Vec<_> = of_the_host.into_iter().filter(|name| has(name)).collect();
    assert!(seen.is_empty(), "{place} leads out: {said}");
}

#[test]
fn a_launch_writes_to_nothing_that_a_container_puts_in_its_way() {
    scenario(async |world| {
        let client = up(world).await;
        let shared = directory(world, "shared");
        std::fs::create_dir(shared.join("proc")).unwrap();
        std::os::unix::fs::symlink("/proc/sys/kernel", shared.join("other")).unwrap();
        let before = std::fs::read("/proc/sys/kernel/core_pattern").unwrap();
        let swaps = v1::ContainerSpec {
            mounts: vec![super::bind(&shared, "/shared")],
            ..running(&["probe", "swap", "/shared/proc", "/shared/other", "20"])
        };
        start(&client, "swaps", swaps).await;
        let targets = ["/shared/proc", "/shared/proc/self", "/shared/other"];
        for round in 0..12 {
            let spec = v1::ContainerSpec {
                mounts: vec![
                    super::bind(&shared, "/shared"),
                    memory(targets[round % targets.len()]),
                ],
                ..running(&["cat", "/proc/self/oom_score_adj"])
            };
            // Refused, or right.
            if let Ok(whole) = client.run_whole(spec).await
                && whole.exit.code == 0
            {
                assert_eq!(whole.out(), "0\n");
            }
        }
        assert_eq!(
            std::fs::read("/proc/sys/kernel/core_pattern").unwrap(),
            before
        );
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !table.contains(" /proc/sys/kernel "),
            "something is mounted on the host"
        );
        client.stop("swaps", Duration::ZERO).await.unwrap();
        until("the volume is nobody's any more", SOON, async || {
            let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            let place = shared.display().to_string();
            so(!table.contains(&place), || table.clone())
        })
        .await;
        assert_eq!(run(&client, running(&["true"])).await.exit.code, 0);
    });
}
