//! What the server's things take on disk. Measured when somebody asks, a few at a time, and not for ever.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::core::Core;
use super::query::ContainerFilter;
use super::{Engine, Error, image};
use crate::backend::{Applied, BackendError};
use crate::files;
use crate::model::limits::DISK_USAGE_TIMEOUT;
use crate::model::{Container, State};

/// Containers that are measured at a time.
const AT_A_TIME: usize = 4;

/// What everything takes, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Images: content and unpacked layers.
    pub images: Use,
    /// What containers have written to their roots.
    pub containers: Use,
    /// What is kept of containers' output.
    pub logs: Use,
    /// State and journal.
    pub state: Use,
}

/// What one kind takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    /// How many there are.
    pub count: u64,
    /// What they take, in bytes.
    pub size_bytes: u64,
    /// What pruning would free of that.
    pub reclaimable_bytes: u64,
}

impl Use {
    fn add(&mut self, container: &Container, bytes: u64) {
        self.count += 1;
        self.size_bytes += bytes;
        if matches!(container.state, State::Exited | State::Failed) {
            self.reclaimable_bytes += bytes;
        }
    }
}

impl Engine {
    /// Measures what is on disk. What goes meanwhile, or cannot be measured, counts for nothing.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`], also if it takes longer than [`DISK_USAGE_TIMEOUT`].
    pub async fn disk_usage(&self) -> Result<DiskUsage, Error> {
        self.core.require_backend()?;
        let measuring = self.measure_disk();
        let measured = tokio::time::timeout(DISK_USAGE_TIMEOUT, measuring).await;
        measured.map_err(|_| {
            let error = BackendError::Unavailable {
                backend: self.core.backend.name(),
                detail: format!("disk use was not measured within {DISK_USAGE_TIMEOUT:?}"),
                applied: Applied::No,
            };
            error.into()
        })
    }

    async fn measure_disk(&self) -> DiskUsage {
        let containers = self.list(&ContainerFilter::default(), None, usize::MAX);
        let ((containers, logs), images, state) = tokio::join!(
            measure_containers(self, containers),
            image::usage(&self.core),
            measure_state(&self.core),
        );
        DiskUsage {
            images,
            containers,
            logs,
            state,
        }
    }
}

/// What containers have written to their roots, and what they have said.
async fn measure_containers(engine: &Engine, containers: Vec<Arc<Container>>) -> (Use, Use) {
    let measured = stream::iter(containers).map(|container| async move {
        let root = engine.root_bytes(container.id).await.unwrap_or(0);
        let log = match container.spec.log.disabled {
            true => None,
            false => Some(measured(engine.core.log_dir(container.id)).await),
        };
        (container, root, log)
    });
    let mut measured = measured.buffer_unordered(AT_A_TIME);
    let (mut roots, mut logs) = (Use::default(), Use::default());
    while let Some((container, root, log)) = measured.next().await {
        roots.add(&container, root);
        if let Some(log) = log {
            logs.add(&container, log);
        }
    }
    (roots, logs)
}

async fn measure_state(core: &Core) -> Use {
    let mut state = Use::default();
    for file in core.store.files() {
        if let bytes @ 1.. = measured(file).await {
            state.count += 1;
            state.size_bytes += bytes;
        }
    }
    state
}

async fn measured(path: PathBuf) -> u64 {
    let shown = path.display().to_string();
    let bytes = tokio::task::spawn_blocking(move || files::bytes_below(path)).await;
    match bytes {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => {
            tracing::debug!(path = shown, %error, "files are not measured");
            0
        }
        Err(_) => 0,
    }
}
