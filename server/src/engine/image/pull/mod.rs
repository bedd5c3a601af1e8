//! Pulling: one task for all who want the same image with the same rights; each follows it at its own pace.
//!
//! ```text
//! reference --registry--> manifest, config --> layers: those missing --staging--> files that grow
//!                                                  source: scan (diff ids, accounts)   backend.ingest (unpacks)
//! all whole and right --> register: names, events
//! ```
//!
//! Nothing is visible before the last step. What an interrupted pull has staged is there for the next one.

mod resolve;
mod source;
mod work;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::references::{commit, image_event};
use super::transfer::{Following, News, Transfer};
use crate::backend::BackendError;
use crate::engine::core::Core;
use crate::engine::{Call, CreateContainer, Engine, Error, PullPolicy};
use crate::model::image::{Descriptor, Platform};
use crate::model::limits::{MAX_PULLS, TRANSFER_NEWS};
use crate::model::{Cause, EventKind, Failure, Image, PullFailure};
use crate::oci::image::ImageError;
use crate::oci::reference::Reference;
use crate::registry::{Credentials, RegistryError};

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullImage {
    /// From where, and which.
    pub reference: Reference,
    /// For this platform; `None` for the host's.
    pub platform: Option<Platform>,
    /// Who asks.
    pub credentials: Option<Credentials>,
    /// Whether to go on if nobody follows any more.
    pub continues: bool,
}

/// An image that was pulled.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image.
    pub image: Arc<Image>,
    /// False if it was all here.
    pub is_changed: bool,
}

/// What a follower of a pull is told.
#[derive(Debug, Clone)]
pub enum PullNews {
    /// What the reference resolved to. Always first.
    Resolved(Descriptor),
    /// What comes then.
    Further(News<Pulled>),
}

/// The pulls under way.
#[derive(Debug)]
pub(crate) struct Pulls {
    under_way: Mutex<HashMap<Key, Weak<Pull>>>,
    /// Of those that take content in: each holds threads meanwhile, and there are not any number of these.
    turns: Semaphore,
}

