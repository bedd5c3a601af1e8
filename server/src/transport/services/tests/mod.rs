//! The services over a real engine and store, and a fake backend, as a client sees them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

mod containers;
mod events;
mod execs;
mod images;
mod logs;
mod stats;
mod surface;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost::Message;
use tempfile::TempDir;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;
use wharf_api::v1;
use wharf_api::v1::container_service_client::ContainerServiceClient;
use wharf_api::v1::event_service_client::EventServiceClient;
use wharf_api::v1::image_service_client::ImageServiceClient;

use super::{Setup, build};
use crate::backend::Backend;
use crate::backend::fake::{Fake, FakeControl};
use crate::engine::{Engine, Settings};
use crate::model::image::{AccountFiles, Descriptor, ImageConfig, Platform};
use crate::model::{Digest, Image, Principal, RequestId, limits};
use crate::store::{Options, Store};
use crate::transport::RequestContext;

type Channel =
    BoxCloneSyncService<http::Request<Body>, http::Response<Body>, std::convert::Infallible>;

/// A server without layers and sockets.
struct Api {
    engine: Engine,
    store: Store,
    backend: FakeControl,
    routes: Routes,
    health: super::Health,
    _dir: TempDir,
}

impl Api {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            journal_bytes: limits::JOURNAL_BYTES,
            journal_age: limits::JOURNAL_AGE,
        };
        let (store, mut recovered) = Store::open(&dir.path().join("state"), options).unwrap();
        recovered.images = (0..3).map(image).collect();
        let (fake, backend) = Fake::new();
        let settings = Settings {
            state_dir: dir.path().join("state"),
            stop_grace_period: Duration::from_secs(10),
            max_containers: 100,
            registries: crate::registry::Registries::default(),
        };
        let engine = Engine::open(
            settings,
            store.clone(),
            recovered,
            Backend::Fake(fake),
            crate::stdio::Stdio::none(),
        );
        engine.ready().await;
        let setup = Setup {
            engine: engine.clone(),
            spool: dir.path().join("spool"),
            commit: "",
            start_time: SystemTime::now(),
        };
        let services = build(setup).await.unwrap();
        Self {
            engine,
            store,
            backend,
            routes: services.routes,
            health: services.health,
            _dir: dir,
        }
    }

    /// A way to the services that does what the layers do: it says who calls.
    fn channel(&self) -> Channel {
        let with_context = |mut request: http::Request<Body>| {
            let context = RequestContext {
                request_id: RequestId::mint(),
                principal: Principal::user(1000),
                trace_id: None,
                method: request.uri().path().into(),
                deadline: None,
            };
            request.extensions_mut().insert(context);
            request
        };
        BoxCloneSyncService::new(self.routes.clone().map_request(with_context))
    }

    fn containers(&self) -> ContainerServiceClient<Channel> {
        ContainerServiceClient::new(self.channel())
    }

    fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel())
    }

    fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel())
    }

    /// Creates a container, and starts it if `start`.
    async fn create(&self, change: impl FnOnce(&mut v1::CreateContainerRequest)) -> v1::Container {
        let mut request = create();
        change(&mut request);
        let created = self.containers().create_container(request).await.unwrap();
        created.into_inner().container.unwrap()
    }

    async fn close(self) {
        self.engine.shutdown().await;
        self.store.close().await.unwrap();
    }
}

fn create() -> v1::CreateContainerRequest {
    v1::CreateContainerRequest {
        spec: Some(v1::ContainerSpec {
            image: "app0".to_owned(),
            process: Some(v1::ProcessSpec {
                args: vec!["run".to_owned()],
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// `docker.io/library/app{n}:latest`.
fn image(n: u8) -> Image {
    let digest = Digest::of(&[n]);
    Image {
        id: digest.clone(),
        references: [format!("docker.io/library/app{n}:latest")].into(),
        target: Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            digest: Digest::of(&[n, n]),
            size_bytes: 2,
        },
        platform: Platform::host(),
        content_bytes: 1,
        unpacked_bytes: 1,
        layers: Vec::new(),
        chain_id: digest,
        create_time: SystemTime::UNIX_EPOCH + Duration::from_secs(n.into()),
        config: Arc::new(ImageConfig::default()),
        accounts: Arc::new(AccountFiles::default()),
        config_json: "{}".into(),
    }
}

/// The reason in a status's details.
fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().unwrap().reason.clone()
}

/// Code and reason of what should have failed.
fn refusal<T>(result: Result<T, Status>) -> (Code, String) {
    let status = result.err().expect("it is refused");
    (status.code(), reason(&status))
}

/// One call by its path, with an encoded request.
async fn raw(api: &Api, path: &str, request: &impl Message) -> http::Response<Body> {
    let mut body = vec![0];
    let encoded = request.encode_to_vec();
    body.extend_from_slice(&u32::try_from(encoded.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&encoded);
    let request = http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(http_body_util::Full::from(body)))
        .unwrap();
    api.channel().oneshot(request).await.unwrap()
}
