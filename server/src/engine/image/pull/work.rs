//! The work of one pull.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Pulled;
use super::resolve::Search;
use super::source::PullSource;
use crate::backend::{BackendError, ContainerBackend};
use crate::engine::Error;
use crate::engine::core::Core;
use crate::engine::image::import::{describe, register};
use crate::engine::image::references::in_turn;
use crate::engine::image::transfer::{LayerPhase, Progress, move_all};
use crate::model::image::{AccountFiles, Descriptor, Platform};
use crate::model::{Cause, Digest, EventKind, Image};
use crate::oci::image::scan::{Next, RootScan};
use crate::oci::image::{Found, ImageContent, ImageError, Layer, Offers, distance};
use crate::oci::reference::Reference;
use crate::registry::{Credentials, Download, Joined, RegistryError, Repository};

/// How often layers that were here may be gone when they are needed.
const ATTEMPTS: usize = 3;

pub(super) struct Work {
    pub(super) core: Arc<Core>,
    pub(super) cause: Cause,
    pub(super) reference: Reference,
    pub(super) platform: Platform,
    pub(super) credentials: Option<Credentials>,
    pub(super) progress: Arc<Progress>,
    pub(super) abandoned: CancellationToken,
}

/// What the registry has said of the image.
struct Asked {
    repository: Arc<Repository>,
    found: Found,
    config: Vec<u8>,
}

impl Work {
    pub(super) async fn run(
        &self,
        resolved: watch::Sender<Option<Descriptor>>,
    ) -> Result<Pulled, Error> {
        self.core.require_backend()?;
        let asked = self.ask(&resolved);
        let asked = self.abandoned.run_until_cancelled(asked).await;
        let (asked, here) = asked.unwrap_or(Err(RegistryError::Abandoned.into()))?;
        let blobs = asked.found.layers.iter();
        self.progress
            .begin(blobs.map(|blob| (blob.digest.clone(), blob.size_bytes)));
        if let Some(image) = here
            && let Some(pulled) = self.already(image).await?
        {
            return Ok(pulled);
        }
        let mut attempt = 1;
        loop {
            match self.take_in(&asked).await {
                Ok((image, source)) => {
                    let pulled = self.register(image).await?;
                    source.discard();
                    return Ok(pulled);
                }
                Err(Unfinished::Others(error)) if attempt < ATTEMPTS => {
                    tracing::info!(%error, "a pull begins again");
                    attempt += 1;
                }
                Err(Unfinished::Others(error) | Unfinished::Own(error)) => return Err(error),
            }
        }
    }

    /// What the registry has, and the image, if that is here by our records.
    async fn ask(
        &self,
        resolved: &watch::Sender<Option<Descriptor>>,
    ) -> Result<(Asked, Option<Arc<Image>>), Error> {
        let credentials = self.credentials.clone();
        let registries = &self.core.settings.registries;
        let repository = registries.repository(&self.reference, credentials).await?;
        let manifest = repository.manifest(&self.reference.version).await?;
        resolved.send_replace(Some(manifest.descriptor.clone()));
        let mut search = Search {
            repository: &repository,
            platform: &self.platform,
            offers: Offers::default(),
            visits: 0,
        };
        let found = search.image_of(manifest, 0).await?;
        let found = found.ok_or_else(|| self.platform_not_found(search.offers.to_string()))?;
        let here = self.core.images.get(&found.config.digest);
        let here = here.filter(|image| image.target.digest == found.target.digest);
        let config = match &here {
            Some(image) => image.config_json.as_bytes().to_vec(),
            None => repository.document(&found.config).await?,
        };
        let asked = Asked {
            repository: Arc::new(repository),
            found,
            config,
        };
        Ok((asked, here))
    }

    fn platform_not_found(&self, available: String) -> Error {
        Error::PlatformNotFound {
            image: self.reference.to_string(),
            platform: self.platform.to_string(),
            available,
        }
    }

    /// What counts in the end is the config's.
    fn must_fit(&self, platform: &Platform) -> Result<(), Error> {
        match distance(&self.platform, platform) {
            Some(_) => Ok(()),
            None => Err(self.platform_not_found(platform.to_string())),
        }
    }

    fn content(&self, asked: &Asked) -> Result<(Arc<ImageContent>, Arc<PullSource>), ImageError> {
        let (backend, progress) = (self.core.backend.clone(), Arc::clone(&self.progress));
        let source = Arc::new(PullSource::new(backend, progress));
        let mut found = asked.found.clone();
        found.references.insert(self.reference.to_string());
        let content = ImageContent::new(found, asked.config.clone(), Arc::clone(&source) as _)?;
        Ok((Arc::new(content), source))
    }

