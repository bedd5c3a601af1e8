//! The composition root: the one place that sees every layer. Puts the server together, runs it, and
//! takes it apart in order.

use std::time::SystemTime;

use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use wharf_init::Failures;

use crate::backend::containerd::{Containerd, ContainerdOptions, InvalidNamespace};
use crate::backend::local::{Local, LocalOptions};
use crate::backend::{Backend, BackendError, init};
use crate::config::{BackendKind, Config};
use crate::engine::{Engine, Settings};
use crate::model::{ServerId, limits};
use crate::oci::runtime_spec::{Host, Init, RuntimeOptions};
use crate::registry::Registries;
use crate::stdio::{self, Stdio};
use crate::store::{self, Store, StoreError};
use crate::telemetry::{self, TelemetryError};
use crate::transport::services::{self, Setup};
use crate::transport::{Drained, Gate, ListenError, Listener, ServeOptions, serve};

/// What can keep the server from running.
#[derive(Debug, Error)]
pub enum RunError {
    /// Logs or traces cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The state cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The containerd namespace is none.
    #[error(transparent)]
    Namespace(#[from] InvalidNamespace),
    /// What the backend keeps cannot be used.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The init of containers cannot be put where they can have it.
    #[error("the init cannot be written: {0}")]
    Init(std::io::Error),
    /// The keeper is needed, and there is none.
    #[error("the local backend needs the keeper")]
    NoKeeper,
    /// The descriptors of the API cannot be read.
    #[error(transparent)]
    Descriptors(#[from] services::DescriptorError),
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signals(#[from] std::io::Error),
}

impl RunError {
    /// Whether the configuration is to blame.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Telemetry(_) | Self::Namespace(_))
    }
}

/// Runs the server until SIGTERM or SIGINT. A second signal ends the process at once.
///
/// # Errors
/// [`RunError`], if it cannot start.
pub async fn run(config: Config) -> Result<(), RunError> {
    let mut signals = Signals::listen()?;
    let telemetry = telemetry::init(config.log_format, &config.log)?;
    let server = Server::start(&config).await?;
    tracing::info!(listen = ?config.listen, state_dir = %config.state_dir.display(), "wharfd is up");
    signals.next().await;
    tracing::info!("stopping");
    tokio::select! {
        () = server.stop() => {}
        () = signals.next() => tracing::warn!("stopped at once"),
    }
    telemetry.shutdown();
    Ok(())
}

/// The parts, in the order in which they are taken apart.
struct Server {
    gate: Gate,
    health: services::Health,
    imports: TaskTracker,
    serving: JoinHandle<Drained>,
    engine: Engine,
    stdio: Stdio,
    backend: Backend,
    store: Store,
}

impl Server {
    /// The state first: its lock tells whether another server is at work here.
    async fn start(config: &Config) -> Result<Self, RunError> {
        let (store, recovered) = Store::open(&config.state_dir, store_options(config))?;
        let listeners = listen(config).await?;
        let stdio = Stdio::start(keeper(config));
        let backend = backend(config, store.server_id(), &stdio)?;
        let engine = Engine::open(
            settings(config),
            store.clone(),
            recovered,
            backend.clone(),
            stdio.clone(),
        );
        let services = services::build(setup(config, engine.clone())).await?;
        let gate = Gate::new();
        gate.starting("reconciling states");
        let options = ServeOptions {
            gate: gate.clone(),
            backend: engine.backend_name(),
            drain_timeout: config.drain_timeout,
        };
        let serving =
            TaskTracker::new().spawn(serve(listeners, services.routes.prepare(), options));
        engine.ready().await;
        gate.open();
        services.health.serving().await;
        Ok(Self {
            gate,
            health: services.health,
            imports: services.tasks,
            serving,
            engine,
            stdio,
            backend,
            store,
        })
    }

    /// From the outside in: no new calls, no calls, no actors, no backend, no state.
    async fn stop(self) {
        self.health.not_serving().await;
        self.engine.drain().await;
        self.gate.drain();
        match self.serving.await {
            Ok(Drained::Clean) => {}
            Ok(Drained::Cut { tasks }) => tracing::warn!(tasks, "connections were cut"),
            Err(error) => tracing::error!(%error, "serving ended badly"),
        }
        self.imports.close();
        self.imports.wait().await;
        self.engine.shutdown().await;
        self.stdio.shutdown().await;
        self.backend.shutdown().await;
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "the state was not closed well; the next start recovers it");
        }
        tracing::info!("stopped");
    }
}

fn store_options(config: &Config) -> store::Options {
    store::Options {
        journal_bytes: config.journal_bytes,
        journal_age: config.journal_age,
    }
}

fn settings(config: &Config) -> Settings {
    Settings {
        state_dir: config.state_dir.clone(),
        stop_grace_period: config.stop_grace_period,
        max_containers: limits::MAX_CONTAINERS,
        registries: Registries {
            config_dir: config.registry_config_dir.clone(),
            stall_timeout: config.registry_stall_timeout,
        },
    }
}

fn keeper(config: &Config) -> stdio::Options {
    stdio::Options {
        directory: config.state_dir.join("keeper"),
        program: config.keeper.clone(),
    }
}

fn setup(config: &Config, engine: Engine) -> Setup {
    Setup {
        engine,
        spool: config.state_dir.join("spool"),
        commit: option_env!("WHARF_COMMIT").unwrap_or_default(),
        start_time: SystemTime::now(),
    }
}

fn backend(config: &Config, server_id: ServerId, stdio: &Stdio) -> Result<Backend, RunError> {
    let init = |failures| {
        let file = init::install(&config.state_dir).map_err(RunError::Init)?;
        Ok::<_, RunError>(Init { file, failures })
    };
    match config.backend {
        BackendKind::Containerd => {
            let init = init(Failures::Exit)?;
            Ok(Backend::Containerd(connect(config, server_id, init)?))
        }
        BackendKind::Local => {
            let init = init(Failures::Told)?;
            Ok(Backend::Local(open_local(config, stdio, init)?))
        }
    }
}

fn open_local(config: &Config, stdio: &Stdio, init: Init) -> Result<Local, RunError> {
    let options = LocalOptions {
        state_dir: config.state_dir.clone(),
        processes: stdio.processes().ok_or(RunError::NoKeeper)?,
        runtime: config.runtime.clone(),
        spec: RuntimeOptions {
            init: Some(init),
            ..RuntimeOptions::new(Host::detect())
        },
    };
    Ok(Local::open(options)?)
}

fn connect(
    config: &Config,
    server_id: ServerId,
    init: Init,
) -> Result<Containerd, InvalidNamespace> {
    let mut options = ContainerdOptions::new(config.containerd_address.clone(), server_id);
    options.spec.init = Some(init);
    options.namespace.clone_from(&config.containerd_namespace);
    if let Some(runtime) = &config.runtime {
        options.runtime.clone_from(runtime);
    }
    Containerd::connect(options)
}

async fn listen(config: &Config) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::with_capacity(config.listen.len());
    for address in &config.listen {
        listeners.push(Listener::bind(address).await?);
    }
    Ok(listeners)
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
