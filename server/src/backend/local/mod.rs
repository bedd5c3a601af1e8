//! Containers with nothing but the keeper and the kernel.
//!
//! ```text
//! create, delete --> roots, images      directories below STATE/local
//! start, exec    --> plan --> keeper    control groups are made here, the process there
//! exits          <-- keeper             handed to the handles through `live`
//! find           --> control groups, keeper, recordings
//! ```
//!
//! There is no record of its own: that a run is there is told by its control group, `/wharf/ID.RUN`, which process
//! it is by the keeper, or if that has died, by the recording of its streams, and how it ended by the same.
//! Decides nothing about containers; that is the engine's.

mod exec;
mod failure;
mod find;
mod images;
mod launch;
mod live;
mod plan;
mod roots;
mod runtime;
mod task;
mod trash;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::exec::LocalExec;
use self::images::Images;
use self::live::Lives;
use self::roots::Roots;
pub use self::task::LocalTask;
use self::trash::Trash;
use super::{
    BackendError, BlobStream, ContainerBackend, Found, FoundTask, Sample, Start, Status, network,
};
use crate::cgroup::{Cgroup, Cgroups};
use crate::model::container::RootMount;
use crate::model::image::Descriptor;
use crate::model::{Container, ContainerId, Digest, Image, Run};
use crate::oci::image::ImageContent;
use crate::oci::runtime_spec::RuntimeOptions;
use crate::oci::seccomp::Filters;
use crate::stdio::{Directories, Processes};

/// What errors call it.
const BACKEND: &str = "local";

/// What the backend needs.
#[derive(Debug)]
pub struct LocalOptions {
    /// The server's state; the backend's is in `local` below it.
    pub state_dir: PathBuf,
    /// The way to the keeper.
    pub processes: Processes,
    /// The OCI runtime of containers that name none; `None`: the keeper launches them.
    pub runtime: Option<String>,
    /// What besides their records decides how containers are started.
    pub spec: RuntimeOptions,
}

/// The local backend. Clones are the same.
#[derive(Clone)]
pub struct Local {
    inner: Arc<Inner>,
}

struct Inner {
    images: Images,
    roots: Roots,
    trash: Arc<Trash>,
    cgroups: Cgroups,
    filters: Filters,
    processes: Processes,
    directories: Directories,
    runtime: Option<String>,
    spec: RuntimeOptions,
    /// Of processes whose spec names none: those of this process, not the keeper's.
    default_limits: Vec<(u32, u64, u64)>,
    lives: Lives,
    status: watch::Sender<Status>,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

impl fmt::Debug for Local {
    /// Handles of tasks hold one each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}

impl Local {
    /// Opens the store of images and roots, and clears up what an earlier server was in the middle of. Blocking.
    /// To be called within a Tokio runtime.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub fn open(options: LocalOptions) -> Result<Self, BackendError> {
        let LocalOptions {
            state_dir,
            processes,
            runtime,
            spec,
        } = options;
        let directory = state_dir.join("local");
        let stop = CancellationToken::new();
        let trash = Trash::open(directory.join("trash"), stop.clone());
        let trash = trash.map_err(|error| images::storage_failed(&directory, &error))?;
        let trash = Arc::new(trash);
        let local = Self {
            inner: Arc::new(Inner {
                images: Images::open(&directory, Arc::clone(&trash))?,
                roots: Roots::open(&directory, Arc::clone(&trash))?,
                trash,
                cgroups: Cgroups::detect(&spec.cgroup_parent),
                filters: Filters::default(),
                processes,
                directories: Directories::below(&state_dir),
                runtime,
                spec,
                default_limits: vec![open_files()],
                lives: Lives::default(),
                status: watch::Sender::new(Status::Connecting {
                    detail: String::new(),
                }),
                stop,
                tasks: Mutex::new(JoinSet::new()),
            }),
        };
        local.aside(Inner::clear_up);
        local.follow_the_keeper();
        Ok(local)
    }

    /// Without the keeper nothing can be started, and nobody tells what ends.
    fn follow_the_keeper(&self) {
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.lock().spawn(async move {
            let mut is_up = inner.processes.is_up();
            let following = async {
                // At first it is being started; that it does not come up is news after a while.
                let _ = inner.processes.ready().await;
                loop {
                    let status = status(*is_up.borrow_and_update());
                    inner.status.send_replace(status);
                    if is_up.changed().await.is_err() {
                        return;
                    }
                }
            };
            let _ = inner.stop.run_until_cancelled(following).await;
        });
    }

    /// Ends the tasks that watch control groups, and those that remove files. Containers go on.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.inner.tasks.lock());
        while tasks.join_next().await.is_some() {}
    }

    /// Work on files, on a thread of its own, that nobody waits for.
    fn aside(&self, work: impl FnOnce(&Inner) + Send + 'static) {
        let inner = Arc::clone(&self.inner);
        let mut tasks = self.inner.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_blocking(move || work(&inner));
    }

    /// Work on files, on a thread of its own.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, BackendError> + Send + 'static,
    ) -> Result<T, BackendError> {
        let inner = Arc::clone(&self.inner);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|_| Err(interrupted()))
    }
}

