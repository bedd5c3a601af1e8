//! The whole stack, around services that misbehave.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, future, stream};
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use parking_lot::Mutex;
use prost::Message as _;
use tonic::service::Routes;
use tonic::{Code, Response as Reply};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;
use wharf_api::ErrorReason as R;
use wharf_api::v1::event_service_server::{EventService, EventServiceServer};
use wharf_api::v1::system_service_server::{SystemService, SystemServiceServer};
use wharf_api::v1::*;

use super::*;
use crate::model::limits::MAX_MESSAGE_BYTES;
use crate::transport::context::RequestContext;

const VERSION: &str = "/wharf.v1.SystemService/GetVersion";
const INFO: &str = "/wharf.v1.SystemService/GetInfo";
const PANICS: &str = "/wharf.v1.SystemService/GetCapabilities";
const USAGE: &str = "/wharf.v1.SystemService/GetDiskUsage";
const WATCH: &str = "/wharf.v1.EventService/WatchEvents";
const LIST: &str = "/wharf.v1.EventService/ListEvents";
const STOP: &str = "/wharf.v1.ContainerService/StopContainer";

/// Remembers the context of its last call.
#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<Option<RequestContext>>>);

#[tonic::async_trait]
impl SystemService for Seen {
    async fn get_version(
        &self,
        request: tonic::Request<GetVersionRequest>,
    ) -> Result<Reply<GetVersionResponse>, Status> {
        *self.0.lock() = Some(RequestContext::of(&request)?);
        Ok(Reply::new(GetVersionResponse::default()))
    }

    async fn get_capabilities(
        &self,
        _: tonic::Request<GetCapabilitiesRequest>,
    ) -> Result<Reply<GetCapabilitiesResponse>, Status> {
        panic!("as planned")
    }

    async fn get_info(
        &self,
        _: tonic::Request<GetInfoRequest>,
    ) -> Result<Reply<GetInfoResponse>, Status> {
        future::pending().await
    }

    async fn get_disk_usage(
        &self,
        _: tonic::Request<GetDiskUsageRequest>,
    ) -> Result<Reply<GetDiskUsageResponse>, Status> {
        Err(Status::already_exists("says nothing"))
    }
}

#[tonic::async_trait]
impl EventService for Seen {
    type WatchEventsStream =
        Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

    async fn watch_events(
        &self,
        request: tonic::Request<WatchEventsRequest>,
    ) -> Result<Reply<Self::WatchEventsStream>, Status> {
        let first = stream::iter([Ok(WatchEventsResponse::default())]);
        Ok(Reply::new(match request.into_inner().start {
            Some(_) => Box::pin(stream::poll_fn(|_| panic!("in the stream"))),
            None => Box::pin(futures_util::StreamExt::chain(first, stream::pending())),
        }))
    }

    async fn list_events(
        &self,
        _: tonic::Request<ListEventsRequest>,
    ) -> Result<Reply<ListEventsResponse>, Status> {
        Ok(Reply::new(ListEventsResponse {
            next_page_token: "x".repeat(MAX_MESSAGE_BYTES + 1),
            ..ListEventsResponse::default()
        }))
    }
}

struct Harness {
    gate: Gate,
    seen: Seen,
}

/// All that came back.
#[derive(Debug)]
struct Answered {
    headers: HeaderMap,
    trailers: HeaderMap,
    data: Bytes,
}

impl Harness {
    fn new() -> Self {
        let gate = Gate::new();
        gate.open();
        Self {
            gate,
            seen: Seen::default(),
        }
    }

    fn handler(&self) -> impl Handler {
        let events = EventServiceServer::new(self.seen.clone());
        let routes = Routes::new(SystemServiceServer::new(self.seen.clone()))
            .add_service(events.max_encoding_message_size(MAX_MESSAGE_BYTES));
        let options = LayerOptions {
            gate: self.gate.clone(),
            backend: "fake",
        };
        around(routes, &options)
    }

    async fn start(&self, request: Request<Body>) -> Response<Body> {
        self.handler().oneshot(request).await.unwrap()
    }

    async fn call(&self, request: Request<Body>) -> Answered {
        let (parts, body) = self.start(request).await.into_parts();
        let collected = body.collect().await.unwrap();
        Answered {
            headers: parts.headers,
            trailers: collected.trailers().cloned().unwrap_or_default(),
            data: collected.to_bytes(),
        }
    }

    async fn fails(&self, request: Request<Body>) -> Failed {
        self.call(request).await.failed()
    }
}

/// A decoded error.
#[derive(Debug)]
struct Failed {
    status: Status,
    reason: String,
    metadata: std::collections::HashMap<String, String>,
    headers: HeaderMap,
}

