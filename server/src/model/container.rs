//! A container as everybody sees it: the record that is stored, published as a snapshot and rendered.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::exec::Leash;
use super::failure::Failure;
use super::id::{ContainerId, Run, Sequence};
use super::image::Digest;
use super::request::{Cause, IdempotencyKey};
use super::signal::Signal;
use super::spec::{ContainerSpec, Process, TextMap};
use super::stdio::TerminalSize;

/// Where a container is in its life.
///
/// ```text
/// CREATING -> CREATED -> STARTING -> RUNNING <-> PAUSED
///                           ^           |          |
///                           |        STOPPING <----+
///                           |           v
///                           +-------- EXITED
/// ```
///
/// Any of them may go to DELETING; FAILED is reached when control is lost, and only left by deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Being prepared; no process yet.
    Creating,
    /// Ready to start.
    Created,
    /// A start is in progress.
    Starting,
    /// The main process runs.
    Running,
    /// All processes are frozen.
    Paused,
    /// A stop is in progress.
    Stopping,
    /// The main process ended.
    Exited,
    /// Waiting for the restart policy's next start.
    BackingOff,
    /// Being removed.
    Deleting,
    /// Control was lost; only deletion is possible.
    Failed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 10] = [
        Self::Creating,
        Self::Created,
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Stopping,
        Self::Exited,
        Self::BackingOff,
        Self::Deleting,
        Self::Failed,
    ];

    /// Whether a main process is there (or may be, while a start is under way).
    #[must_use]
    pub fn has_process(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Paused | Self::Stopping => true,
            Self::Creating
            | Self::Created
            | Self::Exited
            | Self::BackingOff
            | Self::Deleting
            | Self::Failed => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "CREATING",
            Self::Created => "CREATED",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Paused => "PAUSED",
            Self::Stopping => "STOPPING",
            Self::Exited => "EXITED",
            Self::BackingOff => "BACKING_OFF",
            Self::Deleting => "DELETING",
            Self::Failed => "FAILED",
        })
    }
}

/// Why a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ExitReason {
    /// It returned from main or called exit.
    Exited,
    /// A signal ended it.
    Signaled,
    /// The kernel's OOM killer ended this very process.
    OomKilled,
    /// The server killed it because a time limit passed.
    TimedOut,
    /// Nobody could observe the exit.
    Lost,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// Why.
    pub reason: ExitReason,
    /// 0 to 255; 128 + n for signal n; 255 for `Lost`.
    pub code: u8,
    /// The signal that ended it, for `Signaled`, `OomKilled` and `TimedOut`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// When it ended; for `Lost`, when that was found out.
    pub exit_time: SystemTime,
    /// The call that caused the exit, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Which run.
    pub run: Run,
    /// Whether output after the end was not waited for: somebody else held its pipes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub output_truncated: bool,
}

/// Something under way for a container. It is stored before its first side effect, so that a restarted
/// server finishes or undoes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The call that asked for it; none for the server's own acts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The key under which its answer is to be stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<IdempotencyKey>,
    /// What it is.
    pub operation: Operation,
}

/// What can be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Create only.
    Create,
    /// Create and start: unless both are done, nothing must remain.
    CreateAndStart,
    /// Start.
    Start,
    /// Delete.
    Delete,
}

/// A stop that has been asked for and is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopIntent {
    /// The call that asked for it; it is also the cause of the exit.
    pub cause: Option<Cause>,
    /// What to send first.
    pub signal: Signal,
    /// When to send SIGKILL.
    pub kill_at: SystemTime,
    /// What comes after the exit: nothing, the start of a restart, or a deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Intent>,
}

/// A signal that was asked for and may end the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentSignal {
    /// Which.
    pub signal: Signal,
    /// The call that sent it.
    pub cause: Cause,
}

/// The image a container was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUse {
    /// The reference, digest or id that was asked for, normalised.
    pub reference: String,
    /// Digest of the config: the image's id.
    pub id: Digest,
    /// The top layer's chain id: the parent of the container's root.
    pub chain_id: Digest,
    /// The image's stop signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<Signal>,
}

/// One mount of a container's root, as the backend prepared it; kept so that a start need not ask again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootMount {
    /// `overlay`, `bind` ...
    pub kind: String,
    /// Its source.
    pub source: String,
    /// Its options.
    pub options: Vec<String>,
}

/// One container: its record in the store, and the immutable snapshot that readers see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Identity.
    pub id: ContainerId,
    /// Unique among live containers.
    pub name: Arc<str>,
    /// The caller's labels.
    pub labels: Arc<TextMap>,
    /// What was asked for.
    pub spec: Arc<ContainerSpec>,
    /// What the main process is.
    pub process: Arc<Process>,
    /// What it was made from.
    pub image: Arc<ImageUse>,
    /// How its root is mounted; empty while CREATING.
    pub root: Arc<Vec<RootMount>>,
    /// Where it is.
    pub state: State,
    /// The current or latest run; 0 before the first start. While STARTING, the run to be; a start
    /// that fails takes it back.
    pub run: Run,
    /// On the host; absent unless running, paused or stopping.
    pub pid: Option<u32>,
    /// The latest run's end; absent while a later one is on.
    pub exit_status: Option<ExitStatus>,
    /// Why it is FAILED, or why the last start failed.
    pub failure: Option<Failure>,
    /// The stop in progress.
    pub stop: Option<StopIntent>,
    /// The create, start or delete in progress.
    pub intent: Option<Intent>,
    /// The last signal sent in this run.
    pub signaled: Option<SentSignal>,
    /// The size its terminal has, or is to start with, if it is not the spec's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal_size: Option<TerminalSize>,
    /// What is to be done if the caller of this run, or of the next one, is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leash: Option<Leash>,
    /// When it was created.
    pub create_time: SystemTime,
    /// When the current or last run started.
    pub start_time: Option<SystemTime>,
    /// When any field last changed.
    pub update_time: SystemTime,
    /// Grows with each change.
    pub generation: u64,
    /// The newest event about it.
    pub last_event: Sequence,
    /// Ends of the latest runs, oldest first, at most [`super::limits::RUNS_KEPT`]. Stored in rows of their own.
    #[serde(skip)]
    pub runs: Arc<VecDeque<Arc<ExitStatus>>>,
}

impl Container {
    /// The opaque value that changes whenever the container does.
    #[must_use]
    pub fn etag(&self) -> String {
        format!("{:x}", self.generation)
    }

    /// The call behind what is under way, if one is.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        let of_intent = self
            .intent
            .as_ref()
            .and_then(|intent| intent.cause.as_ref());
        of_intent.or_else(|| self.stop.as_ref().and_then(|stop| stop.cause.as_ref()))
    }

    /// Whether the current or latest run has not ended. Also true while one is being started.
    #[must_use]
    pub fn has_open_run(&self) -> bool {
        self.run > Run::default() && self.exit_of(self.run).is_none()
    }

    /// How `run` ended, if it did and is still remembered.
    #[must_use]
    pub fn exit_of(&self, run: Run) -> Option<&Arc<ExitStatus>> {
        self.runs.iter().rev().find(|exit| exit.run == run)
    }
}
