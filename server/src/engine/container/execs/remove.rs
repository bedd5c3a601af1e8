//! What comes after the end of an exec: its output is read to the end, what is left of it in the backend
//! is removed, and some time later it is forgotten.

use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::Outcome;
use crate::backend::{Process, ProcessHandle};
use crate::engine::Error;
use crate::engine::container::actor::Actor;
use crate::engine::container::command::{Reply, wait_with};
use crate::engine::container::record::ExecChange;
use crate::model::container::SentSignal;
use crate::model::{Cause, Exec, ExecId, ExecState, Signal, limits};

impl Actor {
    /// Reads the rest of its output, then removes it from the backend.
    pub(super) fn remove_exec_remains(&mut self, id: ExecId) {
        let Ok(live) = self.exec(id) else { return };
        let (stream, process) = (live.stream.clone(), live.process.clone());
        self.execs.begin(&tracing::Span::none(), async move {
            if let Some(stream) = stream {
                stream.finish(limits::DRAIN_AFTER_EXIT).await;
            }
            if let Some(process) = process {
                remove(id, &process).await;
            }
            Outcome::Removed(id)
        });
    }

    pub(super) async fn exec_removed(&mut self, id: ExecId) {
        let Ok(live) = self.exec(id) else { return };
        live.process = None;
        live.stream = None;
        if !live.deletions.is_empty() {
            return self.forget_execs(vec![id]).await;
        }
        if live.exec.remains {
            let change = live.change(|exec| exec.remains = false);
            let draft = self.record.draft_beside().exec(change);
            self.commit_exec_observed(draft).await;
        }
    }

    pub(super) async fn delete_exec(
        &mut self,
        span: &tracing::Span,
        cause: Cause,
        id: ExecId,
        force: bool,
        reply: Reply<()>,
    ) {
        let live = match self.exec(id) {
            Ok(live) => live,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let (state, process) = (live.exec.state, live.process.clone());
        match state {
            ExecState::Starting | ExecState::Running if !force => {
                let error = Error::ExecAlreadyStarted { exec: id, state };
                drop(reply.send(Err(error)));
            }
            ExecState::Starting => {
                // Once it is clear whether there is a process.
                wait_with(&mut live.deletions, reply);
            }
            // It is being killed for somebody else.
            ExecState::Running if !live.deletions.is_empty() => {
                wait_with(&mut live.deletions, reply);
            }
            ExecState::Running => {
                if let Err(error) = self.core.require_backend() {
                    return drop(reply.send(Err(error)));
                }
                self.kill_for_deletion(span, cause, id, reply).await;
            }
            ExecState::Created | ExecState::Exited | ExecState::Failed => {
                let is_removed = process.is_none() && live.stream.is_none();
                wait_with(&mut live.deletions, reply);
                if is_removed {
                    self.forget_execs(vec![id]).await;
                }
            }
        }
    }

    async fn kill_for_deletion(
        &mut self,
        span: &tracing::Span,
        cause: Cause,
        id: ExecId,
        reply: Reply<()>,
    ) {
        let signal = Signal::KILL;
        let Ok(live) = self.exec(id) else { return };
        let change = live.change(|exec| exec.signaled = Some(SentSignal { signal, cause }));
        let draft = self.record.draft_beside().exec(change);
        if let Err(error) = self.commit_exec(draft).await {
            return drop(reply.send(Err(error)));
        }
        if let Ok(live) = self.exec(id) {
            live.deletions.push(reply);
        }
        span.in_scope(|| self.kill_if_unwanted(id));
    }

    /// A process that somebody wants to be rid of can be killed now.
    pub(super) fn kill_if_unwanted(&mut self, id: ExecId) {
        let Ok(live) = self.exec(id) else { return };
        if live.deletions.is_empty() {
            return;
        }
        if let Some(process) = live.process.clone() {
            self.kill_exec(id, process);
        }
    }

    /// Forgets those that are over, or were never started, for too long.
    pub(super) async fn expire_execs(&mut self) {
        let before = SystemTime::now().checked_sub(limits::EXEC_KEPT);
        let expired = |exec: &Exec| match exec.state {
            ExecState::Created => Some(exec.create_time) < before,
            ExecState::Exited | ExecState::Failed => exec.end_time < before,
            ExecState::Starting | ExecState::Running => false,
        };
        let lives = self.execs.by_id.values();
        let ids = lives.filter(|live| live.process.is_none() && expired(&live.exec));
        let ids = ids.map(|live| live.exec.id).collect();
        self.forget_execs(ids).await;
    }

    /// Forgets the oldest of those that have ended, once there are too many.
    pub(super) async fn trim_execs(&mut self) {
        let lives = self.execs.by_id.values();
        let mut over: Vec<_> = lives
            .filter(|live| live.exec.state.is_over())
            .map(|live| (live.exec.end_time, live.exec.id, live.process.is_none()))
            .collect();
        let surplus = over.len().saturating_sub(limits::ENDED_EXECS_KEPT);
        if surplus == 0 {
            return;
        }
        over.sort_unstable();
        let oldest = over.into_iter().take(surplus);
        let ids = oldest.filter(|(_, _, is_removed)| *is_removed);
        self.forget_execs(ids.map(|(_, id, _)| id).collect()).await;
    }

    async fn forget_execs(&mut self, ids: Vec<ExecId>) {
        let lives = ids.iter().filter_map(|id| self.execs.by_id.get(id));
        let forgotten = lives
            .map(|live| ExecChange::forget(live.exec.clone(), live.publish.clone()))
            .collect::<Vec<_>>();
        if forgotten.is_empty() {
            return;
        }
        let draft = forgotten
            .into_iter()
            .fold(self.record.draft_beside(), |draft, change| {
                draft.exec(change)
            });
        self.record.commit_observed(draft).await;
        for id in ids {
            if let Some(live) = self.execs.by_id.remove(&id) {
                self.core.exec_stream(&live.exec).discard();
                for reply in live.deletions {
                    drop(reply.send(Ok(())));
                }
            }
        }
    }

    /// The container goes, and all of them with it.
    pub(in super::super) fn execs_are_gone(&mut self) {
        for (_, live) in self.execs.by_id.drain() {
            self.core.execs.forget(&live.exec);
            self.core.exec_stream(&live.exec).discard();
            live.publish.send_modify(|snapshot| snapshot.gone = true);
            for reply in live.deletions {
                drop(reply.send(Ok(())));
            }
        }
    }
}

/// Removes it from the backend, as often as it takes, but not for ever: it goes with its container.
async fn remove(id: ExecId, process: &ProcessHandle) {
    let mut delay: Duration = limits::RETRY_FIRST;
    for _ in 0..REMOVE_TRIES {
        match process.delete().await {
            Ok(()) => return,
            Err(error) => {
                tracing::debug!(exec = %id, %error, "an exec's remains are not removed yet");
            }
        }
        sleep(delay).await;
        delay = (delay * 2).min(limits::RETRY_MAX);
    }
    tracing::warn!(exec = %id, "an exec's remains stay until its container's run is removed");
}

/// How often the removal of an exec's remains is tried: for about half a minute.
const REMOVE_TRIES: u32 = 10;
