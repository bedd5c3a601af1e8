//! Container records and roots in containerd.
//!
//! The record comes before the snapshot: it names the snapshot's key and so pins it against garbage
//! collection, which another container's deletion may set off between the two calls. Knows nothing of
//! tasks.

use std::collections::HashMap;

use containerd_client::services::v1::container::Runtime;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{
    PrepareSnapshotRequest, PrepareSnapshotResponse, RemoveSnapshotRequest,
};
use containerd_client::services::v1::{
    Container as Record, CreateContainerRequest, DeleteContainerRequest, UpdateContainerRequest,
};
use containerd_client::types::Mount;
use prost_types::{Any, FieldMask};
use serde::Serialize;
use tonic::Code;

use super::connection::{Connection, Rpc};
use super::error::{RpcError, protocol};
use super::name::Name;
use super::{Containerd, SNAPSHOTTER, rename};
use crate::backend::BackendError;
use crate::backend::oci_runtime::RuntimeName;
use crate::model::container::RootMount;
use crate::model::{Container, ContainerId, LaunchFailure};
use crate::oci::runtime_spec::{self, RuntimeOptions};

const CREATE: Rpc = Rpc::launch("containerd.containers.create");
const UPDATE: Rpc = Rpc::quick("containerd.containers.update");
const DELETE: Rpc = Rpc::quick("containerd.containers.delete");
const PREPARE: Rpc = Rpc::launch("containerd.snapshots.prepare");
const REMOVE: Rpc = Rpc::quick("containerd.snapshots.remove");

/// Type of a runtime spec in containerd's records.
const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// Labels of our records: `ctr containers info` shows who made what, and why.
pub(super) mod label {
    pub(crate) const ID: &str = "wharf.dev/id";
    pub(crate) const NAME: &str = "wharf.dev/name";
    pub(crate) const REQUEST_ID: &str = "wharf.dev/request-id";
    pub(crate) const SERVER_ID: &str = "wharf.dev/server-id";
}

/// Two calls: Containers.Create, Snapshots.Prepare.
pub(super) async fn create(
    backend: &Containerd,
    container: &Container,
) -> Result<Vec<RootMount>, BackendError> {
    let connection = backend.connection();
    let name = Name::first(container.id);
    create_record(backend, container, name)
        .await?
        .map_err(|error| error.about("namespace"))?;
    match prepare(connection, container).await {
        Ok(prepared) => Ok(prepared.mounts.into_iter().map(root_mount).collect()),
        Err(error) => {
            // A call without an answer may still act: its snapshot goes when the caller deletes.
            if error.code().is_some() {
                undo(connection, name).await;
            }
            Err(prepare_error(error, container))
        }
    }
}

/// One call: Containers.Create of another record on the same root. One that is there already is OK.
pub(super) async fn record_again(
    backend: &Containerd,
    container: &Container,
    name: Name,
) -> Result<(), BackendError> {
    match create_record(backend, container, name).await? {
        Err(error) if !error.is_already_exists() => Err(error.about("namespace")),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// One call: Containers.Update of the spec and the label that gives the container's name.
pub(super) async fn update(
    backend: &Containerd,
    container: &Container,
    name: Name,
    options: &RuntimeOptions,
) -> Result<(), BackendError> {
    let request = UpdateContainerRequest {
        container: Some(Record {
            id: name.to_string(),
            labels: HashMap::from([(label::NAME.to_owned(), container.name.to_string())]),
            spec: Some(spec(container, options)?),
            ..Record::default()
        }),
        update_mask: Some(FieldMask {
            paths: vec!["spec".to_owned(), format!("labels.{}", label::NAME)],
        }),
    };
    let call = UPDATE.caused_by(container.cause());
    let update =
        |channel, request| async move { ContainersClient::new(channel).update(request).await };
    match backend.connection().call(call, request, update).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.about("container")),
    }
}

/// Two calls: Containers.Delete, Snapshots.Remove; three more for each earlier name. What is not there
/// is no error.
pub(super) async fn delete(backend: &Containerd, id: ContainerId) -> Result<(), BackendError> {
    let name = backend.name(id).await?;
    for earlier in name.earlier() {
        rename::remove(backend, earlier).await?;
    }
    remove_record(backend, name).await?;
    gone(remove_snapshot(backend.connection(), id).await, "snapshot")?;
    backend.names().forget(id);
    Ok(())
}

/// One call: Containers.Delete. What is not there is no error. A cgroup that is left goes, too.
pub(super) async fn remove_record(backend: &Containerd, name: Name) -> Result<(), BackendError> {
    gone(delete_record(backend.connection(), name).await, "container")?;
    backend.cgroups().remove(name).await;
    Ok(())
}

