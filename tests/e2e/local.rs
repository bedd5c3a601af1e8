//! What only the local backend promises: what a run costs, and that containers live through the death of the
//! keeper, of the server, and of both at once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rustix::process::Signal;
use wharf_api::ErrorReason;
use wharf_api::v1::container::State;
use wharf_api::v1::exit_status::Reason;
use wharf_api::v1::{Container, ContainerSpec, RunContainerStart};
use wharf_server::model::limits::SYNC_DELAY;

use crate::harness::process::Daemon;
use crate::harness::wait::so;
use crate::harness::{Backend, Client, World, keeper, scenario, spec, tier, until};

const SOON: Duration = Duration::from_secs(120);
/// Runs that are counted, after some that warm up; so many at a time, for a traced server is slow, and what is only
/// observed is synced by time.
const RUNS: u64 = 100;
const AT_A_TIME: u64 = 4;
const WARM_UP: u64 = 3;
const WORKERS: usize = 3;
const SURVIVORS: usize = 3;

/// A scenario of the keeper's own launches.
fn local_only(body: impl AsyncFnOnce(&mut World)) {
    match Backend::of_this_run() {
        Backend::Local => scenario(body),
        other => eprintln!("not for {other:?}: the keeper launches nothing there"),
    }
}

async fn run_to_its_end(client: &Client, number: u64) {
    let start = RunContainerStart {
        name: format!("run-{number}"),
        spec: Some(ContainerSpec {
            auto_delete: true,
            ..spec::running(&["true"])
        }),
        ..Default::default()
    };
    let joined = client.run_container(start).await.unwrap();
    assert_eq!(joined.whole().await.unwrap().exit.code, 0);
}

/// A tracer of a process and what it makes.
fn trace(pid: i32, calls: &str, into: &Path) -> Daemon {
    let mut command = Command::new("strace");
    command
        .args(["-f", "-e", &format!("trace={calls}"), "-o"])
        .arg(into)
        .args(["-p", &pid.to_string()]);
    Daemon::spawn("strace", command, &into.with_extension("log"))
}

async fn is_traced(pid: i32) {
    until("every thread is traced", SOON, async || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let untraced = tasks.filter(|task| {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            status.lines().any(|line| line == "TracerPid:\t0")
        });
        let untraced = untraced.count();
        so(untraced == 0, || format!("{untraced} are not"))
    })
    .await;
}

/// Calls that came back, by name. A thread's making is no process's.
fn counted(file: &Path) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(file).unwrap();
    let mut counts = BTreeMap::new();
    for line in text
        .lines()
        .filter(|line| !line.contains("resumed>") && !line.contains("CLONE_THREAD"))
    {
        let call = line
            .split_once(' ')
            .map_or(line, |(_pid, call)| call.trim_start());
        if let Some((name, _)) = call.split_once('(') {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    counts
}

fn mounts_of_the_host() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// The container's directory, which a mount would name.
fn named_after(world: &World) -> String {
    world.directory().display().to_string()
}

#[test]
fn a_run_costs_one_exec_one_clone_two_syncs_and_no_mount_on_the_host() {
    local_only(async |world| {
        let client = world.up().await;
        for number in 0..WARM_UP {
            run_to_its_end(&client, number).await;
        }
        let keeper = keeper::pids(world.directory())[0];
        let server = i32::try_from(world.wharfd.pid()).unwrap();
        let files: [PathBuf; 2] =
            ["keeper.trace", "server.trace"].map(|name| world.directory().join(name));
        let syncs = "fsync,fdatasync,syncfs,sync,msync,sync_file_range";
        let makes = "execve,execveat,clone,clone3,fork,vfork";
        let mut tracers = [
            trace(keeper, &format!("{makes},{syncs}"), &files[0]),
            trace(server, &format!("{makes},{syncs}"), &files[1]),
        ];
        is_traced(keeper).await;
        is_traced(server).await;
        let began = Instant::now();
        for round in 0..RUNS / AT_A_TIME {
            let first = WARM_UP + round * AT_A_TIME;
            let runs = (first..first + AT_A_TIME).map(|number| run_to_its_end(&client, number));
            join_all(runs).await;
            let mounts = mounts_of_the_host();
            assert!(!mounts.contains(&named_after(world)), "{mounts}");
        }
        for tracer in &mut tracers {
            tracer.signal(Signal::INT);
            tracer.end(SOON).await;
        }
        let [of_keeper, of_server] = files.each_ref().map(|file| counted(file));
        eprintln!("{RUNS} runs: keeper {of_keeper:?}, server {of_server:?}");
        let sum = |counts: &BTreeMap<String, u64>, names: &str| -> u64 {
            names.split(',').filter_map(|name| counts.get(name)).sum()
        };
        assert_eq!(sum(&of_keeper, "execve,execveat"), RUNS);
        assert_eq!(sum(&of_keeper, "clone,clone3,fork,vfork"), RUNS);
        assert_eq!(sum(&of_server, "execve,execveat"), 0);
        // What callers asked for, create and delete; what was only observed is synced by time, if nothing else has
        // synced it by then: never at the speed of an untraced server.
        let asked = sum(&of_keeper, syncs) + sum(&of_server, "fsync,syncfs,sync,msync");
        assert!(asked <= 2 * RUNS + 2, "{asked} syncs for {RUNS} runs");
        let observed = sum(&of_server, "fdatasync");
        let most = began.elapsed().as_millis() / (SYNC_DELAY / 2).as_millis();
        assert!(
            u128::from(observed) <= most,
            "{observed} syncs in {:?}",
            began.elapsed()
        );
    });
}

#[test]
fn while_a_hundred_containers_run_the_host_has_no_mount_more() {
    local_only(async |world| {
        let client = world.up().await;
        let runs = (0..100).map(|number| {
            let client = &client;
            async move {
                client
                    .run(&format!("c-{number}"), spec::STUBBORN)
                    .await
                    .unwrap()
            }
        });
        let containers = join_all(runs).await;
        assert_eq!(containers.len(), 100);
        // Others may mount what they like meanwhile.
        let mounts = mounts_of_the_host();
        assert!(!mounts.contains(&named_after(world)), "{mounts}");
        let names_one = |container: &Container| mounts.contains(&container.id);
        assert!(!containers.iter().any(names_one), "{mounts}");
    });
}

/// What is killed.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Keeper,
    Server,
    Both,
}

