//! The way to containerd: channels over its Unix socket, and calls that always end.
//!
//! Channels connect lazily and reconnect by themselves with the next call; unary calls, events and
//! content each have their own, so that a large upload or a stuck stream delays nothing else. Every
//! call carries the namespace, the request id and the trace context it belongs to, has a deadline, and
//! is a span of its own. This module must not interpret answers: `error` does.
//!
//! No HTTP/2 keepalive: containerd's gRPC server (grpc-go with its default enforcement policy) takes
//! pings more often than every five minutes as an attack and closes the connection with
//! `ENHANCE_YOUR_CALM`. Deadlines find a containerd that hangs in a call, and the heartbeat of `events`
//! finds one that hangs while nothing is asked.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use opentelemetry::trace::{SpanContext, TraceContextExt};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use tower::service_fn;
use tracing::{Instrument, Span, field, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::error::RpcError;
use crate::backend::Status as BackendStatus;
use crate::model::{Cause, RequestId};

/// How long connecting to the socket may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Deadline of a call that is bookkeeping for containerd.
pub(super) const UNARY_DEADLINE: Duration = Duration::from_secs(10);
/// Deadline of a call that prepares or launches something: shim, runtime and mounts take their time
/// on a loaded host.
pub(super) const LAUNCH_DEADLINE: Duration = Duration::from_secs(60);
/// Containers that are launched at a time. containerd takes on however many it is sent, and hundreds at once on few
/// processors pass the deadlines of all; those that wait for their turn have not begun.
const LAUNCHES: usize = 32;
/// Largest answer that is taken: containerd sends at most 16 MiB by default, and its administrator
/// may have raised that.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// One of containerd's methods, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rpc {
    /// Name of the call's span, such as `containerd.tasks.create`.
    pub(super) name: &'static str,
    /// When the call ends without an answer.
    pub(super) deadline: Duration,
}

impl Rpc {
    /// A call that is bookkeeping for containerd: 10 s.
    pub(super) const fn quick(name: &'static str) -> Self {
        Self {
            name,
            deadline: UNARY_DEADLINE,
        }
    }

    /// A call that prepares or launches something: 60 s.
    pub(super) const fn launch(name: &'static str) -> Self {
        Self {
            name,
            deadline: LAUNCH_DEADLINE,
        }
    }

    /// This call, made on behalf of `cause`.
    pub(super) fn caused_by(self, cause: Option<&Cause>) -> Call {
        Call {
            rpc: self,
            request_id: cause.map(|cause| cause.request_id.clone()),
        }
    }
}

/// A method about to be called, with whom it is for.
#[derive(Debug, Clone)]
pub(super) struct Call {
    rpc: Rpc,
    request_id: Option<RequestId>,
}

impl From<Rpc> for Call {
    fn from(rpc: Rpc) -> Self {
        Self {
            rpc,
            request_id: None,
        }
    }
}

/// The channels to one containerd. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    inner: Arc<Inner>,
    /// What calls ask before they are sent; none for those that find the status out.
    status: Option<watch::Receiver<BackendStatus>>,
}

#[derive(Debug)]
struct Inner {
    namespace: String,
    namespace_value: MetadataValue<Ascii>,
    launches: Semaphore,
    unary: Channel,
    events: Channel,
    content: Channel,
}

impl Connection {
    /// Channels to the socket at `address`. Nothing is connected before the first call.
    ///
    /// # Errors
    /// If containerd would refuse `namespace`.
    pub(super) fn new(address: &Path, namespace: &str) -> Result<Self, InvalidNamespace> {
        if !is_namespace(namespace) {
            return Err(InvalidNamespace);
        }
        let namespace_value = namespace.parse().map_err(|_| InvalidNamespace)?;
        Ok(Self {
            inner: Arc::new(Inner {
                namespace: namespace.to_owned(),
                namespace_value,
                launches: Semaphore::new(LAUNCHES),
                unary: channel(address),
                events: channel(address),
                content: channel(address),
            }),
            status: None,
        })
    }

