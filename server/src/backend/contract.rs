//! What a backend must do, in the domain's own types.
//!
//! A backend runs processes and keeps roots and image content; it decides nothing. All it gets is the
//! container's record; the one handle it gives out is a [`Task`], which belongs to one run and which
//! the container's actor keeps. Every call is bounded in time by the backend itself.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;

use super::blob::BlobStream;
use crate::model::container::RootMount;
use crate::model::image::Descriptor;
use crate::model::spec::Resources;
use crate::model::{
    Container, ContainerId, Digest, Exec, ExecId, Image, LaunchFailure, NetworkUsage, Run, Signal,
    StdioPaths, TerminalSize, Usage,
};
use crate::oci::image::ImageContent;

/// What runs containers.
pub trait ContainerBackend: Send + Sync {
    /// The handle of one run's processes.
    type Task: Task;

    /// Records the container and prepares its root. Returns how the root is mounted, to be kept with
    /// the record. On an error, or when the caller goes away, [`Self::delete`] removes what remains.
    fn create(
        &self,
        container: &Container,
    ) -> impl Future<Output = Result<Vec<RootMount>, BackendError>> + Send;

    /// Brings the backend's own record in line with `container` (its limits, as of the next start).
    fn update(
        &self,
        container: &Container,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Starts `start.run` of a created container. The task's exit is watched from before its first
    /// instruction.
    fn start(&self, start: Start) -> impl Future<Output = Result<Self::Task, BackendError>> + Send;

    /// The handle of a run that [`Self::find`] or [`Self::inventory`] has shown to be there, running
    /// or stopped. No call to the backend.
    fn attach(&self, container: &Container, task: FoundTask) -> Self::Task;

    /// Removes the container's record and root, whatever is there of them. Its task must be gone:
    /// see [`Self::discard_task`]. Repeating it is OK.
    fn delete(&self, id: ContainerId) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Gives up a start whose end nobody saw: what it has left is killed and removed, and what the
    /// backend may still do about it cannot reach a later run. Repeating it is OK.
    fn forget_start(
        &self,
        container: &Container,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Kills and removes a task that nobody has a handle of, of a container that is to be removed.
    /// Repeating it is OK.
    fn discard_task(
        &self,
        id: ContainerId,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// What there is of one container.
    fn find(&self, id: ContainerId) -> impl Future<Output = Result<Found, BackendError>> + Send;

    /// What there is of every container that this server made. Every connection begins with it: what earlier runs
    /// of the server did not come to the end of is cleared.
    fn inventory(
        &self,
    ) -> impl Future<Output = Result<HashMap<ContainerId, Found>, BackendError>> + Send;

    /// What the runs of these containers use, which are running by their records: in their order, and `None` for one
    /// of which nothing can be read, because it has ended meanwhile or its holder does not answer. One call,
    /// however many they are; at most [`MAX_PAGE`](crate::model::limits::MAX_PAGE).
    fn usage(
        &self,
        containers: &[Arc<Container>],
    ) -> impl Future<Output = Result<Vec<Option<Sample>>, BackendError>> + Send;

    /// What a container's root takes on disk besides its image's layers, in bytes: what its processes have written.
    /// As much as was there at some time during the call, if they write meanwhile.
    fn root_bytes(&self, id: ContainerId)
    -> impl Future<Output = Result<u64, BackendError>> + Send;

    /// Takes in an image's content and unpacks its layers; returns the size of the unpacked layers.
    /// All references of `image` name it afterwards, but not before its source says that it is accepted. Repeating it
    /// is OK.
    fn ingest(
        &self,
        image: &Image,
        content: Arc<ImageContent>,
    ) -> impl Future<Output = Result<u64, BackendError>> + Send;

    /// Makes `reference` name `image`.
    fn tag(
        &self,
        image: &Image,
        reference: &str,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Removes a name of an image, and its content with the last one. Repeating it is OK.
    fn untag(&self, reference: &str) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// All names of images that this server has given, also those that it has no record of.
    fn names(&self) -> impl Future<Output = Result<Vec<String>, BackendError>> + Send;

    /// What an unpacked layer takes on disk besides those below it, in bytes. [`BackendError::ImageContentMissing`] if it
    /// is not there.
    fn layer_bytes(
        &self,
        chain_id: &Digest,
    ) -> impl Future<Output = Result<u64, BackendError>> + Send;

    /// A manifest, config or layer of an image, as it is stored. [`BackendError::BlobMissing`] if it is not there, or
    /// goes while it is read: only names keep it.
    fn open_blob(
        &self,
        blob: &Descriptor,
    ) -> impl Future<Output = Result<BlobStream, BackendError>> + Send;

    /// Whether the backend can be reached; changes are seen by all receivers.
    fn status(&self) -> watch::Receiver<Status>;
}

/// The processes of one run. Clones are the same handle.
pub trait Task: Clone + Send + Sync + 'static {
    /// The handle of one further process.
    type Process: Process;

    /// The main process, on the host.
    fn pid(&self) -> u32;

    /// `Some` once the main process has ended; never changes after that.
    fn exit(&self) -> watch::Receiver<Option<Exit>>;

    /// How often the OOM killer has acted inside.
    fn oom_kills(&self) -> watch::Receiver<u64>;

    /// Sends a signal to the main process, or to every process.
    fn kill(
        &self,
        signal: Signal,
        scope: SignalScope,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Freezes all processes.
    fn pause(&self) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Thaws all processes.
    fn resume(&self) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Changes the limits at once.
    fn update(
        &self,
        resources: &Resources,
    ) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// The ids on the host of all processes inside.
    fn pids(&self) -> impl Future<Output = Result<Vec<u32>, BackendError>> + Send;

    /// Removes what is left of the run after its exit. Repeating it is OK.
    fn delete(&self) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Sets the size of the main process's terminal.
    fn resize(&self, size: TerminalSize) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Closes what the backend itself holds of the main process's stdin: with the last writer the
    /// process sees end of file.
    fn close_stdin(&self) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Starts a further process. Its exit is watched from before its first instruction. If it fails
    /// without doubt, nothing is left of it.
    fn exec(
        &self,
        start: StartExec,
    ) -> impl Future<Output = Result<Self::Process, BackendError>> + Send;

    /// The handle of a further process that [`Self::find_exec`] has shown to be there. No call to the
    /// backend.
    fn attach_exec(&self, exec: ExecId, found: FoundTask) -> Self::Process;

    /// What there is of a further process; `None` if there is nothing.
    fn find_exec(
        &self,
        exec: ExecId,
    ) -> impl Future<Output = Result<Option<FoundTask>, BackendError>> + Send;

    /// Kills and removes a further process whose start was cut off. Repeating it is OK.
    fn discard_exec(&self, exec: ExecId) -> impl Future<Output = Result<(), BackendError>> + Send;
}

/// A further process in a container. Clones are the same handle.
pub trait Process: Clone + Send + Sync + 'static {
    /// On the host.
    fn pid(&self) -> u32;

    /// `Some` once it has ended; never changes after that.
    fn exit(&self) -> watch::Receiver<Option<Exit>>;

    /// Sends a signal to it.
    fn kill(&self, signal: Signal) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Sets the size of its terminal.
    fn resize(&self, size: TerminalSize) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// As [`Task::close_stdin`].
    fn close_stdin(&self) -> impl Future<Output = Result<(), BackendError>> + Send;

    /// Removes what is left of it after its exit; its output must have been read. Repeating it is OK.
    fn delete(&self) -> impl Future<Output = Result<(), BackendError>> + Send;
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Start {
    /// The container.
    pub container: Arc<Container>,
    /// The run that begins.
    pub run: Run,
    /// Its standard streams.
    pub stdio: StdioPaths,
    /// The size its terminal is to have before its first instruction, if it is not the spec's.
    pub terminal_size: Option<TerminalSize>,
    /// Whose network to join, for a container that shares another's: its main process.
    pub network_pid: Option<u32>,
}

/// A further process to start.
#[derive(Debug, Clone)]
pub struct StartExec {
    /// The container as it is.
    pub container: Arc<Container>,
    /// The exec.
    pub exec: Arc<Exec>,
    /// Its standard streams.
    pub stdio: StdioPaths,
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalScope {
    /// The main process.
    Main,
    /// Every process of the container.
    All,
}

/// What there is of a container in the backend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Whether its record is there.
    pub container: bool,
    /// Its task, if there is one.
    pub task: Option<FoundTask>,
}

/// A task that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundTask {
    /// Its main process; 0 if that is not known.
    pub pid: u32,
    /// Where it is.
    pub state: FoundState,
}

impl FoundTask {
    /// Whether whoever holds the process does not answer: it is there, and that is all that is known.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.state == FoundState::Running && self.pid == 0
    }
}

/// Where a found task is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundState {
    /// Made, never started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Its main process has ended.
    Stopped(Exit),
}

/// How a main process ended, as the backend saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its wait status.
    pub status: WaitStatus,
    /// When.
    pub time: SystemTime,
    /// Whether the OOM killer had acted in its cgroup.
    pub oom_killed: bool,
}

