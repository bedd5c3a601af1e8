//! What is done to a running container without ending its run: signals, freezing, listing processes.

use super::actor::{Actor, Doubt, Outcome};
use super::command::{Reply, SignalOrder};
use super::policy::Refusal;
use super::stop::{is_meant_to_end, kill};
use super::update::Updating;
use crate::backend::{BackendError, Task};
use crate::engine::Error;
use crate::engine::idempotency::Claim;
use crate::model::container::SentSignal;
use crate::model::{Cause, Container, EventKind, State};

/// What was done, with how it went and who waits for it.
pub(super) enum Controlled {
    Signaled {
        sent: SentSignal,
        thawed: bool,
        claim: Option<Claim>,
        reply: Reply<()>,
        result: Result<(), BackendError>,
    },
    Paused {
        cause: Cause,
        reply: Reply<bool>,
        result: Result<(), BackendError>,
    },
    Resumed {
        cause: Cause,
        reply: Reply<bool>,
        result: Result<(), BackendError>,
    },
    Updated {
        updating: Box<Updating>,
        result: Result<(), BackendError>,
    },
    Listed {
        reply: Reply<Vec<u32>>,
        result: Result<Vec<u32>, BackendError>,
    },
}

impl Actor {
    pub(super) async fn controlled(&mut self, controlled: Controlled) {
        match controlled {
            Controlled::Signaled {
                sent,
                thawed,
                claim,
                reply,
                result: Ok(()),
            } => {
                self.signaled(sent, thawed, claim, reply).await;
            }
            Controlled::Signaled {
                sent,
                claim,
                reply,
                result: Err(error),
                ..
            } => {
                self.signal_failed(sent, claim, reply, error).await;
            }
            Controlled::Paused {
                cause,
                reply,
                result,
            } => {
                self.froze_or_thawed(
                    State::Paused,
                    EventKind::ContainerPaused,
                    cause,
                    reply,
                    result,
                )
                .await;
            }
            Controlled::Resumed {
                cause,
                reply,
                result,
            } => {
                self.froze_or_thawed(
                    State::Running,
                    EventKind::ContainerResumed,
                    cause,
                    reply,
                    result,
                )
                .await;
            }
            Controlled::Updated { updating, result } => self.updated(*updating, result).await,
            Controlled::Listed { reply, result } => {
                let answer = match result {
                    Ok(pids) => Ok(pids),
                    Err(error @ BackendError::NotFound { .. }) => Err(self.control_error(error)),
                    // Nothing was to be changed, so nothing is in doubt.
                    Err(error) => Err(error.into()),
                };
                drop(reply.send(answer));
            }
        }
    }

