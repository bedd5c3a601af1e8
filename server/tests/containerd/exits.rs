//! Ends of runs are seen, whenever they come.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::timeout;
use wharf_server::backend::{ContainerBackend, SignalScope, Task, WaitStatus};
use wharf_server::model::{ContainerId, Signal};

use crate::harness::{Daemon, SOON, exit_of, with_spec};

/// Runs of `true`: a good tenth of them end before their start has returned.
const RUNS: usize = 200;
const AT_ONCE: usize = 4;

#[tokio::test]
async fn no_end_is_missed_that_comes_before_start_returns() {
    let daemon = Arc::new(Daemon::start());
    let backend = daemon.connected().await;
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (daemon, backend) = (Arc::clone(&daemon), backend.clone());
        workers.spawn(async move {
            let container = daemon.create(&backend, daemon.container(&["true"])).await;
            for _ in 0..RUNS / AT_ONCE {
                let task = backend.start(daemon.start_of(&container)).await.unwrap();
                assert_eq!(exit_of(&task).await.status, WaitStatus::Exited(0));
                task.delete().await.unwrap();
            }
            backend.delete(container.id).await.unwrap();
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    backend.shutdown().await;
    Arc::into_inner(daemon).unwrap().finish();
}

#[tokio::test]
async fn a_signal_and_an_exit_code_are_told_apart() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let (container, task) = daemon.run(&backend, &["sleep", "1000"]).await;
    task.kill(Signal::KILL, SignalScope::Main).await.unwrap();
    let exit = exit_of(&task).await;
    assert_eq!(exit.status, WaitStatus::Signaled(Signal::KILL));
    assert!(!exit.oom_killed);
    task.delete().await.unwrap();
    backend.delete(container.id).await.unwrap();

    let (container, task) = daemon.run(&backend, &["sh", "-c", "exit 127"]).await;
    assert_eq!(exit_of(&task).await.status, WaitStatus::Exited(127));
    task.delete().await.unwrap();
    backend.delete(container.id).await.unwrap();
    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn a_main_process_killed_for_memory_is_told_apart_from_a_killed_one() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let container = limited(&daemon, &["tail", "/dev/zero"]);
    let container = daemon.create(&backend, container).await;
    let task = backend.start(daemon.start_of(&container)).await.unwrap();
    let exit = exit_of(&task).await;
    assert_eq!(exit.status, WaitStatus::Signaled(Signal::KILL));
    assert!(exit.oom_killed);
    task.delete().await.unwrap();
    backend.delete(container.id).await.unwrap();
    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn a_child_killed_for_memory_is_counted_and_the_run_goes_on() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let container = limited(&daemon, &["sh", "-c", "tail /dev/zero; sleep 1000"]);
    let container = daemon.create(&backend, container).await;
    let task = backend.start(daemon.start_of(&container)).await.unwrap();
    let mut kills = task.oom_kills();
    let counted = timeout(SOON, kills.wait_for(|kills| *kills > 0)).await;
    assert_eq!(*counted.unwrap().unwrap(), 1);
    assert_eq!(*task.exit().borrow(), None);
    backend.discard_task(container.id).await.unwrap();
    exit_of(&task).await;
    backend.delete(container.id).await.unwrap();
    backend.shutdown().await;
    daemon.finish();
}

fn limited(daemon: &Daemon, args: &[&str]) -> wharf_server::model::Container {
    with_spec(daemon.container(args), |spec| {
        spec.resources.memory_limit_bytes = Some(16 << 20);
        spec.resources.swap_limit_bytes = Some(0);
    })
}

#[tokio::test]
async fn a_run_that_somebody_else_ends_and_removes_is_settled() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let (container, task) = daemon.run(&backend, &["sleep", "1000"]).await;
    daemon.ctr(&["tasks", "delete", "--force", &container.id.to_string()]);
    assert_eq!(
        exit_of(&task).await.status,
        WaitStatus::Signaled(Signal::KILL)
    );
    task.delete().await.unwrap();
    backend.delete(container.id).await.unwrap();
    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn a_stopped_run_that_is_found_later_has_its_end() {
    let daemon = Daemon::start();
    let first = daemon.connected().await;
    let (container, task) = daemon.run(&first, &["sh", "-c", "exit 5"]).await;
    let seen = exit_of(&task).await;
    first.shutdown().await;

    let second = daemon.connected().await;
    let found = second.find(container.id).await.unwrap();
    let task = second.attach(&container, found.task.unwrap());
    assert_eq!(exit_of(&task).await, seen);
    task.delete().await.unwrap();
    second.delete(container.id).await.unwrap();
    second.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn nothing_is_there_of_a_container_that_never_was() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let id = ContainerId::generate();
    let bound = SOON;
    timeout(bound, backend.discard_task(id))
        .await
        .unwrap()
        .unwrap();
    timeout(bound, backend.delete(id)).await.unwrap().unwrap();
    assert!(!backend.find(id).await.unwrap().container);
    backend.shutdown().await;
    daemon.finish();
}
