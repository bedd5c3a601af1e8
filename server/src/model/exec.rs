//! An exec: a further process in a running container. It names its container by id and holds nothing of it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::container::ExitStatus;
use super::failure::Failure;
use super::id::{ContainerId, ExecId, Run};
use super::request::{Cause, IdempotencyKey};
use super::spec::{Process, ProcessSpec, TextMap};
use super::stdio::{OnDisconnect, TerminalSize};

/// Where an exec is in its life.
///
/// ```text
/// CREATED -> STARTING -> RUNNING -> EXITED
///                 \-> FAILED
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ExecState {
    /// Recorded, not started.
    Created,
    /// A start is in progress.
    Starting,
    /// The process runs.
    Running,
    /// The process ended.
    Exited,
    /// It could not be started.
    Failed,
}

impl ExecState {
    /// Whether nothing comes after it.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Exited | Self::Failed)
    }
}

impl fmt::Display for ExecState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "CREATED",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Exited => "EXITED",
            Self::Failed => "FAILED",
        })
    }
}

/// What to run, as asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Program and arguments in `args`; other empty fields take the container's values.
    pub process: ProcessSpec,
    /// Keep stdin open.
    pub stdin_open: bool,
    /// Kill it after this long; `None` for no limit.
    pub timeout: Option<Duration>,
    /// All capabilities.
    pub privileged: bool,
}

/// What becomes of a process whose caller left, until somebody attaches again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leash {
    /// What to do.
    pub action: OnDisconnect,
    /// The call that holds it.
    pub cause: Cause,
    /// The container's run that it is about, and no other.
    #[serde(default)]
    pub run: Run,
    /// Tells callers apart that joined in repeats of one call.
    #[serde(default)]
    pub joining: u64,
}

impl Leash {
    /// What is to be kept of it: to leave the process running is nothing to be done.
    #[must_use]
    pub fn kept(self) -> Option<Self> {
        (self.action != OnDisconnect::Detach).then_some(self)
    }
}

/// One exec: its record in the store, and the immutable snapshot that readers see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Identity.
    pub id: ExecId,
    /// Its container.
    pub container: ContainerId,
    /// The container's run it belongs to.
    pub run: Run,
    /// The caller's labels.
    pub labels: Arc<TextMap>,
    /// What was asked for.
    pub spec: Arc<ExecSpec>,
    /// What the process is.
    pub process: Arc<Process>,
    /// Where it is.
    pub state: ExecState,
    /// On the host; absent unless running.
    pub pid: Option<u32>,
    /// How it ended.
    pub exit_status: Option<Arc<ExitStatus>>,
    /// Why it could not be started.
    pub failure: Option<Failure>,
    /// The size its terminal is to have, or has.
    pub terminal_size: Option<TerminalSize>,
    /// When it was created.
    pub create_time: SystemTime,
    /// When it started.
    pub start_time: Option<SystemTime>,
    /// When it ended or failed; it is forgotten a while after that.
    pub end_time: Option<SystemTime>,
    /// The call that started it, or that created it if it has not started.
    pub cause: Cause,
    /// The key of the call that created it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<IdempotencyKey>,
    /// What is to be done if its caller is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leash: Option<Leash>,
    /// Whether the backend may still have something of it.
    #[serde(default)]
    pub remains: bool,
    /// The last signal that was sent to it, and by which call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signaled: Option<super::container::SentSignal>,
}

impl Exec {
    /// Whether it has a terminal.
    #[must_use]
    pub fn has_terminal(&self) -> bool {
        self.spec.process.terminal.is_some()
    }
}
