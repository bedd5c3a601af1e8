//! Starting an exec: the intent is stored, its streams are opened, the backend starts the process.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::{LiveExec, Outcome};
use crate::backend::{BackendError, Process, ProcessHandle, StartExec, Task, TaskHandle};
use crate::engine::container::actor::Actor;
use crate::engine::container::policy::Refusal;
use crate::engine::container::start::{failure_of, open_streams};
use crate::engine::{Error, StartedExec};
use crate::model::{Cause, EventKind, Exec, ExecId, ExecState, Failure, LaunchFailure, State};
use crate::stdio::Stream;

impl Actor {
    /// Stores that it is to start, and starts it beside whatever else is under way.
    pub(super) async fn begin_exec(&mut self, span: &tracing::Span, cause: Cause, id: ExecId) {
        let Some(task) = self.task.clone().filter(|_| !self.remains) else {
            let error = self.refusal(Refusal::NotRunning);
            return self.exec_start_refused(id, &error);
        };
        let change = match self.exec(id) {
            Ok(live) => live.change(|exec| {
                exec.state = ExecState::Starting;
                exec.cause = cause;
            }),
            Err(_) => return,
        };
        let draft = self.record.draft_beside().exec(change);
        if let Err(error) = self.commit_exec(draft).await {
            return self.exec_start_refused(id, &error);
        }
        let container = self.record.snapshot();
        let core = self.core.clone();
        if let Ok(live) = self.exec(id) {
            let stream = core.exec_stream(&live.exec);
            live.stream = Some(stream.clone());
            live.is_launching = true;
            live.started_size = live.exec.terminal_size;
            let exec = live.exec.clone();
            let start = move |stdio| StartExec {
                container,
                exec,
                stdio,
            };
            self.execs.begin(span, async move {
                Outcome::Started(id, launch(&task, &stream, start).await)
            });
        }
    }

    /// It stays as it was: nothing has been begun.
    fn exec_start_refused(&mut self, id: ExecId, error: &Error) {
        if let Ok(live) = self.exec(id) {
            live.refuse_start(error);
        }
    }

    pub(super) async fn exec_started(
        &mut self,
        id: ExecId,
        result: Result<ProcessHandle, BackendError>,
    ) {
        let is_awaited = self.exec(id).is_ok_and(|live| {
            live.is_launching = false;
            live.exec.state == ExecState::Starting
        });
        match result {
            Ok(process) if is_awaited => self.exec_runs(id, process).await,
            // It was given up meanwhile, with its container's run.
            Ok(process) => self.discard_exec(id, process),
            Err(_) if !is_awaited => {}
            Err(error) if error.leaves_doubt() => self.doubt_exec(id, error),
            Err(error) => {
                let failure = failure_of(&error);
                let error = match error {
                    BackendError::NotFound { .. } => self.refusal(Refusal::NotRunning),
                    // Runtimes have many words for a container that has just ended.
                    BackendError::Launch(LaunchFailure::Refused { .. })
                        if !self.can_be_joined() =>
                    {
                        self.refusal(Refusal::NotRunning)
                    }
                    other => other.into(),
                };
                self.exec_failed(id, failure, Some(error)).await;
            }
        }
    }

    /// Whether the container is not on its way out, as far as is known, and as the kernel sees its main
    /// process.
    fn can_be_joined(&self) -> bool {
        if self.record.state() != State::Running {
            return false;
        }
        let pid = self.record.container().pid;
        pid.is_some_and(crate::backend::proc::is_alive)
    }

    /// The process runs, and may have ended since.
    pub(super) async fn exec_runs(&mut self, id: ExecId, process: ProcessHandle) {
        let pid = process.pid();
        let (change, cause) = match self.exec(id) {
            Ok(live) => {
                live.process = Some(process.clone());
                live.failures = 0;
                let change = live.change(|exec| {
                    exec.state = ExecState::Running;
                    exec.pid = Some(pid);
                    exec.remains = true;
                    exec.start_time = Some(SystemTime::now());
                });
                (change, live.exec.cause.clone())
            }
            Err(_) => return,
        };
        let draft = self
            .record
            .draft_beside()
            .exec(change)
            .event(EventKind::ExecStarted { exec: id }, Some(cause));
        self.commit_exec_observed(draft).await;
        if let Ok(live) = self.exec(id) {
            live.answer_start();
            let limit = live.exec.spec.timeout;
            self.watch_exec(id, process, limit);
            self.catch_up_with_exec_size(id);
            self.kill_if_unwanted(id);
        }
    }

