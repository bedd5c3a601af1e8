//! Calls about tasks that more than one module makes. No decisions.

use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    DeleteResponse, DeleteTaskRequest, GetRequest, KillRequest, ListTasksRequest, ResumeTaskRequest,
};
use containerd_client::types::v1::{Process, Status as ProcessStatus};
use tonic::Code;

use super::connection::{Connection, Rpc, max_answer};
use super::error::RpcError;
use super::name::Name;
use crate::backend::SignalScope;
use crate::model::Signal;

const DELETE: Rpc = Rpc::quick("containerd.tasks.delete");
const GET: Rpc = Rpc::quick("containerd.tasks.get");
const KILL: Rpc = Rpc::quick("containerd.tasks.kill");
const LIST: Rpc = Rpc::quick("containerd.tasks.list");
const RESUME: Rpc = Rpc::quick("containerd.tasks.resume");

/// The status of a process, `Unknown` also for a number that is none.
pub(super) fn status_of(process: &Process) -> ProcessStatus {
    ProcessStatus::try_from(process.status).unwrap_or(ProcessStatus::Unknown)
}

/// One call: Tasks.Get.
pub(super) async fn get(connection: &Connection, name: Name) -> Result<Process, RpcError> {
    let request = GetRequest {
        container_id: name.to_string(),
        exec_id: String::new(),
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
    name: Name,
    signal: Signal,
    scope: SignalScope,
) -> Result<(), RpcError> {
    let request = KillRequest {
        container_id: name.to_string(),
        exec_id: String::new(),
        signal: u32::from(signal.number()),
        all: scope == SignalScope::All,
    };
    connection
        .call(KILL, request, |channel, request| async move {
            TasksClient::new(channel).kill(request).await
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