impl Default for Pulls {
    fn default() -> Self {
        Self {
            under_way: Mutex::default(),
            turns: Semaphore::new(MAX_PULLS),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    reference: String,
    platform: String,
    credentials: Option<Credentials>,
}

/// One pull. It ends with its last holder.
#[derive(Debug)]
struct Pull {
    resolved: watch::Receiver<Option<Descriptor>>,
    transfer: Transfer<Pulled>,
}

/// A follower of a pull. Who drops the last one ends it, unless it is to continue.
#[derive(Debug)]
pub struct Pulling {
    pull: Arc<Pull>,
    is_resolved: bool,
    following: Following,
}

impl Engine {
    /// Pulls an image, or joins who does. News come no more often than `interval` says.
    ///
    /// # Errors
    /// [`Error::Draining`]; all that happens later comes with the news.
    pub fn pull_image(
        &self,
        cause: Cause,
        pull: PullImage,
        interval: Duration,
    ) -> Result<Pulling, Error> {
        if self.core.draining.is_cancelled() {
            return Err(Error::Draining);
        }
        Ok(Pulling {
            pull: join(&self.core, cause, pull),
            is_resolved: false,
            following: Following::new(interval),
        })
    }

    /// The pull that has to come before a create; `None` if there is nothing to pull.
    ///
    /// # Errors
    /// As [`Engine::pull_image`].
    pub(in crate::engine) fn pull_before(
        &self,
        cause: &Cause,
        create: &CreateContainer,
    ) -> Result<Option<Pulling>, Error> {
        let image = &create.spec.image;
        let is_here = || {
            let platform = create.platform.as_ref();
            self.core.images.find_for(image, platform).is_ok()
        };
        let is_wanted = match create.pull.policy {
            PullPolicy::Never => false,
            PullPolicy::IfMissing => !is_here(),
            PullPolicy::Always => true,
        };
        // An id is in no registry.
        let reference = Reference::parse(image).ok().filter(|_| is_wanted);
        let Some(reference) = reference else {
            return Ok(None);
        };
        let pull = PullImage {
            reference,
            platform: create.platform.clone(),
            credentials: create.pull.credentials.clone(),
            continues: false,
        };
        self.pull_image(cause.clone(), pull, TRANSFER_NEWS)
            .map(Some)
    }

    /// The pull that has to come before a run, whose caller is told of it; `None` if there is nothing to pull, or the
    /// call has been answered before.
    ///
    /// # Errors
    /// As [`Engine::pull_image`].
    pub fn pull_before_run(
        &self,
        call: &Call,
        create: &CreateContainer,
    ) -> Result<Option<Pulling>, Error> {
        let repeated = call.deduplication.as_ref();
        if repeated.is_some_and(|request| self.core.idempotency.is_known(request)) {
            return Ok(None);
        }
        self.pull_before(&call.cause, create)
    }
}

fn join(core: &Arc<Core>, cause: Cause, wanted: PullImage) -> Arc<Pull> {
    let platform = wanted.platform.clone().unwrap_or_else(Platform::host);
    let key = Key {
        reference: wanted.reference.to_string(),
        platform: platform.to_string(),
        credentials: wanted.credentials.clone(),
    };
    let mut pulls = core.pulls.under_way.lock();
    pulls.retain(|_, pull| pull.strong_count() > 0);
    let joined = pulls.get(&key).and_then(Weak::upgrade);
    // One that is over is not the answer to a question that came later.
    let joined = joined.filter(|pull| !pull.transfer.is_over());
    let continues = wanted.continues;
    let pull = joined.unwrap_or_else(|| {
        let pull = Arc::new(begin(core, cause, wanted, platform));
        pulls.insert(key, Arc::downgrade(&pull));
        pull
    });
    if continues {
        let held = Arc::clone(&pull);
        core.spawn(async move { drop(held.transfer.end().await) });
    }
    pull
}

fn begin(core: &Arc<Core>, cause: Cause, wanted: PullImage, platform: Platform) -> Pull {
    let (resolved, is_resolved) = watch::channel(None);
    let transfer = Transfer::begin(core, |progress, abandoned| {
        let work = work::Work {
            core: Arc::clone(core),
            cause,
            reference: wanted.reference,
            platform,
            credentials: wanted.credentials,
            progress,
            abandoned,
        };
        async move {
            let result = work.run(resolved).await;
            if let Err(error) = &result {
                failed(&work, error).await;
            }
            result
        }
    });
    Pull {
        resolved: is_resolved,
        transfer,
    }
}

/// Events tell of what went wrong; that nobody wanted it any more did not.
async fn failed(work: &work::Work, error: &Error) {
    if matches!(error, Error::Registry(RegistryError::Abandoned)) {
        return;
    }
    let failure = Failure::PullFailed {
        kind: kind_of(error),
        detail: error.to_string(),
    };
    let (name, cause) = (work.reference.to_string(), work.cause.clone());
    let event = image_event(EventKind::ImagePullFailed { failure }, &name, Some(cause));
    if let Err(error) = commit(&work.core, Vec::new(), vec![event]).await {
        tracing::warn!(%error, "the failure of a pull is not in the journal");
    }
}

fn kind_of(error: &Error) -> PullFailure {
    match error {
        Error::Registry(error) => match error {
            RegistryError::NotFound { .. } => PullFailure::NotFound,
            RegistryError::AuthFailed { .. } => PullFailure::AuthFailed,
            RegistryError::RateLimited { .. } => PullFailure::RateLimited,
            RegistryError::Unavailable { .. } => PullFailure::Unavailable,
            RegistryError::ResponseInvalid { .. } => PullFailure::ResponseInvalid,
            RegistryError::Settings { .. } => PullFailure::SettingsInvalid,
            RegistryError::DigestMismatch { .. } => PullFailure::DigestMismatch,
            RegistryError::NoSpace { .. } => PullFailure::NoSpace,
            RegistryError::Io { .. } | RegistryError::Changed | RegistryError::Abandoned => {
                PullFailure::Internal
            }
        },
        Error::Image(error) => match error {
            ImageError::Invalid { .. } => PullFailure::ImageInvalid,
            ImageError::DigestMismatch { .. } => PullFailure::DigestMismatch,
            ImageError::PlatformNotFound { .. } => PullFailure::PlatformNotFound,
            ImageError::NoSpace { .. } => PullFailure::NoSpace,
            ImageError::Io { .. } => PullFailure::Internal,
        },
        Error::PlatformNotFound { .. } => PullFailure::PlatformNotFound,
        Error::Backend(BackendError::LayerInvalid { .. }) => PullFailure::ImageInvalid,
        Error::Backend(BackendError::NoSpace { .. }) => PullFailure::NoSpace,
        Error::Backend(BackendError::DigestMismatch { .. }) => PullFailure::DigestMismatch,
        _ => PullFailure::Internal,
    }
}

impl Pulling {
    /// What comes next; `None` after the end.
    pub async fn next(&mut self) -> Option<Result<PullNews, Error>> {
        if !self.is_resolved {
            self.is_resolved = true;
            let mut resolved = self.pull.resolved.clone();
            let found = resolved.wait_for(Option::is_some).await;
            // Without one, the end is next.
            if let Some(target) = found.ok().and_then(|found| found.clone()) {
                return Some(Ok(PullNews::Resolved(target)));
            }
        }
        let next = self.following.next(&self.pull.transfer).await?;
        Some(next.map(PullNews::Further))
    }

    /// Waits for the end, and tells nothing before it.
    ///
    /// # Errors
    /// Why the image was not pulled.
    pub async fn end(self) -> Result<Pulled, Error> {
        self.pull.transfer.end().await
    }
}
