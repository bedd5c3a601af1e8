//! The end of a run: committed once, from whatever source tells it first, before anybody is answered.

use std::sync::Arc;
use std::time::SystemTime;

use super::actor::{Actor, Doubt, Outcome};
use super::stop::is_meant_to_end;
use crate::backend::{BackendError, Exit, Task, WaitStatus};
use crate::engine::Stopped;
use crate::model::container::{Intent, Operation};
use crate::model::{
    Cause, Container, EventKind, ExitReason, ExitStatus, Failure, Signal, State, limits,
};

impl Actor {
    pub(super) async fn run_ended(&mut self, exit: Exit) {
        let draft = self.record.draft_beside();
        let ends = self.end_execs(draft, exit.status).await;
        let status = self.exit_status(&exit);
        let mut draft = self.record.draft().after(ends);
        let execs = draft.execs();
        let then = leave_run(&mut draft.next, &status);
        if self.untold_oom(&status) {
            draft = draft.event(EventKind::ContainerOom, None);
        }
        self.record.commit_observed(draft.exited(&status)).await;
        self.execs_have_ended(execs);
        self.timer = None;
        if self.doubt == Doubt::Process {
            self.doubt = Doubt::None;
        }
        self.remains = self.task.is_some();
        self.answer_stops(&status);
        self.go_on(then).await;
    }

    /// Whether the OOM killer acted elsewhere in the container shortly before the exit.
    fn untold_oom(&self, status: &ExitStatus) -> bool {
        let kills = self.task.as_ref().map(|task| *task.oom_kills().borrow());
        let main = u64::from(status.reason == ExitReason::OomKilled);
        kills.unwrap_or_default() > self.oom_seen + main
    }

    /// What the exit of the container's current run means.
    pub(super) fn exit_status(&self, exit: &Exit) -> Arc<ExitStatus> {
        let container = self.record.container();
        let ended = match container.spec.init {
            true => exit.status.of_program(),
            false => exit.status,
        };
        let (reason, code, signal) = match ended {
            WaitStatus::Exited(code) => (ExitReason::Exited, code, None),
            WaitStatus::Signaled(signal) => {
                let by_oom = exit.oom_killed
                    && signal == Signal::KILL
                    && !was_killed(container, self.killed);
                let reason = if by_oom {
                    ExitReason::OomKilled
                } else {
                    ExitReason::Signaled
                };
                (reason, 128 + signal.number(), Some(signal))
            }
            WaitStatus::Lost => (ExitReason::Lost, 255, None),
        };
        Arc::new(ExitStatus {
            reason,
            code,
            signal,
            exit_time: exit.time,
            cause: cause_of_exit(container, signal),
            run: container.run,
            output_truncated: false,
        })
    }

    fn answer_stops(&mut self, status: &Arc<ExitStatus>) {
        for reply in self.stops.drain(..) {
            let stopped = Stopped {
                changed: true,
                killed: self.killed,
                exit: Some(status.clone()),
            };
            drop(reply.send(Ok(stopped)));
        }
    }

    /// Does what was to come after the exit.
    async fn go_on(&mut self, then: Option<Intent>) {
        match then {
            Some(Intent {
                operation: Operation::Start,
                cause: Some(cause),
                ..
            }) => {
                self.begin_start(&tracing::Span::current(), cause, Operation::Start)
                    .await;
            }
            _ => self.next_step(),
        }
    }

    /// Removes what is left of a run.
    pub(super) fn reap(&mut self) {
        if let Some(remains) = self.remains_of_run() {
            self.begin(&tracing::Span::current(), async move {
                Outcome::Reaped(remains.remove().await)
            });
        }
    }

    pub(super) fn reaped(&mut self, result: Result<(), BackendError>) {
        match result {
            Ok(()) => {
                self.task = None;
                self.stream = None;
                self.remains = false;
                self.failures = 0;
            }
            Err(error) => {
                tracing::debug!(container = %self.record.container().id, %error, "a run's remains are not removed yet");
                // Others need not wait for it.
                self.settling = None;
                self.retry_later();
            }
        }
    }

    pub(super) async fn start_forgotten(&mut self, result: Result<(), BackendError>) {
        match result {
            Ok(()) => {
                self.unknown_task = false;
                self.failures = 0;
                if std::mem::take(&mut self.interrupted) {
                    // Whoever waited has been told that the outcome is not known.
                    self.start_failed(Failure::StartInterrupted, None).await;
                }
            }
            Err(error) => {
                tracing::debug!(container = %self.record.container().id, %error, "a task without a run is not removed yet");
                self.retry_later();
            }
        }
        self.settling = None;
    }

    pub(super) async fn report_oom(&mut self) {
        let draft = self.record.draft().event(EventKind::ContainerOom, None);
        self.record.commit_observed(draft).await;
    }
}

/// Brings the record of a container whose run has ended so up to date. Returns what comes next.
fn leave_run(next: &mut Container, status: &Arc<ExitStatus>) -> Option<Intent> {
    next.pid = None;
    next.exit_status = Some(ExitStatus::clone(status));
    next.signaled = None;
    next.leash = None;
    let runs = Arc::make_mut(&mut next.runs);
    runs.push_back(status.clone());
    while runs.len() > limits::RUNS_KEPT {
        runs.pop_front();
    }
    let stop = next.stop.take();
    if matches!(next.state, State::Failed | State::Deleting) {
        // Out of control, or on its way out: that it has ended changes nothing.
        return None;
    }
    let delete = Intent {
        cause: status.cause.clone(),
        key: None,
        operation: Operation::Delete,
    };
    let then = stop
        .and_then(|stop| stop.then)
        .or_else(|| next.spec.auto_delete.then_some(delete));
    let is_deletion = |then: &Intent| then.operation == Operation::Delete;
    next.state = if then.as_ref().is_some_and(is_deletion) {
        State::Deleting
    } else {
        State::Exited
    };
    // Stored, so that also the next server does it.
    next.intent.clone_from(&then);
    then
}

/// Whether it was sent SIGKILL: then it was not the OOM killer. `by_stop` tells whether this server
/// sent one to end the grace period of a stop; that the last one did is told by the time.
fn was_killed(container: &Container, by_stop: bool) -> bool {
    let sent = container.signaled.as_ref().map(|sent| sent.signal);
    let late = container
        .stop
        .as_ref()
        .is_some_and(|stop| stop.kill_at <= SystemTime::now());
    by_stop || late || sent == Some(Signal::KILL)
}

/// Who caused the exit: the stop, or the signal that ended it or was meant to. Nobody else.
fn cause_of_exit(container: &Container, ended_by: Option<Signal>) -> Option<Cause> {
    if let Some(stop) = &container.stop {
        return stop.cause.clone();
    }
    let sent = container.signaled.as_ref()?;
    let counts = is_meant_to_end(container, sent.signal) || ended_by == Some(sent.signal);
    counts.then(|| sent.cause.clone())
}
