//! Layers, from blobs to snapshots: each is applied on top of the one below, and gets its chain id.

use std::collections::HashMap;

use containerd_client::services::v1::ApplyRequest;
use containerd_client::services::v1::diff_client::DiffClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{
    CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
    UsageRequest,
};
use containerd_client::types::Mount;
use tonic::Code;

use super::lease::Lease;
use super::{moving, target};
use crate::backend::BackendError;
use crate::backend::containerd::SNAPSHOTTER;
use crate::backend::containerd::connection::{Connection, Rpc};
use crate::backend::containerd::error::{RpcError, protocol};
use crate::model::Digest;
use crate::oci::image::Layer;

const STAT: Rpc = Rpc::quick("containerd.snapshots.stat");
const USAGE: Rpc = Rpc::quick("containerd.snapshots.usage");
const PREPARE: Rpc = Rpc::launch("containerd.snapshots.prepare");
const COMMIT: Rpc = Rpc::launch("containerd.snapshots.commit");
const REMOVE: Rpc = Rpc::launch("containerd.snapshots.remove");
const APPLY: &str = "containerd.diff.apply";
/// What a layer may grow to when it is unpacked, for the deadline only.
const EXPANSION: u64 = 8;

/// Unpacks a layer on its parent, if it is not there yet; returns its size.
pub(super) async fn unpack(
    connection: &Connection,
    lease: &Lease,
    layer: &Layer,
    parent: Option<&Digest>,
) -> Result<u64, BackendError> {
    lease.hold_snapshot(connection, &layer.chain_id).await?;
    if !is_there(connection, &layer.chain_id).await? {
        unpack_layer(connection, lease, layer, parent).await?;
    }
    snapshot_bytes(connection, layer.chain_id.to_string()).await
}

async fn unpack_layer(
    connection: &Connection,
    lease: &Lease,
    layer: &Layer,
    parent: Option<&Digest>,
) -> Result<(), BackendError> {
    let key = format!("{}-{}", lease.id(), layer.chain_id);
    let mounts = prepare(connection, lease, &key, parent).await?;
    let applied = match apply(connection, lease, layer, mounts).await {
        Ok(()) => commit(connection, lease, layer, &key).await,
        Err(error) => Err(error),
    };
    match applied {
        Ok(Committed::Now) => Ok(()),
        // Somebody was faster, with the same.
        Ok(Committed::Before) => {
            remove(connection, &key).await;
            Ok(())
        }
        Err(error) => {
            remove(connection, &key).await;
            Err(error)
        }
    }
}

async fn is_there(connection: &Connection, chain_id: &Digest) -> Result<bool, BackendError> {
    let request = StatSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: chain_id.to_string(),
    };
    let found = connection
        .call(STAT, request, |channel, request| async move {
            SnapshotsClient::new(channel).stat(request).await
        })
        .await;
    match found {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.about("snapshot")),
    }
}

async fn prepare(
    connection: &Connection,
    lease: &Lease,
    key: &str,
    parent: Option<&Digest>,
) -> Result<Vec<Mount>, BackendError> {
    let request = PrepareSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: key.to_owned(),
        parent: parent.map(Digest::to_string).unwrap_or_default(),
        labels: HashMap::new(),
    };
    let prepared = connection
        .call(PREPARE, request, |channel, request| {
            let request = lease.hold(request);
            async move { SnapshotsClient::new(channel).prepare(request).await }
        })
        .await;
    match prepared {
        Ok(prepared) => Ok(prepared.mounts),
        Err(error) => Err(error.about("snapshot")),
    }
}

async fn apply(
    connection: &Connection,
    lease: &Lease,
    layer: &Layer,
    mounts: Vec<Mount>,
) -> Result<(), BackendError> {
    let bytes = layer.descriptor.size_bytes.saturating_mul(EXPANSION);
    let request = ApplyRequest {
        diff: Some(target(&layer.descriptor)),
        mounts,
        ..ApplyRequest::default()
    };
    let applied = connection
        .call(moving(APPLY, bytes), request, |channel, request| {
            let request = lease.hold(request);
            async move { DiffClient::new(channel).apply(request).await }
        })
        .await
        .map_err(|error| error.unpacking(&layer.descriptor.digest))?;
    let actual = applied
        .applied
        .map(|applied| applied.digest)
        .ok_or_else(|| protocol(Code::Ok, "Diff.Apply does not say what it applied"))?;
    if actual == layer.diff_id.as_str() {
        Ok(())
    } else {
        Err(BackendError::DigestMismatch {
            expected: layer.diff_id.to_string(),
            actual,
        })
    }
}

/// Who made a snapshot.
enum Committed {
    Now,
    Before,
}

async fn commit(
    connection: &Connection,
    lease: &Lease,
    layer: &Layer,
    key: &str,
) -> Result<Committed, BackendError> {
    let request = CommitSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        name: layer.chain_id.to_string(),
        key: key.to_owned(),
        labels: HashMap::new(),
    };
    let committed = connection
        .call(COMMIT, request, |channel, request| {
            let request = lease.hold(request);
            async move { SnapshotsClient::new(channel).commit(request).await }
        })
        .await;
    match committed {
        Ok(_) => Ok(Committed::Now),
        Err(error) if error.is_already_exists() => Ok(Committed::Before),
        Err(error) => Err(error.about("snapshot")),
    }
}

/// Takes back a layer that is not to be. Only tidiness: it goes with the lease.
async fn remove(connection: &Connection, key: &str) {
    let request = RemoveSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: key.to_owned(),
    };
    let removed: Result<(), RpcError> = connection
        .call(REMOVE, request, |channel, request| async move {
            SnapshotsClient::new(channel).remove(request).await
        })
        .await;
    if let Err(error) = removed {
        tracing::debug!(key, %error, "a half unpacked layer stays until its lease is over");
    }
}

/// What a snapshot takes besides those it stands on. containerd counts what is in one that is written to.
pub(in super::super) async fn snapshot_bytes(
    connection: &Connection,
    key: String,
) -> Result<u64, BackendError> {
    let request = UsageRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key,
    };
    let usage = connection
        .call(USAGE, request, |channel, request| async move {
            SnapshotsClient::new(channel).usage(request).await
        })
        .await
        .map_err(|error| error.about("snapshot"))?;
    Ok(u64::try_from(usage.size).unwrap_or(0))
}
