//! Stopping: the stop signal, the grace period, SIGKILL. The intent is stored first, so that a stop
//! goes on when the server is restarted in its midst.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::actor::{Actor, Doubt, Outcome, Timer};
use super::command::{Reply, wait_with};
use super::start::Starting;
use crate::backend::{BackendError, SignalScope, Task, TaskHandle};
use crate::engine::idempotency::Claim;
use crate::engine::{Error, StopContainer, Stopped};
use crate::model::container::{Intent, Operation, SentSignal, StopIntent};
use crate::model::{Cause, Container, EventKind, Signal, State, limits};
use std::sync::Arc;

/// How a container is asked to stop, unless the request says otherwise.
pub(in crate::engine) fn stop_signal(container: &Container) -> Signal {
    container
        .spec
        .stop_signal
        .or(container.image.stop_signal)
        .unwrap_or(Signal::TERM)
}

/// Whether a signal of this kind asks the container to end, so that its end is taken for the answer.
pub(super) fn is_meant_to_end(container: &Container, signal: Signal) -> bool {
    signal == Signal::KILL || signal == stop_signal(container)
}

/// Sends a signal, and thaws those who could not get it otherwise.
pub(super) async fn kill(
    task: &TaskHandle,
    signal: Signal,
    scope: SignalScope,
    thaw: bool,
) -> Result<(), BackendError> {
    task.kill(signal, scope).await?;
    if !thaw {
        return Ok(());
    }
    match task.resume().await {
        // The signal has ended it as it was.
        Err(BackendError::NotFound { .. }) => Ok(()),
        // Some runtimes thaw what they kill by themselves, and refuse then to thaw it again.
        Err(BackendError::Protocol { .. }) if signal == Signal::KILL => Ok(()),
        thawed => thawed,
    }
}

impl Actor {
    pub(super) async fn stop(&mut self, cause: Cause, stop: &StopContainer, reply: Reply<Stopped>) {
        wait_with(&mut self.stops, reply);
        self.begin_stop(cause, stop, None).await;
    }

    /// Stops, with the start as what comes after; only starts if there is nothing to stop.
    pub(super) async fn restart(
        &mut self,
        span: &tracing::Span,
        cause: Cause,
        stop: StopContainer,
        claim: Option<Claim>,
        reply: Reply<Arc<Container>>,
    ) {
        self.claim = claim;
        self.starting = Some(Starting::Restarted(reply));
        if !self.record.state().has_process() {
            return self.begin_start(span, cause, Operation::Start).await;
        }
        let key = self.claim.as_ref().map(|claim| claim.key().clone());
        let then = Intent {
            cause: Some(cause.clone()),
            key,
            operation: Operation::Start,
        };
        self.begin_stop(cause, &stop, Some(then)).await;
    }

    /// The request's grace period, else the spec's, else the server's.
    fn grace(&self, stop: &StopContainer) -> Duration {
        let of_spec = self.record.container().spec.stop_grace_period;
        stop.grace_period
            .or(of_spec)
            .unwrap_or(self.core.settings.stop_grace_period)
    }

    /// Stores the intent and sends the first signal.
    pub(super) async fn begin_stop(
        &mut self,
        cause: Cause,
        stop: &StopContainer,
        then: Option<Intent>,
    ) {
        let container = self.record.container();
        let grace = self.grace(stop);
        let signal = if grace.is_zero() {
            Signal::KILL
        } else {
            stop.signal.unwrap_or_else(|| stop_signal(container))
        };
        self.frozen = container.state == State::Paused;
        let id = container.id;
        let mut draft = self.record.draft_to(State::Stopping);
        let kill_at = SystemTime::now() + grace;
        draft.next.stop = Some(StopIntent {
            cause: Some(cause.clone()),
            signal,
            kill_at,
            then,
        });
        let pending = self.claim.as_mut().map(|claim| claim.pending(id));
        let draft = draft
            .event(EventKind::ContainerStopping, Some(cause))
            .with(pending);
        if let Err(error) = self.record.commit(draft).await {
            self.claim = None;
            return self.stop_failed(&error);
        }
        self.kill_at = Some(Instant::now() + grace);
        self.signal_stop();
    }

    /// Sends what is due: the stop signal, or SIGKILL once the grace period is over.
    pub(super) fn signal_stop(&mut self) {
        let (Some(stop), Some(task)) = (&self.record.container().stop, self.task.clone()) else {
            return;
        };
        let late = self
            .kill_at
            .is_some_and(|kill_at| kill_at <= Instant::now());
        let (signal, scope) = match stop.signal {
            _ if late => (Signal::KILL, SignalScope::All),
            Signal::KILL => (Signal::KILL, SignalScope::All),
            signal => (signal, SignalScope::Main),
        };
        self.killed |= signal == Signal::KILL;
        let frozen = self.frozen;
        self.begin(&tracing::Span::current(), async move {
            Outcome::StopSignaled(signal, kill(&task, signal, scope, frozen).await)
        });
    }

