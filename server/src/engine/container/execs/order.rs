//! What is asked of execs, and what is refused at once.

use crate::engine::container::actor::Actor;
use crate::engine::container::command::{Reply, wait_with};
use crate::engine::container::policy::{self, Decision, Request};
use crate::engine::idempotency::Claim;
use crate::engine::leave::LeashChange;
use crate::engine::{CreateExec, Error, StartedExec};
use crate::model::spec::Process;
use crate::model::{Cause, Exec, ExecId, ExecState, Signal, TerminalSize};
use std::sync::Arc;

use super::Outcome;
use crate::backend::{BackendError, Process as _};

/// What to do with an exec.
#[derive(Debug)]
pub(crate) enum ExecOrder {
    /// Record one.
    Create(Box<NewExec>),
    /// Start one.
    Start {
        cause: Cause,
        id: ExecId,
        reply: Reply<StartedExec>,
    },
    /// Send it a signal.
    Signal {
        cause: Cause,
        id: ExecId,
        signal: Signal,
        claim: Option<Claim>,
        reply: Reply<()>,
    },
    /// Set the size of its terminal, or the one it is to start with.
    Resize {
        id: ExecId,
        size: TerminalSize,
        reply: Reply<()>,
    },
    /// Let it see the end of its input.
    CloseStdin { id: ExecId, reply: Reply<()> },
    /// Note what is to become of it without its caller.
    Leash {
        id: ExecId,
        change: LeashChange,
        reply: Reply<()>,
    },
    /// Forget it.
    Delete {
        cause: Cause,
        id: ExecId,
        force: bool,
        reply: Reply<()>,
    },
    /// Forget those that are over, or were never started, for too long.
    Expire,
}

/// An exec to be.
#[derive(Debug)]
pub(crate) struct NewExec {
    pub(crate) cause: Cause,
    pub(crate) create: CreateExec,
    pub(crate) process: Process,
    pub(crate) claim: Option<Claim>,
    pub(crate) reply: Reply<Arc<Exec>>,
}

impl ExecOrder {
    /// Answers with a refusal.
    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::Create(new) => drop(new.reply.send(Err(error))),
            Self::Start { reply, .. } => drop(reply.send(Err(error))),
            Self::Signal { reply, .. }
            | Self::Resize { reply, .. }
            | Self::CloseStdin { reply, .. }
            | Self::Leash { reply, .. }
            | Self::Delete { reply, .. } => drop(reply.send(Err(error))),
            Self::Expire => {}
        }
    }
}

impl Actor {
    /// Decides an order about an exec, and does, joins or refuses it. Nothing is deferred.
    pub(in super::super) async fn take_exec(&mut self, span: tracing::Span, order: ExecOrder) {
        match order {
            ExecOrder::Create(new) => match self.allow_exec() {
                Ok(()) => self.create_exec(*new).await,
                Err(error) => drop(new.reply.send(Err(error))),
            },
            ExecOrder::Start { cause, id, reply } => {
                self.take_exec_start(&span, cause, id, reply).await;
            }
            ExecOrder::Signal {
                cause,
                id,
                signal,
                claim,
                reply,
            } => {
                self.signal_exec(&span, cause, id, signal, claim, reply)
                    .await
            }
            ExecOrder::Resize { id, size, reply } => {
                self.resize_exec(&span, id, size, reply).await;
            }
            ExecOrder::CloseStdin { id, reply } => self.close_exec_stdin(&span, id, reply),
            ExecOrder::Leash { id, change, reply } => self.leash_exec(id, change, reply).await,
            ExecOrder::Delete {
                cause,
                id,
                force,
                reply,
            } => self.delete_exec(&span, cause, id, force, reply).await,
            ExecOrder::Expire => self.expire_execs().await,
        }
    }

    /// Whether an exec may be made or started now.
    pub(super) fn allow_exec(&self) -> Result<(), Error> {
        match policy::decide(self.record.state(), Request::Exec) {
            Decision::Refuse(refusal) => Err(self.refusal(refusal)),
            Decision::Do | Decision::Already | Decision::Join | Decision::Defer => {
                self.require_certainty()
            }
        }
    }