    /// An image that is here is only named; `None` if the backend does not have it after all.
    async fn already(&self, image: Arc<Image>) -> Result<Option<Pulled>, Error> {
        self.must_fit(&image.platform)?;
        for layer in &image.layers {
            self.progress.reach(&layer.blob.digest, LayerPhase::Exists);
        }
        let reference = self.reference.to_string();
        // Also if it has that name: who has taken the content away may not have told.
        match self.core.backend.tag(&image, &reference).await {
            Err(error) if error.is_gone() => return Ok(None),
            tagged => tagged?,
        }
        if image.references.contains(&reference) {
            return Ok(Some(Pulled {
                image,
                is_changed: false,
            }));
        }
        let mut named = Image::clone(&image);
        named.references = BTreeSet::from([reference]);
        self.register(named).await.map(Some)
    }

    /// Brings in what is missing. The backend unpacks each layer while the next ones come. What they came from is not
    /// needed once the image is registered.
    async fn take_in(&self, asked: &Asked) -> Result<(Image, Arc<PullSource>), Unfinished> {
        let turn = self.core.pulls.turns.acquire();
        let turn = self.abandoned.run_until_cancelled(turn).await;
        let _turn = turn.ok_or(Error::Registry(RegistryError::Abandoned))?;
        let (content, source) = self.content(asked).map_err(Error::from)?;
        self.must_fit(&content.platform)?;
        let (downloads, joined) = self.downloads(asked, &content.layers).await?;
        source.begin(&content.layers, downloads.clone());
        let mut image = describe(&content, None);
        let first = FirstFailure::new(source.failed());
        let moved = first.noticing(async {
            let moved = self.move_all(&content.layers, &downloads);
            tokio::select! {
                moved = moved => moved,
                () = self.abandoned.cancelled() => Err(RegistryError::Abandoned.into()),
                () = source.failed().cancelled() => Err(RegistryError::Abandoned.into()),
            }
        });
        let scanned = first.noticing(scan(Arc::clone(&content), Arc::clone(&source)));
        let ingested = first.noticing(async {
            let ingested = self.core.backend.ingest(&image, Arc::clone(&content)).await;
            if let Err(BackendError::LayerInvalid { .. }) = ingested {
                // It was unpacked while it came in.
                source.all_scanned().await;
            }
            ingested.map_err(Error::from)
        });
        let (moved, scanned, ingested) = tokio::join!(moved, scanned, ingested);
        let (Some(()), Some(accounts), Some(bytes)) = (moved, scanned, ingested) else {
            let error = source.unread().unwrap_or_else(|| first.into_error());
            let is_others = is_others(&error, joined) || is_misread(&error, &source);
            if !is_others && !may_go_on(&error) {
                source.discard();
            }
            return Err(match is_others {
                true => Unfinished::Others(error),
                false => Unfinished::Own(error),
            });
        };
        image.unpacked_bytes = bytes;
        image.accounts = Arc::new(accounts);
        Ok((image, source))
    }

    /// The downloads of those that the backend does not have, whole; whether any is somebody else's.
    async fn downloads(
        &self,
        asked: &Asked,
        layers: &[Layer],
    ) -> Result<(HashMap<Digest, Arc<Download>>, Joined), Error> {
        let mut missing = HashMap::new();
        for layer in layers {
            let digest = &layer.descriptor.digest;
            if missing.contains_key(digest) {
                continue;
            }
            if self.is_here(layer).await? {
                self.progress.reach(digest, LayerPhase::Exists);
            } else {
                missing.insert(digest.clone(), &layer.descriptor);
            }
        }
        let (mut downloads, mut any) = (HashMap::new(), Joined::Own);
        for (digest, blob) in missing {
            let (download, joined) = self.core.staging.download(&asked.repository, blob);
            if joined == Joined::Others {
                any = joined;
            }
            downloads.insert(digest, download);
        }
        Ok((downloads, any))
    }

    async fn is_here(&self, layer: &Layer) -> Result<bool, Error> {
        let backend = &self.core.backend;
        let is_there = |error: BackendError| match error.is_gone() {
            true => Ok(false),
            false => Err(Error::from(error)),
        };
        let unpacked = backend.layer_bytes(&layer.chain_id).await;
        if !unpacked.map(|_| true).or_else(is_there)? {
            return Ok(false);
        }
        let blob = backend.open_blob(&layer.descriptor).await;
        blob.map(|_| true).or_else(is_there)
    }

    /// Follows the downloads, some at a time, the lowest layers first.
    async fn move_all(
        &self,
        layers: &[Layer],
        downloads: &HashMap<Digest, Arc<Download>>,
    ) -> Result<(), Error> {
        let mut seen = HashSet::new();
        let digests = layers.iter().map(|layer| &layer.descriptor.digest);
        let ordered = digests.filter(|digest| seen.insert(*digest));
        let moving = ordered.filter_map(|digest| Some((digest, downloads.get(digest)?)));
        let moves = moving.map(|(digest, download)| self.follow(digest, download));
        move_all(moves.collect()).await
    }

