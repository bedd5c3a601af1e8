//! Further processes in a container.

use std::sync::Arc;

use oci_spec::runtime::Process as OciProcess;

use tokio::sync::watch;

use super::failure::{self, Attempt};
use super::live::{Kind, Live};
use super::plan::{self, Surroundings};
use super::runtime::{self, Runtime};
use super::task::keeper_failed;
use super::{Local, LocalTask, find, launch};
use crate::backend::{BackendError, Exit, FoundState, FoundTask, Process, StartExec, Task};
use crate::model::spec::Seccomp;
use crate::model::{Container, ExecId, Signal, TerminalSize};
use crate::oci::runtime_spec;
use crate::stdio::{Directories, Order};

/// A further process. Clones are the same handle.
#[derive(Debug, Clone)]
pub struct LocalExec {
    backend: Local,
    live: Arc<Live>,
}

/// Has the keeper launch it beside the main process.
pub(super) async fn start(task: &LocalTask, start: StartExec) -> Result<LocalExec, BackendError> {
    let backend = task.backend();
    let inner = &backend.inner;
    let (container, exec) = (&start.container, &start.exec);
    let process = runtime_spec::exec_process(container, exec, &inner.spec.host)
        .map_err(|error| BackendError::Launch(error.into()))?;
    let live = Live::new(kind(task), task.live().cgroup.clone(), None);
    let stream = Directories::exec_stream(exec.id);
    inner.lives.insert(&stream, &live);
    if let Some(runtime) = Runtime::of(container, inner.runtime.as_deref())? {
        let run = container.run;
        runtime::exec(backend, &runtime, &start, run, &process, &live).await?;
    } else {
        launch_exec(task, &start, &process, &live).await?;
    }
    Ok(LocalExec {
        backend: backend.clone(),
        live,
    })
}

async fn launch_exec(
    task: &LocalTask,
    start: &StartExec,
    process: &OciProcess,
    live: &Arc<Live>,
) -> Result<(), BackendError> {
    let backend = task.backend();
    let inner = &backend.inner;
    let (container, exec) = (&start.container, &start.exec);
    let join = task
        .live()
        .process()?
        .descriptor()
        .map_err(|_| failure::ended())?;
    let filter = filter(backend, container).await?;
    let around = Surroundings {
        cgroups: task.live().cgroup.task_files(),
        stdio: &start.stdio,
        terminal_size: exec.terminal_size,
        default_limits: &inner.default_limits,
        seccomp_flags: filter.as_ref().map(|filter| filter.flags),
    };
    let plan = plan::of_process(process, &around, &container.id.to_string())?;
    let stream = Directories::exec_stream(exec.id);
    let order = Order {
        stream: &stream,
        plan: &plan,
        filter: filter.map(|filter| filter.program),
        cgroup: task.live().cgroup.open_unified()?,
        join: Some(join),
        reports: None,
    };
    let launched = inner.processes.launch(order, live.on_exit()).await;
    let process = launched.map_err(|error| {
        let attempt = Attempt {
            container,
            plan: &plan,
            joined: Some(task.pid()),
            program: exec.process.args.first().map_or("", String::as_str),
            directory: &exec.process.working_dir,
        };
        failure::of(error, &attempt)
    })?;
    live.is(process);
    Ok(())
}

/// The container's own filter, as it was when it started.
async fn filter(
    backend: &Local,
    container: &Container,
) -> Result<Option<launch::Loadable>, BackendError> {
    if container.spec.security.seccomp == Seccomp::Unconfined {
        return Ok(None);
    }
    let profile = runtime_spec::seccomp(container, &backend.inner.spec.host)
        .map_err(|error| BackendError::Launch(error.into()))?;
    let Some(profile) = profile else {
        return Ok(None);
    };
    backend
        .blocking(move |inner| launch::loadable(inner, &profile).map(Some))
        .await
}

/// What the OOM killer has done by now is of no account for it.
fn kind(task: &LocalTask) -> Kind {
    Kind::Exec {
        main: task.pid(),
        before: task.live().cgroup.oom_kills().unwrap_or_default(),
    }
}

/// The handle of one that [`find`] has shown to be there.
pub(super) fn attach(task: &LocalTask, exec: ExecId, found: FoundTask) -> LocalExec {
    let lives = &task.backend().inner.lives;
    let stream = Directories::exec_stream(exec);
    let exit = match found.state {
        FoundState::Stopped(exit) => Some(exit),
        FoundState::Created | FoundState::Running | FoundState::Paused => None,
    };
    let live = lives.take(&stream).unwrap_or_else(|| {
        let live = Live::new(kind(task), task.live().cgroup.clone(), None);
        lives.insert(&stream, &live);
        live
    });
    if let Some(exit) = exit {
        live.settle(exit);
    }
    LocalExec {
        backend: task.backend().clone(),
        live,
    }
}

/// By the keeper's word, or by what is recorded.
pub(super) async fn find(
    task: &LocalTask,
    exec: ExecId,
) -> Result<Option<FoundTask>, BackendError> {
    let stream = Directories::exec_stream(exec);
    let inner = &task.backend().inner;
    let directory = inner.directories.exec(task.container(), exec);
    let make = || Live::new(kind(task), task.live().cgroup.clone(), None);
    find::process(task.backend(), &stream, directory, 0, make).await
}

/// Kills it, if it is there, and waits for its end.
pub(super) async fn discard(task: &LocalTask, exec: ExecId) -> Result<(), BackendError> {
    let found = find(task, exec).await?;
    let is_there = found.is_some_and(|found| !matches!(found.state, FoundState::Stopped(_)));
    if is_there {
        let stream = Directories::exec_stream(exec);
        let backend = task.backend();
        if let Some(live) = backend.inner.lives.get(&stream) {
            match signal(backend, &live, Signal::KILL).await {
                Err(error) if !matches!(error, BackendError::NotFound { .. }) => return Err(error),
                _ => {}
            }
        }
        backend.inner.processes.discard(&stream).await;
    }
    Ok(())
}

/// By the process's own descriptor, so it never meets another.
pub(super) async fn signal(
    backend: &Local,
    live: &Live,
    signal: Signal,
) -> Result<(), BackendError> {
    let process = live.process()?;
    backend
        .inner
        .processes
        .signal(process, signal)
        .await
        .map_err(keeper_failed)
}

pub(super) async fn resize(
    backend: &Local,
    live: &Live,
    size: TerminalSize,
) -> Result<(), BackendError> {
    let process = live.process()?;
    backend
        .inner
        .processes
        .resize(process.stream(), size)
        .await
        .map_err(keeper_failed)
}

impl Process for LocalExec {
    fn pid(&self) -> u32 {
        self.live.pid().unwrap_or_default()
    }

    fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.live.exit()
    }

    async fn kill(&self, by: Signal) -> Result<(), BackendError> {
        signal(&self.backend, &self.live, by).await
    }

    async fn resize(&self, size: TerminalSize) -> Result<(), BackendError> {
        resize(&self.backend, &self.live, size).await
    }

    async fn close_stdin(&self) -> Result<(), BackendError> {
        self.live.process().map(drop)
    }

    /// Nothing is left of it but its streams, which are not the backend's.
    async fn delete(&self) -> Result<(), BackendError> {
        Ok(())
    }
}
