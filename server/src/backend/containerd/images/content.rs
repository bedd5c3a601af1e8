//! Blobs on their way into containerd's content store, with the labels that keep them there, and out of it again.

use std::collections::HashMap;
use std::fs::File;
use std::future;
use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::{
    Info, InfoRequest, ReadContentRequest, UpdateRequest, WriteAction, WriteContentRequest,
};
use futures_util::stream::{self, Stream, StreamExt as _};
use parking_lot::Mutex;
use prost_types::FieldMask;
use tracing::Instrument as _;

use super::lease::Lease;
use super::moving;
use crate::backend::BackendError;
use crate::backend::blob::{self, BlobStream};
use crate::backend::containerd::SNAPSHOTTER;
use crate::backend::containerd::connection::{Connection, Rpc, bounded, max_answer, span};
use crate::backend::containerd::error::{BACKEND, RpcError};
use crate::model::Digest;
use crate::model::image::Descriptor;
use crate::oci::image::{ImageContent, Layer, LayerSource};

const INFO: Rpc = Rpc::quick("containerd.content.info");
const UPDATE: Rpc = Rpc::quick("containerd.content.update");
const READ: Rpc = Rpc::quick("containerd.content.read");
const WRITE: &str = "containerd.content.write";

/// Data of one message; containerd takes at most 16 MiB.
const CHUNK_BYTES: usize = 1 << 20;

type Labels = HashMap<String, String>;
type Blob = Box<dyn Read + Send>;

/// Writes a layer's blob, once it is here: what containerd is sent, it gets without waiting.
pub(super) async fn write_layer(
    connection: &Connection,
    lease: &Lease,
    content: &Arc<ImageContent>,
    layer: &Layer,
) -> Result<(), BackendError> {
    let file = match is_there(connection, &layer.descriptor.digest).await? {
        true => None,
        false => Some(of_layer(content, layer, |source, layer| source.file(layer)).await?),
    };
    let open = move || match file {
        Some(file) => Ok(Box::new(File::open(file)?) as Blob),
        // It is only held and labelled.
        None => Err(io::ErrorKind::NotFound.into()),
    };
    let diff_id = ("containerd.io/uncompressed", layer.diff_id.to_string());
    let upload = Upload::new(lease, &layer.descriptor, labels([diff_id]));
    upload.run(connection, lease, open).await
}

/// Returns once a layer is known to be right.
pub(super) async fn verified(
    content: &Arc<ImageContent>,
    layer: &Layer,
) -> Result<(), BackendError> {
    of_layer(content, layer, |source, layer| source.verified(layer)).await
}

/// Returns once all of the image is known to be right.
pub(super) async fn accepted(content: &Arc<ImageContent>) -> Result<(), BackendError> {
    blocking(content, |source| source.accepted()).await
}

async fn of_layer<T: Send + 'static>(
    content: &Arc<ImageContent>,
    layer: &Layer,
    ask: fn(&dyn LayerSource, &Layer) -> io::Result<T>,
) -> Result<T, BackendError> {
    let layer = layer.clone();
    blocking(content, move |source| ask(source, &layer)).await
}

/// Asks where the layers come from, which may have to wait for them.
async fn blocking<T: Send + 'static>(
    content: &Arc<ImageContent>,
    ask: impl FnOnce(&dyn LayerSource) -> io::Result<T> + Send + 'static,
) -> Result<T, BackendError> {
    let source = Arc::clone(&content.source);
    let asked = tokio::task::spawn_blocking(move || ask(&*source)).await;
    let asked = asked.unwrap_or_else(|error| Err(io::Error::other(error)));
    asked.map_err(|error| unreadable(&error))
}

/// A blob is not, or not any more, where it should come from.
fn unreadable(error: &io::Error) -> BackendError {
    tracing::warn!(%error, "a blob cannot be read");
    BackendError::NotFound {
        backend: BACKEND,
        what: "content of the image",
    }
}

/// Writes config and manifest of an image, whose layers must be there.
pub(super) async fn write_documents(
    connection: &Connection,
    lease: &Lease,
    content: &ImageContent,
) -> Result<(), BackendError> {
    let config = Arc::clone(&content.config_json);
    let upload = Upload::new(lease, &content.config, config_labels(content));
    let open = move || Ok(memory(config.as_bytes()));
    upload.run(connection, lease, open).await?;

    let manifest = Arc::clone(&content.manifest);
    let upload = Upload::new(lease, &content.target, manifest_labels(content));
    let open = move || Ok(memory(&manifest));
    upload.run(connection, lease, open).await
}

