//! What can go wrong, typed: the one place that reads a `tonic::Status`.
//!
//! Decisions are taken on codes, reasons and details, never on message text.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::pb;
use wharf_api::{ERROR_DOMAIN, ErrorReason, metadata};

use crate::address::{Address, AddressError};
use crate::options::RequestId;

/// Why a call, a stream or a transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's address cannot be used.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// No connection could be made, so nothing was sent.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The connection was lost: what the call did is not known.
    #[error("the connection to {address} was lost: {message}")]
    Disconnected {
        /// To where.
        address: Address,
        /// What the transport said.
        message: String,
        /// The call's request id.
        request_id: String,
    },
    /// The call's time passed before an answer came; what it began goes on, and can be read back.
    #[error("no answer within the call's time limit")]
    Deadline {
        /// The call's request id.
        request_id: String,
    },
    /// The server answered with an error.
    #[error("{0}")]
    Call(Box<CallError>),
    /// A stream ended without its documented last message.
    #[error("the server ended {method} without its last message")]
    Incomplete {
        /// Path of the method.
        method: &'static str,
    },
    /// What came is not what the server says that it sent.
    #[error("what {method} brought is damaged")]
    Mismatch {
        /// Path of the method.
        method: &'static str,
    },
    /// The bytes to send could not be read.
    #[error("cannot read what is to be sent: {0}")]
    Read(#[source] io::Error),
    /// The bytes that came could not be written.
    #[error("cannot write what was received: {0}")]
    Write(#[source] io::Error),
}

/// An error that the server answered.
#[derive(Debug, Clone)]
pub struct CallError {
    /// gRPC code.
    pub code: Code,
    /// Wharf's reason; `None` if the answer has none, or one that is newer than this client.
    pub reason: Option<ErrorReason>,
    /// The reason's name, also of a newer one; empty if the answer has none.
    pub reason_name: String,
    /// For people.
    pub message: String,
    /// What is variable in the message, by key.
    pub metadata: BTreeMap<String, String>,
    /// Finds the call in the server's log and events: the server's echo, else what was sent.
    pub request_id: String,
    /// All fields that are wrong.
    pub violations: Vec<Violation>,
    /// When the server asks for a repeat, how long to wait first.
    pub retry_after: Option<Duration>,
}

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the request's field, such as `spec.image`.
    pub field: String,
    /// For people.
    pub description: String,
    /// `UPPER_SNAKE_CASE`; may be empty.
    pub reason: String,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = match self.message.as_str() {
            "" => self.code.description(),
            text => text,
        };
        f.write_str(message)
    }
}

impl StdError for CallError {}

impl Error {
    /// Wharf's reason, if the server gave one.
    #[must_use]
    pub fn reason(&self) -> Option<ErrorReason> {
        self.call().and_then(|call| call.reason)
    }

    /// The server's answer, if it was one.
    #[must_use]
    pub fn call(&self) -> Option<&CallError> {
        match self {
            Self::Call(call) => Some(call),
            Self::Address(_)
            | Self::Connect { .. }
            | Self::Disconnected { .. }
            | Self::Deadline { .. }
            | Self::Incomplete { .. }
            | Self::Mismatch { .. }
            | Self::Read(_)
            | Self::Write(_) => None,
        }
    }

    /// The request id of the failed call; `None` if nothing was sent.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Call(call) => Some(&call.request_id),
            Self::Disconnected { request_id, .. } | Self::Deadline { request_id } => {
                Some(request_id)
            }
            Self::Address(_)
            | Self::Connect { .. }
            | Self::Incomplete { .. }
            | Self::Mismatch { .. }
            | Self::Read(_)
            | Self::Write(_) => None,
        }
    }

    /// Whether a read that can go on where it stopped should: the server is away or leaving.
    pub(crate) fn is_interruption(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Disconnected { .. } => true,
            Self::Call(call) => {
                // The server is there, and has itself tried again for long enough.
                let registry = call.reason == Some(ErrorReason::RegistryUnavailable);
                call.code == Code::Unavailable && !registry
            }
            Self::Address(_)
            | Self::Deadline { .. }
            | Self::Incomplete { .. }
            | Self::Mismatch { .. }
            | Self::Read(_)
            | Self::Write(_) => false,
        }
    }

    pub(crate) fn from_status(status: &Status, address: &Address, sent: &RequestId) -> Self {
        let request_id = || sent.as_str().to_owned();
        match origin(status) {
            Origin::Server => Self::Call(Box::new(CallError::from_status(status, sent))),
            Origin::Connector(kind, text) => Self::Connect {
                address: address.clone(),
                source: io::Error::new(kind, text),
            },
            Origin::Timer => Self::Deadline {
                request_id: request_id(),
            },
            Origin::Transport(message) => Self::Disconnected {
                address: address.clone(),
                message,
                request_id: request_id(),
            },
        }
    }
}

/// Who made a status.
enum Origin {
    Server,
    Connector(io::ErrorKind, String),
    Timer,
    Transport(String),
}

/// A status that came over the wire has no source; the types in the chain tell the others apart.
fn origin(status: &Status) -> Origin {
    let mut connecting = false;
    let mut link = status.source();
    let mut deepest = None;
    while let Some(error) = link {
        if error.is::<tonic::TimeoutExpired>() {
            return Origin::Timer;
        }
        connecting |= error.is::<tonic::ConnectError>();
        deepest = Some(error);
        link = error.source();
    }
    match deepest {
        None => Origin::Server,
        Some(cause) if connecting => connect_failure(cause),
        Some(cause) => Origin::Transport(cause.to_string()),
    }
}

