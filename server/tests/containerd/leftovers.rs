//! What earlier attempts left, and what somebody else took away.

use std::sync::atomic::{AtomicBool, Ordering};

use wharf_server::backend::{
    BackendError, ContainerBackend, FoundState, SignalScope, Task, WaitStatus,
};
use wharf_server::model::{Digest, ServerId, Signal};

use crate::harness::{Daemon, exit_of, until_connected};

#[tokio::test]
async fn a_task_that_was_created_and_never_started_makes_way() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let container = daemon
        .create(&backend, daemon.container(&["sh", "-c", "exit 3"]))
        .await;
    daemon.create_task(&container).await;
    let found = backend.find(container.id).await.unwrap().task.unwrap();
    assert_eq!(found.state, FoundState::Created);

    let task = backend.start(daemon.start_of(&container)).await.unwrap();
    assert_ne!(task.pid(), found.pid);
    assert_eq!(exit_of(&task).await.status, WaitStatus::Exited(3));
    task.delete().await.unwrap();
    backend.delete(container.id).await.unwrap();
    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn a_start_that_was_given_up_cannot_reach_the_next_one() {
    let daemon = Daemon::start();
    let server_id = ServerId::generate();
    let backend = daemon.backend_of(server_id);
    until_connected(&backend).await;
    let script = "echo x >> /runs; [ $(wc -l < /runs) = 1 ] || sleep 1000";
    let container = daemon
        .create(&backend, daemon.container(&["sh", "-c", script]))
        .await;
    let (first, second) = (container.id.to_string(), format!("{}.2", container.id));
    let task = backend.start(daemon.start_of(&container)).await.unwrap();
    assert_eq!(exit_of(&task).await.status, WaitStatus::Exited(0));
    task.delete().await.unwrap();
    daemon.create_task(&container).await;
    backend.forget_start(&container).await.unwrap();
    // containerd may still make, or remove, what belongs to the old name.
    daemon.create_task(&container).await;

    let other = daemon.backend_of(server_id);
    until_connected(&other).await;
    for backend in [&backend, &other] {
        let found = backend.find(container.id).await.unwrap();
        assert_eq!((found.container, found.task), (true, None));
        let all = backend.inventory().await.unwrap();
        assert_eq!(all.get(&container.id).map(|found| &found.task), Some(&None));
    }
    let task = other.start(daemon.start_of(&container)).await.unwrap();
    daemon.ctr(&["tasks", "delete", "--force", &first]);
    let found = other.find(container.id).await.unwrap().task.unwrap();
    assert_eq!((found.pid, found.state), (task.pid(), FoundState::Running));

    task.kill(Signal::KILL, SignalScope::All).await.unwrap();
    let killed = WaitStatus::Signaled(Signal::KILL);
    assert_eq!(exit_of(&task).await.status, killed);
    task.delete().await.unwrap();
    let records = daemon.ctr(&["containers", "list", "-q"]);
    assert_eq!(records.lines().collect::<Vec<_>>(), [first, second]);
    other.delete(container.id).await.unwrap();
    other.shutdown().await;
    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn a_task_that_runs_does_not_make_way() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let (container, task) = daemon.run(&backend, &["sleep", "1000"]).await;
    let refused = backend.start(daemon.start_of(&container)).await;
    assert!(
        matches!(refused, Err(BackendError::Protocol { .. })),
        "{refused:?}"
    );
    let found = backend.find(container.id).await.unwrap().task.unwrap();
    assert_eq!((found.pid, found.state), (task.pid(), FoundState::Running));
    backend.discard_task(container.id).await.unwrap();
    backend.delete(container.id).await.unwrap();
    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn a_task_is_discarded_in_whatever_state_it_is() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let created = daemon.create(&backend, daemon.container(&["true"])).await;
    daemon.create_task(&created).await;
    let (running, _) = daemon.run(&backend, &["sleep", "1000"]).await;
    let (paused, task) = daemon.run(&backend, &["sleep", "1000"]).await;
    task.pause().await.unwrap();
    let (stopped, task) = daemon.run(&backend, &["true"]).await;
    exit_of(&task).await;
    for container in [created, running, paused, stopped] {
        backend.discard_task(container.id).await.unwrap();
        backend.discard_task(container.id).await.unwrap();
        let found = backend.find(container.id).await.unwrap();
        assert_eq!((found.container, found.task), (true, None));
        backend.delete(container.id).await.unwrap();
    }
    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn a_cgroup_that_a_start_has_left_goes_with_its_container() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let container = daemon.create(&backend, daemon.container(&["true"])).await;
    daemon.leave_cgroup(&container.id.to_string());
    backend.forget_start(&container).await.unwrap();
    daemon.leave_cgroup(&format!("{}.2", container.id));
    backend.delete(container.id).await.unwrap();
    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn a_create_on_content_that_is_gone_says_so_and_leaves_nothing() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let gone = Digest::of(b"no such layer");
    let mut container = daemon.container(&["true"]);
    container.image = wharf_server::model::container::ImageUse {
        chain_id: gone.clone(),
        ..(*container.image).clone()
    }
    .into();
    match backend.create(&container).await {
        Err(BackendError::ImageContentMissing { chain_id }) => assert_eq!(chain_id, gone.as_str()),
        other => panic!("{other:?}"),
    }
    assert!(!backend.find(container.id).await.unwrap().container);
    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn a_start_without_its_root_or_its_record_says_what_is_missing() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let container = daemon.create(&backend, daemon.container(&["true"])).await;
    daemon.ctr(&["snapshots", "remove", &container.id.to_string()]);
    daemon.collect_garbage();
    let refused = backend.start(daemon.start_of(&container)).await;
    assert!(
        matches!(
            refused,
            Err(BackendError::NotFound {
                what: "snapshot",
                ..
            })
        ),
        "{refused:?}"
    );
    backend.delete(container.id).await.unwrap();
    let refused = backend.start(daemon.start_of(&container)).await;
    assert!(
        matches!(
            refused,
            Err(BackendError::NotFound {
                what: "container",
                ..
            })
        ),
        "{refused:?}"
    );
    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roots_survive_garbage_collection_at_any_moment() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                daemon.collect_garbage();
            }
        });
        let handle = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            handle.block_on(async {
                for _ in 0..20 {
                    let (container, task) = daemon.run(&backend, &["true"]).await;
                    assert_eq!(exit_of(&task).await.status, WaitStatus::Exited(0));
                    task.delete().await.unwrap();
                    backend.delete(container.id).await.unwrap();
                }
            });
        });
        done.store(true, Ordering::Relaxed);
    });
    backend.shutdown().await;
    daemon.finish();
}

