//! The services of `wharf.v1`, one module each. A handler parses, calls the engine, renders; it decides
//! nothing about containers or images.

mod container;
mod event;
mod exec;
mod file;
mod image;
mod log;
mod stats;
mod stdio;
mod system;
mod upload;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::pin::Pin;
use std::time::SystemTime;

use futures_util::Stream;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataValue;
use tonic::service::Routes;
use tonic::{Response, Status};
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthReporter;
use wharf_api::v1::container_service_server::ContainerServiceServer;
use wharf_api::v1::event_service_server::EventServiceServer;
use wharf_api::v1::exec_service_server::ExecServiceServer;
use wharf_api::v1::file_service_server::FileServiceServer;
use wharf_api::v1::image_service_server::ImageServiceServer;
use wharf_api::v1::log_service_server::LogServiceServer;
use wharf_api::v1::stats_service_server::StatsServiceServer;
use wharf_api::v1::system_service_server::SystemServiceServer;
use wharf_api::{METHODS, metadata};

use super::parse::container::Targeted;
use super::parse::{self, Field};
use super::{CallError, Violations};
use crate::engine::{self, Answer, Engine};
use crate::model::limits::MAX_MESSAGE_BYTES;

/// What a server-streaming call answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Whether a prune deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PruneMode {
    /// Delete and report.
    Delete,
    /// Report only.
    DryRun,
}

impl PruneMode {
    fn of(dry_run: bool) -> Self {
        if dry_run { Self::DryRun } else { Self::Delete }
    }
}

/// What the services need.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The domain.
    pub engine: Engine,
    /// Where archives go while they are received; made if missing. What a crash leaves there may be
    /// removed while no server runs.
    pub spool: PathBuf,
    /// Git commit of the build; empty if not known.
    pub commit: &'static str,
    /// When the server started.
    pub start_time: SystemTime,
}

/// The services, ready to be served.
#[derive(Debug)]
pub struct Services {
    /// All of them, with reflection and health.
    pub routes: Routes,
    /// What the health service says.
    pub health: Health,
    /// What goes on after its caller has left: imports. Close it and wait for it before exiting.
    pub tasks: TaskTracker,
}

/// The descriptors of the API, which are built in, cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the API's descriptors cannot be read: {0}")]
pub struct DescriptorError(#[from] tonic_reflection::server::Error);

/// Sets what the health service says, of each service and of the server as a whole.
#[derive(Debug, Clone)]
pub struct Health(HealthReporter);

impl Health {
    /// Calls are answered.
    pub async fn serving(&self) {
        self.set(ServingStatus::Serving).await;
    }

    /// Calls are not answered: not yet, or no more.
    pub async fn not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    async fn set(&self, status: ServingStatus) {
        self.0.set_service_status("", status).await;
        let mut services: Vec<_> = METHODS.iter().map(|method| method.service).collect();
        services.dedup();
        for service in services {
            self.0.set_service_status(service, status).await;
        }
    }
}

/// A generated server with the limits that all of them have.
macro_rules! limited {
    ($server:expr) => {
        $server
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    };
}

/// Builds the services. Health says that nothing is served until [`Health::serving`].
///
/// # Errors
/// [`DescriptorError`].
pub async fn build(setup: Setup) -> Result<Services, DescriptorError> {
    let tasks = TaskTracker::new();
    let reporter = HealthReporter::new();
    let health = Health(reporter.clone());
    health.not_serving().await;

    let engine = &setup.engine;
    let images = image::Images::new(engine.clone(), setup.spool.clone(), tasks.clone()).await;
    let mut routes = Routes::builder();
    routes
        .add_service(limited!(ContainerServiceServer::new(
            container::Containers::new(engine.clone())
        )))
        .add_service(limited!(EventServiceServer::new(event::Events::new(
            engine.clone()
        ))))
        .add_service(limited!(ImageServiceServer::new(images)))
        .add_service(limited!(SystemServiceServer::new(system::System::new(
            &setup
        ))))
        .add_service(limited!(ExecServiceServer::new(exec::Execs::new(
            engine.clone()
        ))))
        .add_service(limited!(FileServiceServer::new(file::Files::new(
            engine.clone()
        ))))
        .add_service(limited!(LogServiceServer::new(log::Logs::new(
            engine.clone()
        ))))
        .add_service(limited!(StatsServiceServer::new(stats::Stats::new(
            engine.clone()
        ))))
        .add_service(limited!(HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(reporter)
        )))
        .add_service(limited!(reflection().build_v1()?))
        .add_service(limited!(reflection().build_v1alpha()?));
    Ok(Services {
        routes: routes.routes(),
        health,
        tasks,
    })
}

/// Both versions of reflection describe the same: the API, the details of errors, health and themselves.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wharf_api::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
        // They are registered above, for either version.
        .include_reflection_service(false)
}

/// Parses, and refuses the request if anything was found to be wrong with it.
fn parsed<T>(engine: &Engine, parse: impl FnOnce(&mut Violations) -> T) -> Result<T, CallError> {
    let mut violations = Violations::new();
    let value = parse(&mut violations);
    violations.check(engine.backend_name())?;
    Ok(value)
}

/// What a request is about, as it names it.
#[derive(Debug, Clone, Copy)]
enum About<'a> {
    /// A container, by id or name.
    Container(&'a str),
    /// An exec, by id.
    Exec(&'a str),
}

impl About<'_> {
    /// Checks the name; false if it cannot be one.
    fn check(self, field: &Field<'_>, out: &mut Violations) -> bool {
        match self {
            Self::Container(key) => parse::name::container(key, field, out),
            Self::Exec(id) => parse::name::exec(id, field, out),
        }
    }

    /// Why there is no such thing; `None` if there is one.
    fn missing(self, engine: &Engine) -> Option<engine::Error> {
        match self {
            Self::Container(key) => engine.get(key).err(),
            Self::Exec(text) => exec::id(text).and_then(|id| engine.exec(id)).err(),
        }
    }
}

/// Parses a request about something, which it names in `field`. If that does not exist, it is said
/// before whatever else is wrong with the request.
fn parsed_about<T>(
    engine: &Engine,
    about: About<'_>,
    field: &Field<'_>,
    parse: impl FnOnce(&mut Violations) -> T,
) -> Result<T, CallError> {
    let mut named = false;
    parsed(engine, |out| {
        named = about.check(field, out);
        parse(out)
    })
    .map_err(|refusal| match named.then(|| about.missing(engine)) {
        Some(Some(missing)) => missing.into(),
        Some(None) | None => refusal,
    })
}

/// What a parser returns `None` for has a violation, so this cannot happen.
fn complete<T>(parsed: Option<T>) -> Result<T, CallError> {
    parsed.ok_or(CallError::Bug {
        what: "a request that could not be read has no violation",
    })
}

/// The same of a request about one container.
fn parsed_of<R: Targeted, T>(
    engine: &Engine,
    request: R,
    parse: impl FnOnce(R, &mut Violations) -> T,
) -> Result<T, CallError> {
    let key = request.container().to_owned();
    let (about, field) = (About::Container(&key), Field::new(request.field()));
    parsed_about(engine, about, &field, |out| parse(request, out))
}

/// A response that says whether it is the stored one of an earlier call.
fn keyed<V, T>(answer: Answer<V>, render: impl FnOnce(V) -> T) -> Response<T> {
    let mut response = Response::new(render(answer.value));
    if answer.replayed {
        response.metadata_mut().insert(
            metadata::IDEMPOTENT_REPLAY,
            MetadataValue::from_static("true"),
        );
    }
    response
}
