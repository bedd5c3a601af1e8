//! The handle of one run's processes.
//!
//! Every act is one call. A handle belongs to one run and refuses to act once that is over, so that it
//! never meets a successor, which has the same name in containerd.

use std::sync::Arc;

use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{ListPidsRequest, PauseTaskRequest, UpdateTaskRequest};
use tokio::sync::{Semaphore, watch};

use super::connection::Rpc;
use super::containers::json;
use super::exit::Ended;
use super::name::Name;
use super::runs::RunState;
use super::{Containerd, ContainerdExec, exec, tasks};
use crate::backend::{BackendError, Exit, FoundTask, SignalScope, StartExec, Task};
use crate::model::spec::Resources;
use crate::model::{ExecId, Signal, TerminalSize};
use crate::oci::runtime_spec;

const PAUSE: Rpc = Rpc::quick("containerd.tasks.pause");
const UPDATE: Rpc = Rpc::quick("containerd.tasks.update");
const LIST_PIDS: Rpc = Rpc::quick("containerd.tasks.list_pids");

/// Type of limits in a task's update.
const RESOURCES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

/// The processes of one run in containerd.
#[derive(Debug, Clone)]
pub struct ContainerdTask {
    backend: Containerd,
    name: Name,
    pid: u32,
    state: Arc<RunState>,
    exec_starts: Arc<Semaphore>,
}

/// Starts of execs that a shim is given at once. It does one after the other, and tells no exits meanwhile;
/// with hundreds of them waiting, containerd 1.6's stops answering at all.
const EXEC_STARTS: usize = 2;

impl ContainerdTask {
    pub(super) fn new(backend: Containerd, name: Name, pid: u32, state: Arc<RunState>) -> Self {
        Self {
            backend,
            name,
            pid,
            state,
            exec_starts: Arc::new(Semaphore::new(EXEC_STARTS)),
        }
    }
}

impl Task for ContainerdTask {
    type Process = ContainerdExec;

    fn pid(&self) -> u32 {
        self.pid
    }

    fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.state.exit()
    }

    fn oom_kills(&self) -> watch::Receiver<u64> {
        self.state.oom_kills()
    }

    async fn kill(&self, signal: Signal, scope: SignalScope) -> Result<(), BackendError> {
        self.state.alive()?;
        tasks::kill(self.backend.connection(), self.name, signal, scope)
            .await
            .map_err(|error| error.about("process"))
    }

    async fn pause(&self) -> Result<(), BackendError> {
        self.state.alive()?;
        let request = PauseTaskRequest {
            container_id: self.name.to_string(),
        };
        self.backend
            .connection()
            .call(PAUSE, request, |channel, request| async move {
                TasksClient::new(channel).pause(request).await
            })
            .await
            .map_err(|error| error.about("process"))
    }

    async fn resume(&self) -> Result<(), BackendError> {
        self.state.alive()?;
        tasks::resume(self.backend.connection(), self.name)
            .await
            .map_err(|error| error.about("process"))
    }

    async fn update(&self, resources: &Resources) -> Result<(), BackendError> {
        self.state.alive()?;
        let host = &self.backend.spec_options().host;
        let resources = runtime_spec::resources_update(resources, host);
        let request = UpdateTaskRequest {
            container_id: self.name.to_string(),
            resources: Some(json(RESOURCES_TYPE, &resources)?),
            ..UpdateTaskRequest::default()
        };
        self.backend
            .connection()
            .call(UPDATE, request, |channel, request| async move {
                TasksClient::new(channel).update(request).await
            })
            .await
            .map_err(|error| error.about("process"))
    }

    async fn pids(&self) -> Result<Vec<u32>, BackendError> {
        self.state.alive()?;
        let request = ListPidsRequest {
            container_id: self.name.to_string(),
        };
        let answer = self
            .backend
            .connection()
            .call(LIST_PIDS, request, |channel, request| async move {
                TasksClient::new(channel).list_pids(request).await
            })
            .await
            .map_err(|error| error.about("process"))?;
        Ok(answer.processes.into_iter().map(|info| info.pid).collect())
    }

    async fn delete(&self) -> Result<(), BackendError> {
        if self.backend.runs().is_superseded(self.name, &self.state) {
            return Ok(());
        }
        match tasks::delete(self.backend.connection(), self.name).await {
            Ok(answer) if self.state.is_over() || answer.pid != self.pid => Ok(()),
            Ok(answer) => {
                // The event was missed; the answer says the same.
                let ended = Ended::from(answer);
                self.backend.observer().ended(self.name, &ended);
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.about("task")),
        }
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

    async fn exec(&self, start: StartExec) -> Result<ContainerdExec, BackendError> {
        // Never closed.
        let _turn = self.exec_starts.acquire().await;
        self.state.alive()?;
        exec::start(&self.backend, self.name, start).await
    }

    fn attach_exec(&self, exec: ExecId, found: FoundTask) -> ContainerdExec {
        ContainerdExec::found(&self.backend, exec::name(self.name, exec), found)
    }

    async fn find_exec(&self, exec: ExecId) -> Result<Option<FoundTask>, BackendError> {
        exec::find(&self.backend, exec::name(self.name, exec)).await
    }

    async fn discard_exec(&self, exec: ExecId) -> Result<(), BackendError> {
        exec::discard(&self.backend, exec::name(self.name, exec)).await
    }
}
