//! What the parts of the engine share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;
use super::container::command::{Command, Order, Reply};
use super::exec::registry::ExecRegistry;
use super::idempotency::Idempotency;
use super::image::{Images, Pulls};
use super::registry::{Registry, Snapshot, Snapshots};
use crate::backend::{Applied, Backend, BackendError, ContainerBackend, Status};
use crate::files::Turns;
use crate::model::{Container, ContainerId, Exec, ExecId, Run, limits};
use crate::registry::{Registries, Staging};
use crate::stdio::segment::Limits;
use crate::stdio::{Directories, Place, Stdio, Stream};
use crate::store::Store;

/// What can be set about the engine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where output files and imports' scratch space live.
    pub state_dir: PathBuf,
    /// Grace period of stops whose request and spec name none.
    pub stop_grace_period: Duration,
    /// Containers at most.
    pub max_containers: usize,
    /// How registries are reached.
    pub registries: Registries,
}

/// Shared by the facade, the actors and the background tasks.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) backend: Backend,
    pub(crate) stdio: Stdio,
    pub(crate) registry: Registry,
    pub(crate) execs: ExecRegistry,
    pub(crate) images: Images,
    pub(crate) pulls: Pulls,
    /// Where pulls put what comes in.
    pub(crate) staging: Staging,
    pub(crate) idempotency: Idempotency,
    /// Who works on files of containers, and who waits for that.
    pub(crate) file_turns: Turns,
    /// How many callers have joined processes.
    pub(crate) joinings: AtomicU64,
    /// Owns every task of the engine.
    pub(crate) tasks: TaskTracker,
    /// Ends every task of the engine.
    pub(crate) shutdown: CancellationToken,
    /// Set before streams are ended by the server: then no caller has left.
    pub(crate) draining: CancellationToken,
}

impl Core {
    /// Refuses at once what the backend could not do now, before anything is changed.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`], not applied.
    pub(crate) fn require_backend(&self) -> Result<(), Error> {
        let detail = match &*self.backend.status().borrow() {
            Status::Connected { .. } => return Ok(()),
            Status::Connecting { detail } | Status::Disconnected { detail } => detail.clone(),
        };
        let backend = self.backend.name();
        Err(BackendError::Unavailable {
            backend,
            detail,
            applied: Applied::No,
        }
        .into())
    }

    /// The snapshots of the container that `key` names. One that was deleted a while ago has its last.
    ///
    /// # Errors
    /// [`Error::ContainerNotFound`], [`Error::Store`].
    pub(crate) async fn snapshots(&self, key: &str) -> Result<Snapshots, Error> {
        let not_found = match self.registry.find(key) {
            Ok(entry) => return Ok(entry.snapshot),
            Err(error) => error,
        };
        let deleted = self.store.deleted(key).await?.ok_or(not_found)?;
        let last = Snapshot {
            container: Arc::new(deleted),
            gone: true,
        };
        Ok(watch::channel(last).1)
    }

    /// Sends a command to a container's actor and waits for the answer.
    ///
    /// # Errors
    /// [`Error::ContainerNotFound`], and what the actor answers.
    pub(crate) async fn ask<T>(
        &self,
        key: &str,
        order: impl FnOnce(Reply<T>) -> Order,
    ) -> Result<T, Error> {
        let entry = self.registry.find(key)?;
        let (reply, answer) = oneshot::channel();
        let command = Command {
            span: tracing::Span::current(),
            order: order(reply),
        };
        // A closed mailbox drops the command and with it the reply: the answer below says the same.
        drop(entry.commands.send(command).await);
        self.answered(answer, key).await
    }

    pub(crate) async fn answered<T>(
        &self,
        answer: oneshot::Receiver<Result<T, Error>>,
        key: &str,
    ) -> Result<T, Error> {
        match answer.await {
            Ok(answer) => answer,
            Err(_) if self.shutdown.is_cancelled() => Err(Error::Draining),
            Err(_) => Err(Error::DeletedConcurrently {
                container: key.to_owned(),
            }),
        }
    }

    /// The directory of a container's files.
    pub(crate) fn container_dir(&self, id: ContainerId) -> PathBuf {
        self.directories().container(id)
    }

    /// Where the output of a container's main process is recorded, run by run.
    pub(crate) fn log_dir(&self, id: ContainerId) -> PathBuf {
        self.directories().log(id)
    }

    /// Where an exec's output is recorded.
    pub(crate) fn exec_dir(&self, container: ContainerId, exec: ExecId) -> PathBuf {
        self.directories().exec(container, exec)
    }

    fn directories(&self) -> Directories {
        Directories::below(&self.settings.state_dir)
    }

    /// The standard streams of one run of a container's main process.
    pub(crate) fn run_stream(&self, container: &Container, run: Run) -> Arc<Stream> {
        let log = container.spec.log;
        let total = log.segment_bytes.saturating_mul(log.segments.into());
        let limits = if log.disabled {
            exec_limits()
        } else {
            Limits {
                segment_bytes: log.segment_bytes,
                total_bytes: total,
            }
        };
        let name = Directories::run_stream(container.id, run);
        self.stdio.stream(&name, || Place {
            segments: self.log_dir(container.id),
            run: run.0,
            limits,
            fifos: self.container_dir(container.id).join("stdio"),
            stdin: container.spec.stdin_open,
            terminal: container.spec.process.terminal.is_some(),
        })
    }

    /// The standard streams of an exec.
    pub(crate) fn exec_stream(&self, exec: &Exec) -> Arc<Stream> {
        let dir = self.exec_dir(exec.container, exec.id);
        self.stdio
            .stream(&Directories::exec_stream(exec.id), || Place {
                segments: dir.clone(),
                run: 0,
                limits: exec_limits(),
                fifos: dir,
                stdin: exec.spec.stdin_open,
                terminal: exec.has_terminal(),
            })
    }

    /// Runs a task that the engine owns.
    pub(crate) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }
}

/// How much is kept of output that only those who are attached are to read.
fn exec_limits() -> Limits {
    Limits {
        segment_bytes: limits::EXEC_SEGMENT_BYTES,
        total_bytes: limits::EXEC_OUTPUT_BYTES,
    }
}