/// Opens a blob. One call, and one for each chunk.
pub(in super::super) async fn open(
    connection: &Connection,
    descriptor: &Descriptor,
) -> Result<BlobStream, BackendError> {
    match info(connection, &descriptor.digest).await? {
        None => return Err(blob::missing(descriptor)),
        Some(info) => {
            let size = u64::try_from(info.size).unwrap_or(0);
            if size != descriptor.size_bytes {
                return Err(blob::wrong_size(descriptor, size));
            }
        }
    }
    let (connection, wanted) = (connection.clone(), descriptor.clone());
    let read = move |offset, size| read(connection.clone(), wanted.clone(), offset, size);
    Ok(blob::chunks(descriptor, CHUNK_BYTES as u64, read))
}

/// A chunk is a call of its own: one for all of a blob would last as long as its slowest reader, and what that does not
/// take would fill the connection for others.
async fn read(
    connection: Connection,
    descriptor: Descriptor,
    offset: u64,
    size: u64,
) -> Result<Bytes, BackendError> {
    let message = ReadContentRequest {
        digest: descriptor.digest.to_string(),
        offset: i64::try_from(offset).unwrap_or(i64::MAX),
        size: i64::try_from(size).unwrap_or(i64::MAX),
    };
    let exchange = async {
        let request = connection.request(message, None);
        let client = ContentClient::new(connection.content());
        let mut client = client.max_decoding_message_size(max_answer());
        let mut answers = client.read(request).await?.into_inner();
        let mut data = BytesMut::new();
        while let Some(answer) = answers.message().await? {
            data.extend_from_slice(&answer.data);
        }
        Ok(tonic::Response::new(data.freeze()))
    };
    let data = async {
        connection.check(READ)?;
        bounded(READ, exchange).instrument(span(READ)).await
    };
    data.await.map_err(|error| match error {
        error if error.is_not_found() => blob::missing(&descriptor),
        error => error.about("content"),
    })
}

/// Whether a blob is in the store.
pub(super) async fn is_there(
    connection: &Connection,
    digest: &Digest,
) -> Result<bool, BackendError> {
    Ok(info(connection, digest).await?.is_some())
}

async fn info(connection: &Connection, digest: &Digest) -> Result<Option<Info>, BackendError> {
    let request = InfoRequest {
        digest: digest.to_string(),
    };
    let info = connection
        .call(INFO, request, |channel, request| async move {
            ContentClient::new(channel).info(request).await
        })
        .await;
    match info {
        Ok(answer) => Ok(answer.info),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.about("content")),
    }
}

/// The config keeps the top layer's snapshot, and that those below.
fn config_labels(content: &ImageContent) -> Labels {
    let top = content.layers.last();
    labels(top.map(|layer| {
        let key = format!("containerd.io/gc.ref.snapshot.{SNAPSHOTTER}");
        (key, layer.chain_id.to_string())
    }))
}

/// The manifest keeps the config and the layers.
fn manifest_labels(content: &ImageContent) -> Labels {
    let config = (
        "containerd.io/gc.ref.content.config".to_owned(),
        content.config.digest.to_string(),
    );
    let layers = content.layers.iter().enumerate().map(|(at, layer)| {
        let key = format!("containerd.io/gc.ref.content.l.{at}");
        (key, layer.descriptor.digest.to_string())
    });
    labels([config].into_iter().chain(layers))
}

fn labels<K: Into<String>>(pairs: impl IntoIterator<Item = (K, String)>) -> Labels {
    pairs.into_iter().map(|(k, v)| (k.into(), v)).collect()
}

fn memory(bytes: &[u8]) -> Blob {
    Box::new(io::Cursor::new(bytes.to_vec()))
}

/// One blob to be written.
struct Upload {
    /// Unique to the lease, so that two servers never wait for each other's upload.
    reference: String,
    digest: Digest,
    size: i64,
    size_bytes: u64,
    labels: Labels,
}

impl Upload {
    fn new(lease: &Lease, descriptor: &Descriptor, labels: Labels) -> Self {
        Self {
            reference: format!("{}-{}", lease.id(), descriptor.digest),
            digest: descriptor.digest.clone(),
            size: i64::try_from(descriptor.size_bytes).unwrap_or(i64::MAX),
            size_bytes: descriptor.size_bytes,
            labels,
        }
    }

    /// Writes the blob, unless it is there; then its labels are made right.
    async fn run(
        self,
        connection: &Connection,
        lease: &Lease,
        open: impl FnOnce() -> io::Result<Blob> + Send + 'static,
    ) -> Result<(), BackendError> {
        let failure = ReadFailure::default();
        let messages = self.messages(open, failure.clone());
        let written = self.send(connection, lease, messages).await;
        match (written, failure.take()) {
            (Err(error), _) if error.is_already_exists() => self.label(connection, lease).await,
            (_, Some(error)) => Err(unreadable(&error)),
            (written, None) => written.map_err(|error| error.about("content")),
        }
    }

