//! Idempotency keys: which requests carry one, and the digest that tells a repeat from another request.

use std::sync::Arc;

use prost::Message;
use sha2::{Digest as _, Sha256};
use wharf_api::v1;

use crate::engine::Call;
use crate::model::request::{Deduplication, IdempotencyKey};
use crate::transport::RequestContext;

/// A request that may carry an idempotency key.
pub(crate) trait Keyed: Message + Clone {
    /// The key; empty for none.
    fn key(&self) -> &str;
    /// The request without it.
    fn without_key(&self) -> Self;
}

macro_rules! keyed {
    ($($request:ident),* $(,)?) => {$(
        impl Keyed for v1::$request {
            fn key(&self) -> &str {
                &self.idempotency_key
            }

            fn without_key(&self) -> Self {
                Self { idempotency_key: String::new(), ..self.clone() }
            }
        }
    )*};
}

keyed!(
    CreateContainerRequest,
    StartContainerRequest,
    RestartContainerRequest,
    SignalContainerRequest,
    RunContainerStart,
    ImportImageStart,
    CreateExecRequest,
    RunExecStart,
    WriteStdinRequest,
    ExecSyncRequest,
    SignalExecRequest,
    WriteArchiveStart,
    WriteFileStart,
);

/// The call of `request` for the engine.
pub(crate) fn call(context: &RequestContext, request: &impl Keyed) -> Call {
    call_with_content(context, request, &[])
}

/// The call of `request`, which goes with `content` (its digest, for instance) that came outside of it.
pub(crate) fn call_with_content(
    context: &RequestContext,
    request: &impl Keyed,
    content: &[u8],
) -> Call {
    let key = (!request.key().is_empty()).then(|| IdempotencyKey {
        principal: context.principal.clone(),
        method: Arc::clone(&context.method),
        key: request.key().into(),
    });
    Call {
        cause: context.cause(),
        deadline: context.deadline,
        deduplication: key.map(|key| Deduplication {
            key,
            request_digest: digest(request, content),
        }),
    }
}

/// Maps are ordered, so equal requests encode equally.
fn digest(request: &impl Keyed, content: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(request.without_key().encode_to_vec())
        .chain_update(content)
        .finalize()
        .into()
}
