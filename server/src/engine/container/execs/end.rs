//! The end of an exec: signals, time limits, its exit, and what the end of its container makes of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::order::acted_on;
use super::settle::look_up;
use super::{LiveExec, Outcome};
use crate::backend::{
    BackendError, Exit, FoundState, FoundTask, Process, ProcessHandle, WaitStatus,
};
use crate::engine::Error;
use crate::engine::container::actor::Actor;
use crate::engine::container::command::Reply;
use crate::engine::container::record::Draft;
use crate::engine::idempotency::Claim;
use crate::model::container::SentSignal;
use crate::model::{
    Cause, EventKind, ExecId, ExecState, ExitReason, ExitStatus, Failure, Signal, limits,
};

/// How long the end of a container waits for those of its execs. They come first, since the kernel ends
/// a process namespace's init last; what is later than this is asked for, and lost if that takes as long.
const ENDS_PATIENCE: Duration = Duration::from_secs(1);

impl Actor {
    pub(super) async fn signal_exec(
        &mut self,
        span: &tracing::Span,
        cause: Cause,
        id: ExecId,
        signal: Signal,
        mut claim: Option<Claim>,
        reply: Reply<()>,
    ) {
        let live = match self.exec(id) {
            Ok(live) => live,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let process = live.process.clone();
        let Some(process) = process.filter(|_| live.exec.state == ExecState::Running) else {
            let error = Error::exec_not_running(&live.exec);
            return drop(reply.send(Err(error)));
        };
        // Before it is sent, so that the exit it leads to has its cause, and a repeat is none.
        let answer = match claim.as_mut().map(|claim| claim.answered(&())).transpose() {
            Ok(answer) => answer,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let change = live.change(|exec| exec.signaled = Some(SentSignal { signal, cause }));
        let draft = self.record.draft_beside().exec(change).with(answer);
        if let Err(error) = self.commit_exec(draft).await {
            return drop(reply.send(Err(error)));
        }
        self.execs.begin(span, async move {
            let result = process.kill(signal).await;
            Outcome::Signaled {
                id,
                claim,
                reply,
                result,
            }
        });
    }

    pub(super) async fn exec_signaled(
        &mut self,
        id: ExecId,
        claim: Option<Claim>,
        reply: Reply<()>,
        result: Result<(), BackendError>,
    ) {
        let answer = match result {
            Ok(()) => {
                if let Some(claim) = claim {
                    claim.complete();
                }
                Ok(())
            }
            Err(error) => {
                if let Some(claim) = claim {
                    let draft = self.record.draft_beside().with([claim.given_back()]);
                    self.record.commit_observed(draft).await;
                }
                match self.exec(id) {
                    Ok(live) => Err(acted_on(&live.exec, error)),
                    Err(gone) => Err(gone),
                }
            }
        };
        drop(reply.send(answer));
    }

    pub(super) fn exec_timed_out(&mut self, id: ExecId) {
        let Ok(live) = self.exec(id) else { return };
        live.timed_out = true;
        let Some(process) = live.process.clone() else {
            return;
        };
        self.watch_exec(id, process.clone(), None);
        self.kill_exec(id, process);
    }

    /// Kills one that is not to live on, as often as it takes.
    pub(super) fn kill_exec(&self, id: ExecId, process: ProcessHandle) {
        self.execs.begin(&tracing::Span::current(), async move {
            let mut delay = limits::RETRY_FIRST;
            while let Err(error) = process.kill(Signal::KILL).await {
                if let BackendError::NotFound { .. } = error {
                    break;
                }
                tracing::debug!(exec = %id, %error, "an exec is not killed yet");
                sleep(delay).await;
                delay = (delay * 2).min(limits::RETRY_MAX);
            }
            Outcome::Answered
        });
    }

    pub(super) async fn exec_ended(&mut self, id: ExecId, exit: Exit) {
        let Ok(live) = self.exec(id) else { return };
        if live.exec.state != ExecState::Running {
            return;
        }
        let draft = self.exec_end(self.record.draft_beside(), id, &exit);
        self.commit_exec_observed(draft).await;
        self.remove_exec_remains(id);
        self.trim_execs().await;
    }

    /// Adds the end of an exec to a draft.
    fn exec_end(&self, draft: Draft, id: ExecId, exit: &Exit) -> Draft {
        let Some(live) = self.execs.by_id.get(&id) else {
            return draft;
        };
        let status = Arc::new(self.exec_status(live, exit));
        let change = live.change(|exec| {
            exec.state = ExecState::Exited;
            exec.pid = None;
            exec.exit_status = Some(status.clone());
            exec.end_time = Some(SystemTime::now());
            exec.leash = None;
        });
        let event = EventKind::ExecExited {
            exec: id,
            exit: status.clone(),
        };
        draft.exec(change).event(event, status.cause.clone())
    }

    /// What the exit of an exec means.
    fn exec_status(&self, live: &LiveExec, exit: &Exit) -> ExitStatus {
        let (reason, code, signal) = match exit.status {
            WaitStatus::Exited(code) => (ExitReason::Exited, code, None),
            WaitStatus::Signaled(signal) => {
                let reason = self.why_signaled(live, exit, signal);
                (reason, 128 + signal.number(), Some(signal))
            }
            WaitStatus::Lost => (ExitReason::Lost, 255, None),
        };
        ExitStatus {
            reason,
            code,
            signal,
            exit_time: exit.time,
            cause: self.cause_of_exec_exit(live, signal),
            run: live.exec.run,
            output_truncated: false,
        }
    }

    fn why_signaled(&self, live: &LiveExec, exit: &Exit, signal: Signal) -> ExitReason {
        let sent = live.exec.signaled.as_ref().map(|sent| sent.signal);
        if signal != Signal::KILL {
            ExitReason::Signaled
        } else if live.timed_out {
            ExitReason::TimedOut
        } else if exit.oom_killed && sent != Some(Signal::KILL) && !self.killed {
            ExitReason::OomKilled
        } else {
            ExitReason::Signaled
        }
    }

    /// Who sent the signal that ended it, or stopped the container around it.
    fn cause_of_exec_exit(&self, live: &LiveExec, ended_by: Option<Signal>) -> Option<Cause> {
        let sent = live.exec.signaled.as_ref();
        let of_signal = sent.filter(|sent| {
            ended_by == Some(sent.signal)
                || matches!(sent.signal, Signal::KILL | Signal::TERM | Signal::INT)
        });
        let of_stop = || ended_by.and_then(|_| self.cause_of_end());
        of_signal.map(|sent| sent.cause.clone()).or_else(of_stop)
    }

    /// The container's run is ending: ends what is left of its execs, in its own transaction. The kernel
    /// has killed them; if nobody saw how the container ended, nobody saw that either.
    pub(in super::super) async fn end_execs(&mut self, draft: Draft, of_main: WaitStatus) -> Draft {
        self.await_exec_ends().await;
        let status = match of_main {
            WaitStatus::Lost => WaitStatus::Lost,
            WaitStatus::Exited(_) | WaitStatus::Signaled(_) => WaitStatus::Signaled(Signal::KILL),
        };
        let exit = Exit {
            status,
            time: SystemTime::now(),
            oom_killed: false,
        };
        let open: Vec<(ExecId, ExecState)> = self
            .execs
            .live()
            .map(|live| (live.exec.id, live.exec.state))
            .collect();
        open.into_iter()
            .fold(draft, |draft, (id, state)| match state {
                ExecState::Running => self.exec_end(draft, id, &exit),
                // They belong to this run, and to no other.
                ExecState::Starting | ExecState::Created => self.exec_cut_off(draft, id),
                ExecState::Exited | ExecState::Failed => draft,
            })
    }

    /// After the transaction of [`Self::end_execs`].
    pub(in super::super) fn execs_have_ended(&mut self, changed: Vec<Arc<crate::model::Exec>>) {
        let ids: Vec<ExecId> = changed.iter().map(|exec| exec.id).collect();
        self.take_in(changed);
        let error = self.refusal(crate::engine::container::policy::Refusal::NotRunning);
        for id in ids {
            if let Ok(live) = self.exec(id) {
                live.refuse_start(&error);
            }
            self.remove_exec_remains(id);
        }
    }

    fn exec_cut_off(&self, draft: Draft, id: ExecId) -> Draft {
        let Some(live) = self.execs.by_id.get(&id) else {
            return draft;
        };
        let change = live.change(|exec| {
            exec.state = ExecState::Failed;
            exec.failure = Some(Failure::StartInterrupted);
            exec.end_time = Some(SystemTime::now());
            exec.leash = None;
        });
        let event = EventKind::ExecStartFailed {
            exec: id,
            failure: Failure::StartInterrupted,
        };
        draft
            .exec(change)
            .event(event, Some(live.exec.cause.clone()))
    }

    /// Goes on with execs until all have ended, but not for long.
    async fn await_exec_ends(&mut self) {
        let deadline = Instant::now() + ENDS_PATIENCE;
        let is_open =
            |live: &LiveExec| matches!(live.exec.state, ExecState::Running | ExecState::Starting);
        while self.execs.live().any(is_open) {
            match timeout_at(deadline, self.execs.next_outcome()).await {
                Ok(outcome) => Box::pin(self.exec_outcome(outcome)).await,
                Err(_) => return self.ask_for_exec_ends().await,
            }
        }
    }

    /// Asks once for the ends that nobody has told: an exec may have ended by itself, before its
    /// container, while the backend was away.
    async fn ask_for_exec_ends(&mut self) {
        let Some(task) = self.task.clone() else {
            return;
        };
        let running = self.execs.live();
        let running = running.filter(|live| live.exec.state == ExecState::Running);
        let asked = join_all(running.map(|live| look_up(&task, live.exec.id)));
        let found = timeout(ENDS_PATIENCE, asked).await.unwrap_or_default();
        for (id, found) in found {
            if let Ok(Some(FoundTask {
                state: FoundState::Stopped(exit),
                ..
            })) = found
            {
                self.exec_ended(id, exit).await;
            }
        }
    }
}
