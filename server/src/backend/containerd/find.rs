//! What is there: one container, or all of this server's.

use std::collections::HashMap;
use std::time::SystemTime;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::{
    Container as Record, GetContainerRequest, ListContainersRequest,
};
use containerd_client::types::v1::{Process, Status as ProcessStatus};
use futures_util::TryStreamExt;
use tracing::Instrument;

use super::connection::{Connection, Rpc, max_answer, span};
use super::containers::label;
use super::error::RpcError;
use super::exit::Ended;
use super::name::Name;
use super::{Containerd, rename, tasks};
use crate::backend::{BackendError, Found, FoundState, FoundTask};
use crate::model::ContainerId;

const GET: Rpc = Rpc::quick("containerd.containers.get");
const LIST: Rpc = Rpc::launch("containerd.containers.list");

/// Two calls at once: Containers.Get, Tasks.Get.
pub(super) async fn find(backend: &Containerd, id: ContainerId) -> Result<Found, BackendError> {
    let connection = backend.connection();
    let name = backend.name(id).await?;
    let (record, process) = tokio::join!(get(connection, name), tasks::get(connection, name));
    let task = match process {
        Ok(process) => Some(found_task(backend, name, &process)),
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

/// A record that is there.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: Name,
    pub(super) created: SystemTime,
}

/// Clears what is left under earlier names, too.
pub(super) async fn inventory(
    backend: &Containerd,
) -> Result<HashMap<ContainerId, Found>, BackendError> {
    let connection = backend.connection();
    let listed = list(backend)
        .await
        .map_err(|error| error.about("container"))?;
    backend
        .names()
        .learn(listed.iter().map(|listed| listed.name));
    let present = Found {
        container: true,
        task: None,
    };
    let ids = listed.iter().map(|listed| listed.name.id());
    let mut found: HashMap<_, _> = ids.map(|id| (id, present.clone())).collect();
    let processes = tasks::list(connection).await;
    for process in processes.map_err(|error| error.about("task"))? {
        let Ok(name) = process.id.parse::<Name>() else {
            continue;
        };
        let is_current = name == backend.names().of(name.id());
        if let Some(entry) = found.get_mut(&name.id()).filter(|_| is_current) {
            entry.task = Some(found_task(backend, name, &process));
        }
    }
    rename::clear_earlier(backend, &listed).await;
    Ok(found)
}

fn listed(record: Record) -> Option<Listed> {
    Some(Listed {
        name: record.id.parse().ok()?,
        created: record.created_at?.try_into().ok()?,
    })
}

async fn get(connection: &Connection, name: Name) -> Result<(), RpcError> {
    let request = GetContainerRequest {
        id: name.to_string(),
    };
    connection
        .call(GET, request, |channel, request| async move {
            ContainersClient::new(channel).get(request).await
        })
        .await
        .map(drop)
}

/// The containers that carry this server's label. Streamed: with their specs, a few hundred records
/// are more than containerd sends in one message.
pub(super) async fn list(backend: &Containerd) -> Result<Vec<Listed>, RpcError> {
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
        let listed = stream.try_filter_map(async |message| Ok(message.container.and_then(listed)));
        listed.try_collect().await
    };
    match tokio::time::timeout(LIST.deadline, listing.instrument(span(LIST))).await {
        Ok(listed) => listed.map_err(|status| RpcError::of(LIST, &status)),
        Err(_) => Err(RpcError::deadline(LIST)),
    }
}

fn found_task(backend: &Containerd, name: Name, process: &Process) -> FoundTask {
    let state = match state_of(process) {
        Some(state) => state,
        None => FoundState::Stopped(backend.observer().exit(name, &Ended::from(process))),
    };
    FoundTask {
        pid: process.pid,
        state,
    }
}

/// Where a process is; `None` if it has ended.
pub(super) fn state_of(process: &Process) -> Option<FoundState> {
    match tasks::status_of(process) {
        ProcessStatus::Created => Some(FoundState::Created),
        ProcessStatus::Paused | ProcessStatus::Pausing => Some(FoundState::Paused),
        ProcessStatus::Stopped => None,
        // Unknown: its shim does not answer, but is there, and so is the process. Its pid is 0 then.
        ProcessStatus::Running | ProcessStatus::Unknown => Some(FoundState::Running),
    }
}