    /// Sends a signal. SIGKILL and the stop signal also thaw: a frozen process would never get them.
    pub(super) async fn signal(&mut self, span: &tracing::Span, order: SignalOrder) {
        let SignalOrder {
            cause,
            signal,
            scope,
            claim,
            reply,
            ..
        } = order;
        let Some(task) = self.task.clone() else {
            return drop(reply.send(Err(self.refusal(Refusal::NotRunning))));
        };
        let claim = match self.claim_signal(claim).await {
            Ok(claim) => claim,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let container = self.record.container();
        let thawed = is_meant_to_end(container, signal) && container.state == State::Paused;
        let sent = SentSignal { signal, cause };
        self.begin(span, async move {
            let result = kill(&task, signal, scope, thawed).await;
            Outcome::controlled(Controlled::Signaled {
                sent,
                thawed,
                claim,
                reply,
                result,
            })
        });
    }

    /// The answer is stored before the signal is sent: should the server die in between, a repeat
    /// must not send it twice.
    async fn claim_signal(&mut self, claim: Option<Claim>) -> Result<Option<Claim>, Error> {
        let Some(mut claim) = claim else {
            return Ok(None);
        };
        let answer = claim.answered(&())?;
        self.record
            .commit(self.record.draft().with([answer]))
            .await?;
        Ok(Some(claim))
    }

    async fn signaled(
        &mut self,
        sent: SentSignal,
        thawed: bool,
        claim: Option<Claim>,
        reply: Reply<()>,
    ) {
        let mut draft = self.record.draft();
        let cause = Some(sent.cause.clone());
        let event = EventKind::ContainerSignaled {
            signal: sent.signal,
        };
        note_signal(&mut draft.next, sent);
        let mut draft = draft.event(event, cause.clone());
        if thawed && draft.next.state == State::Paused {
            draft.next.state = State::Running;
            draft = draft.event(EventKind::ContainerResumed, cause);
        }
        self.record.commit_observed(draft).await;
        if let Some(claim) = claim {
            claim.complete();
        }
        drop(reply.send(Ok(())));
    }

    /// One that may have arrived all the same is kept in mind: the run may end of it.
    async fn signal_failed(
        &mut self,
        sent: SentSignal,
        claim: Option<Claim>,
        reply: Reply<()>,
        error: BackendError,
    ) {
        let doubt = error.leaves_doubt();
        if doubt || claim.is_some() {
            let mut draft = self.record.draft();
            if doubt {
                note_signal(&mut draft.next, sent);
            }
            let given_back = claim.as_ref().map(Claim::given_back);
            self.record.commit_observed(draft.with(given_back)).await;
        }
        drop(claim);
        drop(reply.send(Err(self.control_error(error))));
    }

    pub(super) fn pause(&mut self, span: &tracing::Span, cause: Cause, reply: Reply<bool>) {
        let Some(task) = self.task.clone() else {
            return drop(reply.send(Err(self.refusal(Refusal::NotRunning))));
        };
        self.begin(span, async move {
            let result = task.pause().await;
            Outcome::controlled(Controlled::Paused {
                cause,
                reply,
                result,
            })
        });
    }

    pub(super) fn resume(&mut self, span: &tracing::Span, cause: Cause, reply: Reply<bool>) {
        let Some(task) = self.task.clone() else {
            return drop(reply.send(Err(self.refusal(Refusal::NotRunning))));
        };
        self.begin(span, async move {
            let result = task.resume().await;
            Outcome::controlled(Controlled::Resumed {
                cause,
                reply,
                result,
            })
        });
    }

    async fn froze_or_thawed(
        &mut self,
        state: State,
        event: EventKind,
        cause: Cause,
        reply: Reply<bool>,
        result: Result<(), BackendError>,
    ) {
        if let Err(error) = result {
            return drop(reply.send(Err(self.control_error(error))));
        }
        let draft = self.record.draft_to(state).event(event, Some(cause));
        self.record.commit_observed(draft).await;
        drop(reply.send(Ok(true)));
    }

    pub(super) fn list_processes(&mut self, span: &tracing::Span, reply: Reply<Vec<u32>>) {
        let Some(task) = self.task.clone() else {
            return drop(reply.send(Err(self.refusal(Refusal::NotRunning))));
        };
        self.begin(span, async move {
            let result = task.pids().await;
            Outcome::controlled(Controlled::Listed { reply, result })
        });
    }

    /// A process that has just ended by itself is "not running", not a fault of the backend. What is
    /// not known after the error is looked up.
    pub(super) fn control_error(&mut self, error: BackendError) -> Error {
        match error {
            BackendError::NotFound { .. } => {
                // A stop under way finds it out by itself.
                if self.record.state() != State::Stopping {
                    self.process_not_found();
                }
                self.refusal(Refusal::NotRunning)
            }
            other => {
                if other.leaves_doubt() {
                    self.raise(Doubt::Process);
                }
                other.into()
            }
        }
    }
}

/// Keeps in mind what may end the run: the last signal, unless one before it was meant to end it and
/// this one is not.
fn note_signal(container: &mut Container, sent: SentSignal) {
    let before = container.signaled.as_ref().map(|before| before.signal);
    let decided = before.is_some_and(|before| is_meant_to_end(container, before));
    if !decided || is_meant_to_end(container, sent.signal) {
        container.signaled = Some(sent);
    }
}