    /// The same channels, whose calls fail at once while containerd is known to be lost: it may hang,
    /// and each call would take its whole deadline to find out.
    pub(super) fn guarded_by(&self, status: watch::Receiver<BackendStatus>) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            status: Some(status),
        }
    }

    /// Refuses a call while containerd is known to be lost. [`Self::call`] asks by itself.
    ///
    /// # Errors
    /// [`RpcError::NotSent`].
    pub(super) fn check(&self, rpc: Rpc) -> Result<(), RpcError> {
        let Some(status) = &self.status else {
            return Ok(());
        };
        match &*status.borrow() {
            BackendStatus::Connecting { .. } | BackendStatus::Connected { .. } => Ok(()),
            BackendStatus::Disconnected { detail } => Err(RpcError::NotSent {
                rpc: rpc.name,
                detail: format!("containerd is lost since {detail}"),
            }),
        }
    }

    /// Waits for a turn to launch a container, of which there are [`LAUNCHES`]: to be held over all calls of the launch.
    /// containerd may be at work longer than anybody waits for it.
    ///
    /// # Errors
    /// [`RpcError::NotSent`], as soon as containerd is known to be lost.
    pub(super) async fn launch_turn(
        &self,
        rpc: Rpc,
    ) -> Result<Option<SemaphorePermit<'_>>, RpcError> {
        loop {
            self.check(rpc)?;
            tokio::select! {
                // They are never closed.
                turn = self.inner.launches.acquire() => return Ok(turn.ok()),
                () = self.lost() => {}
            }
        }
    }

    /// Until containerd is known to be lost.
    async fn lost(&self) {
        let lost = |status: &BackendStatus| matches!(status, BackendStatus::Disconnected { .. });
        if let Some(mut status) = self.status.clone()
            && status.wait_for(lost).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    /// The containerd namespace that everything of ours is in.
    pub(super) fn namespace(&self) -> &str {
        &self.inner.namespace
    }

    /// The channel of the event subscription.
    pub(super) fn events(&self) -> Channel {
        self.inner.events.clone()
    }

    /// The channel of bulk content.
    pub(super) fn content(&self) -> Channel {
        self.inner.content.clone()
    }

    /// `message` with the namespace and, where there are any, the trace context and the request id.
    /// For streaming calls; unary ones go through [`Self::call`].
    pub(super) fn request<T>(&self, message: T, request_id: Option<&RequestId>) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("containerd-namespace", self.inner.namespace_value.clone());
        if let Some(value) = request_id.and_then(|id| id.as_str().parse().ok()) {
            metadata.insert("x-request-id", value);
        }
        if let Some(value) = traceparent(&Span::current()) {
            metadata.insert("traceparent", value);
        }
        request
    }

    /// Makes a unary call on the unary channel. It ends by the method's deadline.
    ///
    /// # Errors
    /// [`RpcError`]; for `error` to interpret.
    pub(super) async fn call<Q, R, F>(
        &self,
        call: impl Into<Call>,
        message: Q,
        send: impl FnOnce(Channel, Request<Q>) -> F,
    ) -> Result<R, RpcError>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let Call { rpc, request_id } = call.into();
        self.check(rpc)?;
        let answer = async {
            let request = self.request(message, request_id.as_ref());
            let answer = bounded(rpc, send(self.inner.unary.clone(), request)).await;
            if let Err(error) = &answer {
                Span::current()
                    .record("otel.status_code", "ERROR")
                    .record("otel.status_description", field::display(error));
            }
            answer
        };
        answer.instrument(span(rpc)).await
    }
}

/// Largest answer to be set on every generated client: theirs is 4 MiB by default.
pub(super) const fn max_answer() -> usize {
    MAX_ANSWER_BYTES
}

/// Waits for the answer of one call, at most until its deadline.
///
/// # Errors
/// [`RpcError`]; a deadline that passes is [`RpcError::NoAnswer`].
pub(super) async fn bounded<R>(
    rpc: Rpc,
    answer: impl Future<Output = Result<Response<R>, Status>>,
) -> Result<R, RpcError> {
    match tokio::time::timeout(rpc.deadline, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(RpcError::of(rpc, &status)),
        Err(_) => Err(RpcError::deadline(rpc)),
    }
}

/// The span of one call, a child of the current one.
pub(super) fn span(rpc: Rpc) -> Span {
    info_span!(
        "containerd",
        otel.name = rpc.name,
        otel.kind = "client",
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
        rpc.system = "grpc",
    )
}

/// The namespace cannot be sent to containerd.
#[derive(Debug, thiserror::Error)]
#[error("the containerd namespace is not a valid name")]
pub struct InvalidNamespace;

/// What containerd takes as an identifier (its package `identifiers`): at most 76 bytes, words of
/// letters and digits with one of `._-` between.
fn is_namespace(name: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric());
    name.len() <= 76 && name.split(['.', '_', '-']).all(is_word)
}

fn channel(address: &Path) -> Channel {
    let path: Arc<PathBuf> = Arc::new(address.to_owned());
    // The URI is only the `:authority` of the requests; the connector goes to the socket.
    Endpoint::from_static("http://localhost")
        .connect_with_connector_lazy(service_fn(move |_: Uri| connect(Arc::clone(&path))))
}

