//! What containerd's errors mean.
//!
//! Everything that comes from an OCI runtime arrives as code UNKNOWN with words; `oci_runtime` knows what those
//! mean.
use std::error::Error;

use thiserror::Error;
use tonic::{Code, ConnectError, Status};

use super::connection::Rpc;
use crate::backend::oci_runtime::{self, LaunchContext, shortened};
use crate::backend::{Applied, BackendError};
use crate::model::Digest;

/// This backend, as errors name it.
pub(super) const BACKEND: &str = "containerd";

/// How a call failed.
#[derive(Debug, Clone, Error)]
pub(super) enum RpcError {
    /// There was no connection: the request never left.
    #[error("{rpc}: {detail}")]
    NotSent {
        /// Which call.
        rpc: &'static str,
        /// What connecting met.
        detail: String,
    },
    /// The connection broke, or the deadline passed: it may have acted.
    #[error("{rpc}: {detail}")]
    NoAnswer {
        /// Which call.
        rpc: &'static str,
        /// What happened.
        detail: String,
    },
    /// containerd answered with an error.
    #[error("{rpc}: {code:?}: {message}")]
    Answer {
        /// Which call.
        rpc: &'static str,
        /// Its code.
        code: Code,
        /// Its words, in full.
        message: String,
    },
}

impl RpcError {
    /// What `status` says about the call. A status that containerd sent has no source; one that was
    /// made on our side from a transport error has.
    pub(super) fn of(rpc: Rpc, status: &Status) -> Self {
        let rpc = rpc.name;
        match status.source() {
            None => Self::Answer {
                rpc,
                code: status.code(),
                message: status.message().to_owned(),
            },
            Some(source) if is_connect_error(source) => Self::NotSent {
                rpc,
                detail: innermost(source),
            },
            Some(source) => Self::NoAnswer {
                rpc,
                detail: innermost(source),
            },
        }
    }

    /// The deadline of the call passed.
    pub(super) fn deadline(rpc: Rpc) -> Self {
        Self::NoAnswer {
            rpc: rpc.name,
            detail: format!("no answer within {:?}", rpc.deadline),
        }
    }

    /// The stream of the call ended.
    pub(super) fn ended(rpc: Rpc) -> Self {
        Self::NoAnswer {
            rpc: rpc.name,
            detail: "the stream ended".to_owned(),
        }
    }

    /// Whether containerd says that it has no such thing.
    pub(super) fn is_not_found(&self) -> bool {
        self.code() == Some(Code::NotFound)
    }

    /// Whether containerd says that it has such a thing already.
    pub(super) fn is_already_exists(&self) -> bool {
        self.code() == Some(Code::AlreadyExists)
    }

    /// That the operation which the call was part of may have acted.
    pub(super) fn in_doubt(&self) -> BackendError {
        unavailable(self, Applied::Unknown)
    }

    /// Whether the runtime says that there is nothing to thaw: SIGKILL has thawed it already, as runc
    /// does on cgroup v1, or the last process has just gone. The texts are those of runc and crun.
    pub(super) fn is_not_paused(&self) -> bool {
        let Self::Answer { message, .. } = self else {
            return false;
        };
        let refused = message.strip_prefix("OCI runtime resume failed: ");
        refused.is_some_and(|text| text.contains("not paused") || text.contains("not running"))
    }

    /// The code of containerd's answer, if it answered.
    pub(super) fn code(&self) -> Option<Code> {
        match self {
            Self::Answer { code, .. } => Some(*code),
            Self::NotSent { .. } | Self::NoAnswer { .. } => None,
        }
    }

    /// The error of a call about a `what` (`container`, `image`, `content` ...).
    pub(super) fn about(self, what: &'static str) -> BackendError {
        match self {
            Self::NotSent { .. } => unavailable(&self, Applied::No),
            Self::NoAnswer { .. } => unavailable(&self, Applied::Unknown),
            Self::Answer {
                code: Code::NotFound,
                ..
            } => BackendError::NotFound {
                backend: BACKEND,
                what,
            },
            Self::Answer {
                code: Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded,
                ..
            } => unavailable(&self, Applied::Unknown),
            Self::Answer { code, message, .. } => {
                oci_runtime::exhausted(&message).unwrap_or_else(|| protocol(code, &message))
            }
        }
    }

    /// The error of unpacking a layer with this digest.
    pub(super) fn unpacking(self, layer: &Digest) -> BackendError {
        match &self {
            Self::Answer { message, .. } if oci_runtime::blames_layer(message) => {
                BackendError::LayerInvalid {
                    layer: layer.to_string(),
                    problem: shortened(message),
                }
            }
            _ => self.about("content"),
        }
    }

    /// The error of a call that should have launched something; `what` it needs to be there.
    pub(super) fn launch(self, context: &LaunchContext<'_>, what: &'static str) -> BackendError {
        let Self::Answer { code, message, .. } = &self else {
            return self.about(what);
        };
        match oci_runtime::classify(message, context) {
            Some(error) => error,
            None if *code == Code::Unknown => oci_runtime::refused(message),
            None => self.about(what),
        }
    }
}

fn is_connect_error(error: &(dyn Error + 'static)) -> bool {
    chain(error).any(|error| error.is::<ConnectError>())
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error)
        .last()
        .map(ToString::to_string)
        .unwrap_or_default()
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

fn unavailable(error: &RpcError, applied: Applied) -> BackendError {
    BackendError::Unavailable {
        backend: BACKEND,
        detail: shortened(&error.to_string()),
        applied,
    }
}

/// An answer that has no meaning of its own.
pub(super) fn protocol(code: Code, message: &str) -> BackendError {
    BackendError::Protocol {
        backend: BACKEND,
        code: format!("{code:?}"),
        message: shortened(message),
    }
}
