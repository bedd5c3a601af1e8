//! Logs to stderr, and traces over OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
//!
//! Every call has a span, whatever is logged and whether or not traces are sent: its fields, the request
//! id above all, stand in each log line of the call. Only spans of our own are sent; those of the
//! libraries beneath, the exporter's among them, would tell of themselves without end.

use std::ffi::OsStr;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt as _, FilterFn, ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::LogFormat;

/// The environment variable that turns traces on (OpenTelemetry specification).
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// What a trace calls this server, unless its environment does (OpenTelemetry specification).
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
/// The crate whose spans are ours.
const OWN: &str = env!("CARGO_CRATE_NAME");

/// What can go wrong with telemetry.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The log filter cannot be understood.
    #[error("log: {0}")]
    Filter(#[from] ParseError),
    /// The exporter cannot be built.
    #[error("{ENDPOINT}: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// Somebody else has set up logging.
    #[error("logging is set up already: {0}")]
    Twice(#[from] TryInitError),
}

/// Keeps traces flowing; sends the last ones when it ends.
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

/// Sets logs and traces up for the whole process. Needs a tokio runtime around it.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(format: LogFormat, filter: &str) -> Result<Telemetry, TelemetryError> {
    let lines = EnvFilter::try_new(filter)?.or(spans());
    let traces = is_on().then(tracer_provider).transpose()?;
    let export = traces.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("wharfd"))
            .with_location(false)
            .with_threads(false)
            .with_filter(exported())
    });
    Registry::default()
        .with(export)
        .with(log_layer(format).with_filter(lines))
        .try_init()?;
    Ok(Telemetry { traces })
}

/// An empty variable is as none (OpenTelemetry specification).
fn is_on() -> bool {
    std::env::var_os(ENDPOINT).is_some_and(|endpoint| endpoint != OsStr::new(""))
}

/// Our spans.
fn spans() -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(|metadata| metadata.is_span() && is_ours(metadata, Level::INFO))
        .with_max_level_hint(LevelFilter::INFO)
}

/// Our spans, and in them what went wrong. The rest of the log would only say again what a span says.
fn exported() -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(|metadata| match metadata.is_span() {
        true => is_ours(metadata, Level::INFO),
        false => is_ours(metadata, Level::WARN),
    })
    .with_max_level_hint(LevelFilter::INFO)
}

fn is_ours(metadata: &Metadata<'_>, level: Level) -> bool {
    let rest = metadata.target().strip_prefix(OWN);
    *metadata.level() <= level && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn log_layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => layer.with_ansi(false).boxed(),
        // The list of spans ends with the current one.
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .boxed(),
    }
}

fn tracer_provider() -> Result<SdkTracerProvider, ExporterBuildError> {
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let exporter = SpanExporter::builder().with_tonic().build()?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource())
        .build())
}

fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder().with_attribute(version);
    match std::env::var_os(SERVICE_NAME) {
        // The builder has read it.
        Some(_) => resource.build(),
        None => resource.with_service_name("wharfd").build(),
    }
}

impl Telemetry {
    /// Sends what is not sent yet.
    pub fn shutdown(self) {
        if let Some(Err(error)) = self.traces.map(|traces| traces.shutdown()) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}
