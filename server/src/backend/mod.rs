//! What runs containers: containerd, and for tests a fake. Chosen at run time.
//!
//! `contract` says what a backend must do; the enums here hold whichever was chosen, so that the
//! engine needs neither generics nor boxes. Knows the model and OCI formats; never the engine.

mod blob;
pub mod containerd;
mod contract;
pub mod fake;
mod format;
pub mod init;
pub mod local;
mod network;
mod oci_runtime;
pub mod proc;
mod sources;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;

pub use blob::BlobStream;
pub use contract::{
    Applied, BackendError, ContainerBackend, Exit, Found, FoundState, FoundTask, Process, Sample,
    SignalScope, Start, StartExec, Status, Task, WaitStatus,
};

use crate::model::container::RootMount;
use crate::model::image::Descriptor;
use crate::model::spec::Resources;
use crate::model::{Container, ContainerId, Digest, ExecId, Image, Signal, TerminalSize};
use crate::oci::image::ImageContent;

/// The chosen backend.
#[derive(Debug, Clone)]
pub enum Backend {
    /// A containerd daemon.
    Containerd(containerd::Containerd),
    /// The keeper and the kernel.
    Local(local::Local),
    /// In memory, with faults to inject.
    Fake(fake::Fake),
}

/// A run's processes in the chosen backend.
#[derive(Debug, Clone)]
pub enum TaskHandle {
    /// A containerd task.
    Containerd(containerd::ContainerdTask),
    /// Processes of the keeper.
    Local(local::LocalTask),
    /// A fake one.
    Fake(fake::FakeTask),
}

/// A further process in the chosen backend.
#[derive(Debug, Clone)]
pub enum ProcessHandle {
    /// An exec of a containerd task.
    Containerd(containerd::ContainerdExec),
    /// A process of the keeper.
    Local(local::LocalExec),
    /// A fake one.
    Fake(fake::FakeExec),
}

impl Backend {
    /// `containerd`, `local` or `fake`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Containerd(_) => "containerd",
            Self::Local(_) => "local",
            Self::Fake(_) => "fake",
        }
    }
}

impl Backend {
    /// Ends the tasks that it owns. Containers go on.
    pub async fn shutdown(&self) {
        match self {
            Self::Containerd(backend) => backend.shutdown().await,
            Self::Local(backend) => backend.shutdown().await,
            Self::Fake(_) => {}
        }
    }
}

/// Calls the same method on whichever variant there is.
macro_rules! either {
    ($enum:ident, $value:expr, $inner:ident => $call:expr) => {
        match $value {
            $enum::Containerd($inner) => $call,
            $enum::Local($inner) => $call,
            $enum::Fake($inner) => $call,
        }
    };
}

impl ContainerBackend for Backend {
    type Task = TaskHandle;

    async fn create(&self, container: &Container) -> Result<Vec<RootMount>, BackendError> {
        either!(Self, self, backend => backend.create(container).await)
    }

    async fn update(&self, container: &Container) -> Result<(), BackendError> {
        either!(Self, self, backend => backend.update(container).await)
    }

    async fn start(&self, start: Start) -> Result<TaskHandle, BackendError> {
        match self {
            Self::Containerd(backend) => backend.start(start).await.map(TaskHandle::Containerd),
            Self::Local(backend) => backend.start(start).await.map(TaskHandle::Local),
            Self::Fake(backend) => backend.start(start).await.map(TaskHandle::Fake),
        }
    }

    fn attach(&self, container: &Container, task: FoundTask) -> TaskHandle {
        match self {
            Self::Containerd(backend) => TaskHandle::Containerd(backend.attach(container, task)),
            Self::Local(backend) => TaskHandle::Local(backend.attach(container, task)),
            Self::Fake(backend) => TaskHandle::Fake(backend.attach(container, task)),
        }
    }

    async fn delete(&self, id: ContainerId) -> Result<(), BackendError> {
        either!(Self, self, backend => backend.delete(id).await)
    }

    async fn forget_start(&self, container: &Container) -> Result<(), BackendError> {
        either!(Self, self, backend => backend.forget_start(container).await)
    }

    async fn discard_task(&self, id: ContainerId) -> Result<(), BackendError> {
        either!(Self, self, backend => backend.discard_task(id).await)
    }

    async fn find(&self, id: ContainerId) -> Result<Found, BackendError> {
        either!(Self, self, backend => backend.find(id).await)
    }

    async fn inventory(&self) -> Result<HashMap<ContainerId, Found>, BackendError> {
        either!(Self, self, backend => backend.inventory().await)
    }

    async fn usage(
        &self,
        containers: &[Arc<Container>],
    ) -> Result<Vec<Option<Sample>>, BackendError> {
        either!(Self, self, backend => backend.usage(containers).await)
    }

