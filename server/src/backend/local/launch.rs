//! Starting a run, and the way back if that fails.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use oci_spec::runtime::Spec;

use super::failure::{self, Attempt};
use super::live::{Kind, Live};
use super::plan::{self, ContainerSurroundings, Surroundings};
use super::runtime::{self, Runtime};
use super::{Inner, Local, LocalTask, cgroup_name};
use crate::backend::{BackendError, Start, sources};
use crate::cgroup::Cgroup;
use crate::model::LaunchFailure;
use crate::model::spec::Network;
use crate::oci::runtime_spec::{self, RuntimeOptions};
use crate::oci::seccomp::Filter;
use crate::stdio::{LaunchError, Order, memfd};

/// Makes the run's control groups, and has the keeper launch its process.
pub(super) async fn start(backend: &Local, start: Start) -> Result<LocalTask, BackendError> {
    let container = &start.container;
    sources::make_missing(&container.spec.mounts).await?;
    let options = RuntimeOptions {
        cgroup_name: Some(cgroup_name(container.id, start.run)),
        network_pid: network_pid(&start)?,
        ..backend.inner.spec.clone()
    };
    let spec = runtime_spec::build(container, &options)
        .map_err(|error| BackendError::Launch(error.into()))?;
    let runtime = Runtime::of(container, backend.inner.runtime.as_deref())?;
    let name = cgroup_name(container.id, start.run);
    let live = Live::new(Kind::Main, backend.inner.cgroups.open(&name), None);
    backend.inner.lives.insert(&name, &live);
    let launched = match runtime {
        Some(runtime) => runtime::start(backend, &runtime, &start, spec, &live).await,
        None => launch(backend, &start, &spec, &live).await,
    };
    match launched {
        Ok(()) => {
            backend.watch_oom(&live, container);
            Ok(LocalTask::new(backend.clone(), container.id, live))
        }
        Err(error) => {
            if !error.leaves_doubt() {
                backend.give_up(&live.cgroup).await;
            }
            Err(error)
        }
    }
}

fn network_pid(start: &Start) -> Result<Option<u32>, BackendError> {
    let Network::Container { container } = &start.container.spec.network else {
        return Ok(None);
    };
    let not_running = || LaunchFailure::NetworkContainerNotRunning {
        container: container.clone(),
        state: "ABSENT".to_owned(),
    };
    Ok(Some(start.network_pid.ok_or_else(not_running)?))
}

/// What a launch needs that takes work on files.
struct Prepared {
    cgroup: Cgroup,
    unified: Option<OwnedFd>,
    filter: Option<Loadable>,
}

/// A seccomp program as the keeper takes it.
pub(super) struct Loadable {
    pub(super) program: OwnedFd,
    pub(super) flags: u32,
}

async fn prepare(backend: &Local, spec: &Spec, start: &Start) -> Result<Prepared, BackendError> {
    let linux = spec.linux().clone().unwrap_or_default();
    let (id, name) = (
        start.container.id,
        cgroup_name(start.container.id, start.run),
    );
    backend
        .blocking(move |inner| {
            let filter = linux
                .seccomp()
                .as_ref()
                .map(|profile| loadable(inner, profile));
            let filter = filter.transpose()?;
            inner.roots.prepare(id)?;
            let resources = linux.resources().clone().unwrap_or_default();
            let cgroup = inner.cgroups.create(&name, &resources)?;
            let unified = cgroup.open_unified()?;
            Ok(Prepared {
                cgroup,
                unified,
                filter,
            })
        })
        .await
}

/// Compiles a profile, unless that has been done.
pub(super) fn loadable(
    inner: &Inner,
    profile: &oci_spec::runtime::LinuxSeccomp,
) -> Result<Loadable, BackendError> {
    let filter: Arc<Filter> =
        inner
            .filters
            .compiled(profile)
            .map_err(|_| LaunchFailure::SecurityProfileInvalid {
                profile_kind: "seccomp".to_owned(),
                profile: "json".to_owned(),
            })?;
    let program = memfd("wharf-seccomp", filter.program());
    Ok(Loadable {
        program: program.map_err(|error| failure::refused(error.to_string()))?,
        flags: filter.flags(),
    })
}

async fn launch(
    backend: &Local,
    start: &Start,
    spec: &Spec,
    live: &Arc<Live>,
) -> Result<(), BackendError> {
    let prepared = prepare(backend, spec, start).await?;
    let inner = &backend.inner;
    let container = &start.container;
    let around = Surroundings {
        cgroups: prepared.cgroup.task_files(),
        stdio: &start.stdio,
        terminal_size: start.terminal_size,
        default_limits: &inner.default_limits,
        seccomp_flags: prepared.filter.as_ref().map(|filter| filter.flags),
    };
    let id = container.id.to_string();
    let made = ContainerSurroundings {
        root: &container.root,
        root_target: &inner.roots.mount_point(container.id),
        cgroup_version: inner.spec.host.cgroup,
        cgroup: &prepared.cgroup,
        id: &id,
        has_init: container.spec.init,
    };
    let plan = plan::of_container(spec, &around, &made)?;
    let stream = cgroup_name(container.id, start.run);
    let order = Order {
        stream: &stream,
        plan: &plan,
        filter: prepared.filter.map(|filter| filter.program),
        cgroup: prepared.unified,
        join: None,
        reports: None,
    };
    let launched = inner.processes.launch(order, live.on_exit()).await;
    let process = launched.map_err(|error: LaunchError| {
        let attempt = Attempt {
            container,
            plan: &plan,
            joined: None,
            program: container.process.args.first().map_or("", String::as_str),
            directory: &container.process.working_dir,
        };
        failure::of(error, &attempt)
    })?;
    live.is(process);
    Ok(())
}
