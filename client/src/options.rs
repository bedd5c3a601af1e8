//! What goes along with calls: request id, deadline, trace context, retry policy.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::retry::RetryPolicy;

/// Correlates calls with their log lines, events and errors: 1 to 128 of `[A-Za-z0-9._:@/+=-]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(String);

/// A text is not a [`RequestId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a request id is 1 to 128 of the characters A-Z a-z 0-9 . _ : @ / + = -")]
pub struct RequestIdError;

impl RequestId {
    /// A new one, unlike any other, ordered by time.
    #[must_use]
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// The id as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = RequestIdError;

    fn from_str(text: &str) -> Result<Self, RequestIdError> {
        wharf_api::token::is_valid(text)
            .then(|| Self(text.to_owned()))
            .ok_or(RequestIdError)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A W3C `traceparent`, version 00: the trace that calls belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceParent(String);

/// A text is not a [`TraceParent`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a traceparent is 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, in lower case")]
pub struct TraceParentError;

impl TraceParent {
    /// The context as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TraceParent {
    type Err = TraceParentError;

    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let hex = |part: &str, len: usize| {
            part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let named = |part: &str| part.bytes().any(|b| b != b'0');
        match text.split('-').collect::<Vec<_>>().as_slice() {
            ["00", trace, span, flags]
                if hex(trace, 32)
                    && hex(span, 16)
                    && hex(flags, 2)
                    && named(trace)
                    && named(span) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(TraceParentError),
        }
    }
}

/// What goes along with the calls of a [`Client`](crate::Client).
#[derive(Debug, Clone, Default)]
pub struct CallOptions {
    pub(crate) request_id: Option<RequestId>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) trace_parent: Option<TraceParent>,
    pub(crate) retry: RetryPolicy,
}

impl CallOptions {
    /// No deadline, no trace, a new request id for each call, the default retry policy.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All calls carry this id. Without it each call gets one of its own.
    #[must_use]
    pub fn request_id(mut self, id: RequestId) -> Self {
        self.request_id = Some(id);
        self
    }

    /// Each call ends after this long, retries included; the server is told (`grpc-timeout`). For a
    /// stream this bounds the whole stream.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// All calls belong to this trace.
    #[must_use]
    pub fn trace_parent(mut self, parent: TraceParent) -> Self {
        self.trace_parent = Some(parent);
        self
    }

    /// How calls that may be repeated are.
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_that_the_server_would_replace_is_refused() {
        assert!("deploy-42/step:3".parse::<RequestId>().is_ok());
        for text in ["", "two words", "line\nbreak", &"x".repeat(129)] {
            assert_eq!(text.parse::<RequestId>(), Err(RequestIdError));
        }
        assert!(wharf_api::token::is_valid(RequestId::generate().as_str()));
    }

    #[test]
    fn a_traceparent_follows_the_w3c_form() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(
            good.parse::<TraceParent>().map(|t| t.as_str().to_owned()),
            Ok(good.into())
        );
        let zero = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        for text in ["", &good[..54], &good.to_uppercase(), zero] {
            assert_eq!(text.parse::<TraceParent>(), Err(TraceParentError));
        }
    }
}