impl Inner {
    /// What a run uses now; `None` if its control group is gone.
    fn usage(&self, container: &Container) -> Result<Option<Sample>, BackendError> {
        let name = cgroup_name(container.id, container.run);
        let (time, instant) = (SystemTime::now(), Instant::now());
        let usage = self.cgroups.open(&name).usage()?;
        Ok(usage.map(|usage| Sample {
            time,
            instant,
            usage,
            networks: network::usage(container),
        }))
    }

    /// Removes what there is of a run, with whatever is alive in it.
    fn remove_run(&self, cgroup: &Cgroup) -> Result<(), BackendError> {
        cgroup.destroy()?;
        self.roots.forget_run(cgroup.name())
    }

    /// Removes what of images nothing needs any more, and the files of what is deleted.
    fn clear_up(&self) {
        self.images.collect(|| self.roots.layers_in_use());
        self.trash.empty();
    }
}

fn interrupted() -> BackendError {
    failure::refused("the work was interrupted".to_owned())
}

fn status(is_keeper_up: bool) -> Status {
    if is_keeper_up {
        Status::Connected {
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    } else {
        Status::Disconnected {
            detail: "the keeper is not there".to_owned(),
        }
    }
}

/// The keeper raises its own as far as it can; a container's is the one that the server was given.
fn open_files() -> (u32, u64, u64) {
    let limit = getrlimit(Resource::Nofile);
    let infinity = u64::MAX;
    (
        plan::OPEN_FILES,
        limit.current.unwrap_or(infinity),
        limit.maximum.unwrap_or(infinity),
    )
}

/// The control group of a run, and in its name all that a restarted server must know of it.
fn cgroup_name(id: ContainerId, run: Run) -> String {
    Directories::run_stream(id, run)
}

impl ContainerBackend for Local {
    type Task = LocalTask;

    async fn create(&self, container: &Container) -> Result<Vec<RootMount>, BackendError> {
        let (id, chain_id) = (container.id, container.image.chain_id.clone());
        self.blocking(move |inner| inner.roots.create(&inner.images, id, &chain_id))
            .await
    }

    /// The next start reads the record.
    async fn update(&self, _container: &Container) -> Result<(), BackendError> {
        Ok(())
    }

    async fn start(&self, start: Start) -> Result<LocalTask, BackendError> {
        launch::start(self, start).await
    }

    fn attach(&self, container: &Container, found: FoundTask) -> LocalTask {
        task::attach(self, container, found)
    }

    async fn delete(&self, id: ContainerId) -> Result<(), BackendError> {
        let (reply, deleted) = oneshot::channel();
        self.aside(move |inner| {
            // Whoever asked waits for this, but not for the files.
            drop(reply.send(inner.roots.delete(&inner.images, id)));
            inner.clear_up();
        });
        deleted.await.unwrap_or_else(|_| Err(interrupted()))
    }

    async fn forget_start(&self, container: &Container) -> Result<(), BackendError> {
        find::discard(self, container.id).await
    }

    async fn discard_task(&self, id: ContainerId) -> Result<(), BackendError> {
        find::discard(self, id).await
    }

    async fn find(&self, id: ContainerId) -> Result<Found, BackendError> {
        find::find(self, id).await
    }

    async fn inventory(&self) -> Result<HashMap<ContainerId, Found>, BackendError> {
        find::inventory(self).await
    }

    async fn usage(
        &self,
        containers: &[Arc<Container>],
    ) -> Result<Vec<Option<Sample>>, BackendError> {
        let containers = containers.to_vec();
        self.blocking(move |inner| containers.iter().map(|it| inner.usage(it)).collect())
            .await
    }

    async fn root_bytes(&self, id: ContainerId) -> Result<u64, BackendError> {
        self.blocking(move |inner| inner.roots.bytes(id)).await
    }

    async fn ingest(&self, image: &Image, content: Arc<ImageContent>) -> Result<u64, BackendError> {
        let image = image.clone();
        self.blocking(move |inner| inner.images.ingest(&image, &content))
            .await
    }

    async fn tag(&self, image: &Image, reference: &str) -> Result<(), BackendError> {
        let (image, reference) = (image.clone(), reference.to_owned());
        self.blocking(move |inner| inner.images.tag(&image, &reference))
            .await
    }

    async fn untag(&self, reference: &str) -> Result<(), BackendError> {
        let reference = reference.to_owned();
        self.blocking(move |inner| {
            inner.images.untag(&reference)?;
            inner.clear_up();
            Ok(())
        })
        .await
    }

    async fn names(&self) -> Result<Vec<String>, BackendError> {
        self.blocking(|inner| inner.images.names()).await
    }

    async fn layer_bytes(&self, chain_id: &Digest) -> Result<u64, BackendError> {
        let chain_id = chain_id.clone();
        self.blocking(move |inner| inner.images.layer_bytes(&chain_id))
            .await
    }

    async fn open_blob(&self, blob: &Descriptor) -> Result<BlobStream, BackendError> {
        let wanted = blob.clone();
        let file = self
            .blocking(move |inner| inner.images.open_blob(&wanted))
            .await?;
        Ok(images::blob_chunks(blob, file))
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.inner.status.subscribe()
    }
}
