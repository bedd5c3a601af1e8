//! What the layers know of a call, for its handler.

use std::sync::Arc;

use tokio::time::Instant;

use super::error::CallError;
use crate::model::{Cause, Principal, RequestId};

/// Who calls, in which call, until when. In the extensions of every request that reaches a handler.
#[derive(Debug, Clone)]
pub struct RequestContext {
    /// The call's id, the client's or a minted one.
    pub request_id: RequestId,
    /// Who calls.
    pub principal: Principal,
    /// W3C trace id, 32 hex digits, if the call carried or started a trace.
    pub trace_id: Option<Arc<str>>,
    /// `/wharf.v1.ContainerService/StopContainer`; `unknown` for a path that is not served.
    pub method: Arc<str>,
    /// When the caller stops waiting, if it said so.
    pub deadline: Option<Instant>,
}

impl RequestContext {
    /// The context of a tonic request.
    ///
    /// # Errors
    /// [`CallError::Bug`] if the request did not come through the layers.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, CallError> {
        request
            .extensions()
            .get::<Self>()
            .cloned()
            .ok_or(CallError::Bug {
                what: "a request without context",
            })
    }

    /// The cause of whatever the call makes happen.
    #[must_use]
    pub fn cause(&self) -> Cause {
        Cause {
            request_id: self.request_id.clone(),
            trace_id: self.trace_id.clone(),
            method: Arc::clone(&self.method),
            principal: self.principal.clone(),
        }
    }
}
