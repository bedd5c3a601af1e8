//! What the engine can answer instead of doing what it was asked to.

use thiserror::Error;

use crate::backend::BackendError;
use crate::files::FileError;
use crate::journal::JournalError;
use crate::model::{Container, Exec, ExecId, ExecState, Run, State};
use crate::oci::image::ImageError;
use crate::oci::process::ProcessError;
use crate::registry::RegistryError;
use crate::store::StoreError;

/// A refusal or a failure. Variants are one to one with what a caller can do about them.
#[derive(Debug, Clone, Error)]
#[expect(
    missing_docs,
    reason = "the messages say what each is, and the fields are named in them"
)]
pub enum Error {
    #[error("container {container:?} does not exist")]
    ContainerNotFound { container: String },
    #[error("name {name:?} is taken by container {existing}")]
    NameInUse { name: String, existing: String },
    #[error("container {container} is {state}, not running")]
    NotRunning { container: String, state: State },
    #[error("container {container} is {state}; stop it first, or use force")]
    StillRunning { container: String, state: State },
    #[error("container {container} is paused")]
    Paused { container: String },
    #[error("control of container {container} was lost; only deletion is possible")]
    ControlLost { container: String },
    #[error("run {run} of container {container} can never meet the condition: it is {state}")]
    ConditionUnreachable {
        container: String,
        run: Run,
        state: State,
        conditions: String,
    },
    #[error("container {container} is at run {run}, not at {expected}")]
    RunChanged {
        container: String,
        expected: Run,
        run: Run,
    },
    #[error("container {container} has changed; its etag is {etag}")]
    EtagMismatch { container: String, etag: String },
    #[error("container {container} is busy: {operation}")]
    OperationInProgress {
        container: String,
        operation: &'static str,
        /// The call that is under way; empty for the server's own acts.
        request_id: String,
    },
    #[error("container {container} was deleted meanwhile")]
    DeletedConcurrently { container: String },
    #[error("container {container} survived SIGKILL; phase {phase}")]
    StopTimedOut { container: String, phase: String },
    #[error("the server keeps at most {limit} containers")]
    TooManyContainers { limit: usize },

    #[error("exec {exec} does not exist")]
    ExecNotFound { exec: String },
    #[error("exec {exec} is {state}; use force")]
    ExecAlreadyStarted { exec: ExecId, state: ExecState },
    #[error("exec {exec} is {state}, not running")]
    ExecNotRunning { exec: ExecId, state: ExecState },
    #[error("the process has no terminal")]
    TerminalNotAllocated {
        container: String,
        exec: Option<ExecId>,
    },
    #[error("the stdin of the process is not open")]
    StdinNotOpen {
        container: String,
        exec: Option<ExecId>,
    },
    #[error("container {container} has {limit} execs that have not ended")]
    TooManyExecs { container: String, limit: usize },
    #[error("container {container} keeps no log")]
    LogNotFound { container: String },
    #[error("the cursor is not of the log of container {container}")]
    LogCursorInvalid { container: String },
    #[error("the log of container {container} cannot be read: {detail}")]
    LogUnreadable { container: String, detail: String },

    #[error("idempotency key {key:?} was used with another request, in call {first_request_id}")]
    IdempotencyKeyMismatch {
        key: String,
        first_request_id: String,
    },
    #[error("the first call with idempotency key {key:?}, {first_request_id}, has not ended yet")]
    IdempotentRequestInProgress {
        key: String,
        first_request_id: String,
    },

    #[error("image {image:?} does not exist")]
    ImageNotFound { image: String },
    #[error("image {image:?} has nothing for {platform}; it has {available}")]
    PlatformNotFound {
        image: String,
        platform: String,
        available: String,
    },
    #[error("reference {reference:?} names image {existing}")]
    ReferenceInUse { reference: String, existing: String },
    #[error("image {image} is used by {containers}")]
    ImageInUse { image: String, containers: String },
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Registry(#[from] RegistryError),

    #[error("{error}")]
    File { container: String, error: FileError },
    /// A write of several entries that failed in the middle.
    #[error("{error}; {entries} entries were written before")]
    PartialWrite { entries: u64, error: Box<Error> },

    #[error("{field}: {problem}")]
    InvalidField { field: String, problem: String },
    #[error("backend {backend} does not support {field}")]
    OptionNotSupported {
        field: String,
        backend: &'static str,
    },

    #[error("the server is recovering its state: {phase}")]
    Starting { phase: &'static str },
    #[error("the server is stopping")]
    Draining,

    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("a cursor of epoch {epoch} is of no use: the journal was replaced")]
    EpochChanged {
        epoch: String,
        oldest: String,
        newest: String,
    },
    #[error("the cursor is from another server")]
    ForeignCursor,

    /// A bug: an actor or task ended that must not.
    #[error("internal error: {what}")]
    Bug { what: &'static str },
}

impl Error {
    /// Whether what was asked for may have been done after all.
    pub(super) fn leaves_doubt(&self) -> bool {
        matches!(self, Self::Backend(error) if error.leaves_doubt())
    }

    /// The call needs an exec that runs.
    pub(super) fn exec_not_running(exec: &Exec) -> Self {
        Self::ExecNotRunning {
            exec: exec.id,
            state: exec.state,
        }
    }

    /// `error` of work on the files of a container.
    pub(super) fn file(container: &Container, error: FileError) -> Self {
        let id = container.id.to_string();
        match error {
            // The exit has not been heard of yet; once it has, there is another root.
            FileError::ProcessEnded => Self::OperationInProgress {
                container: id,
                operation: "exit",
                request_id: String::new(),
            },
            FileError::Covered { .. } => Self::NotRunning {
                container: id,
                state: container.state,
            },
            error => Self::File {
                container: id,
                error,
            },
        }
    }
}

impl From<ProcessError> for Error {
    fn from(error: ProcessError) -> Self {
        match error {
            ProcessError::NoCommand => Self::InvalidField {
                field: "spec.process.args".to_owned(),
                problem: error.to_string(),
            },
            ProcessError::Account(failure) => Self::Backend(failure.into()),
        }
    }
}
