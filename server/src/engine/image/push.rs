//! Pushing: what a registry does not have of an image, then its manifest.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::manifest::stored;
use super::transfer::{Following, LayerPhase, News, Progress, Transfer, move_all};
use crate::backend::{Backend, BackendError, ContainerBackend};
use crate::engine::core::Core;
use crate::engine::{Engine, Error};
use crate::model::Image;
use crate::model::image::Descriptor;
use crate::oci::reference::{Reference, Version};
use crate::registry::{
    Content, Credentials, Outgoing, PushError, Pushed, RegistryError, Repository,
};

/// What to push.
#[derive(Debug, Clone)]
pub struct PushImage {
    /// A reference, a digest or an id.
    pub image: String,
    /// Where to; `None` for where `image` says.
    pub destination: Option<Reference>,
    /// Who asks.
    pub credentials: Option<Credentials>,
}

/// A follower of a push. It ends with its caller's going.
#[derive(Debug)]
pub struct Pushing {
    transfer: Transfer<Descriptor>,
    following: Following,
}

impl Engine {
    /// Pushes an image. News come no more often than `interval` says.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`], [`Error::InvalidField`] for an id without a destination, or a destination with another
    /// digest; all that happens later comes with the news.
    pub fn push_image(&self, push: PushImage, interval: Duration) -> Result<Pushing, Error> {
        if self.core.draining.is_cancelled() {
            return Err(Error::Draining);
        }
        let image = self.core.images.find(&push.image)?;
        let destination = destination(&push, &image)?;
        let transfer = Transfer::begin(&self.core, |progress, abandoned| {
            let work = Work {
                core: Arc::clone(&self.core),
                image,
                destination,
                credentials: push.credentials,
                progress,
            };
            async move {
                let result = abandoned.run_until_cancelled(work.run()).await;
                result.unwrap_or(Err(RegistryError::Abandoned.into()))
            }
        });
        Ok(Pushing {
            transfer,
            following: Following::new(interval),
        })
    }
}

impl Pushing {
    /// What comes next; `None` after the end.
    pub async fn next(&mut self) -> Option<Result<News<Descriptor>, Error>> {
        self.following.next(&self.transfer).await
    }
}

fn destination(push: &PushImage, image: &Image) -> Result<Reference, Error> {
    let invalid = |field: &str, problem: &str| Error::InvalidField {
        field: field.to_owned(),
        problem: problem.to_owned(),
    };
    let destination = match &push.destination {
        Some(destination) => destination.clone(),
        None => Reference::parse(&push.image).map_err(|_| {
            invalid(
                "destination",
                "must be set for an image that is named by id",
            )
        })?,
    };
    match &destination.version {
        Version::Digest(digest) if *digest != image.target.digest => Err(invalid(
            "destination",
            "has the digest of something else; name a tag",
        )),
        Version::Digest(_) | Version::Tag(_) => Ok(destination),
    }
}

struct Work {
    core: Arc<Core>,
    image: Arc<Image>,
    destination: Reference,
    credentials: Option<Credentials>,
    progress: Arc<Progress>,
}

impl Work {
    async fn run(self) -> Result<Descriptor, Error> {
        self.core.require_backend()?;
        let found = stored(&self.core, &self.image).await?;
        let registries = &self.core.settings.registries;
        let credentials = self.credentials.clone();
        let repository = registries
            .repository(&self.destination, credentials)
            .await?;
        let mut seen = HashSet::new();
        let blobs = found.layers.iter().chain([&found.config]);
        let blobs: Vec<&Descriptor> = blobs.filter(|blob| seen.insert(&blob.digest)).collect();
        let sizes = blobs
            .iter()
            .map(|blob| (blob.digest.clone(), blob.size_bytes));
        self.progress.begin(sizes);
        let pushes = blobs.into_iter().map(|blob| self.push(&repository, blob));
        move_all(pushes.collect()).await?;
        let version = &self.destination.version;
        repository
            .push_manifest(version, &found.target, &found.manifest)
            .await?;
        Ok(found.target)
    }

    async fn push(&self, repository: &Repository, blob: &Descriptor) -> Result<(), Error> {
        let outgoing = FromBackend {
            backend: &self.core.backend,
            progress: &self.progress,
        };
        let pushed = repository.push_blob(blob, &outgoing).await;
        let phase = match pushed {
            Ok(Pushed::Now) => LayerPhase::Done,
            Ok(Pushed::Before) => LayerPhase::Exists,
            Err(PushError::Registry(error)) => return Err(error.into()),
            Err(PushError::Content(error)) => return Err(error.into()),
        };
        self.progress.reach(&blob.digest, phase);
        Ok(())
    }
}

struct FromBackend<'a> {
    backend: &'a Backend,
    progress: &'a Progress,
}

impl Outgoing for FromBackend<'_> {
    type Error = BackendError;

    async fn open(&self, blob: &Descriptor) -> Result<Content<BackendError>, BackendError> {
        self.backend.open_blob(blob).await
    }

    fn sent(&self, blob: &Descriptor, bytes: u64) {
        self.progress.change(&blob.digest, |layer| {
            layer.phase = LayerPhase::Transferring;
            layer.done_bytes = bytes;
        });
    }

    fn retries(&self, blob: &Descriptor) {
        self.progress.reach(&blob.digest, LayerPhase::Retrying);
    }
}