/// One call: Containers.Create. The outer error is of a record that no spec can be made of.
async fn create_record(
    backend: &Containerd,
    container: &Container,
    name: Name,
) -> Result<Result<(), RpcError>, BackendError> {
    let request = CreateContainerRequest {
        container: Some(record(backend, container, name)?),
    };
    let call = CREATE.caused_by(container.cause());
    let created = backend
        .connection()
        .call(call, request, |channel, request| async move {
            ContainersClient::new(channel).create(request).await
        })
        .await;
    Ok(created.map(drop))
}

async fn prepare(
    connection: &Connection,
    container: &Container,
) -> Result<PrepareSnapshotResponse, RpcError> {
    let request = PrepareSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: container.id.to_string(),
        parent: container.image.chain_id.to_string(),
        ..PrepareSnapshotRequest::default()
    };
    let call = PREPARE.caused_by(container.cause());
    connection
        .call(call, request, |channel, request| async move {
            SnapshotsClient::new(channel).prepare(request).await
        })
        .await
}

fn prepare_error(error: RpcError, container: &Container) -> BackendError {
    if error.is_not_found() {
        return BackendError::ImageContentMissing {
            chain_id: container.image.chain_id.to_string(),
        };
    }
    error.about("snapshot")
}

/// Takes back the record of a container whose root could not be made. Only tidiness: the caller's
/// delete finds whatever stays.
async fn undo(connection: &Connection, name: Name) {
    if let Err(error) = delete_record(connection, name).await {
        tracing::debug!(container = %name, %error, "the record of a failed create stays until its deletion");
    }
}

async fn delete_record(connection: &Connection, name: Name) -> Result<(), RpcError> {
    let request = DeleteContainerRequest {
        id: name.to_string(),
    };
    connection
        .call(DELETE, request, |channel, request| async move {
            ContainersClient::new(channel).delete(request).await
        })
        .await
}

async fn remove_snapshot(connection: &Connection, id: ContainerId) -> Result<(), RpcError> {
    let request = RemoveSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: id.to_string(),
    };
    connection
        .call(REMOVE, request, |channel, request| async move {
            SnapshotsClient::new(channel).remove(request).await
        })
        .await
}

/// `result`, with "not found" as success.
pub(super) fn gone(result: Result<(), RpcError>, what: &'static str) -> Result<(), BackendError> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.about(what)),
    }
}

fn record(backend: &Containerd, container: &Container, name: Name) -> Result<Record, BackendError> {
    let runtime = RuntimeName::of(container, backend.default_runtime());
    Ok(Record {
        labels: labels(backend, container),
        image: container.image.reference.clone(),
        runtime: Some(Runtime {
            name: runtime.shim(),
            options: runtime.options(),
        }),
        spec: Some(spec(container, &rename::options(backend, name))?),
        snapshotter: SNAPSHOTTER.to_owned(),
        snapshot_key: container.id.to_string(),
        id: name.to_string(),
        ..Record::default()
    })
}

fn labels(backend: &Containerd, container: &Container) -> HashMap<String, String> {
    let mut labels = HashMap::from([
        (label::ID.to_owned(), container.id.to_string()),
        (label::NAME.to_owned(), container.name.to_string()),
        (label::SERVER_ID.to_owned(), backend.server_id().to_string()),
    ]);
    if let Some(cause) = container.cause() {
        labels.insert(label::REQUEST_ID.to_owned(), cause.request_id.to_string());
    }
    labels
}

fn spec(container: &Container, options: &RuntimeOptions) -> Result<Any, BackendError> {
    let spec = runtime_spec::build(container, options).map_err(LaunchFailure::from)?;
    json(SPEC_TYPE, &spec)
}

/// `value` as containerd keeps foreign types: JSON under a type's name.
pub(super) fn json(type_url: &str, value: &impl Serialize) -> Result<Any, BackendError> {
    let value = serde_json::to_vec(value)
        .map_err(|error| protocol(Code::InvalidArgument, &error.to_string()))?;
    Ok(Any {
        type_url: type_url.to_owned(),
        value,
    })
}

fn root_mount(mount: Mount) -> RootMount {
    RootMount {
        kind: mount.r#type,
        source: mount.source,
        options: mount.options,
    }
}

/// A root's mount as a task takes it.
pub(super) fn task_mount(mount: &RootMount) -> Mount {
    Mount {
        r#type: mount.kind.clone(),
        source: mount.source.clone(),
        target: String::new(),
        options: mount.options.clone(),
    }
}