impl Exit {
    /// An end that nobody saw, known from now on.
    #[must_use]
    pub fn lost() -> Self {
        Self {
            status: WaitStatus::Lost,
            time: SystemTime::now(),
            oom_killed: false,
        }
    }
}

/// A wait status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitStatus {
    /// It exited with a code.
    Exited(u8),
    /// A signal ended it.
    Signaled(Signal),
    /// It is gone, and nobody saw how.
    Lost,
}

/// What a run used at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When it was read.
    pub time: SystemTime,
    /// The same on a clock that is never set: what rates are made from.
    pub instant: Instant,
    /// What its processes used.
    pub usage: Usage,
    /// What went through its network interfaces; none with the host's network.
    pub networks: Vec<NetworkUsage>,
}

impl WaitStatus {
    /// The same of the program, if this is of one that ends as its program did, as far as it can: then a code of
    /// 128 + n says that signal n has ended that. One that has exited with such a code itself cannot be told from it.
    #[must_use]
    pub fn of_program(self) -> Self {
        const SIGNAL_BASE: u8 = 128;
        match self {
            Self::Exited(code) => code
                .checked_sub(SIGNAL_BASE)
                .and_then(|number| Signal::from_number(number.into()))
                .map_or(self, Self::Signaled),
            Self::Signaled(_) | Self::Lost => self,
        }
    }
}