    async fn take_exec_start(
        &mut self,
        span: &tracing::Span,
        cause: Cause,
        id: ExecId,
        reply: Reply<StartedExec>,
    ) {
        let live = match self.exec(id) {
            Ok(live) => live,
            Err(error) => return drop(reply.send(Err(error))),
        };
        match live.exec.state {
            ExecState::Created => {}
            ExecState::Starting => return self.join_exec_start(id, reply),
            ExecState::Running | ExecState::Exited | ExecState::Failed => {
                let exec = live.exec.clone();
                let changed = false;
                return drop(reply.send(Ok(StartedExec { changed, exec })));
            }
        }
        let run = live.exec.run;
        if let Err(error) = self.allow_exec().and_then(|()| self.require_run(run)) {
            return drop(reply.send(Err(error)));
        }
        if let Ok(live) = self.exec(id) {
            live.starting.push(reply);
        }
        self.begin_exec(span, cause, id).await;
    }

    /// Waits for the start that is under way, or to be looked up after a doubt.
    fn join_exec_start(&mut self, id: ExecId, reply: Reply<StartedExec>) {
        if let Err(error) = self.core.require_backend() {
            return drop(reply.send(Err(error)));
        }
        if let Ok(live) = self.exec(id) {
            wait_with(&mut live.starting, reply);
        }
    }

    /// An exec belongs to one run of its container.
    fn require_run(&self, expected: crate::model::Run) -> Result<(), Error> {
        let container = self.record.container();
        if container.run == expected {
            return Ok(());
        }
        Err(Error::RunChanged {
            container: container.id.to_string(),
            expected,
            run: container.run,
        })
    }

    async fn resize_exec(
        &mut self,
        span: &tracing::Span,
        id: ExecId,
        size: TerminalSize,
        reply: Reply<()>,
    ) {
        let container = self.record.container().id.to_string();
        let live = match self.exec(id) {
            Ok(live) => live,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let (exec, process) = (live.exec.clone(), live.process.clone());
        if !exec.has_terminal() {
            let exec = Some(id);
            return drop(reply.send(Err(Error::TerminalNotAllocated { container, exec })));
        }
        if exec.state.is_over() {
            return drop(reply.send(Err(Error::exec_not_running(&exec))));
        }
        let change = live.change(|exec| exec.terminal_size = Some(size));
        // Also while it starts: what its start does not have of it, the process gets once it runs.
        let draft = self.record.draft_beside().exec(change);
        if let Err(error) = self.commit_exec(draft).await {
            return drop(reply.send(Err(error)));
        }
        match process.filter(|_| exec.state == ExecState::Running) {
            None => drop(reply.send(Ok(()))),
            Some(process) => self.execs.begin(span, async move {
                let resized = process.resize(size).await;
                drop(reply.send(resized.map_err(|error| acted_on(&exec, error))));
                Outcome::Answered
            }),
        }
    }

    fn close_exec_stdin(&mut self, span: &tracing::Span, id: ExecId, reply: Reply<()>) {
        let live = match self.exec(id) {
            Ok(live) => live,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let exec = live.exec.clone();
        let (Some(process), Some(stream)) = (live.process.clone(), live.stream.clone()) else {
            return drop(reply.send(Err(Error::exec_not_running(&exec))));
        };
        self.execs.begin(span, async move {
            // First what may fail: as long as the rest is open, it can be asked for again.
            let closed = process.close_stdin().await;
            if closed.is_ok() {
                stream.close_input().await;
            }
            drop(reply.send(closed.map_err(|error| acted_on(&exec, error))));
            Outcome::Answered
        });
    }

    async fn leash_exec(&mut self, id: ExecId, change: LeashChange, reply: Reply<()>) {
        let change = match self.exec(id) {
            Ok(live) => {
                live.is_cut &= !matches!(change, LeashChange::Joined(_));
                let leash = change.apply(live.exec.leash.as_ref());
                if live.exec.leash == leash {
                    return drop(reply.send(Ok(())));
                }
                live.change(|exec| exec.leash = leash)
            }
            Err(error) => return drop(reply.send(Err(error))),
        };
        let draft = self.record.draft_beside().exec(change);
        let done = self.commit_exec(draft).await;
        drop(reply.send(done));
    }
}

/// One that has just ended is "not running", not a fault of the backend.
pub(super) fn acted_on(exec: &Exec, error: BackendError) -> Error {
    match error {
        BackendError::NotFound { .. } => Error::ExecNotRunning {
            exec: exec.id,
            state: ExecState::Exited,
        },
        other => other.into(),
    }
}