impl Answered {
    fn status(&self) -> &HeaderMap {
        if self.trailers.is_empty() {
            &self.headers
        } else {
            &self.trailers
        }
    }

    fn failed(self) -> Failed {
        let headers = self.status().clone();
        let status = Status::from_header_map(&headers).unwrap();
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        let id = details.request_info().unwrap().request_id.as_str();
        assert_eq!(headers[wharf_api::metadata::REQUEST_ID], id);
        assert_eq!(info.domain, "wharf");
        let reason = R::from_str_name(&info.reason).unwrap();
        assert_eq!(status.code(), crate::transport::status::code(reason));
        Failed {
            reason: info.reason.clone(),
            metadata: info.metadata.clone(),
            status,
            headers,
        }
    }
}

impl Failed {
    fn is(&self, reason: R, metadata: &[(&str, &str)]) {
        assert_eq!(self.reason, reason.as_str_name());
        for (key, value) in metadata {
            assert_eq!(self.metadata[*key], *value, "{self:?}");
        }
        assert_eq!(self.metadata.len(), metadata.len(), "{self:?}");
    }
}

fn message(payload: &[u8]) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend(payload);
    bytes.into()
}

fn request(path: &str) -> Request<Body> {
    request_of(path, message(&[]))
}

fn request_of(path: &str, body: Bytes) -> Request<Body> {
    Request::post(path)
        .header("content-type", "application/grpc")
        .body(Body::new(Full::new(body)))
        .unwrap()
}

fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
    request.headers_mut().append(name, value);
    request
}

fn with_id(value: &str) -> Request<Body> {
    with(request(VERSION), wharf_api::metadata::REQUEST_ID, value)
}

#[tokio::test]
async fn a_valid_request_id_is_echoed_in_headers_and_trailers() {
    let harness = Harness::new();
    let answer = harness.call(with_id("deploy-42/step:3")).await;
    assert_eq!(answer.headers["x-request-id"], "deploy-42/step:3");
    assert_eq!(answer.trailers["x-request-id"], "deploy-42/step:3");
    assert_eq!(answer.trailers["grpc-status"], "0");
    assert!(!answer.headers.contains_key("x-request-id-rejected"));
    let context = harness.seen.0.lock().take().unwrap();
    assert_eq!(context.cause().request_id.as_str(), "deploy-42/step:3");
    assert_eq!(&*context.cause().method, VERSION);
}

