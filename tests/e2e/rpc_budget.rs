//! How many calls to containerd each operation costs, counted between the two: the budget, exactly.

use std::sync::Arc;
use std::time::Duration;

use wharf_api::v1::{self, ContainerUpdate, Resources, container::State};

use crate::harness::proxy::{Counts, Proxy};
use crate::harness::streams::exec_with_stdin;
use crate::harness::wait::so;
use crate::harness::{Client, World, containerd_only, spec, until};

const CREATE_RECORD: &str = "/containerd.services.containers.v1.Containers/Create";
const UPDATE_RECORD: &str = "/containerd.services.containers.v1.Containers/Update";
const DELETE_RECORD: &str = "/containerd.services.containers.v1.Containers/Delete";
const LIST_IMAGES: &str = "/containerd.services.images.v1.Images/List";
const LIST_LEASES: &str = "/containerd.services.leases.v1.Leases/List";
const LIST_RECORDS: &str = "/containerd.services.containers.v1.Containers/ListStream";
const PREPARE: &str = "/containerd.services.snapshots.v1.Snapshots/Prepare";
const REMOVE: &str = "/containerd.services.snapshots.v1.Snapshots/Remove";
const CREATE_TASK: &str = "/containerd.services.tasks.v1.Tasks/Create";
const START_TASK: &str = "/containerd.services.tasks.v1.Tasks/Start";
const KILL_TASK: &str = "/containerd.services.tasks.v1.Tasks/Kill";
const DELETE_TASK: &str = "/containerd.services.tasks.v1.Tasks/Delete";
const PAUSE_TASK: &str = "/containerd.services.tasks.v1.Tasks/Pause";
const RESUME_TASK: &str = "/containerd.services.tasks.v1.Tasks/Resume";
const UPDATE_TASK: &str = "/containerd.services.tasks.v1.Tasks/Update";
const EXEC: &str = "/containerd.services.tasks.v1.Tasks/Exec";
const CLOSE_IO: &str = "/containerd.services.tasks.v1.Tasks/CloseIO";
const DELETE_PROCESS: &str = "/containerd.services.tasks.v1.Tasks/DeleteProcess";
const LIST_PIDS: &str = "/containerd.services.tasks.v1.Tasks/ListPids";
const METRICS: &str = "/containerd.services.tasks.v1.Tasks/Metrics";
const LIST_TASKS: &str = "/containerd.services.tasks.v1.Tasks/List";

/// `wharfd` behind a counting proxy.
async fn counted(world: &mut World) -> (Client, Arc<Proxy>) {
    let proxy = world.behind_a_proxy();
    (world.up().await, proxy)
}

/// What operations cost: everything but the one event subscription and the pings of the connection.
fn costs(calls: &Counts) -> Counts {
    let kept = |path: &String| !path.contains(".Events/") && !path.contains("Health/");
    calls
        .iter()
        .filter(|(path, _)| kept(path))
        .map(|(path, count)| (path.clone(), *count))
        .collect()
}

fn exactly(paths: &[&str]) -> Counts {
    paths.iter().map(|path| ((*path).to_owned(), 1)).collect()
}

/// Does something, lets what follows it settle, and compares what both cost.
async fn must_cost<T>(
    proxy: &Proxy,
    what: &str,
    paths: &[&str],
    act: impl Future<Output = T>,
) -> T {
    let before = proxy.counts();
    let value = act.await;
    let expected = exactly(paths);
    let cost = || costs(&proxy.since(&before));
    until(what, Duration::from_secs(60), async || {
        so(cost() == expected, || {
            format!("costs {:?}, not {expected:?}", cost())
        })
    })
    .await;
    // What is more than the budget may come a moment later.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(cost(), expected, "{what}");
    value
}

#[test]
fn each_operation_costs_exactly_its_budget() {
    containerd_only("it counts calls to containerd", async |world| {
        let (client, proxy) = counted(world).await;
        // The first container of an image may fill caches; the budget is for what follows.
        client.create("first", &["true"]).await.unwrap();

        let create = client.create("web", spec::PATIENT);
        must_cost(&proxy, "create", &[CREATE_RECORD, PREPARE], create)
            .await
            .unwrap();
        let start = client.start("web");
        must_cost(&proxy, "start", &[CREATE_TASK, START_TASK], start)
            .await
            .unwrap();
        must_cost(&proxy, "pause", &[PAUSE_TASK], client.pause("web"))
            .await
            .unwrap();
        must_cost(&proxy, "resume", &[RESUME_TASK], client.resume("web"))
            .await
            .unwrap();
        let top = client.list_container_processes(v1::ListContainerProcessesRequest {
            container: "web".to_owned(),
            ..Default::default()
        });
        let processes = must_cost(&proxy, "top", &[LIST_PIDS], top)
            .await
            .unwrap()
            .processes;
        assert!(processes.len() >= 2, "{processes:?}");
        let update = client.update_container(limit_memory("web"));
        must_cost(&proxy, "live update", &[UPDATE_TASK, UPDATE_RECORD], update)
            .await
            .unwrap();
        let kill = kill_and_wait(&client, "web");
        must_cost(&proxy, "kill", &[KILL_TASK, DELETE_TASK], kill).await;
        let delete = client.delete("web");
        must_cost(&proxy, "delete", &[DELETE_RECORD, REMOVE], delete)
            .await
            .unwrap();
    });
}

