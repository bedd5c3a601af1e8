//! Images in containerd: content, unpacked layers, and the names that keep them.
//!
//! ```text
//! name -> manifest -gc.ref-> config -gc.ref-> snapshot of the top layer -> those below
//!                  -gc.ref-> layers
//! ```
//!
//! containerd's garbage collector takes whatever no name leads to, at any time. While an image comes in,
//! a lease holds its parts; afterwards the labels above do. Every step may be repeated: what is there
//! already is taken as it is. Knows nothing of containers, nor of what the engine's records say.

mod content;
mod lease;
mod unpack;

use std::sync::Arc;
use std::time::Duration;

use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::{
    CreateImageRequest, DeleteImageRequest, GetImageRequest, Image as Record, ListImagesRequest,
    UpdateImageRequest,
};
use containerd_client::types::Descriptor as Target;
use prost_types::FieldMask;
use tokio::sync::mpsc;

pub(super) use self::content::open as open_blob;
use self::lease::Lease;
pub(super) use self::lease::end_earlier as end_earlier_leases;
pub(super) use self::unpack::snapshot_bytes;
use super::connection::{Connection, LAUNCH_DEADLINE, Rpc};
use super::containers::label::{NAME, SERVER_ID};
use super::error::RpcError;
use crate::backend::BackendError;
use crate::model::image::Descriptor;
use crate::model::{Digest, Image, ServerId};
use crate::oci::image::{ImageContent, Layer};

const CREATE: Rpc = Rpc::quick("containerd.images.create");
const UPDATE: Rpc = Rpc::quick("containerd.images.update");
const LIST: Rpc = Rpc::quick("containerd.images.list");
const GET: Rpc = Rpc::quick("containerd.images.get");
/// Waits for a garbage collection, which removes the layers' files.
const DELETE: Rpc = Rpc::launch("containerd.images.delete");

/// On an image: our id of it.
const ID_LABEL: &str = "wharf.dev/image-id";
/// The slowest disk that is waited for.
const BYTES_PER_SECOND: u64 = 1 << 20;

/// Takes in content, unpacks it and names it; returns the size of the unpacked layers.
pub(super) async fn ingest(
    connection: &Connection,
    server: ServerId,
    image: &Image,
    content: Arc<ImageContent>,
) -> Result<u64, BackendError> {
    let lease = Lease::create(connection, server).await?;
    let size = ingest_leased(connection, server, &lease, image, content).await;
    // Also after an error: what came in must not stay.
    lease.delete(connection).await;
    size
}

async fn ingest_leased(
    connection: &Connection,
    server: ServerId,
    lease: &Lease,
    image: &Image,
    content: Arc<ImageContent>,
) -> Result<u64, BackendError> {
    let (written, layers) = mpsc::channel(content.layers.len().max(1));
    // Later ones come in while one is unpacked.
    let (size, ()) = futures_util::try_join!(
        unpack_all(connection, lease, &content, layers),
        write_all(connection, lease, &content, written),
    )?;
    content::write_documents(connection, lease, &content).await?;
    content::accepted(&content).await?;
    for reference in &image.references {
        name(connection, server, image, reference).await?;
    }
    if image.references.is_empty() {
        name(connection, server, image, &image.dangling_name()).await?;
    }
    Ok(size)
}

/// Writes the layers in their order, and gives them on.
async fn write_all<'a>(
    connection: &Connection,
    lease: &Lease,
    content: &'a Arc<ImageContent>,
    written: mpsc::Sender<&'a Layer>,
) -> Result<(), BackendError> {
    for layer in &content.layers {
        content::write_layer(connection, lease, content, layer).await?;
        if written.send(layer).await.is_err() {
            // Who unpacks has failed, and tells why.
            break;
        }
    }
    Ok(())
}

/// Unpacks what has been written, once it is known to be right: containerd unpacks whatever it has, within no limits.
async fn unpack_all(
    connection: &Connection,
    lease: &Lease,
    content: &Arc<ImageContent>,
    mut written: mpsc::Receiver<&Layer>,
) -> Result<u64, BackendError> {
    let (mut size, mut parent) = (0, None);
    while let Some(layer) = written.recv().await {
        content::verified(content, layer).await?;
        content.source.unpacking(layer);
        size += unpack::unpack(connection, lease, layer, parent).await?;
        content.source.unpacked(layer);
        parent = Some(&layer.chain_id);
    }
    Ok(size)
}

/// Makes `reference` name `image`, whose content must be here.
pub(super) async fn tag(
    connection: &Connection,
    server: ServerId,
    image: &Image,
    reference: &str,
) -> Result<(), BackendError> {
    if !content::is_there(connection, &image.target.digest).await? {
        return Err(BackendError::ImageContentMissing {
            chain_id: image.chain_id.to_string(),
        });
    }
    name(connection, server, image, reference).await
}