/// Whether the backend can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Not yet, since the server started.
    Connecting {
        /// What the last try met; empty before its end.
        detail: String,
    },
    /// Yes; exits that happened meanwhile are settled.
    Connected {
        /// The backend's version.
        version: String,
    },
    /// Not any more.
    Disconnected {
        /// What broke.
        detail: String,
    },
}

/// Whether a call that failed may have acted all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Applied {
    /// It did nothing.
    No,
    /// It may have.
    Unknown,
}

/// What can go wrong in a backend.
#[derive(Debug, Clone, Error)]
pub enum BackendError {
    /// It cannot be reached, or did not answer in time.
    #[error("backend {backend} is unavailable: {detail}")]
    Unavailable {
        /// `containerd`.
        backend: &'static str,
        /// What was tried and met.
        detail: String,
        /// Whether the call may have acted.
        applied: Applied,
    },
    /// The process could not be launched.
    #[error(transparent)]
    Launch(#[from] LaunchFailure),
    /// It has no such container, task or process.
    #[error("backend {backend} has no {what}")]
    NotFound {
        /// `containerd`.
        backend: &'static str,
        /// `container`, `task`, `process`, `snapshot` ...
        what: &'static str,
    },
    /// The image's unpacked layers are not in the backend any more.
    #[error("image content {chain_id} is not in the backend")]
    ImageContentMissing {
        /// Chain id of the top layer.
        chain_id: String,
    },
    /// A manifest, config or layer is not in the backend any more.
    #[error("blob {digest} is not in the backend")]
    BlobMissing {
        /// Its digest.
        digest: String,
    },
    /// The disk is full.
    #[error("no space left on {path}")]
    NoSpace {
        /// Where, as far as known.
        path: String,
    },
    /// The host is out of memory, processes or descriptors.
    #[error("the host is out of {resource}")]
    HostResources {
        /// `memory`, `processes`, `descriptors`.
        resource: &'static str,
        /// `ENOMEM`, `EAGAIN`, `EMFILE`.
        errno: &'static str,
    },
    /// Content does not match its digest.
    #[error("content is {actual}, expected {expected}")]
    DigestMismatch {
        /// What it should be.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// A layer is none that can be unpacked.
    #[error("layer {layer} cannot be unpacked: {problem}")]
    LayerInvalid {
        /// Digest of its blob.
        layer: String,
        /// What is wrong with it.
        problem: String,
    },
    /// This backend cannot do it.
    #[error("backend {backend} does not support {field}")]
    NotSupported {
        /// `containerd`.
        backend: &'static str,
        /// The option's path in the request, such as `spec.resources.io_weight`.
        field: &'static str,
    },
    /// It answered something it must not.
    #[error("unexpected answer from backend {backend}: {code}: {message}")]
    Protocol {
        /// `containerd`.
        backend: &'static str,
        /// Its status code, by name.
        code: String,
        /// Its words, at most 1 KiB.
        message: String,
    },
}

impl BackendError {
    /// Whether the backend does not have what it had, or was thought to have.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::NotFound { .. } | Self::ImageContentMissing { .. } | Self::BlobMissing { .. } => {
                true
            }
            Self::Unavailable { .. }
            | Self::Protocol { .. }
            | Self::Launch(_)
            | Self::NoSpace { .. }
            | Self::HostResources { .. }
            | Self::DigestMismatch { .. }
            | Self::LayerInvalid { .. }
            | Self::NotSupported { .. } => false,
        }
    }

    /// Whether the operation may have acted although it failed, so that the state must be read back.
    #[must_use]
    pub fn leaves_doubt(&self) -> bool {
        match self {
            Self::Unavailable { applied, .. } => *applied == Applied::Unknown,
            Self::Protocol { .. } => true,
            Self::Launch(_)
            | Self::NotFound { .. }
            | Self::ImageContentMissing { .. }
            | Self::BlobMissing { .. }
            | Self::NoSpace { .. }
            | Self::HostResources { .. }
            | Self::DigestMismatch { .. }
            | Self::LayerInvalid { .. }
            | Self::NotSupported { .. } => false,
        }
    }
}
