//! Whose streams a session is about, and where that process is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use tokio::sync::watch;

use super::Attached;
use crate::backend::BackendError;
use crate::engine::Error;
use crate::engine::core::Core;
use crate::engine::exec::registry::ExecSnapshot;
use crate::engine::registry::Snapshot;
use crate::model::exec::Leash;
use crate::model::{
    Cause, Container, Exec, ExecState, ExitStatus, Failure, LaunchFailure, OnDisconnect, Run, State,
};
use crate::stdio::Stream;

/// Whose streams.
#[derive(Debug, Clone)]
pub(in crate::engine) enum Subject {
    /// An exec's.
    Exec(watch::Receiver<ExecSnapshot>),
    /// One run's of a container's main process, which may be yet to come.
    Run {
        container: watch::Receiver<Snapshot>,
        run: Run,
    },
}

/// Where the process is.
#[derive(Debug, Clone)]
pub(in crate::engine) enum Phase {
    /// It has not started.
    Waiting,
    /// It runs.
    Running {
        run: Run,
        pid: u32,
        time: SystemTime,
    },
    /// It is over.
    Ended {
        run: Run,
        time: SystemTime,
        exit: Arc<ExitStatus>,
    },
    /// It could not be started.
    Failed(Error),
    /// There is no such process, and there will be none.
    Gone,
}

impl Subject {
    /// The main process of the current run, or of the next one.
    pub(in crate::engine) fn current_or_next(container: watch::Receiver<Snapshot>) -> Self {
        let now = container.borrow().container.clone();
        let run = match now.state {
            State::Starting | State::Running | State::Paused | State::Stopping => now.run,
            State::Creating
            | State::Created
            | State::Exited
            | State::BackingOff
            | State::Deleting
            | State::Failed => now.run.next(),
        };
        Self::Run { container, run }
    }

    pub(super) fn attached(&self) -> Attached {
        match self {
            Self::Exec(snapshot) => {
                let exec = &snapshot.borrow().exec;
                Attached {
                    container: exec.container,
                    exec: Some(exec.id),
                    terminal: exec.has_terminal(),
                }
            }
            Self::Run { container, .. } => {
                let container = &container.borrow().container;
                Attached {
                    container: container.id,
                    exec: None,
                    terminal: container.spec.process.terminal.is_some(),
                }
            }
        }
    }

    pub(super) fn has_terminal(&self) -> bool {
        self.attached().terminal
    }

    pub(super) fn has_stdin(&self) -> bool {
        match self {
            Self::Exec(snapshot) => snapshot.borrow().exec.spec.stdin_open,
            Self::Run { container, .. } => container.borrow().container.spec.stdin_open,
        }
    }

    pub(in crate::engine) fn stdin_not_open(&self) -> Error {
        let Attached {
            container, exec, ..
        } = self.attached();
        let container = container.to_string();
        Error::StdinNotOpen { container, exec }
    }

    /// What is to become of the process if the caller who joins it leaves.
    pub(super) fn leash(&self, core: &Core, cause: Cause, action: OnDisconnect) -> Leash {
        let run = match self {
            Self::Exec(snapshot) => snapshot.borrow().exec.run,
            Self::Run { run, .. } => *run,
        };
        Leash {
            action,
            cause,
            run,
            joining: core.joinings.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The process's streams.
    pub(in crate::engine) fn stream(&self, core: &Core) -> Arc<Stream> {
        match self {
            Self::Exec(snapshot) => core.exec_stream(&snapshot.borrow().exec),
            Self::Run { container, run } => core.run_stream(&container.borrow().container, *run),
        }
    }

    /// Where the process is now.
    pub(in crate::engine) fn phase(&self) -> Phase {
        match self {
            Self::Exec(snapshot) => {
                let now = snapshot.borrow();
                match phase_of_exec(&now.exec) {
                    Phase::Waiting if now.gone => Phase::Gone,
                    phase => phase,
                }
            }
            Self::Run { container, run } => {
                let now = container.borrow();
                match phase_of_run(&now.container, *run) {
                    Phase::Waiting | Phase::Running { .. } if now.gone => Phase::Gone,
                    phase => phase,
                }
            }
        }
    }

    /// Returns once something has changed since the last look at [`Self::phase`] after
    /// [`Self::mark_seen`].
    pub(super) async fn changed(&mut self) {
        let changed = match self {
            Self::Exec(snapshot) => snapshot.changed().await,
            Self::Run { container, .. } => container.changed().await,
        };
        if changed.is_err() {
            // Nobody is there any more who could change it: it was gone before, or the server ends.
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn mark_seen(&mut self) {
        match self {
            Self::Exec(snapshot) => snapshot.mark_unchanged(),
            Self::Run { container, .. } => container.mark_unchanged(),
        }
    }

    /// Why nothing comes any more of something that is gone.
    pub(super) fn gone(&self) -> Error {
        let Attached {
            container, exec, ..
        } = self.attached();
        match exec {
            Some(exec) => Error::ExecNotFound {
                exec: exec.to_string(),
            },
            None => Error::DeletedConcurrently {
                container: container.to_string(),
            },
        }
    }
}

fn phase_of_exec(exec: &Exec) -> Phase {
    let time = exec.start_time.unwrap_or(exec.create_time);
    match (exec.state, &exec.exit_status) {
        (ExecState::Created | ExecState::Starting, _) => Phase::Waiting,
        (ExecState::Exited, Some(exit)) => Phase::Ended {
            run: exec.run,
            time,
            exit: exit.clone(),
        },
        (ExecState::Running | ExecState::Exited, _) => Phase::Running {
            run: exec.run,
            pid: exec.pid.unwrap_or(0),
            time,
        },
        (ExecState::Failed, _) => Phase::Failed(failed(exec)),
    }
}

/// The error of a start, as whoever asked for it would have got it.
fn failed(exec: &Exec) -> Error {
    match &exec.failure {
        Some(Failure::Launch {
            source: LaunchFailure::Refused { .. },
        })
        | None => Error::exec_not_running(exec),
        Some(Failure::Launch { source }) => BackendError::Launch(source.clone()).into(),
        Some(
            Failure::StartInterrupted
            | Failure::PullFailed { .. }
            | Failure::ControlLost { .. }
            | Failure::BackendUnavailable { .. },
        ) => Error::exec_not_running(exec),
    }
}

fn phase_of_run(container: &Container, run: Run) -> Phase {
    let time = container.start_time.unwrap_or(container.create_time);
    if let Some(exit) = container.exit_of(run) {
        let exit = exit.clone();
        return Phase::Ended { run, time, exit };
    }
    match container.state {
        State::Running | State::Paused | State::Stopping if container.run == run => {
            Phase::Running {
                run,
                pid: container.pid.unwrap_or(0),
                time,
            }
        }
        State::Failed => Phase::Failed(Error::ControlLost {
            container: container.id.to_string(),
        }),
        _ if container.run > run => Phase::Gone,
        _ => Phase::Waiting,
    }
}
