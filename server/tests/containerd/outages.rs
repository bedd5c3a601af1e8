//! containerd dies, hangs, comes late: nothing is lost, and nobody waits for ever.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wharf_server::backend::containerd::{Containerd, ContainerdTask};
use wharf_server::backend::{
    Applied, BackendError, ContainerBackend, SignalScope, Status, Task, WaitStatus,
};
use wharf_server::model::spec::{Mount, MountSource, Propagation};
use wharf_server::model::{Container, Signal};

use crate::harness::{Daemon, SOON, exit_of, until_connected, until_disconnected, with_spec};

/// Longest until a frozen containerd is noticed: 5 s of silence, 10 s without an answer.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);

#[tokio::test]
async fn ends_while_containerd_is_dead_are_settled_before_connected_is_said() {
    let mut daemon = Daemon::start();
    let backend = daemon.connected().await;
    let mut runs = Vec::new();
    for code in 1..=6 {
        runs.push((code, until_told(&daemon, &backend, code).await));
    }
    let (stays, staying) = daemon.run(&backend, &["sleep", "1000"]).await;

    daemon.kill();
    until_disconnected(&backend).await;
    fs::write(daemon.path("told/now"), "").unwrap();
    for (_, (_, task)) in &runs {
        gone(task.pid()).await;
        assert_eq!(*task.exit().borrow(), None);
    }
    daemon.boot();
    until_connected(&backend).await;
    for (code, (container, task)) in runs {
        let exit = task.exit().borrow().clone();
        assert_eq!(exit.unwrap().status, WaitStatus::Exited(code));
        task.delete().await.unwrap();
        backend.delete(container.id).await.unwrap();
    }

    assert_eq!(*staying.exit().borrow(), None);
    staying.kill(Signal::KILL, SignalScope::Main).await.unwrap();
    assert_eq!(
        exit_of(&staying).await.status,
        WaitStatus::Signaled(Signal::KILL)
    );
    staying.delete().await.unwrap();
    backend.delete(stays.id).await.unwrap();
    backend.shutdown().await;
    daemon.finish();
}

/// A run that exits with `code` once the file `told/now` is there.
async fn until_told(
    daemon: &Daemon,
    backend: &Containerd,
    code: u8,
) -> (Arc<Container>, ContainerdTask) {
    let script = format!("until [ -e /told/now ]; do sleep 0.05; done; exit {code}");
    let told = Mount {
        target: "/told".to_owned(),
        source: MountSource::Bind {
            path: daemon.path("told").to_str().unwrap().to_owned(),
            create: true,
            propagation: Propagation::Private,
        },
        read_only: true,
    };
    let container = daemon.container(&["sh", "-c", &script]);
    let container = with_spec(container, |spec| spec.mounts.push(told));
    let container = daemon.create(backend, container).await;
    let task = backend.start(daemon.start_of(&container)).await.unwrap();
    (container, task)
}

/// Waits until a process is gone, or waits to be reaped.
async fn gone(pid: u32) {
    let deadline = Instant::now() + SOON;
    let lives = |stat: String| !stat.contains(") Z ");
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(lives) {
        assert!(Instant::now() < deadline, "process {pid} does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_run_whose_shim_died_with_containerd_is_lost() {
    let mut daemon = Daemon::start();
    let backend = daemon.connected().await;
    let (container, task) = daemon.run(&backend, &["sleep", "1000"]).await;
    daemon.kill();
    until_disconnected(&backend).await;
    daemon.kill_shims();
    daemon.boot();
    let exit = exit_of(&task).await;
    assert_eq!(exit.status, WaitStatus::Lost);
    backend.discard_task(container.id).await.unwrap();
    backend.delete(container.id).await.unwrap();
    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn calls_to_a_dead_containerd_are_refused_at_once_and_did_nothing() {
    let mut daemon = Daemon::start();
    let backend = daemon.connected().await;
    let (container, task) = daemon.run(&backend, &["sleep", "1000"]).await;
    daemon.kill();
    until_disconnected(&backend).await;
    let began = Instant::now();
    for refused in [
        task.kill(Signal::KILL, SignalScope::Main).await,
        backend.delete(container.id).await,
        backend.find(container.id).await.map(drop),
        backend.inventory().await.map(drop),
    ] {
        assert_eq!(applied(refused), Applied::No);
    }
    assert!(began.elapsed() < Duration::from_secs(5));

    daemon.boot();
    until_connected(&backend).await;
    backend.discard_task(container.id).await.unwrap();
    assert_eq!(
        exit_of(&task).await.status,
        WaitStatus::Signaled(Signal::KILL)
    );
    backend.delete(container.id).await.unwrap();
    backend.shutdown().await;
    daemon.finish();
}

fn applied(result: Result<(), BackendError>) -> Applied {
    match result {
        Err(BackendError::Unavailable { applied, .. }) => applied,
        other => panic!("not unavailable: {other:?}"),
    }
}

#[tokio::test]
async fn a_frozen_containerd_is_noticed_and_calls_end_by_their_deadline() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let (container, task) = daemon.run(&backend, &["sleep", "1000"]).await;
    daemon.freeze();
    let began = Instant::now();
    let killed = task.kill(Signal::KILL, SignalScope::Main).await;
    assert_eq!(applied(killed), Applied::Unknown);
    let status = backend.status();
    until_disconnected(&backend).await;
    assert!(began.elapsed() < NOTICED_WITHIN, "{:?}", began.elapsed());
    assert!(matches!(*status.borrow(), Status::Disconnected { .. }));
    assert_eq!(
        applied(backend.find(container.id).await.map(drop)),
        Applied::No
    );

    daemon.thaw();
    until_connected(&backend).await;
    backend.discard_task(container.id).await.unwrap();
    assert_eq!(
        exit_of(&task).await.status,
        WaitStatus::Signaled(Signal::KILL)
    );
    backend.delete(container.id).await.unwrap();
    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn a_containerd_that_comes_late_is_connected_to() {
    let mut daemon = Daemon::start();
    daemon.kill();
    let backend = daemon.backend();
    let mut status = backend.status();
    let tried =
        |status: &Status| matches!(status, Status::Connecting { detail } if !detail.is_empty());
    tokio::time::timeout(SOON, status.wait_for(tried))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(applied(backend.inventory().await.map(drop)), Applied::No);
    daemon.boot();
    until_connected(&backend).await;
    assert!(backend.inventory().await.unwrap().is_empty());
    backend.shutdown().await;
    daemon.finish();
}