/// Connects to the socket. The timeout is here and not in the endpoint, so that it, too, counts as
/// "not connected", hence "not sent".
async fn connect(path: Arc<PathBuf>) -> io::Result<TokioIo<UnixStream>> {
    let connecting = UnixStream::connect(path.as_path());
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(stream) => stream
            .map(TokioIo::new)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{}: no answer within {CONNECT_TIMEOUT:?}", path.display()),
        )),
    }
}

/// The trace context of `span`, if it is part of a trace.
fn traceparent(span: &Span) -> Option<MetadataValue<Ascii>> {
    let context = span.context();
    encoded(context.span().span_context())
}

/// As a `traceparent` header (W3C Trace Context, level 1).
fn encoded(context: &SpanContext) -> Option<MetadataValue<Ascii>> {
    if !context.is_valid() {
        return None;
    }
    let (trace, span) = (context.trace_id(), context.span_id());
    let flags = context.trace_flags().to_u8();
    format!("00-{trace}-{span}-{flags:02x}").parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::pin::pin;

    use futures_util::poll;
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    fn connection() -> Connection {
        Connection::new(Path::new("/nowhere/containerd.sock"), "wharf").unwrap()
    }

    #[tokio::test]
    async fn a_request_carries_the_namespace_and_the_request_id() {
        let id = RequestId::parse("req-7").unwrap();
        let request = connection().request((), Some(&id));
        assert_eq!(
            request.metadata().get("containerd-namespace").unwrap(),
            "wharf"
        );
        assert_eq!(request.metadata().get("x-request-id").unwrap(), "req-7");
        assert_eq!(request.metadata().get("traceparent"), None);
    }

    #[test]
    fn a_trace_context_is_encoded_as_the_standard_says() {
        let context = SpanContext::new(
            TraceId::from(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736),
            SpanId::from(0x00f0_67aa_0ba9_02b7),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        );
        let expected = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(encoded(&context).unwrap(), expected);
        assert_eq!(encoded(&SpanContext::NONE), None);
    }

    #[tokio::test]
    async fn a_call_without_a_socket_was_not_sent() {
        let rpc = Rpc::quick("containerd.test");
        let connection = connection();
        let call = connection.call(rpc, (), |channel, request| async move {
            let mut client =
                containerd_client::services::v1::version_client::VersionClient::new(channel);
            client.version(request).await
        });
        let error = call.await.unwrap_err();
        assert!(matches!(error, RpcError::NotSent { .. }), "{error}");
    }

    #[tokio::test]
    async fn launches_take_turns_and_none_waits_for_a_containerd_that_is_lost() {
        let connected = BackendStatus::Connected {
            version: String::new(),
        };
        let (status, receiver) = watch::channel(connected);
        let guarded = connection().guarded_by(receiver);
        let rpc = Rpc::launch("containerd.test");
        let mut held = Vec::new();
        for _ in 0..LAUNCHES {
            held.push(guarded.launch_turn(rpc).await.unwrap().unwrap());
        }
        let mut waiting = pin!(guarded.launch_turn(rpc));
        assert!(poll!(waiting.as_mut()).is_pending());
        held.pop();
        held.push(waiting.await.unwrap().unwrap());
        let mut next = pin!(guarded.launch_turn(rpc));
        assert!(poll!(next.as_mut()).is_pending());
        status.send_replace(BackendStatus::Disconnected {
            detail: "test".to_owned(),
        });
        assert!(matches!(next.await, Err(RpcError::NotSent { .. })));
    }

    #[tokio::test]
    async fn calls_are_refused_while_containerd_is_known_to_be_lost() {
        let lost = BackendStatus::Disconnected {
            detail: "test".to_owned(),
        };
        let (status, receiver) = watch::channel(lost);
        let guarded = connection().guarded_by(receiver);
        let rpc = Rpc::quick("containerd.test");
        assert!(matches!(guarded.check(rpc), Err(RpcError::NotSent { .. })));
        status.send_replace(BackendStatus::Connected {
            version: String::new(),
        });
        assert!(guarded.check(rpc).is_ok());
    }

    #[test]
    fn only_what_containerd_takes_is_a_namespace() {
        for name in ["wharf", "k8s.io", "a-b_c.d", "9"] {
            assert!(is_namespace(name), "{name}");
        }
        for name in ["", "a b", "a..b", "-a", "a\n", "a\"b", &"a".repeat(77)] {
            assert!(!is_namespace(name), "{name}");
        }
    }
}