    /// Sets the size that was asked for when another one was already on its way to the process.
    fn catch_up_with_exec_size(&self, id: ExecId) {
        let Some(live) = self.execs.by_id.get(&id) else {
            return;
        };
        let wanted = live.exec.terminal_size;
        let (Some(size), Some(process)) = (wanted, live.process.clone()) else {
            return;
        };
        if wanted != live.started_size {
            self.execs.begin(&tracing::Span::none(), async move {
                if let Err(error) = process.resize(size).await {
                    tracing::debug!(exec = %id, %error, "a terminal has the size it was started with");
                }
                Outcome::Answered
            });
        }
    }

    /// Waits for the end of an exec, or of its time.
    pub(super) fn watch_exec(&self, id: ExecId, process: ProcessHandle, limit: Option<Duration>) {
        self.execs.begin(&tracing::Span::none(), async move {
            let mut exit = process.exit();
            let ended = async {
                let exit = exit.wait_for(Option::is_some).await;
                match exit.ok().and_then(|exit| exit.clone()) {
                    Some(exit) => Outcome::Ended(id, exit),
                    // The backend is gone, and with it whoever could tell.
                    None => std::future::pending().await,
                }
            };
            let over = async {
                match limit {
                    Some(limit) => sleep(limit).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = ended => ended,
                () = over => Outcome::TimedOut(id),
            }
        });
    }

    /// It could not be started.
    pub(super) async fn exec_failed(&mut self, id: ExecId, failure: Failure, error: Option<Error>) {
        let (change, cause, stream) = match self.exec(id) {
            Ok(live) => {
                let change = live.change(|exec| {
                    exec.state = ExecState::Failed;
                    exec.failure = Some(failure.clone());
                    exec.end_time = Some(SystemTime::now());
                    exec.leash = None;
                });
                (change, live.exec.cause.clone(), live.stream.take())
            }
            Err(_) => return,
        };
        let event = EventKind::ExecStartFailed { exec: id, failure };
        let draft = self
            .record
            .draft_beside()
            .exec(change)
            .event(event, Some(cause));
        self.commit_exec_observed(draft).await;
        if let Ok(live) = self.exec(id) {
            let error = error.unwrap_or_else(|| Error::exec_not_running(&live.exec));
            live.refuse_start(&error);
        }
        self.begin_abandon(stream, id);
        self.trim_execs().await;
    }

    fn begin_abandon(&self, stream: Option<Arc<Stream>>, id: ExecId) {
        self.execs.begin(&tracing::Span::none(), async move {
            if let Some(stream) = stream {
                stream.undo().await;
            }
            Outcome::Removed(id)
        });
    }

    /// A process that no exec has any more.
    fn discard_exec(&self, id: ExecId, process: ProcessHandle) {
        let task = self.task.clone();
        self.execs.begin(&tracing::Span::none(), async move {
            drop(process);
            if let Some(task) = task
                && let Err(error) = task.discard_exec(id).await
            {
                tracing::debug!(exec = %id, %error, "an exec that was given up goes with its container");
            }
            Outcome::Answered
        });
    }
}

impl LiveExec {
    /// Tells those who wait for its start: the first has changed it.
    fn answer_start(&mut self) {
        for (n, reply) in self.starting.drain(..).enumerate() {
            let exec = Arc::<Exec>::clone(&self.exec);
            let changed = n == 0;
            drop(reply.send(Ok(StartedExec { changed, exec })));
        }
    }

    pub(super) fn refuse_start(&mut self, error: &Error) {
        for reply in self.starting.drain(..) {
            drop(reply.send(Err(error.clone())));
        }
    }
}

async fn launch(
    task: &TaskHandle,
    stream: &Arc<Stream>,
    start: impl FnOnce(crate::model::StdioPaths) -> StartExec,
) -> Result<ProcessHandle, BackendError> {
    let stdio = open_streams(stream).await?;
    task.exec(start(stdio)).await
}
