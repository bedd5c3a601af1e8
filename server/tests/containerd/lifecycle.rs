//! From create to delete, and what each step costs.

use std::collections::HashMap;
use std::fs;

use wharf_server::backend::{
    ContainerBackend, Found, FoundState, FoundTask, SignalScope, Task, WaitStatus,
};
use wharf_server::model::spec::{Network, Resources};
use wharf_server::model::{ServerId, Signal};

use crate::calls::Calls;
use crate::harness::{Daemon, exit_of, until_connected, with_spec};

const INVENTORY: [&str; 3] = ["leases.list", "containers.list", "tasks.list"];

#[tokio::test]
async fn every_operation_makes_the_fewest_calls() {
    let calls = Calls::record();
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    assert_eq!(calls.take(), ["version.version"]);
    // Every server begins with this: what its predecessors renamed is known then, and what they did
    // not come to the end of is over.
    assert_eq!(backend.inventory().await.unwrap(), HashMap::new());
    assert_eq!(calls.take(), INVENTORY);

    let container = daemon.container(&["sleep", "1000"]);
    let container = daemon.create(&backend, container).await;
    assert_eq!(calls.take(), ["containers.create", "snapshots.prepare"]);

    let task = backend.start(daemon.start_of(&container)).await.unwrap();
    assert_eq!(calls.take(), ["tasks.create", "tasks.start"]);

    task.pause().await.unwrap();
    assert_eq!(calls.take(), ["tasks.pause"]);
    task.resume().await.unwrap();
    assert_eq!(calls.take(), ["tasks.resume"]);
    assert_eq!(task.pids().await.unwrap(), [task.pid()]);
    assert_eq!(calls.take(), ["tasks.list_pids"]);

    let limits = Resources {
        memory_limit_bytes: Some(64 << 20),
        ..Resources::default()
    };
    let container = with_spec((*container).clone(), |spec| spec.resources = limits.clone());
    task.update(&limits).await.unwrap();
    backend.update(&container).await.unwrap();
    assert_eq!(calls.take(), ["tasks.update", "containers.update"]);

    let found = backend.find(container.id).await.unwrap();
    assert_eq!(calls.take(), ["containers.get", "tasks.get"]);
    assert_eq!(
        backend.inventory().await.unwrap(),
        HashMap::from([(container.id, found.clone())])
    );
    assert_eq!(calls.take(), INVENTORY);
    let attached = backend.attach(&container, found.task.unwrap());
    assert_eq!(calls.take(), Vec::<String>::new());

    task.kill(Signal::TERM, SignalScope::Main).await.unwrap();
    task.kill(Signal::KILL, SignalScope::All).await.unwrap();
    assert_eq!(exit_of(&attached).await, exit_of(&task).await);
    assert_eq!(calls.take(), ["tasks.kill", "tasks.kill"]);
    task.delete().await.unwrap();
    assert_eq!(calls.take(), ["tasks.delete"]);
    backend.delete(container.id).await.unwrap();
    assert_eq!(calls.take(), ["containers.delete", "snapshots.remove"]);

    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn a_container_runs_and_leaves_nothing() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let (container, task) = daemon
        .run(&backend, &["sh", "-c", "echo hello; exit 3"])
        .await;
    assert_eq!(exit_of(&task).await.status, WaitStatus::Exited(3));
    assert_eq!(daemon.output(container.id), "hello\n");
    task.delete().await.unwrap();
    backend.delete(container.id).await.unwrap();
    assert_eq!(backend.find(container.id).await.unwrap(), Found::default());
    // Once more: what is gone is no error.
    task.delete().await.unwrap();
    backend.delete(container.id).await.unwrap();
    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn a_record_says_who_made_it_and_in_which_call() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let container = daemon.create(&backend, daemon.container(&["true"])).await;
    let record = daemon.ctr(&["containers", "info", &container.id.to_string()]);
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let request_id = &container.cause().unwrap().request_id;
    assert_eq!(record["Labels"]["wharf.dev/id"], container.id.to_string());
    assert_eq!(record["Labels"]["wharf.dev/name"], *container.name);
    assert_eq!(
        record["Labels"]["wharf.dev/request-id"],
        request_id.as_str()
    );
    assert_eq!(record["Spec"]["process"]["args"][0], "true");

    let mut renamed = (*container).clone();
    renamed.name = "another-name".into();
    backend.update(&renamed).await.unwrap();
    let record = daemon.ctr(&["containers", "info", &container.id.to_string()]);
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["Labels"]["wharf.dev/name"], "another-name");
    assert_eq!(
        record["Labels"]["wharf.dev/request-id"],
        request_id.as_str()
    );

    backend.delete(container.id).await.unwrap();
    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn another_servers_containers_are_not_in_the_inventory() {
    let daemon = Daemon::start();
    let ours = daemon.connected().await;
    let theirs = daemon.backend_of(ServerId::generate());
    until_connected(&theirs).await;
    let container = daemon.create(&theirs, daemon.container(&["true"])).await;
    assert_eq!(ours.inventory().await.unwrap(), HashMap::new());
    assert_eq!(theirs.inventory().await.unwrap().len(), 1);
    theirs.delete(container.id).await.unwrap();
    theirs.shutdown().await;
    ours.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn a_container_joins_anothers_network_for_one_call_more() {
    let calls = Calls::record();
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let (first, owner) = daemon.run(&backend, &["sleep", "1000"]).await;
    let guest = with_spec(daemon.container(&["sleep", "1000"]), |spec| {
        spec.network = Network::Container {
            container: first.id.to_string(),
        };
    });
    let guest = daemon.create(&backend, guest).await;
    let mut start = daemon.start_of(&guest);
    start.network_pid = Some(owner.pid());
    calls.take();
    let task = backend.start(start).await.unwrap();
    assert_eq!(
        calls.take(),
        ["containers.update", "tasks.create", "tasks.start"]
    );
    assert_eq!(network(task.pid()), network(owner.pid()));

    for (id, task) in [(guest.id, task), (first.id, owner)] {
        task.kill(Signal::KILL, SignalScope::All).await.unwrap();
        exit_of(&task).await;
        task.delete().await.unwrap();
        backend.delete(id).await.unwrap();
    }
    backend.shutdown().await;
    daemon.finish();
}

fn network(pid: u32) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    link.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_container_can_run_again() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let container = daemon
        .create(&backend, daemon.container(&["sleep", "1000"]))
        .await;
    let first = backend.start(daemon.start_of(&container)).await.unwrap();
    first.kill(Signal::KILL, SignalScope::Main).await.unwrap();
    exit_of(&first).await;
    first.delete().await.unwrap();

    let second = backend.start(daemon.start_of(&container)).await.unwrap();
    // The first run's handle is of no use any more, and harms nobody.
    assert!(first.kill(Signal::KILL, SignalScope::Main).await.is_err());
    first.delete().await.unwrap();
    let found = backend.find(container.id).await.unwrap();
    let expected = FoundTask {
        pid: second.pid(),
        state: FoundState::Running,
    };
    assert_eq!(found.task, Some(expected));

    backend.discard_task(container.id).await.unwrap();
    assert_eq!(
        exit_of(&second).await.status,
        WaitStatus::Signaled(Signal::KILL)
    );
    backend.delete(container.id).await.unwrap();
    backend.shutdown().await;
    daemon.finish();
}