fn connect_failure(cause: &(dyn StdError + 'static)) -> Origin {
    let kind = cause
        .downcast_ref::<io::Error>()
        .map_or(io::ErrorKind::Other, io::Error::kind);
    Origin::Connector(kind, cause.to_string())
}

/// The error of a connection that is made before any call.
pub(crate) fn connect_error(error: tonic::transport::Error, address: &Address) -> Error {
    // Wrapped as a status, it takes the same way as the failures of later connections.
    let status = Status::from_error(Box::new(error));
    Error::from_status(&status, address, &RequestId::generate())
}

impl CallError {
    pub(crate) fn from_status(status: &Status, sent: &RequestId) -> Self {
        let mut error = Self {
            code: status.code(),
            reason: None,
            reason_name: String::new(),
            message: status.message().to_owned(),
            metadata: BTreeMap::new(),
            request_id: echoed_id(status).unwrap_or_else(|| sent.as_str().to_owned()),
            violations: Vec::new(),
            retry_after: None,
        };
        // Details that cannot be read leave the code and the message, which stand for themselves.
        let details = pb::Status::decode(status.details())
            .map(|status| status.details)
            .unwrap_or_default();
        for detail in &details {
            error.add(detail);
        }
        if let Some(pushback) = status.metadata().get(metadata::RETRY_PUSHBACK) {
            error.retry_after = pushback_delay(pushback.as_bytes());
        }
        error
    }

    fn add(&mut self, detail: &prost_types::Any) {
        let value = detail.value.as_slice();
        match detail.type_url.rsplit('/').next() {
            Some("google.rpc.ErrorInfo") => {
                if let Ok(info) = pb::ErrorInfo::decode(value) {
                    self.add_info(info);
                }
            }
            Some("google.rpc.RequestInfo") => {
                if let Ok(info) = pb::RequestInfo::decode(value)
                    && !info.request_id.is_empty()
                {
                    self.request_id = info.request_id;
                }
            }
            Some("google.rpc.RetryInfo") => {
                if let Ok(info) = pb::RetryInfo::decode(value) {
                    self.retry_after = info.retry_delay.and_then(|delay| delay.try_into().ok());
                }
            }
            Some("google.rpc.BadRequest") => {
                if let Ok(bad) = pb::BadRequest::decode(value) {
                    self.violations
                        .extend(bad.field_violations.into_iter().map(Violation::from));
                }
            }
            _ => {}
        }
    }

    fn add_info(&mut self, info: pb::ErrorInfo) {
        if info.domain == ERROR_DOMAIN {
            self.reason = ErrorReason::from_str_name(&info.reason);
            self.reason_name = info.reason;
            self.metadata = info.metadata.into_iter().collect();
        }
    }
}

impl From<pb::bad_request::FieldViolation> for Violation {
    fn from(violation: pb::bad_request::FieldViolation) -> Self {
        Self {
            field: violation.field,
            description: violation.description,
            reason: violation.reason,
        }
    }
}

fn echoed_id(status: &Status) -> Option<String> {
    let id = status.metadata().get(metadata::REQUEST_ID)?.to_str().ok()?;
    (!id.is_empty()).then(|| id.to_owned())
}

/// A negative or malformed pushback means "do not repeat", as gRPC's retry design has it.
fn pushback_delay(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?;
    text.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, StatusExt as _};

    fn parse(status: &Status) -> CallError {
        CallError::from_status(status, &"sent-1".parse().unwrap())
    }

    #[test]
    fn every_detail_of_an_error_arrives_typed() {
        let mut details = ErrorDetails::new();
        details.set_error_info(
            "INVALID_FIELD",
            "wharf",
            [("firstField".into(), "spec.image".into())],
        );
        details.set_request_info("req-9", "");
        details.add_bad_request_violation("spec.image", "required");
        details.set_retry_info(Some(Duration::from_millis(250)));
        let error = parse(&Status::with_error_details(
            Code::InvalidArgument,
            "2 fields",
            details,
        ));
        assert_eq!(error.reason, Some(ErrorReason::InvalidField));
        assert_eq!(
            error.metadata.get("firstField").map(String::as_str),
            Some("spec.image")
        );
        assert_eq!(error.request_id, "req-9");
        assert_eq!(error.violations[0].field, "spec.image");
        assert_eq!(error.retry_after, Some(Duration::from_millis(250)));
        assert_eq!(error.to_string(), "2 fields");
    }

    #[test]
    fn a_reason_newer_than_this_client_keeps_its_name() {
        let mut details = ErrorDetails::new();
        details.set_error_info("FROM_THE_FUTURE", "wharf", []);
        let error = parse(&Status::with_error_details(Code::Aborted, "later", details));
        assert_eq!(error.reason, None);
        assert_eq!(error.reason_name, "FROM_THE_FUTURE");
    }

    #[test]
    fn a_reason_of_another_domain_is_not_ours() {
        let mut details = ErrorDetails::new();
        details.set_error_info("INVALID_FIELD", "example.org", []);
        let error = parse(&Status::with_error_details(Code::Aborted, "x", details));
        assert_eq!(error.reason, None);
        assert_eq!(error.request_id, "sent-1");
    }

    #[test]
    fn a_pushback_trailer_rules_over_the_details_and_may_forbid_a_repeat() {
        let mut details = ErrorDetails::new();
        details.set_retry_info(Some(Duration::from_millis(250)));
        let mut status = Status::with_error_details(Code::Unavailable, "x", details);
        let mut with = |value: &'static str| {
            status.metadata_mut().insert(
                metadata::RETRY_PUSHBACK,
                tonic::metadata::MetadataValue::from_static(value),
            );
            parse(&status).retry_after
        };
        assert_eq!(with("40"), Some(Duration::from_millis(40)));
        assert_eq!(with("-1"), None);
        assert_eq!(with("soon"), None);
    }
}
