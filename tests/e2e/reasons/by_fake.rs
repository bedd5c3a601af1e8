//! The whole server but its backend, which is a fake one with faults to inject.

use std::path::Path;
use std::time::{Duration, SystemTime};

use wharf_server::backend::fake::{Fake, FakeControl, Fault, Operation, When};
use wharf_server::backend::{Backend, BackendError};
use wharf_server::engine::{Engine, Settings};
use wharf_server::model::{LaunchFailure, limits};
use wharf_server::store::{Options, Store};
use wharf_server::transport::services::{self, Setup};

use super::in_process::InProcess;
use crate::harness::{Client, Refusal, image, spec};

/// Containers at most; cases leave none behind that is in the way of others.
const MAX_CONTAINERS: usize = 5;

/// The server, and the hand in its backend.
#[derive(Debug)]
pub struct FakeServer {
    served: InProcess,
    backend: FakeControl,
    engine: Engine,
    store: Store,
}

impl FakeServer {
    /// Keeps its state below `directory`. The busybox image is there.
    pub async fn start(directory: &Path) -> Self {
        let state_dir = directory.join("fake");
        let options = Options {
            journal_bytes: limits::JOURNAL_BYTES,
            journal_age: limits::JOURNAL_AGE,
        };
        let (store, recovered) = Store::open(&state_dir, options).unwrap();
        let (fake, backend) = Fake::new();
        let settings = Settings {
            state_dir: state_dir.clone(),
            stop_grace_period: limits::DEFAULT_STOP_GRACE,
            max_containers: MAX_CONTAINERS,
            registries: wharf_server::registry::Registries::default(),
        };
        let engine = Engine::open(
            settings,
            store.clone(),
            recovered,
            Backend::Fake(fake),
            wharf_server::stdio::Stdio::none(),
        );
        engine.ready().await;
        let setup = Setup {
            engine: engine.clone(),
            spool: state_dir.join("spool"),
            commit: "",
            start_time: SystemTime::now(),
        };
        let services = services::build(setup).await.unwrap();
        let served = InProcess::serve(directory, services.routes).await;
        served.client().import(image::busybox()).await.unwrap();
        Self {
            served,
            backend,
            engine,
            store,
        }
    }

    pub fn client(&self) -> Client {
        self.served.client()
    }

    pub async fn stop(&self) {
        self.served.stop().await;
        self.engine.shutdown().await;
        self.store.close().await.unwrap();
    }

    /// What comes of a container whose start fails so.
    async fn launch(&self, client: &Client, failure: LaunchFailure) -> Refusal {
        self.backend
            .fail_next(Operation::Start, BackendError::Launch(failure));
        let before = client.list().await.unwrap();
        let refusal = client.run("launch", &["true"]).await.unwrap_err();
        assert_eq!(client.list().await.unwrap(), before, "something remains");
        refusal
    }
}

pub async fn device_not_found(server: &FakeServer, client: &Client) -> Refusal {
    let path = "/dev/nowhere".to_owned();
    let failure = LaunchFailure::DeviceNotFound { path };
    server.launch(client, failure).await
}

pub async fn kernel_feature_missing(server: &FakeServer, client: &Client) -> Refusal {
    let feature = "user namespaces".to_owned();
    let failure = LaunchFailure::KernelFeatureMissing { feature };
    server.launch(client, failure).await
}

/// A process that is frozen without the server's knowledge: no signal reaches it.
pub async fn stop_timed_out(server: &FakeServer, client: &Client) -> Refusal {
    client.run("frozen", spec::STUBBORN).await.unwrap();
    let fault = Fault::ActThenFail(BackendError::HostResources {
        resource: "memory",
        errno: "ENOMEM",
    });
    server.backend.inject(Operation::Pause, When::Next, fault);
    client.pause("frozen").await.unwrap_err();
    let refusal = client.stop("frozen", Duration::ZERO).await.unwrap_err();
    let id = client.get("frozen").await.unwrap().id;
    assert_eq!(refusal.metadata["container"], id);
    refusal
}

pub async fn too_many_containers(_: &FakeServer, client: &Client) -> Refusal {
    for _ in 0..MAX_CONTAINERS {
        client.create("", &["true"]).await.unwrap();
    }
    let refusal = client.create("", &["true"]).await.unwrap_err();
    client.delete_every_container().await;
    refusal
}
