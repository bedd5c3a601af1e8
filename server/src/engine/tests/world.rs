//! Servers that come and go over the same state and the same backend.

use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::*;
use crate::backend::fake::{Fake, FakeControl};
use crate::backend::{Backend, SignalScope};
use crate::model::{Container, ContainerId, Exec, ExecId, State};
use crate::store::tests::{image, options};
use crate::store::{Change, Durability, Store, Transaction};

/// How long a step of a test may take by the real clock before it is taken for stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// What outlives servers.
pub(in crate::engine) struct World {
    pub(super) control: FakeControl,
    pub(super) dir: TempDir,
    fake: Fake,
    server: Option<Server>,
}

/// One server, and the runtime whose end is its death.
struct Server {
    up: Up,
    /// While it is there, the clock does not move by itself, and the runtime cannot end.
    _clock: mpsc::Sender<()>,
    runtime: Runtime,
    stuck: oneshot::Receiver<()>,
}

/// A server that is up.
#[derive(Clone)]
pub(in crate::engine) struct Up {
    pub(super) engine: Engine,
    pub(super) control: FakeControl,
    pub(super) store: Store,
    pub(super) calls: TaskTracker,
}

impl World {
    /// A world with one image and a server that is up.
    pub(super) fn new() -> Self {
        let mut world = Self::empty();
        world.boot();
        world
    }

    /// A world with one image and no server.
    pub(super) fn empty() -> Self {
        let (fake, control) = Fake::new();
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), options()).unwrap();
        let app = Change::PutImage(Arc::new(image("app")));
        let runtime = Builder::new_current_thread().build().unwrap();
        let close = async {
            store.commit(change(vec![app])).await.unwrap();
            store.close().await.unwrap();
        };
        runtime.block_on(close);
        Self {
            control,
            dir,
            fake,
            server: None,
        }
    }

    /// Starts a server and waits until it is ready.
    pub(super) fn boot(&mut self) {
        self.boot_unready();
        self.run(async |up| up.engine.ready().await);
    }

    /// Starts a server.
    pub(super) fn boot_unready(&mut self) {
        assert!(self.server.is_none(), "one server at a time");
        let runtime = Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            // One for the clock and one to work, so that work is done in order: see `quiet`.
            .max_blocking_threads(2)
            .build()
            .unwrap();
        let (clock, stuck) = stop_clock(&runtime);
        let inside = runtime.enter();
        let (store, recovered) = Store::open(self.dir.path(), options()).unwrap();
        let settings = Settings {
            state_dir: self.dir.path().to_owned(),
            stop_grace_period: limits::DEFAULT_STOP_GRACE,
            max_containers: 100,
            registries: crate::registry::Registries::default(),
        };
        let backend = Backend::Fake(self.fake.clone());
        let engine = Engine::open(
            settings,
            store.clone(),
            recovered,
            backend,
            crate::stdio::Stdio::none(),
        );
        let up = Up {
            engine,
            control: self.control.clone(),
            store,
            calls: TaskTracker::new(),
        };
        drop(inside);
        self.server = Some(Server {
            up,
            _clock: clock,
            runtime,
            stuck,
        });
    }

    /// Does something with the server.
    pub(super) fn run<T>(&mut self, scene: impl AsyncFnOnce(&Up) -> T) -> T {
        let Server {
            up, runtime, stuck, ..
        } = self.server.as_mut().expect("a server is up");
        runtime.block_on(async {
            tokio::select! {
                done = scene(up) => done,
                _ = stuck => panic!("stuck"),
            }
        })
    }

    /// The server dies: whatever it was at is cut off where it waits.
    pub(super) fn crash(&mut self) {
        let store = self.server.take().expect("a server is up").up.store;
        // What the dead server handed over is written by now, and with the last handle its claim on
        // the directory is given up.
        let runtime = Builder::new_current_thread().build().unwrap();
        drop(runtime.block_on(store.commit(change(Vec::new()))));
    }

    /// The server dies, and the next one takes over.
    pub(super) fn crash_and_boot(&mut self) {
        self.crash();
        self.boot();
    }

    /// The server ends in order, and the next one takes over.
    pub(super) fn restart(&mut self) {
        self.run(async |up| {
            up.engine.shutdown().await;
            assert!(up.engine.core.tasks.is_empty(), "tasks are left");
            up.store.close().await.unwrap();
        });
        self.crash_and_boot();
    }
}

/// Keeps the paused clock from moving while only the store's thread is at work, and sees to it that
/// a test that waits for what never comes fails.
fn stop_clock(runtime: &Runtime) -> (mpsc::Sender<()>, oneshot::Receiver<()>) {
    let (clock, parked) = mpsc::channel::<()>();
    let (alarm, stuck) = oneshot::channel();
    runtime.spawn_blocking(move || {
        if parked.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = alarm.send(());
        }
    });
    (clock, stuck)
}

pub(super) fn change(changes: Vec<Change>) -> Transaction {
    Transaction {
        changes,
        events: Vec::new(),
        durability: Durability::Written,
        on_commit: None,
    }
}

impl Up {
    pub(super) fn exec(&self, id: ExecId) -> Arc<Exec> {
        self.engine.exec(id).unwrap()
    }

