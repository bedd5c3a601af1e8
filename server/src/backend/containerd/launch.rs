//! Launching a run: two calls, and the way back if one of them fails.

use std::path::Path;

use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{CreateTaskRequest, StartRequest};
use containerd_client::types::v1::Status as ProcessStatus;

use super::connection::{Connection, Rpc};
use super::containers::{self, task_mount};
use super::discard::discard;
use super::error::{BACKEND, RpcError};
use super::name::Name;
use super::runs::Expected;
use super::task::ContainerdTask;
use super::{Containerd, rename, tasks};
use crate::backend::oci_runtime::{LaunchContext, RuntimeName};
use crate::backend::{Applied, BackendError, Start, format, sources};
use crate::model::spec::Network;
use crate::model::{Container, LaunchFailure};
use crate::oci::runtime_spec::RuntimeOptions;

const CREATE: Rpc = Rpc::launch("containerd.tasks.create");
const START: Rpc = Rpc::launch("containerd.tasks.start");

/// Two calls: Tasks.Create, Tasks.Start; before them Containers.Update for a container that joins
/// another's network, whose place is not known earlier; between them Tasks.ResizePty for a terminal
/// whose size is not the spec's.
pub(super) async fn start(
    backend: &Containerd,
    start: Start,
) -> Result<ContainerdTask, BackendError> {
    let container = &start.container;
    let name = backend.name(container.id).await?;
    sources::make_missing(&container.spec.mounts).await?;
    if let Network::Container { container: other } = &container.spec.network {
        let pid = start.network_pid.ok_or_else(|| not_running(other))?;
        join_network(backend, container, name, pid).await?;
    }
    let turn = backend.connection().launch_turn(CREATE).await;
    let _turn = turn.map_err(|error| error.about("task"))?;
    // Before the first call: the end may come before its answer.
    let expected = backend.runs().expect(name);
    let pid = create(backend, &start, name).await?;
    expected.pid_is(pid);
    check_format(backend, container, name, pid).await?;
    if let Some(size) = start.terminal_size {
        // Between the two calls, so that the first instruction sees it. A terminal of the spec's size
        // does less harm than no process.
        if let Err(error) = tasks::resize(backend.connection(), name, size).await {
            tracing::warn!(container = %name, %error, "a terminal starts with the spec's size");
        }
    }
    launch(backend, &start, name, pid, expected).await
}

/// An init tells of its program by itself.
async fn check_format(
    backend: &Containerd,
    container: &Container,
    name: Name,
    pid: u32,
) -> Result<(), BackendError> {
    if container.spec.init {
        return Ok(());
    }
    let checked = format::check(pid, &container.process).await;
    if checked.is_err() && !take_back(backend, name).await {
        return Err(BackendError::Unavailable {
            backend: BACKEND,
            detail: "a task that cannot be started is not removed".to_owned(),
            applied: Applied::Unknown,
        });
    }
    Ok(checked?)
}

fn not_running(container: &str) -> LaunchFailure {
    LaunchFailure::NetworkContainerNotRunning {
        container: container.to_owned(),
        state: "ABSENT".to_owned(),
    }
}

/// Writes the namespace to join into the record, from which the runtime's configuration is made.
async fn join_network(
    backend: &Containerd,
    container: &Container,
    name: Name,
    pid: u32,
) -> Result<(), BackendError> {
    let options = RuntimeOptions {
        network_pid: Some(pid),
        ..rename::options(backend, name)
    };
    containers::update(backend, container, name, &options).await
}

/// Creates the task; one left by an earlier launch makes way if it does not run.
async fn create(backend: &Containerd, start: &Start, name: Name) -> Result<u32, BackendError> {
    let connection = backend.connection();
    match try_create(connection, start, name).await {
        Err(error) if error.is_already_exists() => {
            if is_running(connection, name).await? {
                return Err(error.about("task"));
            }
            discard(backend, name).await?;
            try_create(connection, start, name).await
        }
        result => result,
    }
    .map_err(|error| error.launch(&launch_context(backend, start), "container"))
}

async fn try_create(connection: &Connection, start: &Start, name: Name) -> Result<u32, RpcError> {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let stdio = &start.stdio;
    let request = CreateTaskRequest {
        container_id: name.to_string(),
        rootfs: start.container.root.iter().map(task_mount).collect(),
        stdin: stdio.stdin.as_deref().map(path).unwrap_or_default(),
        // Without a terminal both, or the shim refuses.
        stdout: path(&stdio.stdout),
        stderr: stdio.stderr.as_deref().map(path).unwrap_or_default(),
        terminal: start.container.spec.process.terminal.is_some(),
        ..CreateTaskRequest::default()
    };
    let call = CREATE.caused_by(start.container.cause());
    let created = connection
        .call(call, request, |channel, request| async move {
            TasksClient::new(channel).create(request).await
        })
        .await?;
    Ok(created.pid)
}

async fn launch(
    backend: &Containerd,
    start: &Start,
    name: Name,
    pid: u32,
    expected: Expected<Name>,
) -> Result<ContainerdTask, BackendError> {
    let request = StartRequest {
        container_id: name.to_string(),
        exec_id: String::new(),
    };
    let call = START.caused_by(start.container.cause());
    let started = backend
        .connection()
        .call(call, request, |channel, request| async move {
            TasksClient::new(channel).start(request).await
        })
        .await;
    match started {
        Ok(_) => Ok(ContainerdTask::new(
            backend.clone(),
            name,
            pid,
            expected.launched(),
        )),
        Err(error) => {
            // Unless the task is gone again, it may run: the caller looks once containerd answers.
            if error.code().is_some() && take_back(backend, name).await {
                Err(error.launch(&launch_context(backend, start), "task"))
            } else {
                Err(error.in_doubt())
            }
        }
    }
}

fn launch_context<'a>(backend: &'a Containerd, start: &'a Start) -> LaunchContext<'a> {
    LaunchContext {
        container: &start.container,
        process: &start.container.process,
        runtime: RuntimeName::of(&start.container, backend.default_runtime()),
    }
}

/// Removes a task that was created and could not be started; false if it may still be there.
async fn take_back(backend: &Containerd, name: Name) -> bool {
    let discarded = discard(backend, name).await;
    if let Err(error) = &discarded {
        tracing::warn!(container = %name, %error, "a task that failed to start could not be removed");
    }
    discarded.is_ok()
}

async fn is_running(connection: &Connection, name: Name) -> Result<bool, BackendError> {
    match tasks::get(connection, name).await {
        Ok(process) => Ok(match tasks::status_of(&process) {
            ProcessStatus::Running | ProcessStatus::Pausing | ProcessStatus::Paused => true,
            // Nobody knows: hands off.
            ProcessStatus::Unknown => true,
            ProcessStatus::Created | ProcessStatus::Stopped => false,
        }),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.about("task")),
    }
}
