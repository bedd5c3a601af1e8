//! containerd as a backend, through its generated stubs.
//!
//! ```text
//! containers, launch, task, exec, discard, find, metrics --calls--> connection --> containerd
//!          | expect, adopt                                             |
//!          v                                                           v
//!        runs  <-------------------- exits, OOM kills ------------- events
//! ```
//!
//! `connection` bounds and traces every call, `error` says what a failure means, `events` is the one
//! task this backend owns: it keeps the event subscription and the status. Number and order of calls
//! per operation are part of the design: no call asks for what is known already. It decides nothing
//! about containers; that is the engine's.

mod cgroup;
mod connection;
mod containers;
mod discard;
mod error;
mod events;
mod exec;
mod exit;
mod find;
mod images;
mod launch;
mod metrics;
mod name;
mod observer;
mod reconcile;
mod rename;
mod runs;
mod task;
mod tasks;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::cgroup::Cgroups;
use self::connection::Connection;
pub use self::connection::InvalidNamespace;
pub use self::exec::ContainerdExec;
use self::name::{Name, Names};
use self::observer::Observer;
use self::runs::Runs;
pub use self::task::ContainerdTask;
use super::{
    BackendError, BlobStream, ContainerBackend, Found, FoundState, FoundTask, Sample, Start, Status,
};
use crate::model::container::RootMount;
use crate::model::image::Descriptor;
use crate::model::{Container, ContainerId, Digest, Image, ServerId};
use crate::oci::image::ImageContent;
use crate::oci::runtime_spec::{Host, RuntimeOptions};

/// The snapshotter that roots and layers live in.
const SNAPSHOTTER: &str = "overlayfs";

/// What to connect to, and as whom.
#[derive(Debug, Clone)]
pub struct ContainerdOptions {
    /// containerd's socket.
    pub address: PathBuf,
    /// The containerd namespace of everything that this server makes.
    pub namespace: String,
    /// Who made a container: what others made in the same namespace is left alone.
    pub server_id: ServerId,
    /// The runtime of containers that name none: an OCI runtime such as `runc`, or a shim such as
    /// `io.containerd.runc.v2`.
    pub runtime: String,
    /// What besides their records decides how containers are started.
    pub spec: RuntimeOptions,
}

impl ContainerdOptions {
    /// Namespace `wharf`, runtime `runc`, on this host. Reads a few small files; blocking.
    #[must_use]
    pub fn new(address: PathBuf, server_id: ServerId) -> Self {
        Self {
            address,
            namespace: "wharf".to_owned(),
            server_id,
            runtime: "runc".to_owned(),
            spec: RuntimeOptions::new(Host::detect()),
        }
    }
}

/// One containerd. Clones are the same.
#[derive(Clone)]
pub struct Containerd {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Connection,
    server_id: ServerId,
    runtime: String,
    spec_options: RuntimeOptions,
    observer: Observer,
    cgroups: Cgroups,
    names: Names,
    status: watch::Receiver<Status>,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<Option<()>>>,
}

impl fmt::Debug for Containerd {
    /// Handles of tasks hold one each: the runs of all others are not worth showing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Containerd")
            .field("namespace", &self.inner.connection.namespace())
            .field("server_id", &self.inner.server_id)
            .finish_non_exhaustive()
    }
}

impl Containerd {
    /// Begins to connect, and goes on until [`Self::shutdown`]; containerd need not be there yet.
    /// To be called within a Tokio runtime.
    ///
    /// # Errors
    /// If the namespace cannot be one.
    pub fn connect(options: ContainerdOptions) -> Result<Self, InvalidNamespace> {
        let connection = Connection::new(&options.address, &options.namespace)?;
        let cgroups = Cgroups {
            parent: options.spec.cgroup_parent.clone(),
        };
        let observer = Observer::new(cgroups.clone());
        let stop = CancellationToken::new();
        let (events, status) =
            events::Events::new(connection.clone(), observer.clone(), options.server_id);
        let mut tasks = JoinSet::new();
        tasks.spawn(stop.clone().run_until_cancelled_owned(events.run()));
        Ok(Self {
            inner: Arc::new(Inner {
                connection: connection.guarded_by(status.clone()),
                server_id: options.server_id,
                runtime: options.runtime,
                spec_options: options.spec,
                observer,
                cgroups,
                names: Names::default(),
                status,
                stop,
                tasks: Mutex::new(tasks),
            }),
        })
    }

