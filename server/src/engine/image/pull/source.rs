//! The layers of an image that is being pulled, as the backend takes them.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use futures_util::{StreamExt as _, TryStreamExt as _};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::io::{StreamReader, SyncIoBridge};
use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, BackendError, ContainerBackend};
use crate::engine::Error;
use crate::engine::image::transfer::{LayerPhase, Progress};
use crate::model::Digest;
use crate::oci::image::{Layer, LayerSource};
use crate::registry::{Download, RegistryError};

/// Where the layers come from: a download, or the backend itself.
#[derive(Debug)]
pub(super) struct PullSource {
    backend: Backend,
    incoming: OnceLock<Incoming>,
    /// How many layers, from the lowest on, are what they should be.
    scanned: watch::Sender<usize>,
    /// All of the image is right.
    accepted: CancellationToken,
    /// Nobody waits any longer for what will not come.
    failed: CancellationToken,
    unread: Unread,
    progress: Arc<Progress>,
    runtime: Handle,
}

/// The first thing that stood in the way of reading. Who reads tells only that it could not.
type Unread = Arc<Mutex<Option<Error>>>;

#[derive(Debug)]
struct Incoming {
    /// The layers by their chain ids, lowest first: a blob may be several of them.
    order: Vec<Digest>,
    downloads: HashMap<Digest, Arc<Download>>,
}

impl PullSource {
    pub(super) fn new(backend: Backend, progress: Arc<Progress>) -> Self {
        Self {
            backend,
            incoming: OnceLock::new(),
            scanned: watch::Sender::new(0),
            accepted: CancellationToken::new(),
            failed: CancellationToken::new(),
            unread: Unread::default(),
            progress,
            runtime: Handle::current(),
        }
    }

    /// Says which layers are being downloaded; the others are in the backend. Once.
    pub(super) fn begin(&self, layers: &[Layer], downloads: HashMap<Digest, Arc<Download>>) {
        let order = layers.iter().map(|layer| layer.chain_id.clone()).collect();
        drop(self.incoming.set(Incoming { order, downloads }));
    }

    fn download(&self, layer: &Layer) -> Option<&Arc<Download>> {
        let incoming = self.incoming.get()?;
        incoming.downloads.get(&layer.descriptor.digest)
    }

    /// Cancelled by whoever fails: all reads end then.
    pub(super) fn failed(&self) -> &CancellationToken {
        &self.failed
    }

    /// Why layers could not be read, if they could not; whatever else has failed then, failed for that.
    pub(super) fn unread(&self) -> Option<Error> {
        self.unread.lock().take()
    }

    /// The layer at this place, of those in order, is what it should be.
    pub(super) fn is_scanned(&self, place: usize) {
        self.scanned.send_replace(place + 1);
    }

    /// All of the image is right: it may have its name.
    pub(super) fn accept(&self) {
        self.accepted.cancel();
    }

    /// Returns once all layers are known to be what they should be, or something has failed.
    pub(super) async fn all_scanned(&self) {
        let layers = self.incoming.get().map(|incoming| incoming.order.len());
        drop(self.until_scanned(layers.unwrap_or(0)).await);
    }

    /// So many layers, from the lowest on.
    async fn until_scanned(&self, layers: usize) -> io::Result<()> {
        let mut scanned = self.scanned.subscribe();
        let is_far_enough = scanned.wait_for(|scanned| *scanned >= layers);
        match self.failed.run_until_cancelled(is_far_enough).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => Err(io::Error::other(RegistryError::Abandoned)),
        }
    }

    /// Whether some of what was read may have been something else than what is there by now.
    pub(super) fn has_changed(&self) -> bool {
        let incoming = self.incoming.get().into_iter();
        let mut downloads = incoming.flat_map(|incoming| incoming.downloads.values());
        downloads.any(|download| download.has_changed())
    }

    /// Nothing that was downloaded is needed any more.
    pub(super) fn discard(&self) {
        let incoming = self.incoming.get().into_iter();
        let downloads = incoming.flat_map(|incoming| incoming.downloads.values());
        downloads.for_each(|download| download.discard());
    }

    /// Reads a layer that is here or comes. Blocking.
    pub(super) fn read(&self, layer: &Layer) -> io::Result<Box<dyn Read + Send>> {
        let inner = self.stream(layer);
        Ok(Box::new(Reader {
            inner: inner.inspect_err(|error| note(&self.unread, error))?,
            unread: Arc::clone(&self.unread),
            failed: self.failed.clone(),
        }))
    }

    fn stream(&self, layer: &Layer) -> io::Result<Box<dyn Read + Send>> {
        if let Some(download) = self.download(layer) {
            return Ok(Box::new(download.reader(self.failed.clone())?));
        }
        let opened = self.backend.open_blob(&layer.descriptor);
        let stream = self.runtime.block_on(opened).map_err(io::Error::other)?;
        let stream = stream.map_err(io::Error::other::<BackendError>).boxed();
        let reader = SyncIoBridge::new_with_handle(StreamReader::new(stream), self.runtime.clone());
        Ok(Box::new(reader))
    }
}

/// Ends with the pull, also if all is here that it could read.
struct Reader {
    inner: Box<dyn Read + Send>,
    unread: Unread,
    failed: CancellationToken,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed.is_cancelled() {
            return Err(io::Error::other(RegistryError::Abandoned));
        }
        let read = self.inner.read(buffer);
        read.inspect_err(|error| note(&self.unread, error))
    }
}

fn note(unread: &Unread, error: &io::Error) {
    let Some(cause) = error.get_ref() else { return };
    let cause = match (cause.downcast_ref(), cause.downcast_ref()) {
        (Some(RegistryError::Abandoned), _) | (None, None) => return,
        (Some(error), _) => Error::Registry(RegistryError::clone(error)),
        (None, Some(error)) => Error::Backend(BackendError::clone(error)),
    };
    unread.lock().get_or_insert(cause);
}

impl LayerSource for PullSource {
    fn open(&self, layer: &Layer) -> io::Result<Box<dyn Read + Send>> {
        self.read(layer)
    }

    fn file(&self, layer: &Layer) -> io::Result<PathBuf> {
        let Some(download) = self.download(layer) else {
            // It was here a moment ago.
            return Err(io::ErrorKind::NotFound.into());
        };
        let file = download.file(&self.failed);
        file.inspect_err(|error| note(&self.unread, error))
    }

    fn verified(&self, layer: &Layer) -> io::Result<()> {
        let order = self.incoming.get().map(|incoming| &incoming.order);
        let place = order.and_then(|order| {
            order
                .iter()
                .position(|chain_id| *chain_id == layer.chain_id)
        });
        let layers = place.map_or(usize::MAX, |place| place + 1);
        self.runtime.block_on(self.until_scanned(layers))
    }

    fn accepted(&self) -> io::Result<()> {
        let accepted = self.accepted.cancelled();
        let waited = self.failed.run_until_cancelled(accepted);
        self.runtime
            .block_on(waited)
            .ok_or_else(|| io::Error::other(RegistryError::Abandoned))
    }

    fn unpacking(&self, layer: &Layer) {
        self.progress.change(&layer.descriptor.digest, |layer| {
            if layer.phase == LayerPhase::Verifying {
                layer.phase = LayerPhase::Extracting;
            }
        });
    }

    fn unpacked(&self, layer: &Layer) {
        if self.download(layer).is_some() {
            self.progress
                .reach(&layer.descriptor.digest, LayerPhase::Done);
        }
    }
}