#[test]
fn chaos_of_sigkills_of_keeper_and_server_leaves_nothing_and_tells_nothing_untrue() {
    local_only(async |world| {
        let client = world.up().await;
        let mut survivors = Vec::new();
        for number in 0..SURVIVORS {
            survivors.push(
                client
                    .run_patient(&format!("survivor-{number}"))
                    .await
                    .unwrap(),
            );
        }
        let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
        let workers = (0..WORKERS).map(|worker| live_on(&client, worker, &over, &done));
        let kills = async {
            kill_again_and_again(world, StdRng::seed_from_u64(tier::seed())).await;
            over.store(true, Ordering::Release);
        };
        tokio::join!(join_all(workers), kills);
        eprintln!(
            "{} runs were seen to their ends",
            done.load(Ordering::Relaxed)
        );
        assert!(done.load(Ordering::Relaxed) > 0);
        for survivor in &survivors {
            let now = client.get(&survivor.id).await.unwrap();
            assert_eq!(
                (now.state(), now.pid, now.run),
                (State::Running, survivor.pid, 1)
            );
            // The last keeper may be dead without the server's having seen it.
            until("it takes an exec", SOON, async || {
                match client.exec_whole(&survivor.id, &["echo", "alive"]).await {
                    Err(refusal) if refusal.is(ErrorReason::BackendUnavailable) => {
                        Err(refusal.to_string())
                    }
                    told => so(told.unwrap().out() == "alive\n", || {
                        "another answer".to_owned()
                    }),
                }
            })
            .await;
        }
        for container in client.list().await.unwrap() {
            is_true(&container);
        }
    });
}

/// A process is there exactly if the container is said to have one.
fn is_true(container: &Container) {
    let is_alive = container.pid != 0 && {
        let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", container.pid));
        cgroup.is_ok_and(|cgroup| cgroup.contains(&container.id))
    };
    let is_said = matches!(
        container.state(),
        State::Running | State::Paused | State::Stopping
    );
    assert_eq!(is_alive, is_said, "{container:?}");
}

/// Runs containers, one after the other. What the server's death cuts off is no failure; what it tells is true.
async fn live_on(client: &Client, worker: usize, over: &AtomicBool, done: &AtomicU64) {
    let mut number = 0;
    while !over.load(Ordering::Acquire) {
        number += 1;
        let name = format!("worker-{worker}-{number}");
        let Ok(container) = client.run(&name, &["sh", "-c", "exit 7"]).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if let Ok(exit) = client.exit_of(&container.id, 1).await {
            let told = (exit.reason(), exit.code);
            let is_true = told == (Reason::Exited, 7) || exit.reason() == Reason::Lost;
            assert!(is_true, "{name}: {exit:?}");
            done.fetch_add(1, Ordering::Relaxed);
        }
        let _ = client.delete_by_force(&container.id).await;
    }
}

async fn kill_again_and_again(world: &mut World, mut random: StdRng) {
    for _ in 0..tier::kills() {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..400))).await;
        let victim = [Victim::Keeper, Victim::Server, Victim::Both][random.random_range(0..3)];
        if matches!(victim, Victim::Server | Victim::Both) {
            world.wharfd.kill();
        }
        if matches!(victim, Victim::Keeper | Victim::Both) {
            keeper::signal(world.directory(), Signal::KILL);
        }
        if world.wharfd.is_running() {
            world.wharfd.ready().await;
        } else {
            world.wharfd.start().await;
        }
    }
}
