//! The handle of one run's processes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::exec;
use super::live::{Kind, Live};
use super::{Local, LocalExec, cgroup_name, failure};
use crate::backend::{BackendError, Exit, FoundState, FoundTask, SignalScope, StartExec, Task};
use crate::cgroup::Cgroup;
use crate::model::spec::Resources;
use crate::model::{Container, ContainerId, ExecId, Signal, TerminalSize};
use crate::oci::runtime_spec;
use crate::stdio::StdioError;

/// How often, and how long apart, to look for a kill in the kernel's count: on version 1 of control groups the
/// notice comes before the kill.
const OOM_LOOKS: u32 = 50;
const OOM_PAUSE: Duration = Duration::from_millis(10);

/// The processes of one run.
#[derive(Debug, Clone)]
pub struct LocalTask {
    backend: Local,
    id: ContainerId,
    live: Arc<Live>,
}

impl LocalTask {
    pub(super) fn new(backend: Local, id: ContainerId, live: Arc<Live>) -> Self {
        Self { backend, id, live }
    }

    pub(super) fn live(&self) -> &Arc<Live> {
        &self.live
    }

    pub(super) fn backend(&self) -> &Local {
        &self.backend
    }

    pub(super) fn container(&self) -> ContainerId {
        self.id
    }

    /// Work on the control groups of a run that is not over.
    async fn on_cgroup<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cgroup) -> Result<T, BackendError> + Send + 'static,
    ) -> Result<T, BackendError> {
        self.live.process()?;
        let cgroup = self.live.cgroup.clone();
        self.backend.blocking(move |_| work(&cgroup)).await
    }
}

/// The handle of a run that was found: see `find`, which has made its process known.
pub(super) fn attach(backend: &Local, container: &Container, found: FoundTask) -> LocalTask {
    let stream = cgroup_name(container.id, container.run);
    let exit = match found.state {
        FoundState::Stopped(exit) => Some(exit),
        FoundState::Created | FoundState::Running | FoundState::Paused => None,
    };
    let live = match backend.inner.lives.take(&stream) {
        Some(live) => {
            if let Some(exit) = exit {
                live.settle(exit);
            }
            live
        }
        None => {
            let cgroup = backend.inner.cgroups.open(&stream);
            let live = Live::new(Kind::Main, cgroup, exit);
            backend.inner.lives.insert(&stream, &live);
            live
        }
    };
    backend.watch_oom(&live, container);
    LocalTask::new(backend.clone(), container.id, live)
}

impl Local {
    /// Counts what the OOM killer does in a run. Only a limit makes it act there.
    pub(super) fn watch_oom(&self, live: &Arc<Live>, container: &Container) {
        if live.is_over() || container.spec.resources.memory_limit_bytes.is_none() {
            return;
        }
        let notices = match live.cgroup.oom_notices() {
            Ok(notices) => notices,
            Err(error) => {
                tracing::debug!(container = %container.id, %error, "OOM kills are counted at its end only");
                return;
            }
        };
        let (live, stop) = (Arc::clone(live), self.inner.stop.clone());
        let mut over = live.exit();
        let mut tasks = self.inner.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let counting = async {
                while notices.next().await.is_ok() {
                    count(&live).await;
                }
            };
            tokio::select! {
                () = counting => {}
                _ = over.wait_for(Option::is_some) => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Of a start that came to nothing: all that is left of it goes.
    pub(super) async fn give_up(&self, cgroup: &Cgroup) {
        if let Err(error) = remove(self, cgroup).await {
            tracing::warn!(run = cgroup.name(), %error, "a control group is left");
        }
    }
}

/// Removes what is left of a run that is over: whatever is alive in it, its control group, what a runtime knows.
pub(super) async fn remove(backend: &Local, cgroup: &Cgroup) -> Result<(), BackendError> {
    let cgroup = cgroup.clone();
    backend
        .blocking(move |inner| inner.remove_run(&cgroup))
        .await
}

async fn count(live: &Live) {
    let seen = *live.oom_kills().borrow();
    for _ in 0..OOM_LOOKS {
        match live.cgroup.oom_kills() {
            Some(total) if total > seen => return live.oom(total),
            Some(_) => sleep(OOM_PAUSE).await,
            // The kernel does not count: the notice does.
            None => return live.oom(seen + 1),
        }
    }
}

/// The keeper does not do it.
pub(super) fn keeper_failed(error: StdioError) -> BackendError {
    match error {
        StdioError::Unavailable { detail } => {
            failure::keeper(detail, crate::backend::Applied::Unknown)
        }
        // It has no process, or no terminal any more.
        _ => failure::ended(),
    }
}

impl Task for LocalTask {
    type Process = LocalExec;

    fn pid(&self) -> u32 {
        self.live.pid().unwrap_or_default()
    }

    fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.live.exit()
    }

    fn oom_kills(&self) -> watch::Receiver<u64> {
        self.live.oom_kills()
    }

    async fn kill(&self, signal: Signal, scope: SignalScope) -> Result<(), BackendError> {
        match scope {
            SignalScope::Main => exec::signal(&self.backend, &self.live, signal).await,
            SignalScope::All => self.on_cgroup(move |cgroup| Ok(cgroup.kill(signal)?)).await,
        }
    }

    async fn pause(&self) -> Result<(), BackendError> {
        self.on_cgroup(|cgroup| Ok(cgroup.freeze()?)).await
    }

    async fn resume(&self) -> Result<(), BackendError> {
        self.on_cgroup(|cgroup| Ok(cgroup.thaw()?)).await
    }

    async fn update(&self, resources: &Resources) -> Result<(), BackendError> {
        let resources = runtime_spec::resources_update(resources, &self.backend.inner.spec.host);
        self.on_cgroup(move |cgroup| Ok(cgroup.update(&resources)?))
            .await
    }

    async fn pids(&self) -> Result<Vec<u32>, BackendError> {
        self.on_cgroup(|cgroup| Ok(cgroup.pids()?)).await
    }

    async fn delete(&self) -> Result<(), BackendError> {
        remove(&self.backend, &self.live.cgroup).await
    }

    async fn resize(&self, size: TerminalSize) -> Result<(), BackendError> {
        exec::resize(&self.backend, &self.live, size).await
    }

    /// Only the streams themselves hold an end of it.
    async fn close_stdin(&self) -> Result<(), BackendError> {
        self.live.process().map(drop)
    }

    async fn exec(&self, start: StartExec) -> Result<LocalExec, BackendError> {
        exec::start(self, start).await
    }

    fn attach_exec(&self, exec: ExecId, found: FoundTask) -> LocalExec {
        exec::attach(self, exec, found)
    }

    async fn find_exec(&self, exec: ExecId) -> Result<Option<FoundTask>, BackendError> {
        exec::find(self, exec).await
    }

    async fn discard_exec(&self, exec: ExecId) -> Result<(), BackendError> {
        exec::discard(self, exec).await
    }
}
