//! Further processes in a task: two calls to start one, one to remove it.
//!
//! An exec has its own id as name in containerd. It is watched from before its first call, because its
//! end often comes before the answer of its start.

use std::sync::Arc;

use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{ExecProcessRequest, StartRequest};
use tokio::sync::watch;

use super::connection::Rpc;
use super::containers::json;
use super::error::RpcError;
use super::exit::Ended;
use super::name::{ExecName, Name};
use super::runs::{Expected, RunState};
use super::{Containerd, find, tasks};
use crate::backend::oci_runtime::{LaunchContext, RuntimeName};
use crate::backend::{
    BackendError, Exit, FoundState, FoundTask, Process, SignalScope, StartExec, format,
};
use crate::model::{ExecId, LaunchFailure, Signal, TerminalSize};
use crate::oci::runtime_spec;

const EXEC: Rpc = Rpc::launch("containerd.tasks.exec");
const START: Rpc = Rpc::launch("containerd.tasks.start");

/// Type of a process in containerd's calls.
const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// A further process in a task.
#[derive(Debug, Clone)]
pub struct ContainerdExec {
    backend: Containerd,
    name: ExecName,
    pid: u32,
    state: Arc<RunState>,
}

/// Two calls: Tasks.Exec, Tasks.Start.
pub(super) async fn start(
    backend: &Containerd,
    container: Name,
    start: StartExec,
) -> Result<ContainerdExec, BackendError> {
    let name = ExecName {
        container,
        exec: start.exec.id,
    };
    format::check_exec(&start).await?;
    let expected = backend.observer().execs().expect(name);
    backend.observer().exec_begins(name);
    record(backend, name, &start).await?;
    launch(backend, name, &start, expected).await
}

async fn record(
    backend: &Containerd,
    name: ExecName,
    start: &StartExec,
) -> Result<(), BackendError> {
    let host = &backend.spec_options().host;
    let process = runtime_spec::exec_process(&start.container, &start.exec, host)
        .map_err(LaunchFailure::from)?;
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let stdio = &start.stdio;
    let request = ExecProcessRequest {
        container_id: name.container.to_string(),
        exec_id: name.exec.to_string(),
        stdin: stdio.stdin.as_deref().map(path).unwrap_or_default(),
        stdout: path(&stdio.stdout),
        stderr: stdio.stderr.as_deref().map(path).unwrap_or_default(),
        terminal: start.exec.has_terminal(),
        spec: Some(json(PROCESS_TYPE, &process)?),
    };
    let call = EXEC.caused_by(Some(&start.exec.cause));
    backend
        .connection()
        .call(call, request, |channel, request| async move {
            TasksClient::new(channel).exec(request).await
        })
        .await
        .map_err(|error| error.launch(&context(backend, start), "task"))
}

async fn launch(
    backend: &Containerd,
    name: ExecName,
    start: &StartExec,
    expected: Expected<ExecName>,
) -> Result<ContainerdExec, BackendError> {
    let request = StartRequest {
        container_id: name.container.to_string(),
        exec_id: name.exec.to_string(),
    };
    let call = START.caused_by(Some(&start.exec.cause));
    let started = backend
        .connection()
        .call(call, request, |channel, request| async move {
            TasksClient::new(channel).start(request).await
        })
        .await;
    match started {
        Ok(answer) => {
            expected.pid_is(answer.pid);
            Ok(ContainerdExec {
                backend: backend.clone(),
                name,
                pid: answer.pid,
                state: expected.launched(),
            })
        }
        Err(error) if error.code().is_some() && take_back(backend, name).await => {
            Err(error.launch(&context(backend, start), "task"))
        }
        Err(error) => Err(error.in_doubt()),
    }
}

fn context<'a>(backend: &'a Containerd, start: &'a StartExec) -> LaunchContext<'a> {
    LaunchContext {
        container: &start.container,
        process: &start.exec.process,
        runtime: RuntimeName::of(&start.container, backend.default_runtime()),
    }
}

/// Removes an exec that could not be started; false if it may still be there.
async fn take_back(backend: &Containerd, name: ExecName) -> bool {
    discard(backend, name).await.is_ok()
}

/// Kills and removes what there is of an exec.
pub(super) async fn discard(backend: &Containerd, name: ExecName) -> Result<(), BackendError> {
    let connection = backend.connection();
    match tasks::delete_process(connection, name).await {
        Ok(_) => return Ok(()),
        Err(error) if error.is_not_found() => return Ok(()),
        // It runs.
        Err(error) if error.code().is_some() => {}
        Err(error) => return Err(error.about("process")),
    }
    if let Err(error) = tasks::kill(connection, name, Signal::KILL, SignalScope::Main).await
        && !error.is_not_found()
    {
        return Err(error.about("process"));
    }
    gone(tasks::delete_process(connection, name).await.map(drop))
}

fn gone(result: Result<(), RpcError>) -> Result<(), BackendError> {
    match result {
        Err(error) if !error.is_not_found() => Err(error.about("process")),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// One call: Tasks.Get.
pub(super) async fn find(
    backend: &Containerd,
    name: ExecName,
) -> Result<Option<FoundTask>, BackendError> {
    match tasks::get(backend.connection(), name).await {
        Ok(process) => {
            let state = match find::state_of(&process) {
                Some(state) => state,
                None => {
                    let ended = Ended::from(&process);
                    FoundState::Stopped(backend.observer().exec_exit(name, &ended))
                }
            };
            Ok(Some(FoundTask {
                pid: process.pid,
                state,
            }))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.about("process")),
    }
}

impl ContainerdExec {
    /// The handle of one that was found.
    pub(super) fn found(backend: &Containerd, name: ExecName, found: FoundTask) -> Self {
        let exit = match found.state {
            FoundState::Stopped(exit) => Some(exit),
            FoundState::Created | FoundState::Running | FoundState::Paused => None,
        };
        Self {
            backend: backend.clone(),
            name,
            pid: found.pid,
            state: backend.observer().exec_found(name, found.pid, exit),
        }
    }
}

impl Process for ContainerdExec {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.state.exit()
    }

    async fn kill(&self, signal: Signal) -> Result<(), BackendError> {
        self.state.alive()?;
        tasks::kill(
            self.backend.connection(),
            self.name,
            signal,
            SignalScope::Main,
        )
        .await
        .map_err(|error| error.about("process"))
    }

    async fn resize(&self, size: TerminalSize) -> Result<(), BackendError> {
        self.state.alive()?;
        tasks::resize(self.backend.connection(), self.name, size)
            .await
            .map_err(|error| error.about("process"))
    }

    async fn close_stdin(&self) -> Result<(), BackendError> {
        self.state.alive()?;
        tasks::close_stdin(self.backend.connection(), self.name)
            .await
            .map_err(|error| error.about("process"))
    }

    async fn delete(&self) -> Result<(), BackendError> {
        match tasks::delete_process(self.backend.connection(), self.name).await {
            Ok(answer) => {
                // Mostly known already: the first end counts.
                self.backend
                    .observer()
                    .exec_ended(self.name, &Ended::from(answer));
                Ok(())
            }
            Err(error) if error.is_not_found() => {
                let execs = self.backend.observer().execs();
                execs.exited(self.name, self.pid, Exit::lost());
                Ok(())
            }
            Err(error) => Err(error.about("process")),
        }
    }
}

/// The name of an exec in `container`.
pub(super) fn name(container: Name, exec: ExecId) -> ExecName {
    ExecName { container, exec }
}