    /// Makes a call that runs by itself, and lets it go as far as it can.
    pub(super) async fn go<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let going = self.calls.spawn(call);
        self.quiet().await;
        going
    }

    /// Waits until everything that can happen without the clock or a fault being lifted has happened:
    /// tasks get their turns, and the blocking pool and the store's thread what they are asked for.
    pub(super) async fn quiet(&self) {
        let mut still = 0;
        while still < 4 {
            let before = self.store.counts();
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            // It may share its commit with one that was made to fail.
            drop(self.store.commit(change(Vec::new())).await);
            // The commit just made is one more.
            let moved = self.store.counts().transactions > before.transactions + 1;
            still = if moved { 0 } else { still + 1 };
        }
    }

    /// Lets time pass.
    pub(super) async fn pass(&self, time: Duration) {
        self.quiet().await;
        tokio::time::advance(time).await;
        self.quiet().await;
    }

    /// Lets time pass in small steps until `done`, at most two minutes.
    pub(super) async fn pass_until(&self, mut done: impl FnMut(&Self) -> bool) {
        for _ in 0..240 {
            self.quiet().await;
            if done(self) {
                return;
            }
            tokio::time::advance(Duration::from_millis(500)).await;
        }
        let containers = self
            .engine
            .list(&ContainerFilter::default(), None, usize::MAX);
        let states: Vec<_> = containers.iter().map(|c| (c.id, c.state, c.run)).collect();
        let (records, tasks) = (self.control.containers(), self.control.tasks());
        panic!("it never came: {states:?}; the backend has {records:?} {tasks:?}");
    }

    pub(super) async fn create(&self, name: &str) -> ContainerId {
        self.make(request(name)).await.id
    }

    pub(super) async fn create_started(&self, name: &str) -> ContainerId {
        self.make(and_start(request(name))).await.id
    }

    pub(super) async fn make(&self, create: CreateContainer) -> Arc<Container> {
        self.engine
            .create(call("create"), create)
            .await
            .unwrap()
            .value
    }

    pub(super) async fn start(&self, name: &str, request: &str) -> Result<Started, Error> {
        let answer = self.engine.start(call(request), name, None).await;
        answer.map(|answer| answer.value)
    }

    pub(super) fn starting(
        &self,
        name: &str,
        call: Call,
    ) -> impl Future<Output = Result<Answer<Started>, Error>> + Send + 'static + use<> {
        let (engine, name) = (self.engine.clone(), name.to_owned());
        async move { engine.start(call, &name, None).await }
    }

    pub(super) fn creating(
        &self,
        call: Call,
        create: CreateContainer,
    ) -> impl Future<Output = Result<Answer<Arc<Container>>, Error>> + Send + 'static + use<> {
        let engine = self.engine.clone();
        async move { engine.create(call, create).await }
    }

    pub(super) fn stop(
        &self,
        name: &str,
        request: &str,
        stop: StopContainer,
    ) -> impl Future<Output = Result<Stopped, Error>> + Send + 'static + use<> {
        let (engine, name, cause) = (self.engine.clone(), name.to_owned(), cause(request));
        async move { engine.stop(cause, &name, stop).await }
    }

    pub(super) fn restart(
        &self,
        name: &str,
        call: Call,
        stop: StopContainer,
    ) -> impl Future<Output = Result<Answer<Arc<Container>>, Error>> + Send + 'static + use<> {
        let (engine, name) = (self.engine.clone(), name.to_owned());
        async move { engine.restart(call, &name, stop).await }
    }

    pub(super) fn delete(
        &self,
        name: &str,
        request: &str,
        delete: DeleteContainer,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let (engine, name, cause) = (self.engine.clone(), name.to_owned(), cause(request));
        async move { engine.delete(cause, &name, delete).await }
    }

    pub(super) async fn signal(
        &self,
        name: &str,
        request: &str,
        signal: &str,
    ) -> Result<(), Error> {
        let signal = signal.parse().unwrap();
        let scope = SignalScope::Main;
        let answer = self
            .engine
            .signal(call(request), name, signal, scope, None)
            .await;
        answer.map(|answer| answer.value)
    }

    pub(super) async fn pause(&self, name: &str, request: &str) -> Result<bool, Error> {
        self.engine.pause(cause(request), name, None).await
    }

    pub(super) async fn resume(&self, name: &str, request: &str) -> Result<bool, Error> {
        self.engine.resume(cause(request), name, None).await
    }

    pub(super) fn is_ready(&self) -> bool {
        *self.engine.readiness.borrow() != Readiness::Recovering
    }

    /// The container as readers see it.
    pub(super) fn get(&self, name: &str) -> Arc<Container> {
        self.engine.get(name).unwrap()
    }

    pub(super) fn state(&self, name: &str) -> State {
        self.get(name).state
    }

    /// Whether there is no such container.
    pub(super) fn is_gone(&self, name: &str) -> bool {
        matches!(self.engine.get(name), Err(Error::ContainerNotFound { .. }))
    }

    /// The container's main process ends by itself.
    pub(super) async fn exit(&self, name: &str, code: u8) {
        let id = self.get(name).id;
        assert!(self.control.exit(id, WaitStatus::Exited(code)));
        self.quiet().await;
    }

    /// Nothing is left of any container: not in the backend, not on disk, not among the engine's tasks.
    pub(super) async fn assert_empty(&self) {
        self.quiet().await;
        let listed = self.engine.list(&ContainerFilter::default(), None, 100);
        assert_eq!(listed.len(), 0, "containers are left");
        assert_eq!(self.control.containers(), [], "records are left");
        assert_eq!(self.control.tasks(), [], "tasks are left");
        let dir = self.engine.core.settings.state_dir.join("containers");
        let files = std::fs::read_dir(dir).map_or(0, Iterator::count);
        assert_eq!(files, 0, "files are left");
        assert_eq!(self.engine.core.tasks.len(), IDLE_TASKS, "tasks are left");
    }
}

/// What the engine runs without any container: recovery, and two sweeps.
pub(super) const IDLE_TASKS: usize = 3;
