//! Bringing execs in line with what the backend has, after a restart of either, or after a start whose
//! end is not known.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::time::sleep;

use super::Outcome;
use crate::backend::{BackendError, Exit, FoundState, FoundTask, Process, Task, TaskHandle};
use crate::engine::container::actor::Actor;
use crate::model::{ExecId, ExecState, Failure, limits};

impl Actor {
    /// It is not known whether it was started: looks it up, until the backend answers.
    pub(super) fn doubt_exec(&mut self, id: ExecId, error: BackendError) {
        tracing::warn!(exec = %id, %error, "it is not known whether an exec started");
        let Ok(live) = self.exec(id) else { return };
        live.refuse_start(&error.into());
        self.look_for_exec(id);
    }

    fn look_for_exec(&mut self, id: ExecId) {
        let Some(task) = self.task.clone() else {
            return;
        };
        let Ok(live) = self.exec(id) else { return };
        let delay = limits::RETRY_FIRST * 2u32.pow(live.failures.min(10));
        live.failures += 1;
        self.execs.begin(&tracing::Span::none(), async move {
            sleep(delay.min(limits::RETRY_MAX)).await;
            Outcome::Found(id, task.find_exec(id).await)
        });
    }

    pub(super) async fn exec_found(
        &mut self,
        id: ExecId,
        result: Result<Option<FoundTask>, BackendError>,
    ) {
        match result {
            Ok(found) => self.settle_exec(id, found).await,
            Err(error) => {
                tracing::debug!(exec = %id, %error, "the state of an exec is not known yet");
                self.look_for_exec(id);
            }
        }
    }

    /// Looks up all that should run, at once.
    pub(in super::super) async fn settle_execs(&mut self) {
        let Some(task) = self.task.clone().filter(|_| !self.remains) else {
            return;
        };
        let open = self.execs.live();
        let open = open.filter(|live| live.exec.state != ExecState::Created);
        let ids: Vec<ExecId> = open.map(|live| live.exec.id).collect();
        self.remove_remains_again(&task);
        for (id, found) in join_all(ids.into_iter().map(|id| look_up(&task, id))).await {
            Box::pin(self.exec_found(id, found)).await;
        }
    }

    /// What the last server did not come to remove of execs that are over.
    fn remove_remains_again(&self, task: &TaskHandle) {
        let run = self.record.container().run;
        for live in self.execs.by_id.values() {
            let exec = &live.exec;
            let is_left = exec.remains && exec.state.is_over() && exec.run == run;
            if !is_left || live.process.is_some() {
                continue;
            }
            let (id, task) = (exec.id, task.clone());
            let stream = self.core.exec_stream(exec);
            self.execs.begin(&tracing::Span::none(), async move {
                stream.finish(limits::DRAIN_AFTER_EXIT).await;
                if let Err(error) = task.discard_exec(id).await {
                    tracing::debug!(exec = %id, %error, "an exec's remains stay for now");
                }
                Outcome::Removed(id)
            });
        }
    }

    async fn settle_exec(&mut self, id: ExecId, found: Option<FoundTask>) {
        let Some(task) = self.task.clone() else {
            return;
        };
        let (state, process, is_launching) = match self.exec(id) {
            Ok(live) => (live.exec.state, live.process.clone(), live.is_launching),
            Err(_) => return,
        };
        match (state, found) {
            (ExecState::Starting, _) if is_launching => {}
            (ExecState::Starting | ExecState::Running, Some(found)) if found.is_hidden() => {
                tracing::debug!(exec = %id, "whoever holds an exec does not answer yet");
                self.look_for_exec(id);
            }
            (ExecState::Starting, None) => {
                self.exec_failed(id, Failure::StartInterrupted, None).await;
            }
            (ExecState::Starting, Some(found)) if found.state == FoundState::Created => {
                self.discard_created(id, &task).await;
            }
            (ExecState::Starting, Some(found)) => {
                let process = task.attach_exec(id, found);
                self.adopt_exec(id);
                self.exec_runs(id, process).await;
            }
            (ExecState::Running, Some(found)) if process.is_none() => {
                let process = task.attach_exec(id, found);
                self.adopt_exec(id);
                self.watch_again(id, process);
            }
            // The handle hears of it.
            (ExecState::Running, Some(found)) => drop(task.attach_exec(id, found)),
            (ExecState::Running, None) => {
                let known = process.and_then(|process| process.exit().borrow().clone());
                self.exec_ended(id, known.unwrap_or_else(Exit::lost)).await;
            }
            (ExecState::Created | ExecState::Exited | ExecState::Failed, _) => {}
        }
    }

    async fn discard_created(&mut self, id: ExecId, task: &TaskHandle) {
        match task.discard_exec(id).await {
            Ok(()) => self.exec_failed(id, Failure::StartInterrupted, None).await,
            Err(error) => {
                tracing::debug!(exec = %id, %error, "a cut-off exec is not removed yet");
                self.look_for_exec(id);
            }
        }
    }

    fn watch_again(&mut self, id: ExecId, process: crate::backend::ProcessHandle) {
        let Ok(live) = self.exec(id) else { return };
        live.process = Some(process.clone());
        live.failures = 0;
        let limit = live.exec.spec.timeout.map(|limit| {
            let since = live.exec.start_time.unwrap_or_else(SystemTime::now);
            let passed = SystemTime::now().duration_since(since);
            limit.saturating_sub(passed.unwrap_or(Duration::ZERO))
        });
        self.watch_exec(id, process, limit);
        self.kill_if_unwanted(id);
    }

    /// Takes up its streams, beside.
    fn adopt_exec(&mut self, id: ExecId) {
        let core = self.core.clone();
        let Ok(live) = self.exec(id) else { return };
        let stream = live
            .stream
            .get_or_insert_with(|| core.exec_stream(&live.exec))
            .clone();
        self.execs.begin(&tracing::Span::none(), async move {
            if let Err(error) = stream.adopt().await {
                tracing::error!(exec = %id, %error, "its output is not recorded any more");
            }
            Outcome::Answered
        });
    }
}

pub(super) async fn look_up(
    task: &TaskHandle,
    id: ExecId,
) -> (ExecId, Result<Option<FoundTask>, BackendError>) {
    (id, task.find_exec(id).await)
}