#[tokio::test]
async fn a_call_without_request_id_gets_one() {
    let harness = Harness::new();
    let first = harness.call(request(VERSION)).await.headers["x-request-id"].clone();
    let second = harness.call(request(VERSION)).await.headers["x-request-id"].clone();
    assert_eq!(first.len(), 36);
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_request_id_that_cannot_be_used_is_replaced_and_marked() {
    let harness = Harness::new();
    let long = "x".repeat(129);
    let twice = with(with_id("a"), "x-request-id", "b");
    for request in [
        with_id(&long),
        with_id("zwölf"),
        with_id("a b"),
        with_id(""),
        twice,
    ] {
        let answer = harness.call(request).await;
        assert_eq!(answer.headers["x-request-id-rejected"], "1");
        assert_eq!(answer.headers["x-request-id"].len(), 36);
        assert_eq!(answer.trailers["grpc-status"], "0");
    }
}

#[tokio::test]
async fn the_callers_trace_ends_up_in_the_cause() {
    let harness = Harness::new();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    harness
        .call(with(request(VERSION), "traceparent", parent))
        .await;
    let cause = harness.seen.0.lock().take().unwrap().cause();
    assert_eq!(cause.trace_id.as_deref(), Some(&parent[3..35]));
}

#[tokio::test]
async fn an_unknown_method_is_named_only_if_the_api_has_it() {
    let harness = Harness::new();
    let failed = harness.fails(request(STOP)).await;
    failed.is(
        R::MethodNotSupported,
        &[("method", STOP), ("backend", "fake")],
    );
    for path in ["/wharf.v1.SystemService/Nope", "/other/path", "/"] {
        let failed = harness.fails(request(path)).await;
        failed.is(
            R::MethodNotSupported,
            &[("method", "unknown"), ("backend", "fake")],
        );
    }
}

#[tokio::test]
async fn what_is_no_message_is_an_invalid_field() {
    let harness = Harness::new();
    let text_is_no_utf8 = [0x0a, 2, 0xff, 0xff];
    let calls = [
        request_of(LIST, message(&[0xff; 9])),
        request_of(LIST, message(&text_is_no_utf8)),
        request_of(VERSION, Bytes::new()),
        request_of(VERSION, Bytes::from_static(&[0, 0, 0])),
        request_of(VERSION, Bytes::from_static(&[9, 0, 0, 0, 0])),
    ];
    for call in calls {
        let failed = harness.fails(call).await;
        failed.is(R::InvalidField, &[("firstField", "request")]);
    }
}

#[tokio::test]
async fn an_oversize_message_says_how_large_it_was() {
    let harness = Harness::new();
    let body = message(&vec![0; MAX_MESSAGE_BYTES + 1]);
    let failed = harness.fails(request_of(VERSION, body)).await;
    let limit = MAX_MESSAGE_BYTES.to_string();
    let actual = (MAX_MESSAGE_BYTES + 1).to_string();
    failed.is(
        R::RequestTooLarge,
        &[("limitBytes", &limit), ("actualBytes", &actual)],
    );
}

#[tokio::test]
async fn a_compression_that_is_not_spoken_is_an_option_not_supported() {
    let harness = Harness::new();
    let call = with(request(VERSION), "grpc-encoding", "snappy");
    let failed = harness.fails(call).await;
    failed.is(
        R::OptionNotSupported,
        &[("field", "grpc-encoding"), ("backend", "fake")],
    );
}

fn spoken_as(media_type: &str) -> Request<Body> {
    let mut request = request(VERSION);
    let value = http::HeaderValue::from_str(media_type).unwrap();
    request.headers_mut().insert("content-type", value);
    request
}

#[tokio::test]
async fn what_is_not_grpc_is_refused_in_the_words_of_http_too() {
    let harness = Harness::new();
    for spoken in ["application/grpc+proto", "application/grpc;charset=utf-8"] {
        let call = spoken_as(spoken);
        assert!(harness.call(call).await.data.len() >= 5, "{spoken}");
    }
    for other in [
        "application/grpc+json",
        "application/grpc-web",
        "text/plain",
        "",
    ] {
        let call = spoken_as(other);
        let failed = harness.fails(call).await;
        failed.is(R::InvalidField, &[("firstField", "content-type")]);
    }
}

#[tokio::test]
async fn a_panic_ends_its_own_call_only() {
    let harness = Harness::new();
    harness.fails(request(PANICS)).await.is(R::InternalBug, &[]);
    let start = WatchEventsRequest {
        start: Some(watch_events_request::Start::Cursor("x".to_owned())),
        ..WatchEventsRequest::default()
    };
    let call = request_of(WATCH, message(&start.encode_to_vec()));
    harness.fails(call).await.is(R::InternalBug, &[]);
    assert!(harness.call(request(VERSION)).await.data.len() >= 5);
}

#[tokio::test]
async fn a_status_that_says_nothing_is_a_bug() {
    let harness = Harness::new();
    // A handler made it; tonic made it from an answer that is too large.
    harness.fails(request(USAGE)).await.is(R::InternalBug, &[]);
    harness.fails(request(LIST)).await.is(R::InternalBug, &[]);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_handler_and_a_stream() {
    let harness = Harness::new();
    let in_a_second = |path| with(request(path), "grpc-timeout", "1000m");
    let start = tokio::time::Instant::now();
    let failed = harness.fails(in_a_second(INFO)).await;
    failed.is(
        R::Deadline,
        &[("phase", "handler"), ("mutationApplied", "no")],
    );
    let answer = harness.call(in_a_second(WATCH)).await;
    assert!(!answer.data.is_empty(), "what came before is kept");
    let failed = answer.failed();
    failed.is(
        R::Deadline,
        &[("phase", "stream"), ("mutationApplied", "no")],
    );
    assert_eq!(start.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_mutation_that_ran_out_of_time_may_have_happened() {
    let harness = Harness::new();
    let stuck = tower::service_fn(|_: Request<Body>| future::pending());
    let options = LayerOptions {
        gate: harness.gate.clone(),
        backend: "fake",
    };
    let call = with(request(STOP), "grpc-timeout", "5S");
    let response = around(stuck, &options).oneshot(call).await.unwrap();
    let answer = Answered {
        headers: response.headers().clone(),
        trailers: HeaderMap::new(),
        data: Bytes::new(),
    };
    let unknown = [("phase", "handler"), ("mutationApplied", "unknown")];
    answer.failed().is(R::Deadline, &unknown);
}

#[tokio::test]
async fn a_malformed_timeout_is_refused() {
    let harness = Harness::new();
    let call = with(request(VERSION), "grpc-timeout", "soon");
    let failed = harness.fails(call).await;
    failed.is(R::InvalidField, &[("firstField", "grpc-timeout")]);
}

#[tokio::test]
async fn a_starting_server_says_what_it_is_at() {
    let harness = Harness {
        gate: Gate::new(),
        seen: Seen::default(),
    };
    harness.gate.starting("recovering containers");
    let failed = harness.fails(request(LIST)).await;
    failed.is(R::ServerStarting, &[("phase", "recovering containers")]);
    let retry = failed.status.get_details_retry_info().unwrap();
    let millis = retry.retry_delay.unwrap().as_millis().to_string();
    assert_eq!(failed.headers["grpc-retry-pushback-ms"], *millis);
    let version = harness.call(request(VERSION)).await;
    assert_eq!(version.trailers["grpc-status"], "0");
    // Health is not served here, but it is not kept out either.
    let health = harness.fails(request("/grpc.health.v1.Health/Check")).await;
    assert_eq!(health.reason, "METHOD_NOT_SUPPORTED");
}

#[tokio::test]
async fn a_draining_server_ends_streams_and_takes_no_calls() {
    let harness = Harness::new();
    let mut stream = harness.start(request(WATCH)).await.into_body();
    assert!(stream.frame().await.unwrap().unwrap().is_data());
    harness.gate.drain();
    let last = stream.frame().await.unwrap().unwrap();
    let answer = Answered {
        headers: HeaderMap::new(),
        trailers: last.into_trailers().unwrap(),
        data: Bytes::new(),
    };
    answer.failed().is(R::ServerDraining, &[]);
    assert!(stream.frame().await.is_none());
    let failed = harness.fails(request(VERSION)).await;
    failed.is(R::ServerDraining, &[]);
    assert_eq!(failed.status.code(), Code::Unavailable);
}

#[tokio::test]
async fn another_packages_status_keeps_its_code_and_gets_the_request_id() {
    let harness = Harness::new();
    let health = tower::service_fn(|_: Request<Body>| {
        future::ready(Ok(Status::not_found("unknown service").into_http()))
    });
    let options = LayerOptions {
        gate: harness.gate.clone(),
        backend: "fake",
    };
    let call = with(
        request("/grpc.health.v1.Health/Check"),
        "x-request-id",
        "id-1",
    );
    let response = around(health, &options).oneshot(call).await.unwrap();
    let status = Status::from_header_map(response.headers()).unwrap();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "unknown service")
    );
    let details = status.get_error_details();
    assert_eq!(details.request_info().unwrap().request_id, "id-1");
}

/// Everything that is logged while it lives, on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn begin(&self) -> tracing::subscriber::DefaultGuard {
        keep_callsites_enabled();
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(move || log.clone());
        tracing::subscriber::set_default(subscriber.finish())
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

/// Whether a callsite is enabled is remembered for the whole process: one that is first reached while no
/// test listens would stay silent. So somebody always listens.
fn keep_callsites_enabled() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_writer(std::io::sink);
        tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    });
}