    pub(super) async fn stop_signaled(&mut self, signal: Signal, result: Result<(), BackendError>) {
        match result {
            Ok(()) => self.stop_goes_on(signal).await,
            Err(BackendError::NotFound { .. }) => self.process_not_found(),
            Err(error) => {
                tracing::warn!(container = %self.record.container().id, %error, "a stop signal could not be sent");
                self.stop_failed(&error.into());
                self.retry_later();
            }
        }
    }

    async fn stop_goes_on(&mut self, signal: Signal) {
        self.failures = 0;
        self.frozen = false;
        let cause = self.cause_of_end();
        let mut draft = self.record.draft();
        draft.next.signaled = cause.clone().map(|cause| SentSignal { signal, cause });
        let draft = draft.event(EventKind::ContainerSignaled { signal }, cause);
        self.record.commit_observed(draft).await;
        self.timer = match self.kill_at {
            Some(kill_at) if signal != Signal::KILL => Some((kill_at, Timer::Kill)),
            _ => Some((Instant::now() + limits::KILL_TIMEOUT, Timer::GiveUp)),
        };
    }

    /// It has ended by itself: the exit is on its way, or must be looked up after a while.
    pub(super) fn process_not_found(&mut self) {
        if !self.exit_is_known() {
            self.raise(Doubt::Process);
            self.retry_later();
        }
    }

    pub(super) fn exit_is_known(&self) -> bool {
        self.task
            .as_ref()
            .is_some_and(|task| task.exit().borrow().is_some())
    }

    pub(super) fn grace_is_over(&mut self) {
        self.signal_stop();
    }

    /// The shortest grace period wins.
    pub(super) async fn join_stop(&mut self, stop: &StopContainer, reply: Reply<Stopped>) {
        wait_with(&mut self.stops, reply);
        self.shorten_grace(self.grace(stop)).await;
        self.stop_again();
    }

    /// When the grace period is over, also that of a stop which the last server began.
    pub(super) fn grace_end(&self) -> Option<Instant> {
        let remembered = || {
            let stop = self.record.container().stop.as_ref()?;
            let left = stop.kill_at.duration_since(SystemTime::now());
            Some(Instant::now() + left.unwrap_or_default())
        };
        self.kill_at.or_else(remembered)
    }

    pub(super) async fn shorten_grace(&mut self, grace: Duration) {
        let kill_at = Instant::now() + grace;
        if self.grace_end().is_none_or(|current| current <= kill_at) {
            return;
        }
        self.kill_at = Some(kill_at);
        if let Some((_, Timer::Kill)) = self.timer {
            self.timer = Some((kill_at, Timer::Kill));
        }
        let mut draft = self.record.draft();
        if let Some(stop) = &mut draft.next.stop {
            stop.kill_at = SystemTime::now() + grace;
        }
        if let Err(error) = self.record.commit(draft).await {
            // It holds all the same, unless the server dies before.
            tracing::warn!(container = %self.record.container().id, %error, "a shorter grace period is not stored");
        }
    }

    /// Tries once more to end what survived the last try, which was given up.
    pub(super) fn stop_again(&mut self) {
        let given_up = self.timer.is_none() && self.kill_at.is_some();
        if given_up && !self.is_busy() && !self.is_in_doubt() {
            self.signal_stop();
        }
    }

    /// The killed process does not go away. The stop stays: the exit is settled whenever it comes.
    pub(super) fn give_up_on_stop(&mut self) {
        let container = self.record.container();
        let main = container.pid.and_then(crate::backend::proc::state);
        let phase = match main {
            Some(state) => format!("killed; the main process is in state {state}"),
            None => "killed".to_owned(),
        };
        let error = Error::StopTimedOut {
            container: container.id.to_string(),
            phase,
        };
        tracing::error!(container = %container.id, %error, "a container cannot be stopped");
        self.stop_failed(&error);
    }

    /// Answers all who wait for the stop or for what comes after it.
    pub(super) fn stop_failed(&mut self, error: &Error) {
        for reply in self.stops.drain(..) {
            drop(reply.send(Err(error.clone())));
        }
        for reply in self.deletions.drain(..) {
            drop(reply.send(Err(error.clone())));
        }
        if let Some(starting) = self.starting.take() {
            starting.refuse(error.clone());
        }
    }
}
