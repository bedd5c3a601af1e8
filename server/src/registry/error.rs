//! What can be wrong with a registry, or with how it is to be reached.

use std::time::Duration;

use thiserror::Error;

use crate::model::Digest;

/// Why a registry did not do what it was asked to.
#[derive(Debug, Clone, Error)]
pub enum RegistryError {
    /// It has no such repository, tag or digest.
    #[error("registry {registry} does not have {image}")]
    NotFound {
        /// The registry's domain.
        registry: String,
        /// What it was asked for.
        image: String,
    },
    /// It refuses the credentials, or wants some.
    #[error("registry {registry} refuses access to {image}")]
    AuthFailed {
        /// The registry's domain.
        registry: String,
        /// What it was asked for.
        image: String,
    },
    /// It answers 429, for longer than is waited.
    #[error("registry {registry} answers too many requests")]
    RateLimited {
        /// The registry's domain.
        registry: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// It cannot be reached, answers 5xx, breaks off or stalls, again and again.
    #[error("registry {registry} is unavailable: {detail}")]
    Unavailable {
        /// The registry's domain.
        registry: String,
        /// What happened last.
        detail: String,
    },
    /// It answers something it must not.
    #[error("registry {registry} answers what it must not: {problem}")]
    ResponseInvalid {
        /// The registry's domain.
        registry: String,
        /// What.
        problem: String,
    },
    /// Content is not what its digest says.
    #[error("content {expected} is {actual}")]
    DigestMismatch {
        /// What it should be.
        expected: String,
        /// What it is.
        actual: String,
    },
    /// The server's settings for it cannot be used.
    #[error("the settings for registry {registry} cannot be used: {path}: {problem}")]
    Settings {
        /// The registry's domain.
        registry: String,
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No space is left for what comes in.
    #[error("no space left in {path}")]
    NoSpace {
        /// The directory.
        path: String,
    },
    /// What comes in cannot be written.
    #[error("what comes in cannot be kept: {detail}")]
    Io {
        /// What the system says.
        detail: String,
    },
    /// What was read while it came in was something else.
    #[error("the content has changed while it came in")]
    Changed,
    /// Nobody wants it any more.
    #[error("nobody waits for it any more")]
    Abandoned,
}

impl RegistryError {
    pub(super) fn mismatch(expected: &Digest, actual: &Digest) -> Self {
        Self::DigestMismatch {
            expected: expected.to_string(),
            actual: actual.to_string(),
        }
    }

    /// Whether the same may go well a little later, without anybody doing anything about it.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::Unavailable { .. } => true,
            // Somebody on the way may have changed it.
            Self::DigestMismatch { .. } => true,
            Self::NotFound { .. }
            | Self::AuthFailed { .. }
            | Self::ResponseInvalid { .. }
            | Self::Settings { .. }
            | Self::NoSpace { .. }
            | Self::Io { .. }
            | Self::Changed
            | Self::Abandoned => false,
        }
    }
}
