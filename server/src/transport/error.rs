//! Everything a call can end with but success, before it becomes a `Status`.
//!
//! Handlers return [`CallError`] (by `?`, it turns into a `tonic::Status` through [`super::status`]);
//! layers make the rest of its variants. Nothing here renders: what a variant looks like on the wire
//! is said in `status` alone.

use thiserror::Error;

use crate::backend::Applied;
use crate::engine;
use crate::journal::{Journal, JournalError};
use crate::oci::image::ImageError;

/// Why a call did not succeed.
#[derive(Debug, Clone, Error)]
pub enum CallError {
    /// The engine refused or failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The engine refused or failed, with an error that does not name the container it is about.
    #[error("{}{error}", about(container))]
    Container {
        /// Id or name, as asked for; empty for one that is to be made and has no name.
        container: String,
        /// What it said.
        error: engine::Error,
    },
    /// Fields of the request are wrong.
    #[error("{0}")]
    Invalid(Violations),
    /// The request asks for what the backend does not have.
    #[error("backend {backend} does not support {violations}")]
    OptionsNotSupported {
        /// The options, all of them.
        violations: Violations,
        /// `containerd`.
        backend: &'static str,
    },
    /// The page token is malformed, or of a call with other fields.
    #[error("page_token is malformed, or of a list with other fields")]
    PageTokenInvalid,
    /// A cursor is malformed, or of another server or container.
    #[error("{field} is malformed, or of another server or container")]
    CursorInvalid {
        /// Its path in the request.
        field: String,
    },
    /// Events after a cursor are gone.
    #[error("events after the cursor are gone; the oldest resume point is {oldest}")]
    CursorExpired {
        /// The oldest resume point.
        oldest: String,
        /// The newest.
        newest: String,
    },
    /// The messages of a stream came in a wrong order.
    #[error("expected {expected}, got {got}")]
    StreamProtocol {
        /// `start`, `chunk or end` ...
        expected: &'static str,
        /// What came; `end of stream` if nothing did.
        got: &'static str,
    },
    /// The server does not have the method.
    #[error("method {method} is not supported")]
    MethodNotSupported {
        /// `/wharf.v1.ExecService/RunExec`; `unknown` for one that the API does not have.
        method: &'static str,
        /// `containerd`.
        backend: &'static str,
    },
    /// Content that was sent is not what its digest or size says.
    #[error("content is {actual}, expected {expected}")]
    TransferMismatch {
        /// What the client said.
        expected: String,
        /// What came.
        actual: String,
    },
    /// A message or a transfer is over the limit.
    #[error("{actual} bytes are over the limit of {limit}")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
        /// What came, in bytes; at least.
        actual: u64,
    },
    /// A write of several entries that failed in the middle.
    #[error("{error}; {entries} entries were written before")]
    PartialWrite {
        /// Entries that were written.
        entries: u64,
        /// Why no more were.
        error: Box<CallError>,
    },
    /// Reading the request failed: tonic's own words.
    #[error("the request cannot be read: {}", .0.message())]
    Inbound(Box<tonic::Status>),
    /// The call's deadline passed.
    #[error("the deadline passed in phase {phase}")]
    Deadline {
        /// `handler` before the first answer, `stream` after it.
        phase: &'static str,
        /// Whether the call may have acted.
        applied: Applied,
    },
    /// The caller went away.
    #[error("the caller went away")]
    Cancelled {
        /// Whether the call may have acted.
        applied: Applied,
    },
    /// A bug of the transport or of a handler.
    #[error("internal error: {what}")]
    Bug {
        /// What must not have happened.
        what: &'static str,
    },
}

fn about(container: &str) -> String {
    match container {
        "" => String::new(),
        container => format!("container {container}: "),
    }
}

impl CallError {
    /// `error` of a command on `container`: names the container where the error itself does not
    /// (launch failures, the backend's).
    pub fn of(container: &str) -> impl FnOnce(engine::Error) -> Self {
        let container = container.to_owned();
        move |error| Self::Container { container, error }
    }

    /// `error` of a read of the journal: resume points become cursors.
    pub fn of_journal(journal: &Journal) -> impl FnOnce(engine::Error) -> Self {
        let journal = journal.clone();
        move |error| {
            if let engine::Error::Journal(JournalError::Expired { oldest, newest, .. }) = error {
                Self::CursorExpired {
                    oldest: journal.cursor(oldest).to_string(),
                    newest: journal.cursor(newest).to_string(),
                }
            } else {
                Self::Engine(error)
            }
        }
    }

    /// This error, of a call that has written `entries` of what it was to write.
    #[must_use]
    pub fn after_entries(self, entries: u64) -> Self {
        match self {
            // A status goes on as it is.
            Self::Inbound(_) => self,
            error => Self::PartialWrite {
                entries,
                error: Box::new(error),
            },
        }
    }

    /// One wrong field; for several, collect [`Violations`].
    pub fn invalid(
        field: impl Into<String>,
        reason: &'static str,
        description: impl Into<String>,
    ) -> Self {
        let mut violations = Violations::new();
        violations.add(field, reason, description);
        Self::Invalid(violations)
    }
}

impl From<ImageError> for CallError {
    fn from(error: ImageError) -> Self {
        Self::Engine(error.into())
    }
}

/// What reading an inbound stream gives.
impl From<tonic::Status> for CallError {
    fn from(status: tonic::Status) -> Self {
        Self::Inbound(Box::new(status))
    }
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request: `spec.mounts[2].target`.
    pub field: String,
    /// What is wrong with it.
    pub kind: ViolationKind,
    /// For people; lower-case, no full stop. Never a secret.
    pub description: String,
}

/// The kind of a violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViolationKind {
    /// The value is wrong: `REQUIRED`, `TOO_LONG`, `OUT_OF_RANGE` ... (UPPER_SNAKE_CASE).
    Invalid(&'static str),
    /// The value is fine, but the backend does not have the option.
    Unsupported,
}

/// All that is wrong with a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a wrong field. `reason` is UPPER_SNAKE_CASE.
    pub fn add(
        &mut self,
        field: impl Into<String>,
        reason: &'static str,
        description: impl Into<String>,
    ) {
        self.0.push(Violation {
            field: field.into(),
            kind: ViolationKind::Invalid(reason),
            description: description.into(),
        });
    }

    /// Notes an option that the backend does not have.
    pub fn unsupported(&mut self, field: impl Into<String>) {
        self.0.push(Violation {
            field: field.into(),
            kind: ViolationKind::Unsupported,
            description: "this backend does not have the option".to_owned(),
        });
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order they were found.
    #[must_use]
    pub fn as_slice(&self) -> &[Violation] {
        &self.0
    }

    /// Fails if there are any: with the unsupported options if they are all there is to complain of,
    /// else as invalid fields.
    ///
    /// # Errors
    /// [`CallError::Invalid`], [`CallError::OptionsNotSupported`].
    pub fn check(self, backend: &'static str) -> Result<(), CallError> {
        let supported = |violation: &Violation| violation.kind != ViolationKind::Unsupported;
        if self.is_empty() {
            Ok(())
        } else if self.0.iter().any(supported) {
            Err(CallError::Invalid(self))
        } else {
            Err(CallError::OptionsNotSupported {
                violations: self,
                backend,
            })
        }
    }
}

impl std::fmt::Display for Violations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, violation) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            match violation.kind {
                ViolationKind::Invalid(_) => write!(
                    f,
                    "{separator}{}: {}",
                    violation.field, violation.description
                )?,
                ViolationKind::Unsupported => write!(f, "{separator}{}", violation.field)?,
            }
        }
        Ok(())
    }
}
