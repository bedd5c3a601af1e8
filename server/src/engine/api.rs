//! What the engine is asked for and what it answers: plain values, already checked for form.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::backend::Status;
use crate::model::image::Platform;
use crate::model::request::{Cause, Deduplication};
use crate::model::spec::{Resources, TextMap};
use crate::model::{
    Container, ContainerSpec, Exec, ExecId, ExecSpec, ExitStatus, OnDisconnect, Run, Signal,
};
use crate::registry::Credentials;
use crate::store::StoreError;

/// Who asks, in which call, and whether it may be a repeat. Travels with the command.
#[derive(Debug, Clone)]
pub struct Call {
    /// The cause that its events will carry.
    pub cause: Cause,
    /// The idempotency key, if the request has one.
    pub deduplication: Option<Deduplication>,
    /// When the caller stops waiting. What runs goes on; only waiting for others' calls ends.
    pub deadline: Option<Instant>,
}

/// An answer, and whether it is the stored one of an earlier call with the same idempotency key.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// The answer.
    pub value: T,
    /// Whether it was stored.
    pub replayed: bool,
}

/// What to create.
#[derive(Debug, Clone)]
pub struct CreateContainer {
    /// Name, already checked for form; made up if `None`.
    pub name: Option<String>,
    /// What to run.
    pub spec: ContainerSpec,
    /// Labels.
    pub labels: TextMap,
    /// Platform of the image to take; `None` for whatever is here, or the host's if it is pulled.
    pub platform: Option<Platform>,
    /// When its image is pulled.
    pub pull: PullFirst,
    /// Start it too.
    pub start: bool,
}

/// Whether a create pulls its image first.
#[derive(Debug, Clone, Default)]
pub struct PullFirst {
    /// When.
    pub policy: PullPolicy,
    /// Who asks.
    pub credentials: Option<Credentials>,
}

/// When a create pulls its image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Never.
    #[default]
    Never,
    /// If it is not here, for the platform that is wanted.
    IfMissing,
    /// Always.
    Always,
}

/// What to change. `None` leaves a field alone.
#[derive(Debug, Clone, Default)]
pub struct UpdateContainer {
    /// New name.
    pub name: Option<String>,
    /// Labels to add or replace.
    pub set_labels: TextMap,
    /// Keys of labels to remove.
    pub remove_labels: Vec<String>,
    /// Limits to change, each a change of one field.
    pub resources: Vec<ResourceChange>,
    /// If set, must match.
    pub etag: Option<String>,
}

/// A change to the limits: the API's path of what changes, and a function that makes the change.
#[derive(Debug, Clone)]
pub struct ResourceChange {
    /// `resources.memory_limit_bytes`, or `resources` for all of them.
    pub path: String,
    /// The limits to take the field from.
    pub from: Resources,
}

/// How to delete.
#[derive(Debug, Clone, Default)]
pub struct DeleteContainer {
    /// Stop it first if it runs.
    pub force: bool,
    /// With force: time between the stop signal and SIGKILL; zero for SIGKILL at once.
    pub grace_period: Duration,
    /// If set, must match.
    pub etag: Option<String>,
}

/// How to stop.
#[derive(Debug, Clone, Default)]
pub struct StopContainer {
    /// `None` for the spec's, else the image's, else SIGTERM.
    pub signal: Option<Signal>,
    /// `None` for the spec's.
    pub grace_period: Option<Duration>,
    /// If set, must be the container's run.
    pub expected_run: Option<Run>,
}

/// What became of a start. Stored as the answer for its idempotency key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    /// False if it was running.
    pub changed: bool,
    /// The container.
    pub container: Arc<Container>,
}

/// What became of a stop.
#[derive(Debug, Clone)]
pub struct Stopped {
    /// False if it was not running.
    pub changed: bool,
    /// Whether SIGKILL was sent because the grace period passed.
    pub killed: bool,
    /// How the run ended; absent if it never started.
    pub exit: Option<Arc<ExitStatus>>,
}

/// What to run in a running container.
#[derive(Debug, Clone)]
pub struct CreateExec {
    /// What to run, checked for form.
    pub spec: ExecSpec,
    /// Labels.
    pub labels: TextMap,
}

/// What became of the start of an exec.
#[derive(Debug, Clone)]
pub struct StartedExec {
    /// False if it had started.
    pub changed: bool,
    /// The exec.
    pub exec: Arc<Exec>,
}

/// An exec to be run to its end, with its output in the answer.
#[derive(Debug, Clone)]
pub struct ExecSync {
    /// What to run; has a timeout, no terminal.
    pub create: CreateExec,
    /// Input, then end of file.
    pub stdin: Bytes,
    /// How much to return of each stream.
    pub max_output: u64,
}

/// What an exec left behind.
#[derive(Debug, Clone)]
pub struct ExecOutput {
    /// The exec.
    pub exec: ExecId,
    /// The first bytes of its output.
    pub stdout: Captured,
    /// The first bytes of its errors.
    pub stderr: Captured,
    /// How it ended.
    pub exit: Arc<ExitStatus>,
}

/// The first bytes of a stream.
#[derive(Debug, Clone, Default)]
pub struct Captured {
    /// The bytes.
    pub data: Vec<u8>,
    /// How many came after them.
    pub dropped: u64,
}

/// Whose streams are meant.
#[derive(Debug, Clone)]
pub enum Target {
    /// A container's main process, by id or name.
    Container {
        /// Id or name.
        key: String,
        /// If set, must be the container's run.
        expected_run: Option<Run>,
    },
    /// An exec.
    Exec(ExecId),
}

/// How to join a process's streams.
#[derive(Debug, Clone)]
pub struct Attach {
    /// Send input.
    pub stdin: bool,
    /// What to read.
    pub output: Follow,
    /// What becomes of the process if the caller leaves.
    pub on_disconnect: OnDisconnect,
    /// What happens when the caller does not read.
    pub backpressure: Backpressure,
}

/// What to read of a process's output, and from where.
#[derive(Debug, Clone, Copy, Default)]
pub struct Follow {
    /// Descriptor 1, or the terminal; `None` to leave it out.
    pub stdout: Option<StartAt>,
    /// Descriptor 2; `None` to leave it out.
    pub stderr: Option<StartAt>,
}

/// Where to begin in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// So many bytes before what is newest: 0 for only new ones.
    Recent(u64),
    /// At this position; what is not kept of it is told as a gap.
    Offset(u64),
}

/// What happens when a reader is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backpressure {
    /// The process waits, while this reader is attached.
    Block,
    /// This reader loses the oldest output, and is told so.
    DropOldest,
}

/// What to import.
#[derive(Debug, Clone)]
pub struct ImportImage {
    /// The archive: a tar, plain or compressed. The importer may delete it.
    pub archive: PathBuf,
    /// Reference (normalised), if the archive has none.
    pub reference: Option<String>,
    /// Only this platform; `None` for the host's.
    pub platform: Option<Platform>,
}

/// What deleting an image did.
#[derive(Debug, Clone, Default)]
pub struct DeletedImage {
    /// References removed; empty if it did not exist.
    pub untagged: Vec<String>,
    /// Digests of images removed.
    pub deleted: Vec<String>,
}

/// The server's own state.
#[derive(Debug, Clone)]
pub struct Health {
    /// The backend.
    pub backend: Status,
    /// Why the store cannot write, if it cannot.
    pub store: Option<StoreError>,
}
