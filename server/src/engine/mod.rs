//! The domain: containers and images, one actor per container, the events they make.
//!
//! Commands go to the container's actor (`container::actor`) together with their [`Cause`](crate::model::Cause); reads see
//! snapshots and the journal and wait for nobody. Knows no tonic, no http, no containerd.

mod api;
mod commands;
pub mod container;
mod core;
pub mod error;
pub mod exec;
mod files;
mod idempotency;
mod image;
mod leave;
pub mod logs;
mod names;
pub mod query;
mod recovery;
mod registry;
pub mod session;
mod stats;
mod sweep;
#[cfg(test)]
mod tests;
mod usage;
pub mod wait;
pub mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::watch as channel;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use api::*;
pub use core::Settings;
pub use error::Error;
pub use files::{Download, FileUpload};
pub use image::{
    Export, LayerPhase, LayerProgress, News, PullImage, PullNews, Pulled, Pulling, PushImage,
    Pushing, Remark, TransferProgress,
};
pub use stats::{ContainerSample, RoundPart, StatsPage, StatsRounds};
pub use usage::{DiskUsage, Use};

pub use crate::backend::proc::ProcessInfo;

use self::core::Core;
use crate::backend::{Backend, ContainerBackend, Status};
use crate::journal::{Cursor, Journal};
use crate::model::{Container, ContainerId, Image, Run, State};
use crate::stdio::Stdio;
use crate::store::{Recovered, Store};
use query::{ContainerFilter, ContainerPosition};
use recovery::Readiness;
use wait::{Condition, Wait};

/// The engine's handle. Clones are the same engine.
#[derive(Debug, Clone)]
pub struct Engine {
    core: Arc<Core>,
    readiness: channel::Receiver<Readiness>,
}

impl Engine {
    /// Takes up what the store had and begins to bring it in line with the backend.
    #[must_use]
    pub fn open(
        settings: Settings,
        store: Store,
        recovered: Recovered,
        backend: Backend,
        stdio: Stdio,
    ) -> Self {
        let tasks = TaskTracker::new();
        let downloads = settings.state_dir.join("downloads");
        let core = Arc::new(Core {
            settings,
            store,
            backend,
            stdio,
            registry: registry::Registry::default(),
            execs: exec::registry::ExecRegistry::default(),
            images: image::Images::default(),
            pulls: image::Pulls::default(),
            staging: crate::registry::Staging::new(downloads, tasks.clone()),
            idempotency: idempotency::Idempotency::default(),
            file_turns: crate::files::Turns::default(),
            joinings: AtomicU64::default(),
            tasks,
            shutdown: CancellationToken::new(),
            draining: CancellationToken::new(),
        });
        image::clear_scratch(&core);
        let readiness = recovery::begin(&core, recovered);
        Self { core, readiness }
    }

    /// Returns once states are settled, or once it is clear that the backend is not there: from then
    /// on everything that does not need it works.
    pub async fn ready(&self) {
        let mut readiness = self.readiness.clone();
        // An error means that the engine has ended: then there is nothing to wait for.
        drop(
            readiness
                .wait_for(|readiness| *readiness != Readiness::Recovering)
                .await,
        );
    }

    /// Announces the end.
    pub async fn drain(&self) {
        self.core.draining.cancel();
        recovery::announce(&self.core, crate::model::EventKind::SystemDraining).await;
    }

    /// Ends all tasks; operations in flight are finished first. Containers stay as they are.
    pub async fn shutdown(&self) {
        self.core.shutdown.cancel();
        self.core.tasks.close();
        self.core.tasks.wait().await;
    }

    /// The live container that `key` names, by id or exact name.
    ///
    /// # Errors
    /// [`Error::ContainerNotFound`]; a deleted container is not found.
    pub fn get(&self, key: &str) -> Result<Arc<Container>, Error> {
        self.core.registry.find(key).map(|entry| entry.container())
    }

    /// Containers that match, in order of creation, after `after`; at most `limit`.
    #[must_use]
    pub fn list(
        &self,
        filter: &ContainerFilter,
        after: Option<ContainerPosition>,
        limit: usize,
    ) -> Vec<Arc<Container>> {
        self.core.registry.list(filter, after, limit)
    }

    /// The ids of EXITED and FAILED containers that match, in order of creation.
    #[must_use]
    pub fn prunable(&self, filter: &ContainerFilter) -> Vec<ContainerId> {
        let over =
            |container: &Arc<Container>| matches!(container.state, State::Exited | State::Failed);
        self.list(filter, None, usize::MAX)
            .iter()
            .filter(|c| over(c))
            .map(|c| c.id)
            .collect()
    }

    /// What a container has written to its root, in bytes; `None` if nobody can tell now.
    pub async fn root_bytes(&self, id: ContainerId) -> Option<u64> {
        let bytes = self.core.backend.root_bytes(id).await;
        bytes
            .inspect_err(|error| tracing::debug!(container = %id, %error, "a root is not measured"))
            .ok()
    }

    /// Waits for one of `conditions` (never empty; in the request's order) to hold for `run`, or for
    /// the current or latest run if that is 0.
    ///
    /// # Errors
    /// [`Error::ContainerNotFound`], [`Error::Store`].
    pub async fn wait(
        &self,
        key: &str,
        conditions: Vec<Condition>,
        run: Run,
    ) -> Result<Wait, Error> {
        let snapshots = self.core.snapshots(key).await?;
        Ok(Wait::new(snapshots, conditions, run))
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        self.core.store.journal()
    }

    /// The resume point of now: take it before reading snapshots, and nothing is missed.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        let newest = *self.journal().newest().borrow();
        self.journal().cursor(newest)
    }

    /// Backend and store.
    #[must_use]
    pub fn health(&self) -> Health {
        let mut backend = self.core.backend.status().borrow().clone();
        if matches!(backend, Status::Connected { .. })
            && *self.readiness.borrow() != Readiness::Settled
        {
            backend = Status::Connecting {
                detail: "states are being reconciled".to_owned(),
            };
        }
        Health {
            backend,
            store: self.core.store.health().borrow().clone(),
        }
    }

    /// `containerd` or `fake`.
    #[must_use]
    pub fn backend_name(&self) -> &'static str {
        self.core.backend.name()
    }

    /// The image that `key` names: a reference, a digest or an id.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`].
    pub fn image(&self, key: &str) -> Result<Arc<Image>, Error> {
        self.core.images.find(key)
    }

    /// All images, in order of creation and id.
    #[must_use]
    pub fn images(&self) -> Vec<Arc<Image>> {
        self.core.images.list()
    }

    /// How many containers, in any state, use an image.
    #[must_use]
    pub fn containers_using(&self, image: &Image) -> usize {
        self.core.registry.users_of(&image.id).len()
    }
}
