//! What is there: one container, or all of this server's.

use std::collections::HashMap;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::{GetContainerRequest, ListContainersRequest};
use containerd_client::types::v1::{Process, Status as ProcessStatus};
use futures_util::TryStreamExt;
use tracing::Instrument;

use super::connection::{Connection, Rpc, max_answer, span};
use super::containers::label;
use super::error::RpcError;
use super::exit::Ended;
use super::{Containerd, tasks};
use crate::backend::{BackendError, Found, FoundState, FoundTask};
use crate::model::ContainerId;

const GET: Rpc = Rpc::quick("containerd.containers.get");
const LIST: Rpc = Rpc::launch("containerd.containers.list");

/// Two calls at once: Containers.Get, Tasks.Get.
pub(super) async fn find(backend: &Containerd, id: ContainerId) -> Result<Found, BackendError> {
    let connection = backend.connection();
    let (record, process) = tokio::join!(get(connection, id), tasks::get(connection, id));
    let task = match process {
        Ok(process) => Some(found_task(backend, id, &process).await),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.about("task")),
    };
    let container = match record {
        Ok(()) => true,
        Err(error) if error.is_not_found() => false,
        Err(error) => return Err(error.about("container")),
    };
    Ok(Found { container, task })
}

/// Two calls: Containers.ListStream, Tasks.List.
pub(super) async fn inventory(
    backend: &Containerd,
) -> Result<HashMap<ContainerId, Found>, BackendError> {
    let connection = backend.connection();
    let ids = list(backend)
        .await
        .map_err(|error| error.about("container"))?;
    let present = Found {
        container: true,
        task: None,
    };
    let mut found: HashMap<_, _> = ids.into_iter().map(|id| (id, present.clone())).collect();
    let processes = tasks::list(connection).await;
    for process in processes.map_err(|error| error.about("task"))? {
        let Ok(id) = process.id.parse() else { continue };
        if let Some(entry) = found.get_mut(&id) {
            entry.task = Some(found_task(backend, id, &process).await);
        }
    }
    Ok(found)
}

async fn get(connection: &Connection, id: ContainerId) -> Result<(), RpcError> {
    let request = GetContainerRequest { id: id.to_string() };
    connection
        .call(GET, request, |channel, request| async move {
            ContainersClient::new(channel).get(request).await
        })
        .await
        .map(drop)
}

/// The containers that carry this server's label. Streamed: with their specs, a few hundred records
/// are more than containerd sends in one message.
async fn list(backend: &Containerd) -> Result<Vec<ContainerId>, RpcError> {
    let filter = format!(r#"labels."{}"=={}"#, label::SERVER_ID, backend.server_id());
    let request = ListContainersRequest {
        filters: vec![filter],
    };
    let connection = backend.connection();
    connection.check(LIST)?;
    let listing = async {
        let request = connection.request(request, None);
        let mut client =
            ContainersClient::new(connection.content()).max_decoding_message_size(max_answer());
        let stream = client.list_stream(request).await?.into_inner();
        let ids = stream.try_filter_map(async |message| {
            let id: Option<ContainerId> =
                message.container.and_then(|record| record.id.parse().ok());
            Ok(id)
        });
        ids.try_collect().await
    };
    match tokio::time::timeout(LIST.deadline, listing.instrument(span(LIST))).await {
        Ok(listed) => listed.map_err(|status| RpcError::of(LIST, &status)),
        Err(_) => Err(RpcError::deadline(LIST)),
    }
}

async fn found_task(backend: &Containerd, id: ContainerId, process: &Process) -> FoundTask {
    let state = match tasks::status_of(process) {
        ProcessStatus::Created => FoundState::Created,
        ProcessStatus::Paused | ProcessStatus::Pausing => FoundState::Paused,
        ProcessStatus::Stopped => {
            FoundState::Stopped(backend.observer().exit(id, &Ended::from(process)).await)
        }
        // Unknown: its shim does not answer, but is there, and so is the process. Its pid is 0 then.
        ProcessStatus::Running | ProcessStatus::Unknown => FoundState::Running,
    };
    FoundTask {
        pid: process.pid,
        state,
    }
}
