//! What the parts of the engine share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;
use super::idempotency::Idempotency;
use super::image::Images;
use super::registry::Registry;
use crate::backend::{Applied, Backend, BackendError, ContainerBackend, Status};
use crate::model::ContainerId;
use crate::store::Store;

/// What can be set about the engine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where output files and imports' scratch space live.
    pub state_dir: PathBuf,
    /// Grace period of stops whose request and spec name none.
    pub stop_grace_period: Duration,
    /// Containers at most.
    pub max_containers: usize,
}

/// Shared by the facade, the actors and the background tasks.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) backend: Backend,
    pub(crate) registry: Registry,
    pub(crate) images: Images,
    pub(crate) idempotency: Idempotency,
    /// Owns every task of the engine.
    pub(crate) tasks: TaskTracker,
    /// Ends every task of the engine.
    pub(crate) shutdown: CancellationToken,
}

impl Core {
    /// Refuses at once what the backend could not do now, before anything is changed.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`], not applied.
    pub(crate) fn require_backend(&self) -> Result<(), Error> {
        let detail = match &*self.backend.status().borrow() {
            Status::Connected { .. } => return Ok(()),
            Status::Connecting { detail } | Status::Disconnected { detail } => detail.clone(),
        };
        let backend = self.backend.name();
        Err(BackendError::Unavailable {
            backend,
            detail,
            applied: Applied::No,
        }
        .into())
    }

    /// The directory of a container's files.
    pub(crate) fn container_dir(&self, id: ContainerId) -> PathBuf {
        self.settings
            .state_dir
            .join("containers")
            .join(id.to_string())
    }

    /// Runs a task that the engine owns.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }
}
