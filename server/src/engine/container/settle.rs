//! Settling: bringing the record in line with what the backend has, after a restart of either, or
//! after an operation whose end is not known. Doing it twice changes nothing.

use std::sync::Arc;

use tokio::time::Instant;

use super::actor::{Actor, Doubt, Outcome, Timer};
use super::command::Order;
use super::policy::Refusal;
use super::start::Launched;
use crate::backend::{
    BackendError, ContainerBackend, Exit, Found, FoundState, FoundTask, Task, TaskHandle,
    WaitStatus,
};
use crate::engine::idempotency::Claim;
use crate::model::container::{Intent, Operation};
use crate::model::{EventKind, Failure, Signal, State};
use crate::stdio::Stream;

impl Actor {
    /// Looks up what the backend has of the container.
    pub(super) fn look_up(&mut self) {
        let (core, id) = (self.core.clone(), self.record.container().id);
        self.begin(&tracing::Span::current(), async move {
            Outcome::Found(core.backend.find(id).await)
        });
    }

    pub(super) async fn found(&mut self, result: Result<Found, BackendError>) {
        match result {
            Ok(found) => self.settle(found).await,
            Err(error) => {
                tracing::debug!(container = %self.record.container().id, %error, "its state is not known yet");
                // Others need not wait for it.
                self.settling = None;
                self.retry_later();
            }
        }
    }

    /// What the backend has, told by a listing of all.
    pub(super) async fn take_settle(&mut self, order: Order) {
        let Order::Settle {
            found,
            generation,
            reply,
        } = order
        else {
            return;
        };
        // The backend is there, so nothing need wait to be tried again.
        self.forget_retry();
        let is_current = !self.is_busy() && generation == self.record.container().generation;
        match found.filter(|_| is_current) {
            Some(found) => self.settle(found).await,
            // What was found is older than what has been done since, or is not enough.
            None => self.raise(Doubt::Container),
        }
        if (self.is_in_doubt() || self.interrupted) && is_current {
            self.settling = Some(reply);
        }
        self.next_step();
    }

    fn forget_retry(&mut self) {
        self.timer = self.timer.filter(|(_, timer)| *timer != Timer::Retry);
    }

    async fn settle(&mut self, found: Found) {
        self.doubt = Doubt::None;
        self.failures = 0;
        self.forget_retry();
        match self.record.state() {
            // Its maker's own operation tells; one left by the last server has no actor.
            State::Creating => {}
            State::Starting => self.settle_starting(found).await,
            State::Running | State::Paused | State::Stopping => self.settle_running(found).await,
            State::Created | State::Exited | State::BackingOff => self.settle_idle(found).await,
            State::Deleting | State::Failed => self.settle_lost(found).await,
        }
        self.settling = None;
    }

    async fn settle_starting(&mut self, found: Found) {
        if found.task.as_ref().is_some_and(FoundTask::is_hidden) {
            // Whoever holds the process does not answer, so it is not known which run it is of.
            self.raise(Doubt::Container);
            return self.retry_later();
        }
        let attached = found.task.clone().map(|task| self.attach(task));
        match (attached, found.task.map(|task| task.state)) {
            (Some(task), Some(state)) if self.is_new_run(&state) => {
                let stream = self.stream_of_run();
                let launched = Launched {
                    task,
                    stream,
                    terminal_size: None,
                };
                self.run_began(launched).await;
                self.adopt_streams();
            }
            (task, state) => {
                self.unknown_task = true;
                self.task = task.filter(|_| state != Some(FoundState::Created));
                self.remains = self.task.is_some();
                if found.container {
                    // The intent stays until the backend has given the start up: a server that dies
                    // in between must not start anything before that.
                    self.interrupted = true;
                } else {
                    self.start_failed(Failure::StartInterrupted, None).await;
                }
            }
        }
        if !found.container {
            // To be settled now that it is clear whether there was a run.
            self.raise(Doubt::Container);
        }
    }

    fn stream_of_run(&self) -> Arc<Stream> {
        let container = self.record.container();
        self.core.run_stream(container, container.run)
    }

    /// Whether a task in this state, found while a run was being started, is that run's: it may be what was
    /// left of the run before, or of a start that containerd has cut off with its caller, by SIGKILL and
    /// perhaps before the program began.
    fn is_new_run(&self, state: &FoundState) -> bool {
        let last = self.record.container().runs.back();
        match state {
            FoundState::Created => false,
            FoundState::Running | FoundState::Paused => true,
            FoundState::Stopped(exit) => {
                let is_cut_off =
                    exit.status == WaitStatus::Signaled(Signal::KILL) && !exit.oom_killed;
                !is_cut_off && last.is_none_or(|last| exit.time > last.exit_time)
            }
        }
    }

    fn attach(&self, task: FoundTask) -> TaskHandle {
        self.core.backend.attach(&self.record.snapshot(), task)
    }

    /// There was a process, and the exit of its run must be told exactly once.
    async fn settle_running(&mut self, found: Found) {
        if let Some(task) = found.task.filter(|task| task.state != FoundState::Created) {
            self.settle_task(task).await;
        } else if !self.exit_is_known() {
            self.run_ended(Exit::lost()).await;
        }
        // If something follows the exit, that will find it out.
        let follows = matches!(self.record.state(), State::Deleting | State::Starting);
        if !found.container && !follows {
            self.lose_control("its record is not in the backend any more")
                .await;
        }
    }

