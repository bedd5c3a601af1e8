//! One span and one log line per call. The span is the child of the caller's, if it sent one.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::Service;
use tracing::{Instrument as _, Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use wharf_api::{Idempotency, Method};

use super::{Answer, Handler, traceparent};
use crate::transport::context::RequestContext;

#[derive(Debug, Clone)]
pub(super) struct Trace<S> {
    inner: S,
}

impl<S> Trace<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: Handler> Service<Request<Body>> for Trace<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer {
        let span = span(&request);
        adopt(&span, &mut request);
        let mut end = CallEnd::new(span.clone(), request.uri().path());
        let answer = span.in_scope(|| self.inner.call(request));
        Box::pin(async move {
            let response = answer.instrument(span).await?;
            end.see(response.headers());
            Ok(response.map(|inner| Body::new(TracedBody { inner, end })))
        })
    }
}

/// The path is a field only if it is one of ours: others are of unbounded number.
fn span(request: &Request<Body>) -> Span {
    let method = Method::by_path(request.uri().path());
    let context = request.extensions().get::<RequestContext>();
    let (service, name) = method.map_or(("unknown", "unknown"), |m| (m.service, m.name));
    tracing::info_span!(
        "call",
        otel.name = method.map_or("unknown", |m| m.path.trim_start_matches('/')),
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = name,
        rpc.grpc.status_code = field::Empty,
        wharf.request_id = context.map(|context| context.request_id.as_str()),
        principal = context.map(|context| context.principal.as_str()),
    )
}

/// Makes the span the child of the caller's, and the call's trace id that of the span. Without
/// OpenTelemetry the span has none, and the caller's stays.
fn adopt(span: &Span, request: &mut Request<Body>) {
    if let Some(parent) = traceparent::parse(request.headers()) {
        adopt_parent(span, parent);
    }
    let trace = span.context().span().span_context().trace_id();
    let known = trace != opentelemetry::trace::TraceId::INVALID;
    if let Some(context) = request.extensions_mut().get_mut::<RequestContext>()
        && known
    {
        context.trace_id = Some(trace.to_string().into());
    }
}

fn adopt_parent(span: &Span, parent: SpanContext) {
    let parent = opentelemetry::Context::new().with_remote_span_context(parent);
    // Fails without OpenTelemetry, and then there is nothing to be a child of.
    let _ = span.set_parent(parent);
}

/// Logs the end of a call when it is dropped: also of one whose caller left.
#[derive(Debug)]
struct CallEnd {
    span: Span,
    start: Instant,
    reads: bool,
    code: Option<Code>,
}

impl CallEnd {
    fn new(span: Span, path: &str) -> Self {
        let reads = |method: &Method| method.idempotency == Idempotency::NoSideEffects;
        Self {
            span,
            start: Instant::now(),
            reads: Method::by_path(path).is_none_or(reads),
            code: None,
        }
    }

    fn see(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get(Status::GRPC_STATUS) {
            self.code = Some(Code::from_bytes(code.as_bytes()));
        }
    }
}

impl Drop for CallEnd {
    fn drop(&mut self) {
        let code = self.code.unwrap_or(Code::Cancelled);
        let duration = self.start.elapsed();
        self.span.record("rpc.grpc.status_code", i32::from(code));
        let _entered = self.span.enter();
        if self.reads {
            tracing::debug!(?code, ?duration, "call ended");
        } else {
            tracing::info!(?code, ?duration, "call ended");
        }
    }
}

struct TracedBody {
    inner: Body,
    end: CallEnd,
}

impl HttpBody for TracedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = this
            .end
            .span
            .in_scope(|| Pin::new(&mut this.inner).poll_frame(cx));
        let frame = ready!(frame);
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            this.end.see(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