#[test]
fn a_whole_short_run_costs_seven_calls() {
    containerd_only("it counts calls to containerd", async |world| {
        let (client, proxy) = counted(world).await;
        client.create("first", &["true"]).await.unwrap();
        let all = [
            CREATE_RECORD,
            PREPARE,
            CREATE_TASK,
            START_TASK,
            DELETE_TASK,
            DELETE_RECORD,
            REMOVE,
        ];
        must_cost(&proxy, "run", &all, run_and_delete(&client)).await;
    });
}

#[test]
fn stats_of_any_number_of_containers_cost_one_call() {
    containerd_only("it counts calls to containerd", async |world| {
        let (client, proxy) = counted(world).await;
        let list = || client.list_stats(v1::ListStatsRequest::default());
        let none = must_cost(&proxy, "stats of none", &[], list()).await;
        assert_eq!(none.unwrap().stats, []);
        for number in 0..6 {
            let name = format!("c{number}");
            client.run(&name, spec::STUBBORN).await.unwrap();
        }
        client.create("idle", spec::STUBBORN).await.unwrap();
        let six = must_cost(&proxy, "stats of six", &[METRICS], list()).await;
        assert_eq!(six.unwrap().stats.len(), 6);
        let round = async {
            let request = client.request(v1::StreamStatsRequest::default());
            let answered = client.stats().stream_stats(request).await;
            let mut messages = answered.unwrap().into_inner();
            messages.message().await.unwrap().unwrap()
        };
        let round = must_cost(&proxy, "a round of stats", &[METRICS], round).await;
        assert_eq!((round.stats.len(), round.round_end), (6, true));
    });
}

#[test]
fn reads_cost_nothing() {
    containerd_only("it counts calls to containerd", async |world| {
        let (client, proxy) = counted(world).await;
        let id = client.run("web", spec::PATIENT).await.unwrap().id;
        let reads = async {
            for _ in 0..20 {
                client.get("web").await.unwrap();
                client.list().await.unwrap();
                client.events_of(&id).await;
                client.info().await.unwrap();
                client
                    .list_images(v1::ListImagesRequest::default())
                    .await
                    .unwrap();
            }
        };
        must_cost(&proxy, "reads", &[], reads).await;
    });
}

#[test]
fn a_start_of_the_server_costs_four_lists_whatever_it_finds() {
    containerd_only("it counts calls to containerd", async |world| {
        let (client, proxy) = counted(world).await;
        for number in 0..8 {
            let name = format!("c{number}");
            client.create(&name, spec::PATIENT).await.unwrap();
            if number % 2 == 0 {
                client.start(&name).await.unwrap();
            }
        }
        world.wharfd.kill();
        let restart = async {
            let client = world.wharfd.start().await;
            let states: Vec<_> = client
                .list()
                .await
                .unwrap()
                .iter()
                .map(|c| c.state())
                .collect();
            assert_eq!(
                states
                    .iter()
                    .filter(|state| **state == State::Running)
                    .count(),
                4
            );
        };
        must_cost_with_connection(&proxy, restart).await;
    });
}

/// A new connection may ask who is there: the version once, and what the barrier of the event
/// subscription needs.
async fn must_cost_with_connection(proxy: &Proxy, restart: impl Future<Output = ()>) {
    let before = proxy.counts();
    restart.await;
    let mut cost = costs(&proxy.since(&before));
    cost.retain(|path, _| !path.contains("Version/") && !path.contains("Namespaces/"));
    let lists = [LIST_LEASES, LIST_IMAGES, LIST_RECORDS, LIST_TASKS];
    assert_eq!(cost, exactly(&lists));
}

fn limit_memory(container: &str) -> v1::UpdateContainerRequest {
    v1::UpdateContainerRequest {
        container: container.to_owned(),
        update: Some(ContainerUpdate {
            resources: Some(Resources {
                memory_limit_bytes: Some(64 << 20),
                ..Default::default()
            }),
            ..Default::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["resources.memory_limit_bytes".to_owned()],
        }),
        ..Default::default()
    }
}

async fn kill_and_wait(client: &Client, container: &str) {
    client.signal(container, "SIGKILL").await.unwrap();
    assert_eq!(client.exit_of(container, 1).await.unwrap().code, 137);
}

async fn run_and_delete(client: &Client) {
    let container = client.run("short", &["sh", "-c", "exit 4"]).await.unwrap();
    assert_eq!(client.exit_of(&container.id, 1).await.unwrap().code, 4);
    client.delete(&container.id).await.unwrap();
}

#[test]
fn an_exec_costs_three_calls_and_one_more_to_end_its_stdin() {
    containerd_only("it counts calls to containerd", async |world| {
        let (client, proxy) = counted(world).await;
        client.run("box", spec::PATIENT).await.unwrap();
        let three = [EXEC, START_TASK, DELETE_PROCESS];
        let whole = must_cost(&proxy, "exec", &three, client.exec_whole("box", &["true"])).await;
        assert_eq!(whole.unwrap().exit.code, 0);

        let four = [EXEC, START_TASK, CLOSE_IO, DELETE_PROCESS];
        let with_stdin = async {
            let spec = exec_with_stdin(&["cat"]);
            let mut joined = client.run_exec("box", spec).await?;
            joined.write("hello").await;
            joined.half_close();
            joined.whole().await
        };
        let whole = must_cost(&proxy, "exec with stdin", &four, with_stdin).await;
        assert_eq!(whole.unwrap().out(), "hello");
    });
}
