//! Builds the statuses: what is known of an error, as `google.rpc` details, within 4 KiB.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use http::HeaderMap;
use tonic::Status;
use tonic_types::{
    BadRequest, ErrorDetail, ErrorInfo, FieldViolation, PreconditionFailure, PreconditionViolation,
    QuotaFailure, QuotaViolation, ResourceInfo, RetryInfo, StatusExt,
};
use wharf_api::{ERROR_DOMAIN, ErrorReason};

use super::reason::{Shape, code, retry_delay, shape};

/// Message and details together, as they are on the wire. Common clients cut or refuse more.
pub(super) const MAX_STATUS_BYTES: usize = 4 << 10;
/// What of that is kept free for `RequestInfo`: an id of 128 bytes, its type's name, base64.
const REQUEST_INFO_BYTES: usize = 256;

/// An error's reason, and what is variable about it. The first fact names its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) reason: ErrorReason,
    pub(super) metadata: Vec<(&'static str, String)>,
    /// When to try again, where somebody else has said so.
    pub(super) retry_after: Option<Duration>,
}

impl Facts {
    pub(super) fn new<const N: usize>(
        reason: ErrorReason,
        facts: [(&'static str, &dyn Display); N],
    ) -> Self {
        let metadata = facts.map(|(key, value)| (key, value.to_string()));
        Self {
            reason,
            metadata: metadata.into(),
            retry_after: None,
        }
    }

    /// Adds a fact.
    pub(super) fn with(mut self, key: &'static str, value: impl Display) -> Self {
        self.metadata.push((key, value.to_string()));
        self
    }

    /// Says when to try again, if the reason allows that at all.
    pub(super) fn after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Puts the subject first, if it is not there.
    pub(super) fn about(mut self, key: &'static str, value: &str) -> Self {
        if self.metadata.iter().all(|(known, _)| *known != key) {
            self.metadata.insert(0, (key, value.to_owned()));
        }
        self
    }
}

/// All that a status says.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) facts: Facts,
    pub(super) message: String,
    pub(super) violations: Vec<FieldViolation>,
}

/// How long each part of a status may be, in bytes, and how many violations it lists.
#[derive(Debug, Clone, Copy)]
struct Room {
    message: usize,
    value: usize,
    text: usize,
    violations: usize,
}

/// Tried in turn until a status fits; the last one always does.
const ROOMS: [Room; 6] = [
    room(2_048, 2_048, 512, 64),
    room(512, 2_048, 512, 64),
    room(512, 256, 128, 32),
    room(256, 128, 96, 24),
    room(128, 96, 64, 12),
    room(96, 64, 48, 6),
];

const fn room(message: usize, value: usize, text: usize, violations: usize) -> Room {
    Room {
        message,
        value,
        text,
        violations,
    }
}

impl Report {
    /// The status, in the largest room in which it fits.
    pub(super) fn into_status(self) -> Status {
        let [first, rest @ ..] = ROOMS;
        let mut status = self.within(first);
        for room in rest {
            if wire_bytes(&status) <= MAX_STATUS_BYTES - REQUEST_INFO_BYTES {
                break;
            }
            status = self.within(room);
        }
        status
    }

    fn within(&self, room: Room) -> Status {
        let message = cut(&self.message, room.message);
        let mut details = vec![self.error_info(room)];
        details.extend(self.shaped(room, &message));
        if let Some(usual) = retry_delay(self.facts.reason) {
            let delay = self.facts.retry_after.unwrap_or(usual);
            details.push(RetryInfo::new(Some(delay)).into());
        }
        Status::with_error_details_vec(code(self.facts.reason), message, details)
    }

    fn error_info(&self, room: Room) -> ErrorDetail {
        let metadata: HashMap<String, String> = (self.facts.metadata.iter())
            .map(|(key, value)| ((*key).to_owned(), cut(value, room.value)))
            .collect();
        ErrorInfo::new(self.facts.reason.as_str_name(), ERROR_DOMAIN, metadata).into()
    }

    fn shaped(&self, room: Room, message: &str) -> Option<ErrorDetail> {
        let (kind, subject) = self.subject(room);
        let description = cut(message, room.text);
        Some(match shape(self.facts.reason) {
            Shape::Plain => return None,
            Shape::BadRequest => BadRequest::new(self.violations(room)).into(),
            Shape::Resource => ResourceInfo::new(kind, subject, "", description).into(),
            Shape::Precondition => {
                let name = self.facts.reason.as_str_name();
                let violation = PreconditionViolation::new(name, subject, description);
                PreconditionFailure::new(vec![violation]).into()
            }
            Shape::Quota => QuotaFailure::new(vec![QuotaViolation::new(kind, description)]).into(),
        })
    }

    /// The first fact: the kind of the subject, and its name.
    fn subject(&self, room: Room) -> (&'static str, String) {
        let first = self.facts.metadata.first();
        first.map_or(("server", String::new()), |(key, value)| {
            (*key, cut(value, room.value))
        })
    }

    fn violations(&self, room: Room) -> Vec<FieldViolation> {
        let kept = self.violations.iter().take(room.violations);
        kept.map(|violation| FieldViolation {
            field: cut(&violation.field, room.text),
            description: cut(&violation.description, room.text),
            reason: violation.reason.clone(),
            localized_message: None,
        })
        .collect()
    }
}

/// The bytes of a status's headers: the message is percent-encoded there, the details are base64.
fn wire_bytes(status: &Status) -> usize {
    let mut headers = HeaderMap::new();
    match status.add_header(&mut headers) {
        Ok(()) => headers.values().map(http::HeaderValue::len).sum(),
        Err(_) => usize::MAX,
    }
}

/// At most `max` bytes of `text`, marked if there was more.
fn cut(text: &str, max: usize) -> String {
    const MARK: &str = "...";
    if text.len() <= max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(max.saturating_sub(MARK.len()));
    format!("{}{MARK}", &text[..end])
}
