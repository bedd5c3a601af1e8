//! A container that takes all it can get takes nothing from its neighbour, and leaves nobody behind.

use std::fs;
use std::path::Path;
use std::time::Duration;

use wharf_api::v1::{ContainerSpec, Resources, exit_status::Reason};

use super::{exec_said, running, script, start, up, waiting};
use crate::harness::streams::exec;
use crate::harness::wait::so;
use crate::harness::{Client, scenario, until};

const SOON: Duration = Duration::from_secs(120);
const MOST: i64 = 40;
const MEMORY: i64 = 32 << 20;

fn with_limits(spec: ContainerSpec, resources: Resources) -> ContainerSpec {
    ContainerSpec {
        resources: Some(resources),
        ..spec
    }
}

#[test]
fn a_fork_bomb_meets_its_limit_and_its_neighbour_goes_on() {
    scenario(async |world| {
        let client = up(world).await;
        start(&client, "neighbour", waiting()).await;
        let limits = Resources {
            pids_limit: Some(MOST),
            ..Default::default()
        };
        let bomb = start(
            &client,
            "bomb",
            with_limits(running(&["probe", "forks"]), limits),
        )
        .await;
        until("it can make no more", SOON, async || {
            let processes = processes_of(&bomb.id);
            so(i64::try_from(processes.len()).unwrap() == MOST, || {
                format!("{} processes", processes.len())
            })
        })
        .await;
        assert_eq!(
            exec_said(&client, "neighbour", &["echo", "on"]).await,
            "on\n"
        );
        client.stop("bomb", Duration::ZERO).await.unwrap();
        must_be_gone(&bomb.id).await;
    });
}

#[test]
fn who_takes_too_much_memory_is_killed_alone() {
    scenario(async |world| {
        let client = up(world).await;
        start(&client, "neighbour", waiting()).await;
        let limits = Resources {
            memory_limit_bytes: Some(MEMORY),
            swap_limit_bytes: Some(0),
            ..Default::default()
        };
        let hog = running(&["probe", "memory", "96"]);
        let hog = start(&client, "hog", with_limits(hog, limits.clone())).await;
        let exit = client.exit_of(&hog.id, 1).await.unwrap();
        assert_eq!(
            (exit.reason(), exit.code),
            (Reason::OomKilled, 137),
            "{exit:?}"
        );

        // What fits is not touched, and of what an exec takes the main process is no part.
        let modest = with_limits(running(&["probe", "memory", "8"]), limits.clone());
        assert_eq!(super::said(&client, modest).await, "touched\n");
        start(&client, "main", with_limits(waiting(), limits)).await;
        let whole = client
            .exec_whole("main", &["probe", "memory", "96"])
            .await
            .unwrap();
        assert_eq!(whole.exit.code, 137, "{:?}", whole.exit);
        assert_eq!(exec_said(&client, "main", &["echo", "on"]).await, "on\n");
        assert_eq!(
            exec_said(&client, "neighbour", &["echo", "on"]).await,
            "on\n"
        );
    });
}

/// Every process of the host that is in a control group of the container.
fn processes_of(id: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups.contains(id)
    })
    .map(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        format!("{pid}: {status}")
    })
    .collect()
}

/// No process, dead or alive.
async fn must_be_gone(id: &str) {
    until("nobody is left", SOON, async || {
        let left = processes_of(id);
        so(left.is_empty(), || left.join("; "))
    })
    .await;
}

async fn many_daemons(client: &Client, container: &str) {
    for _ in 0..3 {
        let daemon = exec(&["probe", "leave", "3600"]);
        let joined = client.run_exec(container, daemon).await.unwrap();
        assert_eq!(joined.whole().await.unwrap().exit.code, 0);
    }
}

#[test]
fn children_that_left_their_parents_end_with_the_container() {
    const MAIN: &str = "probe leave 3600; (probe leave 3600 &); trap 'exit 0' TERM; \
        while :; do sleep 3600 & wait $!; done";
    scenario(async |world| {
        let client = up(world).await;
        for (name, by_force) in [("stopped", false), ("deleted", true)] {
            let container = start(&client, name, script(MAIN)).await;
            client.until_it_minds_signals(name).await;
            many_daemons(&client, name).await;
            until("the daemons run", SOON, async || {
                let all = processes_of(&container.id);
                let daemons = all.iter().filter(|one| one.contains("(sleep)")).count();
                so(daemons >= 5, || all.join("; "))
            })
            .await;
            if by_force {
                client.delete_by_force(name).await.unwrap();
            } else {
                client.stop(name, Duration::from_secs(20)).await.unwrap();
            }
            must_be_gone(&container.id).await;
        }
    });
}

#[test]
fn a_main_process_that_ends_takes_everybody_along() {
    scenario(async |world| {
        let client = up(world).await;
        let container = start(
            &client,
            "c",
            script("probe leave 3600; probe leave 3600; exit 7"),
        )
        .await;
        let exit = client.exit_of(&container.id, 1).await.unwrap();
        assert_eq!(exit.code, 7);
        must_be_gone(&container.id).await;
        assert!(!Path::new(&format!("/proc/{}", container.pid)).exists());
    });
}