/// All names that a server has given. One call: Images.List.
pub(super) async fn names(
    connection: &Connection,
    server: ServerId,
) -> Result<Vec<String>, BackendError> {
    let request = ListImagesRequest {
        filters: vec![format!(r#"labels."{SERVER_ID}"=={server}"#)],
    };
    let listed = connection
        .call(LIST, request, |channel, request| async move {
            ImagesClient::new(channel).list(request).await
        })
        .await;
    let listed = listed.map_err(|error| error.about("image"))?;
    // Whoever tags an image by other means copies its labels.
    let given = |image: &Record| image.labels.get(NAME) == Some(&image.name);
    let images = listed.images.into_iter().filter(given);
    Ok(images.map(|image| image.name).collect())
}

/// Removes a name, and at once what only it has kept. One call: Images.Delete.
pub(super) async fn untag(connection: &Connection, reference: &str) -> Result<(), BackendError> {
    let request = DeleteImageRequest {
        name: reference.to_owned(),
        sync: true,
        ..DeleteImageRequest::default()
    };
    let deleted = connection
        .call(DELETE, request, |channel, request| async move {
            ImagesClient::new(channel).delete(request).await
        })
        .await;
    match deleted {
        Err(error) if !error.is_not_found() => Err(error.about("image")),
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn name(
    connection: &Connection,
    server: ServerId,
    image: &Image,
    name: &str,
) -> Result<(), BackendError> {
    let record = record(server, name, image);
    match create(connection, record.clone()).await {
        Err(error) if error.is_already_exists() => rename(connection, record).await,
        created => created.map_err(|error| error.about("image")),
    }
}

/// Moves a name. An image of a server of ours that it has named until now keeps its content under its dangling name.
async fn rename(connection: &Connection, record: Record) -> Result<(), BackendError> {
    let previous = get(connection, &record.name).await;
    match previous {
        Ok(Some(previous)) => keep(connection, previous, &record).await?,
        Ok(None) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.about("image")),
    }
    match update(connection, record.clone()).await {
        // It went just now.
        Err(error) if error.is_not_found() => create(connection, record).await,
        updated => updated,
    }
    .map_err(|error| error.about("image"))
}

async fn keep(
    connection: &Connection,
    previous: Record,
    record: &Record,
) -> Result<(), BackendError> {
    let id = previous.labels.get(ID_LABEL);
    let id = id.and_then(|id| id.parse::<Digest>().ok());
    let Some(id) = id else {
        return Ok(());
    };
    if record.labels.get(ID_LABEL).map(String::as_str) == Some(id.as_str()) {
        return Ok(());
    }
    let mut dangling = Record {
        name: Image::dangling_name_of(&id),
        ..previous
    };
    let name = dangling.name.clone();
    dangling.labels.insert(NAME.to_owned(), name);
    match create(connection, dangling).await {
        Err(error) if !error.is_already_exists() => Err(error.about("image")),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn record(server: ServerId, name: &str, image: &Image) -> Record {
    let labels = [
        (ID_LABEL, image.id.to_string()),
        (SERVER_ID, server.to_string()),
        (NAME, name.to_owned()),
    ];
    Record {
        name: name.to_owned(),
        labels: labels.map(|(key, value)| (key.to_owned(), value)).into(),
        target: Some(target(&image.target)),
        ..Record::default()
    }
}

async fn create(connection: &Connection, record: Record) -> Result<(), RpcError> {
    let request = CreateImageRequest {
        image: Some(record),
        ..CreateImageRequest::default()
    };
    let created = connection
        .call(CREATE, request, |channel, request| async move {
            ImagesClient::new(channel).create(request).await
        })
        .await;
    created.map(|_| ())
}

async fn update(connection: &Connection, record: Record) -> Result<(), RpcError> {
    let request = UpdateImageRequest {
        image: Some(record),
        update_mask: Some(FieldMask {
            paths: vec![
                "target".to_owned(),
                format!("labels.{ID_LABEL}"),
                format!("labels.{SERVER_ID}"),
                format!("labels.{NAME}"),
            ],
        }),
        ..UpdateImageRequest::default()
    };
    let updated = connection
        .call(UPDATE, request, |channel, request| async move {
            ImagesClient::new(channel).update(request).await
        })
        .await;
    updated.map(|_| ())
}

async fn get(connection: &Connection, name: &str) -> Result<Option<Record>, RpcError> {
    let request = GetImageRequest {
        name: name.to_owned(),
    };
    let found = connection
        .call(GET, request, |channel, request| async move {
            ImagesClient::new(channel).get(request).await
        })
        .await?;
    Ok(found.image)
}

/// A descriptor as containerd takes it.
fn target(descriptor: &Descriptor) -> Target {
    Target {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: i64::try_from(descriptor.size_bytes).unwrap_or(i64::MAX),
        ..Target::default()
    }
}

/// A call that moves `bytes` may take as long as a slow disk takes for them.
fn moving(name: &'static str, bytes: u64) -> Rpc {
    Rpc {
        deadline: LAUNCH_DEADLINE + Duration::from_secs(bytes / BYTES_PER_SECOND),
        ..Rpc::launch(name)
    }
}
