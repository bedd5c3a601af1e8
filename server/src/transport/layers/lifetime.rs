//! Bounds calls and streams: by the caller's deadline, and by the server's own end.
//!
//! What a handler started goes on in the engine; only the waiting for it ends here. Unary calls may
//! finish while the server drains; server streams have no end of their own and get one.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::{Either, pending, select};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};
use tonic::Status;
use tonic::body::Body;
use tower::Service;
use wharf_api::{Idempotency, Method};

use super::body::trailers_of;
use super::{Answer, Handler, refuse, timeout};
use crate::backend::Applied;
use crate::engine;
use crate::transport::context::RequestContext;
use crate::transport::error::CallError;
use crate::transport::gate::Gate;

#[derive(Debug, Clone)]
pub(super) struct Lifetime<S> {
    inner: S,
    gate: Gate,
}

impl<S> Lifetime<S> {
    pub(super) fn new(inner: S, gate: Gate) -> Self {
        Self { inner, gate }
    }
}

impl<S: Handler> Service<Request<Body>> for Lifetime<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        if timeout::parse(request.headers()).is_err() {
            // To ignore it would be to wait for ever on behalf of a caller that does not.
            let description = "not up to eight digits and one of H, M, S, m, u, n";
            let error = CallError::invalid(timeout::GRPC_TIMEOUT, "MALFORMED", description);
            return Box::pin(async { Ok(refuse(error)) });
        }
        let end = self.end_of(&request);
        let answer = self.inner.call(request);
        Box::pin(async move {
            match select(Box::pin(answer), end).await {
                Either::Left((response, end)) => Ok(response?.map(|inner| bound(inner, end))),
                Either::Right((end, _)) => Ok(refuse(end.into_error("handler"))),
            }
        })
    }
}

/// Resolves when the call has to end.
type EndFuture = Pin<Box<dyn Future<Output = End> + Send>>;

impl<S> Lifetime<S> {
    fn end_of(&self, request: &Request<Body>) -> EndFuture {
        let context = request.extensions().get::<RequestContext>();
        let deadline = context.and_then(|context| context.deadline);
        let method = Method::by_path(request.uri().path());
        // Streams of other packages (reflection, health) are to end too.
        let streams = method.is_none_or(|method| method.server_streaming);
        let reads = method.is_none_or(|m| m.idempotency == Idempotency::NoSideEffects);
        let gate = streams.then(|| self.gate.clone());
        let applied = if reads { Applied::No } else { Applied::Unknown };
        Box::pin(end(deadline, gate, applied))
    }
}

async fn end(deadline: Option<Instant>, gate: Option<Gate>, applied: Applied) -> End {
    let deadline = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => pending().await,
        }
    };
    let drain = async {
        match gate {
            Some(gate) => gate.draining().await,
            None => pending().await,
        }
    };
    tokio::select! {
        () = deadline => End::Deadline(applied),
        () = drain => End::Drain,
    }
}

/// Why a call has to end.
#[derive(Debug, Clone, Copy)]
enum End {
    Deadline(Applied),
    Drain,
}

impl End {
    fn into_error(self, phase: &'static str) -> CallError {
        match self {
            Self::Deadline(applied) => CallError::Deadline { phase, applied },
            Self::Drain => engine::Error::Draining.into(),
        }
    }
}

fn bound(inner: Body, end: EndFuture) -> Body {
    if inner.is_end_stream() {
        return inner;
    }
    Body::new(BoundBody {
        inner: Some(inner),
        end,
    })
}

/// A body that ends by its own trailers, or by `end`.
struct BoundBody {
    inner: Option<Body>,
    end: EndFuture,
}

impl HttpBody for BoundBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        // First, so that a stream that always has more to send ends too.
        let Poll::Ready(end) = this.end.as_mut().poll(cx) else {
            return Pin::new(inner).poll_frame(cx);
        };
        this.inner = None;
        let status = Status::from(end.into_error("stream"));
        Poll::Ready(Some(Ok(trailers_of(&status))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