    async fn send(
        &self,
        connection: &Connection,
        lease: &Lease,
        messages: impl Stream<Item = WriteContentRequest> + Send + 'static,
    ) -> Result<(), RpcError> {
        let rpc = moving(WRITE, self.size_bytes);
        let request = lease.hold(connection.request(messages, None));
        let mut client = ContentClient::new(connection.content());
        let exchange = async {
            let mut answers = client.write(request).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok(tonic::Response::new(()))
        };
        bounded(rpc, exchange).instrument(span(rpc)).await
    }

    /// Data in chunks, then the commit. If the blob cannot be read, the stream ends without one, and
    /// containerd keeps nothing.
    fn messages(
        &self,
        open: impl FnOnce() -> io::Result<Blob> + Send + 'static,
        failure: ReadFailure,
    ) -> impl Stream<Item = WriteContentRequest> + Send + 'static {
        let first = WriteContentRequest {
            action: WriteAction::Write.into(),
            r#ref: self.reference.clone(),
            total: self.size,
            expected: self.digest.to_string(),
            ..WriteContentRequest::default()
        };
        let commit = WriteContentRequest {
            action: WriteAction::Commit.into(),
            offset: self.size,
            total: self.size,
            expected: self.digest.to_string(),
            labels: self.labels.clone(),
            ..WriteContentRequest::default()
        };
        let ended_well = failure.clone();
        stream::once(future::ready(first))
            .chain(chunks(open, failure))
            .chain(stream::once(future::ready(commit)))
            .take_while(move |_| future::ready(!ended_well.is_set()))
    }

    /// A blob that somebody else brought may lack the labels that keep what it refers to.
    async fn label(&self, connection: &Connection, lease: &Lease) -> Result<(), BackendError> {
        let request = UpdateRequest {
            info: Some(Info {
                digest: self.digest.to_string(),
                labels: self.labels.clone(),
                ..Info::default()
            }),
            update_mask: Some(FieldMask {
                paths: self.labels.keys().map(|k| format!("labels.{k}")).collect(),
            }),
        };
        let updated = connection
            .call(UPDATE, request, |channel, request| {
                let request = lease.hold(request);
                async move { ContentClient::new(channel).update(request).await }
            })
            .await;
        updated.map(|_| ()).map_err(|error| error.about("content"))
    }
}

/// Reads on a thread that may block, a chunk at a time and only as fast as containerd takes them.
fn chunks(
    open: impl FnOnce() -> io::Result<Blob> + Send + 'static,
    failure: ReadFailure,
) -> impl Stream<Item = WriteContentRequest> + Send + 'static {
    let start: Box<dyn FnOnce() -> io::Result<Blob> + Send> = Box::new(open);
    stream::unfold((start, 0_i64), move |(blob, offset)| {
        let failure = failure.clone();
        async move {
            let read = tokio::task::spawn_blocking(move || read_chunk(blob)).await;
            match read.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok((_, data)) if data.is_empty() => None,
                Ok((blob, data)) => {
                    let next = offset.saturating_add(i64::try_from(data.len()).unwrap_or(i64::MAX));
                    let rest: Box<dyn FnOnce() -> io::Result<Blob> + Send> = Box::new(|| Ok(blob));
                    Some((chunk(offset, data), (rest, next)))
                }
                Err(error) => {
                    failure.set(error);
                    None
                }
            }
        }
    })
}

fn read_chunk(open: impl FnOnce() -> io::Result<Blob>) -> io::Result<(Blob, Vec<u8>)> {
    let blob = open()?;
    let mut data = Vec::with_capacity(CHUNK_BYTES);
    let mut limited = blob.take(CHUNK_BYTES as u64);
    limited.read_to_end(&mut data)?;
    Ok((limited.into_inner(), data))
}

fn chunk(offset: i64, data: Vec<u8>) -> WriteContentRequest {
    WriteContentRequest {
        action: WriteAction::Write.into(),
        offset,
        data,
        ..WriteContentRequest::default()
    }
}

/// Why a stream of messages, which cannot carry errors, has ended early.
#[derive(Clone, Default)]
struct ReadFailure(Arc<Mutex<Option<io::Error>>>);

impl ReadFailure {
    fn set(&self, error: io::Error) {
        *self.0.lock() = Some(error);
    }

    fn is_set(&self) -> bool {
        self.0.lock().is_some()
    }

    fn take(&self) -> Option<io::Error> {
        self.0.lock().take()
    }
}