    async fn root_bytes(&self, id: ContainerId) -> Result<u64, BackendError> {
        either!(Self, self, backend => backend.root_bytes(id).await)
    }

    async fn ingest(&self, image: &Image, content: Arc<ImageContent>) -> Result<u64, BackendError> {
        either!(Self, self, backend => backend.ingest(image, content).await)
    }

    async fn tag(&self, image: &Image, reference: &str) -> Result<(), BackendError> {
        either!(Self, self, backend => backend.tag(image, reference).await)
    }

    async fn untag(&self, reference: &str) -> Result<(), BackendError> {
        either!(Self, self, backend => backend.untag(reference).await)
    }

    async fn names(&self) -> Result<Vec<String>, BackendError> {
        either!(Self, self, backend => backend.names().await)
    }

    async fn layer_bytes(&self, chain_id: &Digest) -> Result<u64, BackendError> {
        either!(Self, self, backend => backend.layer_bytes(chain_id).await)
    }

    async fn open_blob(&self, blob: &Descriptor) -> Result<BlobStream, BackendError> {
        either!(Self, self, backend => backend.open_blob(blob).await)
    }

    fn status(&self) -> watch::Receiver<Status> {
        either!(Self, self, backend => backend.status())
    }
}

impl Task for TaskHandle {
    type Process = ProcessHandle;

    fn pid(&self) -> u32 {
        either!(Self, self, task => task.pid())
    }

    fn exit(&self) -> watch::Receiver<Option<Exit>> {
        either!(Self, self, task => task.exit())
    }

    fn oom_kills(&self) -> watch::Receiver<u64> {
        either!(Self, self, task => task.oom_kills())
    }

    async fn kill(&self, signal: Signal, scope: SignalScope) -> Result<(), BackendError> {
        either!(Self, self, task => task.kill(signal, scope).await)
    }

    async fn pause(&self) -> Result<(), BackendError> {
        either!(Self, self, task => task.pause().await)
    }

    async fn resume(&self) -> Result<(), BackendError> {
        either!(Self, self, task => task.resume().await)
    }

    async fn update(&self, resources: &Resources) -> Result<(), BackendError> {
        either!(Self, self, task => task.update(resources).await)
    }

    async fn pids(&self) -> Result<Vec<u32>, BackendError> {
        either!(Self, self, task => task.pids().await)
    }

    async fn delete(&self) -> Result<(), BackendError> {
        either!(Self, self, task => task.delete().await)
    }

    async fn resize(&self, size: TerminalSize) -> Result<(), BackendError> {
        either!(Self, self, task => task.resize(size).await)
    }

    async fn close_stdin(&self) -> Result<(), BackendError> {
        either!(Self, self, task => task.close_stdin().await)
    }

    async fn exec(&self, start: StartExec) -> Result<ProcessHandle, BackendError> {
        match self {
            Self::Containerd(task) => task.exec(start).await.map(ProcessHandle::Containerd),
            Self::Local(task) => task.exec(start).await.map(ProcessHandle::Local),
            Self::Fake(task) => task.exec(start).await.map(ProcessHandle::Fake),
        }
    }

    fn attach_exec(&self, exec: ExecId, found: FoundTask) -> ProcessHandle {
        match self {
            Self::Containerd(task) => ProcessHandle::Containerd(task.attach_exec(exec, found)),
            Self::Local(task) => ProcessHandle::Local(task.attach_exec(exec, found)),
            Self::Fake(task) => ProcessHandle::Fake(task.attach_exec(exec, found)),
        }
    }

    async fn find_exec(&self, exec: ExecId) -> Result<Option<FoundTask>, BackendError> {
        either!(Self, self, task => task.find_exec(exec).await)
    }

    async fn discard_exec(&self, exec: ExecId) -> Result<(), BackendError> {
        either!(Self, self, task => task.discard_exec(exec).await)
    }
}

impl Process for ProcessHandle {
    fn pid(&self) -> u32 {
        either!(Self, self, process => process.pid())
    }

    fn exit(&self) -> watch::Receiver<Option<Exit>> {
        either!(Self, self, process => process.exit())
    }

    async fn kill(&self, signal: Signal) -> Result<(), BackendError> {
        either!(Self, self, process => process.kill(signal).await)
    }

    async fn resize(&self, size: TerminalSize) -> Result<(), BackendError> {
        either!(Self, self, process => process.resize(size).await)
    }

    async fn close_stdin(&self) -> Result<(), BackendError> {
        either!(Self, self, process => process.close_stdin().await)
    }

    async fn delete(&self) -> Result<(), BackendError> {
        either!(Self, self, process => process.delete().await)
    }
}
