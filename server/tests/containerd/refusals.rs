//! What a real runtime refuses, and what becomes of its words.

use wharf_server::backend::{BackendError, ContainerBackend};
use wharf_server::model::spec::{Mount, MountSource, Propagation};
use wharf_server::model::{Container, LaunchFailure};

use crate::harness::{Daemon, with_process, with_spec};

/// Why a container could not be launched. Nothing may be left of the attempt.
async fn failure(daemon: &Daemon, container: Container) -> LaunchFailure {
    let backend = daemon.connected().await;
    let container = daemon.create(&backend, container).await;
    let refused = backend.start(daemon.start_of(&container)).await;
    assert_eq!(backend.find(container.id).await.unwrap().task, None);
    backend.delete(container.id).await.unwrap();
    backend.shutdown().await;
    match refused {
        Err(BackendError::Launch(failure)) => failure,
        other => panic!("not a launch failure: {other:?}"),
    }
}

#[tokio::test]
async fn a_program_that_is_not_there() {
    let daemon = Daemon::start();
    for program in ["/nope", "nope", "./nope"] {
        let path = program.to_owned();
        let found = failure(&daemon, daemon.container(&[program])).await;
        assert_eq!(found, LaunchFailure::ExecutableNotFound { path });
    }
    daemon.finish();
}

#[tokio::test]
async fn a_program_that_may_not_be_executed() {
    let daemon = Daemon::start();
    for program in ["/etc/plain", "/etc"] {
        let path = program.to_owned();
        let found = failure(&daemon, daemon.container(&[program])).await;
        assert_eq!(found, LaunchFailure::ExecutableNotPermitted { path });
    }
    daemon.finish();
}

#[tokio::test]
async fn a_working_directory_that_is_none() {
    let daemon = Daemon::start();
    let container = with_process(daemon.container(&["true"]), |process| {
        process.working_dir = "/etc/plain".to_owned();
    });
    let path = "/etc/plain".to_owned();
    let found = failure(&daemon, container).await;
    assert_eq!(found, LaunchFailure::WorkingDirInvalid { path });
    daemon.finish();
}

#[tokio::test]
async fn a_bind_mount_without_its_source() {
    let daemon = Daemon::start();
    let container = with_spec(daemon.container(&["true"]), |spec| {
        spec.mounts.push(Mount {
            target: "/mnt".to_owned(),
            source: MountSource::Bind {
                path: "/does/not/exist".to_owned(),
                create: false,
                propagation: Propagation::Private,
            },
            read_only: false,
        });
    });
    let expected = LaunchFailure::MountFailed {
        target: "/mnt".to_owned(),
        source_path: "/does/not/exist".to_owned(),
        errno: "ENOENT".to_owned(),
    };
    assert_eq!(failure(&daemon, container).await, expected);
    daemon.finish();
}

#[tokio::test]
async fn a_runtime_that_is_not_installed() {
    let daemon = Daemon::start();
    for name in ["noruntime", "/usr/bin/noruntime", "io.containerd.foo.v1"] {
        let container = with_spec(daemon.container(&["true"]), |spec| {
            spec.runtime = Some(name.to_owned());
        });
        let found = failure(&daemon, container).await;
        let LaunchFailure::RuntimeNotFound { runtime, .. } = found else {
            panic!("{found:?}");
        };
        assert_eq!(runtime, name);
    }
    daemon.finish();
}

#[tokio::test]
async fn anything_else_is_refused_in_the_runtimes_words() {
    let daemon = Daemon::start();
    let container = with_spec(daemon.container(&["true"]), |spec| {
        spec.resources.cpuset_cpus = Some("77777".to_owned());
    });
    let found = failure(&daemon, container).await;
    assert!(matches!(found, LaunchFailure::Refused { .. }), "{found:?}");
    daemon.finish();
}