    /// Nothing is done about a container out of control, or one that is being removed, but its last
    /// exit is told.
    async fn settle_lost(&mut self, found: Found) {
        if self.task.is_some() {
            return;
        }
        self.unknown_task = true;
        if !self.record.run_is_open() {
            return;
        }
        match found.task {
            Some(task) => self.task = Some(self.attach(task)),
            None => self.run_ended(Exit::lost()).await,
        }
    }

    async fn settle_task(&mut self, task: FoundTask) {
        if self.task.is_none() {
            let handle = self.attach(task.clone());
            // What happened before was told before.
            let oom_seen = *handle.oom_kills().borrow();
            let launched = Launched {
                task: handle,
                stream: self.stream_of_run(),
                terminal_size: None,
            };
            self.watch_run(launched);
            self.oom_seen = oom_seen;
            self.adopt_streams();
        }
        self.settle_execs().await;
        self.frozen = task.state == FoundState::Paused;
        match (self.record.state(), task.state) {
            (State::Stopping, FoundState::Running | FoundState::Paused) => {
                self.resume_stop();
            }
            (State::Running, FoundState::Paused) => {
                let draft = self
                    .record
                    .draft_to(State::Paused)
                    .event(EventKind::ContainerPaused, None);
                self.record.commit_observed(draft).await;
            }
            (State::Paused, FoundState::Running) => {
                let draft = self
                    .record
                    .draft_to(State::Running)
                    .event(EventKind::ContainerResumed, None);
                self.record.commit_observed(draft).await;
            }
            (_, FoundState::Stopped(exit)) if !self.exit_is_known() => self.run_ended(exit).await,
            _ => {}
        }
    }

    /// Goes on with a stop that the last server began, or whose signal may not have arrived.
    fn resume_stop(&mut self) {
        self.kill_at = self.grace_end();
        if self.timer.is_some() {
            return;
        }
        match self.kill_at {
            Some(kill_at) if self.is_asked_to_stop() && kill_at > Instant::now() => {
                self.timer = Some((kill_at, Timer::Kill));
            }
            _ => self.signal_stop(),
        }
    }

    /// Whether the stop under way has sent its first signal: a second one means something else to
    /// many programs.
    fn is_asked_to_stop(&self) -> bool {
        let container = self.record.container();
        let (Some(stop), Some(sent)) = (&container.stop, &container.signaled) else {
            return false;
        };
        sent.signal == stop.signal && Some(&sent.cause) == stop.cause.as_ref()
    }

    /// There should be no process.
    async fn settle_idle(&mut self, found: Found) {
        if found.task.as_ref().is_some_and(FoundTask::is_hidden) {
            // It may be what is left of the last run.
            self.raise(Doubt::Container);
            return self.retry_later();
        }
        let unfinished = self
            .record
            .intent()
            .filter(|i| i.operation == Operation::CreateAndStart)
            .cloned();
        if let Some(intent) = unfinished {
            // Created, but not started as well: the call was not answered, so it is undone.
            self.record.force_deleting(Intent {
                operation: Operation::Delete,
                key: None,
                ..intent
            });
            self.claim = None;
        } else if !found.container {
            return self
                .lose_control("its record is not in the backend any more")
                .await;
        }
        if let (Some(task), None) = (found.task, &self.task) {
            if matches!(task.state, FoundState::Stopped(_)) {
                self.task = Some(self.attach(task));
                self.stream = Some(self.stream_of_run());
                self.remains = true;
            } else {
                self.unknown_task = true;
            }
        }
        self.go_on_with_restart().await;
    }

    /// The last server stopped it, and did not come to start it again.
    async fn go_on_with_restart(&mut self) {
        let intent = self.record.intent();
        let start = intent.filter(|intent| intent.operation == Operation::Start);
        if let Some(cause) = start.and_then(|intent| intent.cause.clone()) {
            self.begin_start(&tracing::Span::none(), cause, Operation::Start)
                .await;
        }
    }

    /// Makes sure that no task which belongs to no run is there or comes.
    pub(super) fn forget_start(&mut self) {
        let (core, container) = (self.core.clone(), self.record.snapshot());
        // Whoever cut it off has left its streams open. Else the run is one that is over, and has a log.
        let cut_off = self.interrupted.then(|| self.stream_of_run());
        self.begin(&tracing::Span::current(), async move {
            let forgotten = core.backend.forget_start(&container).await;
            if let (Some(stream), true) = (cut_off, forgotten.is_ok()) {
                stream.undo().await;
            }
            Outcome::StartForgotten(forgotten)
        });
    }

    async fn lose_control(&mut self, detail: &str) {
        let failure = Failure::ControlLost {
            detail: detail.to_owned(),
        };
        let mut draft = self.record.draft_to(State::Failed);
        draft.next.failure = Some(failure.clone());
        draft.next.intent = None;
        draft.next.pid = None;
        let then = draft.next.stop.take().and_then(|stop| stop.then);
        let given_back = self.claim.as_ref().map(Claim::given_back);
        self.unknown_task = true;
        tracing::error!(container = %draft.next.id, %failure, "control was lost");
        let draft = draft
            .event(EventKind::ContainerFailed { failure }, None)
            .with(given_back);
        self.record.commit_observed(draft).await;
        self.claim = None;
        self.give_up(then).await;
    }

    /// Ends what was under way when control was lost, but for a deletion: that can still be done.
    async fn give_up(&mut self, then: Option<Intent>) {
        self.timer = None;
        let error = self.refusal(Refusal::ControlLost);
        let deletion = then.filter(|then| then.operation == Operation::Delete);
        let deletions = std::mem::take(&mut self.deletions);
        self.stop_failed(&error);
        self.deletions = deletions;
        if let Some(deletion) = deletion {
            self.begin_delete(deletion).await;
        }
    }
}
