//! Records for tests: valid, and plain. A test says what it needs different, and nothing else.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::container::ImageUse;
use super::limits::DEFAULT_SHM_BYTES;
use super::spec::{Network, Process, ProcessSpec, Resources, Seccomp, Security, TextMap};
use super::{
    Cause, Container, ContainerId, ContainerSpec, Digest, Exec, ExecId, ExecSpec, ExecState,
    Principal, RequestId, Run, Sequence, State,
};

/// What a request that asks for nothing special becomes.
pub(crate) fn spec() -> ContainerSpec {
    ContainerSpec {
        image: "example.org/app:1".to_owned(),
        process: ProcessSpec::default(),
        stop_signal: None,
        stop_grace_period: Some(Duration::from_secs(10)),
        auto_delete: false,
        mounts: Vec::new(),
        read_only_root: false,
        shm_size_bytes: DEFAULT_SHM_BYTES,
        resources: Resources::default(),
        rlimits: Vec::new(),
        stdin_open: false,
        init: false,
        log: crate::model::spec::Log::default(),
        security: Security {
            capabilities_add: Vec::new(),
            capabilities_drop: Vec::new(),
            no_new_privileges: true,
            seccomp: Seccomp::Default,
        },
        network: Network::None,
        hostname: None,
        runtime: None,
        annotations: TextMap::new(),
    }
}

/// A created container that has never run.
pub(crate) fn container(spec: ContainerSpec) -> Container {
    let digest = Digest::of(spec.image.as_bytes());
    Container {
        id: ContainerId::generate(),
        name: "test".into(),
        labels: Arc::default(),
        process: Arc::new(Process {
            args: vec!["/bin/true".to_owned()],
            env: vec!["PATH=/bin".to_owned()],
            working_dir: "/".to_owned(),
            uid: 0,
            gid: 0,
            additional_gids: Vec::new(),
        }),
        image: Arc::new(ImageUse {
            reference: spec.image.clone(),
            id: digest.clone(),
            chain_id: digest,
            stop_signal: None,
        }),
        spec: Arc::new(spec),
        root: Arc::default(),
        state: State::Created,
        run: Run(0),
        pid: None,
        exit_status: None,
        failure: None,
        stop: None,
        intent: None,
        signaled: None,
        terminal_size: None,
        leash: None,
        create_time: SystemTime::UNIX_EPOCH,
        start_time: None,
        update_time: SystemTime::UNIX_EPOCH,
        generation: 1,
        last_event: Sequence(0),
        runs: Arc::default(),
    }
}

/// A created exec of `container` that has never started.
pub(crate) fn exec(container: &Container) -> Exec {
    Exec {
        id: ExecId::generate(),
        container: container.id,
        run: container.run,
        labels: Arc::default(),
        spec: Arc::new(ExecSpec {
            process: ProcessSpec {
                args: vec!["/bin/true".to_owned()],
                ..ProcessSpec::default()
            },
            ..ExecSpec::default()
        }),
        process: Arc::clone(&container.process),
        state: ExecState::Created,
        pid: None,
        exit_status: None,
        failure: None,
        terminal_size: None,
        create_time: SystemTime::UNIX_EPOCH,
        start_time: None,
        end_time: None,
        cause: Cause {
            request_id: RequestId::mint(),
            trace_id: None,
            method: "/wharf.v1.ExecService/CreateExec".into(),
            principal: Principal::user(1000),
        },
        key: None,
        leash: None,
        remains: false,
        signaled: None,
    }
}