    /// Ends the event subscription, and waits for that. Containers go on; calls still work.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.inner.tasks.lock());
        while tasks.join_next().await.is_some() {}
    }

    fn connection(&self) -> &Connection {
        &self.inner.connection
    }

    fn observer(&self) -> &Observer {
        &self.inner.observer
    }

    fn runs(&self) -> &Runs<Name> {
        self.inner.observer.runs()
    }

    fn cgroups(&self) -> &Cgroups {
        &self.inner.cgroups
    }

    fn names(&self) -> &Names {
        &self.inner.names
    }

    /// What the container is called in containerd. One call, the first time.
    async fn name(&self, id: ContainerId) -> Result<Name, BackendError> {
        let names = self.names();
        if !names.are_known() {
            let listed = find::list(self).await;
            let listed = listed.map_err(|error| error.about("container"))?;
            names.learn(listed.iter().map(|listed| listed.name));
        }
        Ok(names.of(id))
    }

    fn spec_options(&self) -> &RuntimeOptions {
        &self.inner.spec_options
    }

    fn server_id(&self) -> ServerId {
        self.inner.server_id
    }

    fn default_runtime(&self) -> &str {
        &self.inner.runtime
    }
}

impl ContainerBackend for Containerd {
    type Task = ContainerdTask;

    async fn create(&self, container: &Container) -> Result<Vec<RootMount>, BackendError> {
        containers::create(self, container).await
    }

    async fn update(&self, container: &Container) -> Result<(), BackendError> {
        let name = self.name(container.id).await?;
        containers::update(self, container, name, &rename::options(self, name)).await
    }

    async fn start(&self, start: Start) -> Result<ContainerdTask, BackendError> {
        launch::start(self, start).await
    }

    fn attach(&self, container: &Container, task: FoundTask) -> ContainerdTask {
        // A shim that did not answer gave no pid; the record has it.
        let pid = match task.pid {
            0 => container.pid.unwrap_or(0),
            pid => pid,
        };
        let exit = match task.state {
            FoundState::Stopped(exit) => Some(exit),
            FoundState::Created | FoundState::Running | FoundState::Paused => None,
        };
        // Whoever found it has learnt its name.
        let name = self.names().of(container.id);
        let state = self.runs().adopt(name, pid, exit, 0);
        ContainerdTask::new(self.clone(), name, pid, state)
    }

    async fn delete(&self, id: ContainerId) -> Result<(), BackendError> {
        containers::delete(self, id).await
    }

    /// One call: Images.List.
    async fn names(&self) -> Result<Vec<String>, BackendError> {
        images::names(self.connection(), self.server_id()).await
    }

    /// One call: Snapshots.Usage.
    async fn root_bytes(&self, id: ContainerId) -> Result<u64, BackendError> {
        images::snapshot_bytes(self.connection(), id.to_string()).await
    }

    async fn discard_task(&self, id: ContainerId) -> Result<(), BackendError> {
        let name = self.name(id).await?;
        for name in name.earlier().chain([name]) {
            discard::discard(self, name).await?;
        }
        Ok(())
    }

    async fn forget_start(&self, container: &Container) -> Result<(), BackendError> {
        rename::rename(self, container).await
    }

    async fn find(&self, id: ContainerId) -> Result<Found, BackendError> {
        find::find(self, id).await
    }

    /// Three calls: Leases.List, Containers.ListStream, Tasks.List; and what it takes to clear what earlier runs of
    /// the server have left.
    async fn inventory(&self) -> Result<HashMap<ContainerId, Found>, BackendError> {
        images::end_earlier_leases(self.connection(), self.server_id()).await;
        find::inventory(self).await
    }

    async fn usage(
        &self,
        containers: &[Arc<Container>],
    ) -> Result<Vec<Option<Sample>>, BackendError> {
        metrics::usage(self, containers).await
    }

    async fn ingest(&self, image: &Image, content: Arc<ImageContent>) -> Result<u64, BackendError> {
        images::ingest(self.connection(), self.server_id(), image, content).await
    }

    async fn tag(&self, image: &Image, reference: &str) -> Result<(), BackendError> {
        images::tag(self.connection(), self.server_id(), image, reference).await
    }

    async fn untag(&self, reference: &str) -> Result<(), BackendError> {
        images::untag(self.connection(), reference).await
    }

    /// One call: Snapshots.Usage.
    async fn layer_bytes(&self, chain_id: &Digest) -> Result<u64, BackendError> {
        let bytes = images::snapshot_bytes(self.connection(), chain_id.to_string()).await;
        bytes.map_err(|error| match error {
            BackendError::NotFound { .. } => BackendError::ImageContentMissing {
                chain_id: chain_id.to_string(),
            },
            error => error,
        })
    }

    async fn open_blob(&self, blob: &Descriptor) -> Result<BlobStream, BackendError> {
        images::open_blob(self.connection(), blob).await
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.inner.status.clone()
    }
}