#[tokio::test]
async fn acts_on_a_process_that_is_over_are_refused() {
    let daemon = Daemon::start();
    let backend = daemon.connected().await;
    let (container, task) = daemon.run(&backend, &["true"]).await;
    exit_of(&task).await;
    for refused in [
        task.kill(Signal::TERM, SignalScope::Main).await,
        task.pause().await,
        task.resume().await,
        task.pids().await.map(drop),
    ] {
        assert!(matches!(
            refused,
            Err(BackendError::NotFound {
                what: "process",
                ..
            })
        ));
    }
    // containerd says the same of a handle that has not seen the end.
    let other = daemon.connected().await;
    let mut found = backend.find(container.id).await.unwrap().task.unwrap();
    found.state = FoundState::Running;
    let stale = other.attach(&container, found);
    let refused = stale.kill(Signal::TERM, SignalScope::Main).await;
    assert!(
        matches!(
            refused,
            Err(BackendError::NotFound {
                what: "process",
                ..
            })
        ),
        "{refused:?}"
    );
    // Its removal tells it how the run ended.
    stale.delete().await.unwrap();
    assert_eq!(exit_of(&stale).await.status, WaitStatus::Exited(0));
    backend.delete(container.id).await.unwrap();
    other.shutdown().await;
    backend.shutdown().await;
    daemon.finish();
}
