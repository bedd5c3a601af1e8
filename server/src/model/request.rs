//! Who asked for something, and in which call.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use wharf_api::token;

/// A valid `x-request-id`: 1 to 128 of `[A-Za-z0-9._:@/+=-]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// `text` as a request id, if it may be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        token::is_valid(text).then(|| Self(text.into()))
    }

    /// A new one, ordered by time (UUID version 7).
    #[must_use]
    pub fn mint() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who calls: `uid:1000` on a Unix socket, `loopback` on TCP, `system` for the server's own acts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Principal(Arc<str>);

impl Principal {
    /// A user of this host.
    #[must_use]
    pub fn user(uid: u32) -> Self {
        Self(format!("uid:{uid}").into())
    }

    /// Somebody on this host who came over TCP and so cannot be told apart.
    #[must_use]
    pub fn loopback() -> Self {
        Self("loopback".into())
    }

    /// The principal as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The call that made something happen. It travels with the command and ends up in its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The call's `x-request-id`, the client's or a minted one.
    pub request_id: RequestId,
    /// W3C trace id, 32 hex digits, if the call carried or started a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Arc<str>>,
    /// `/wharf.v1.ContainerService/StopContainer`.
    pub method: Arc<str>,
    /// Who called.
    pub principal: Principal,
}

/// Makes a call safe to repeat: the same key with the same request gets the first call's answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// Whose key it is; keys of different callers never meet.
    pub principal: Principal,
    /// The method it was used with.
    pub method: Arc<str>,
    /// 1 to 128 of `[A-Za-z0-9._:@/+=-]`.
    pub key: Arc<str>,
}

/// An idempotency key together with the digest of the request it came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deduplication {
    /// The key.
    pub key: IdempotencyKey,
    /// SHA-256 of the encoded request.
    pub request_digest: [u8; 32],
}