    async fn follow(&self, digest: &Digest, download: &Download) -> Result<(), Error> {
        let mut state = download.begin();
        loop {
            let now = state.borrow_and_update().clone();
            match now.result {
                Some(Ok(())) => {
                    self.progress.change(digest, |layer| {
                        layer.done_bytes = layer.total_bytes;
                        layer.phase = LayerPhase::Verifying;
                    });
                    return Ok(());
                }
                Some(Err(error)) => return Err(error.into()),
                None => self.progress.change(digest, |layer| {
                    layer.done_bytes = now.bytes;
                    layer.phase = match now.is_retrying {
                        true => LayerPhase::Retrying,
                        false => LayerPhase::Transferring,
                    };
                }),
            }
            if state.changed().await.is_err() {
                return Err(RegistryError::Abandoned.into());
            }
        }
    }

    async fn register(&self, image: Image) -> Result<Pulled, Error> {
        let cause = self.cause.clone();
        let registered = in_turn(&self.core, move |core| async move {
            register(&core, vec![image], &EventKind::ImagePulled, cause, None).await
        });
        let registered = registered.await?;
        let image = registered.into_iter().next().ok_or(Error::Bug {
            what: "an image was registered and is not there",
        })?;
        Ok(Pulled {
            image,
            is_changed: true,
        })
    }
}

/// Several things are done at once, and one failure ends them all: the others then fail because of it.
struct FirstFailure<'a> {
    failed: &'a CancellationToken,
    error: Mutex<Option<Error>>,
}

impl<'a> FirstFailure<'a> {
    fn new(failed: &'a CancellationToken) -> Self {
        Self {
            failed,
            error: Mutex::default(),
        }
    }

    async fn noticing<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Option<T> {
        match work.await {
            Ok(done) => Some(done),
            Err(error) => {
                self.error.lock().get_or_insert(error);
                self.failed.cancel();
                None
            }
        }
    }

    fn into_error(self) -> Error {
        self.error.into_inner().unwrap_or(Error::Bug {
            what: "a pull has failed for no reason",
        })
    }
}

/// Why an image was not taken in.
enum Unfinished {
    /// Because of what somebody else has done: it may go well the next time.
    Others(Error),
    Own(Error),
}

impl From<Error> for Unfinished {
    fn from(error: Error) -> Self {
        Self::Own(error)
    }
}

/// Somebody has deleted another image with the same layers, or has begun a download that was refused to them.
fn is_others(error: &Error, joined: Joined) -> bool {
    match error {
        Error::Backend(error) => error.is_gone(),
        Error::Registry(RegistryError::NotFound { .. } | RegistryError::AuthFailed { .. }) => {
            joined == Joined::Others
        }
        _ => false,
    }
}

/// A layer was read while it came in, and came differently the second time.
fn is_misread(error: &Error, source: &PullSource) -> bool {
    let may_be = matches!(
        error,
        Error::Image(_) | Error::Backend(_) | Error::Registry(RegistryError::Changed)
    );
    may_be && source.has_changed()
}

/// Whether what has come so far is of use to a later pull: the image is not to blame, nor the room for it.
fn may_go_on(error: &Error) -> bool {
    match error {
        Error::Registry(error) => !matches!(
            error,
            RegistryError::DigestMismatch { .. }
                | RegistryError::NoSpace { .. }
                | RegistryError::Io { .. }
        ),
        Error::Backend(BackendError::Unavailable { .. }) => true,
        _ => false,
    }
}

/// Verifies the layers in their order, and finds the accounts.
async fn scan(content: Arc<ImageContent>, source: Arc<PullSource>) -> Result<AccountFiles, Error> {
    let work = move || {
        let mut scan = RootScan::default();
        loop {
            for (place, layer) in content.layers.iter().enumerate() {
                let mut blob = source.read(layer).map_err(|error| unreadable(&error))?;
                if let Err(error) = scan.layer(&mut blob, layer) {
                    // Only what is its digest's may be blamed: whether it is shows at the end.
                    io::copy(&mut blob, &mut io::sink()).map_err(|error| unreadable(&error))?;
                    return Err(error.into());
                }
                source.is_scanned(place);
            }
            if let Next::Done(accounts) = scan.end_pass() {
                source.accept();
                return Ok(accounts);
            }
        }
    };
    let scanned = tokio::task::spawn_blocking(work).await;
    scanned.unwrap_or(Err(Error::Bug {
        what: "reading layers was interrupted",
    }))
}

fn unreadable(error: &io::Error) -> Error {
    ImageError::Io {
        detail: error.to_string(),
    }
    .into()
}
