//! A lease holds what comes in against the garbage collector, until names hold it.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::{
    AddResourceRequest, CreateRequest, DeleteRequest, ListRequest, Resource,
};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use uuid::Uuid;

use crate::backend::BackendError;
use crate::backend::containerd::SNAPSHOTTER;
use crate::backend::containerd::connection::{Connection, Rpc};
use crate::backend::containerd::containers::label::SERVER_ID;
use crate::backend::containerd::error::protocol;
use crate::model::{Digest, ServerId};

const CREATE: Rpc = Rpc::quick("containerd.leases.create");
const ADD: Rpc = Rpc::quick("containerd.leases.add_resource");
const LIST: Rpc = Rpc::quick("containerd.leases.list");
const DELETE: Rpc = Rpc::quick("containerd.leases.delete");

/// When containerd drops a lease by itself, for the case that the server dies while an image comes in:
/// longer than any image may take.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// On a lease: which run of the server made it. A lease of an earlier one holds what nobody goes on with.
const PROCESS_LABEL: &str = "wharf.dev/process";
/// This run.
static PROCESS: LazyLock<String> = LazyLock::new(|| Uuid::new_v4().to_string());

/// Ends the leases that earlier runs of this server have left. A failure is only logged: they expire.
pub(in super::super) async fn end_earlier(connection: &Connection, server: ServerId) {
    let filter = format!(
        r#"labels."{SERVER_ID}"=={server},labels."{PROCESS_LABEL}"!={}"#,
        *PROCESS
    );
    let request = ListRequest {
        filters: vec![filter],
    };
    let listed = connection
        .call(LIST, request, |channel, request| async move {
            LeasesClient::new(channel).list(request).await
        })
        .await;
    match listed {
        Ok(listed) => {
            for lease in listed.leases {
                delete(connection, lease.id).await;
            }
        }
        Err(error) => tracing::warn!(%error, "leases of earlier runs stay until they expire"),
    }
}

/// One of ours.
#[derive(Debug)]
pub(super) struct Lease {
    id: String,
    header: MetadataValue<Ascii>,
}

impl Lease {
    /// Makes one.
    pub(super) async fn create(
        connection: &Connection,
        server: ServerId,
    ) -> Result<Self, BackendError> {
        let id = format!("wharf-{}", Uuid::new_v4());
        let header = id
            .parse()
            .map_err(|_| protocol(tonic::Code::InvalidArgument, "the lease's id is no header"))?;
        let lease = Self { id, header };
        let expires = prost_types::Timestamp::from(SystemTime::now() + LIFETIME);
        let labels = [
            ("containerd.io/gc.expire", expires.to_string()),
            (SERVER_ID, server.to_string()),
            (PROCESS_LABEL, PROCESS.clone()),
        ];
        let request = CreateRequest {
            id: lease.id.clone(),
            labels: HashMap::from(labels.map(|(key, value)| (key.to_owned(), value))),
        };
        let created = connection
            .call(CREATE, request, |channel, request| async move {
                LeasesClient::new(channel).create(request).await
            })
            .await;
        created.map_err(|error| error.about("lease"))?;
        Ok(lease)
    }

    /// Names that only this lease uses begin so.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Makes what a call creates belong to the lease.
    pub(super) fn hold<T>(&self, mut request: Request<T>) -> Request<T> {
        let metadata = request.metadata_mut();
        metadata.insert("containerd-lease", self.header.clone());
        request
    }

    /// Holds an unpacked layer, whether or not it is there yet: what is seen to be there later will stay.
    pub(super) async fn hold_snapshot(
        &self,
        connection: &Connection,
        chain_id: &Digest,
    ) -> Result<(), BackendError> {
        let request = AddResourceRequest {
            id: self.id.clone(),
            resource: Some(Resource {
                id: chain_id.to_string(),
                r#type: format!("snapshots/{SNAPSHOTTER}"),
            }),
        };
        let added = connection
            .call(ADD, request, |channel, request| async move {
                LeasesClient::new(channel).add_resource(request).await
            })
            .await;
        added.map(|_| ()).map_err(|error| error.about("lease"))
    }

    /// Ends it. A failure is only logged: the lease expires.
    pub(super) async fn delete(self, connection: &Connection) {
        delete(connection, self.id).await;
    }
}

async fn delete(connection: &Connection, id: String) {
    let request = DeleteRequest {
        id: id.clone(),
        sync: false,
    };
    let deleted = connection
        .call(DELETE, request, |channel, request| async move {
            LeasesClient::new(channel).delete(request).await
        })
        .await;
    if let Err(error) = deleted {
        tracing::warn!(lease = id, %error, "a lease stays until it expires");
    }
}