#[tokio::test]
async fn a_rejected_request_id_and_credentials_never_reach_the_log() {
    let log = Log::default();
    let _guard = log.begin();
    let call = with(
        with_id("forged wharf.request_id"),
        "authorization",
        "Bearer hunter2",
    );
    Harness::new().call(call).await;
    assert!(log.text().contains("call ended"));
    assert!(!log.text().contains("forged"));
    assert!(!log.text().contains("hunter2"));
}

#[tokio::test]
async fn a_panic_is_logged_with_its_message_and_request_id() {
    let log = Log::default();
    let _guard = log.begin();
    let call = with(request(PANICS), "x-request-id", "id-of-the-panic");
    Harness::new().call(call).await;
    let text = log.text();
    let line = text
        .lines()
        .find(|line| line.contains("handler panicked"))
        .unwrap();
    assert!(
        line.contains("ERROR") && line.contains("as planned"),
        "{line}"
    );
    assert!(line.contains("id-of-the-panic"), "{line}");
}

#[tokio::test]
async fn a_call_whose_caller_left_is_logged_as_cancelled() {
    let log = Log::default();
    let _guard = log.begin();
    let harness = Harness::new();
    let call = harness.start(request(INFO));
    let waited = tokio::time::timeout(Duration::from_millis(1), call).await;
    assert!(waited.is_err());
    assert!(log.text().contains("code=Cancelled"));
}

#[tokio::test]
async fn with_opentelemetry_the_span_continues_the_callers_trace() {
    use opentelemetry::trace::TracerProvider as _;
    use tracing_subscriber::layer::SubscriberExt as _;
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    keep_callsites_enabled();
    let subscriber = tracing_subscriber::registry().with(layer);
    let _guard = tracing::subscriber::set_default(subscriber);

    let harness = Harness::new();
    let trace_id = || harness.seen.0.lock().take().unwrap().trace_id.unwrap();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    harness
        .call(with(request(VERSION), "traceparent", parent))
        .await;
    assert_eq!(&*trace_id(), &parent[3..35]);
    harness.call(request(VERSION)).await;
    assert_eq!(trace_id().len(), 32, "a call without trace starts one");
}
