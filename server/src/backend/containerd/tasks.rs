//! Calls about tasks that more than one module makes. No decisions.

use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    CloseIoRequest, DeleteProcessRequest, DeleteResponse, DeleteTaskRequest, GetRequest,
    KillRequest, ListTasksRequest, ResizePtyRequest, ResumeTaskRequest,
};
use containerd_client::types::v1::{Process, Status as ProcessStatus};
use tonic::Code;

use super::connection::{Connection, Rpc, max_answer};
use super::error::RpcError;
use super::name::{ExecName, Name};
use crate::backend::SignalScope;
use crate::model::{ExecId, Signal, TerminalSize};

const CLOSE_IO: Rpc = Rpc::quick("containerd.tasks.close_io");
// The runtime clears up, and the shim ends.
const DELETE: Rpc = Rpc::launch("containerd.tasks.delete");
const DELETE_PROCESS: Rpc = Rpc::quick("containerd.tasks.delete_process");
const GET: Rpc = Rpc::quick("containerd.tasks.get");
const KILL: Rpc = Rpc::quick("containerd.tasks.kill");
const LIST: Rpc = Rpc::quick("containerd.tasks.list");
const RESIZE: Rpc = Rpc::quick("containerd.tasks.resize_pty");
const RESUME: Rpc = Rpc::quick("containerd.tasks.resume");

/// The status of a process, `Unknown` also for a number that is none.
pub(super) fn status_of(process: &Process) -> ProcessStatus {
    ProcessStatus::try_from(process.status).unwrap_or(ProcessStatus::Unknown)
}

/// A process of a task, as calls name it: its init process, or an exec.
#[derive(Debug, Clone, Copy)]
pub(super) struct ProcessName {
    container: Name,
    exec: Option<ExecId>,
}

impl ProcessName {
    pub(super) fn container_id(self) -> String {
        self.container.to_string()
    }

    /// Empty for the init process.
    pub(super) fn exec_id(self) -> String {
        self.exec.map(|id| id.to_string()).unwrap_or_default()
    }
}

impl From<Name> for ProcessName {
    fn from(container: Name) -> Self {
        Self {
            container,
            exec: None,
        }
    }
}

impl From<ExecName> for ProcessName {
    fn from(name: ExecName) -> Self {
        Self {
            container: name.container,
            exec: Some(name.exec),
        }
    }
}

/// One call: Tasks.Get.
pub(super) async fn get(
    connection: &Connection,
    name: impl Into<ProcessName>,
) -> Result<Process, RpcError> {
    let name = name.into();
    let request = GetRequest {
        container_id: name.container_id(),
        exec_id: name.exec_id(),
    };
    let answer = connection
        .call(GET, request, |channel, request| async move {
            TasksClient::new(channel).get(request).await
        })
        .await?;
    answer.process.ok_or(RpcError::Answer {
        rpc: GET.name,
        code: Code::NotFound,
        message: "an answer without a process".to_owned(),
    })
}

pub(super) async fn delete(
    connection: &Connection,
    name: Name,
) -> Result<DeleteResponse, RpcError> {
    let request = DeleteTaskRequest {
        container_id: name.to_string(),
    };
    connection
        .call(DELETE, request, |channel, request| async move {
            TasksClient::new(channel).delete(request).await
        })
        .await
}

pub(super) async fn kill(
    connection: &Connection,
    name: impl Into<ProcessName>,
    signal: Signal,
    scope: SignalScope,
) -> Result<(), RpcError> {
    let name = name.into();
    let request = KillRequest {
        container_id: name.container_id(),
        exec_id: name.exec_id(),
        signal: u32::from(signal.number()),
        all: scope == SignalScope::All,
    };
    connection
        .call(KILL, request, |channel, request| async move {
            TasksClient::new(channel).kill(request).await
        })
        .await
}

/// Sets the size of a terminal.
pub(super) async fn resize(
    connection: &Connection,
    name: impl Into<ProcessName>,
    size: TerminalSize,
) -> Result<(), RpcError> {
    let name = name.into();
    let request = ResizePtyRequest {
        container_id: name.container_id(),
        exec_id: name.exec_id(),
        width: size.columns.into(),
        height: size.rows.into(),
    };
    connection
        .call(RESIZE, request, |channel, request| async move {
            TasksClient::new(channel).resize_pty(request).await
        })
        .await
}

/// Lets go of the shim's own writer of stdin. Only once the process was started: before, the shim has
/// none yet, and says nothing.
pub(super) async fn close_stdin(
    connection: &Connection,
    name: impl Into<ProcessName>,
) -> Result<(), RpcError> {
    let name = name.into();
    let request = CloseIoRequest {
        container_id: name.container_id(),
        exec_id: name.exec_id(),
        stdin: true,
    };
    connection
        .call(CLOSE_IO, request, |channel, request| async move {
            TasksClient::new(channel).close_io(request).await
        })
        .await
}

/// Removes an exec that has ended.
pub(super) async fn delete_process(
    connection: &Connection,
    name: ExecName,
) -> Result<DeleteResponse, RpcError> {
    let name = ProcessName::from(name);
    let request = DeleteProcessRequest {
        container_id: name.container_id(),
        exec_id: name.exec_id(),
    };
    connection
        .call(DELETE_PROCESS, request, |channel, request| async move {
            TasksClient::new(channel).delete_process(request).await
        })
        .await
}

/// Thaws; what is not frozen is left as it is.
pub(super) async fn resume(connection: &Connection, name: Name) -> Result<(), RpcError> {
    let request = ResumeTaskRequest {
        container_id: name.to_string(),
    };
    let resumed = connection
        .call(RESUME, request, |channel, request| async move {
            TasksClient::new(channel).resume(request).await
        })
        .await;
    match resumed {
        Err(error) if error.is_not_paused() => Ok(()),
        resumed => resumed,
    }
}

/// Every task in the namespace. Tasks whose shim does not answer are left out by containerd.
pub(super) async fn list(connection: &Connection) -> Result<Vec<Process>, RpcError> {
    let request = ListTasksRequest::default();
    let answer = connection
        .call(LIST, request, |channel, request| async move {
            let mut client = TasksClient::new(channel).max_decoding_message_size(max_answer());
            client.list(request).await
        })
        .await?;
    Ok(answer.tasks)
}
