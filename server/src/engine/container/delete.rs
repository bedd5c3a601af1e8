//! Deleting: a sequence of steps, each safe to repeat, that is gone on with until it is done, also by
//! the next server.

use std::sync::Arc;
use std::time::Duration;

use super::actor::{Actor, Outcome};
use super::command::{Reply, wait_with};
use super::start::Starting;
use super::streams::Remains;
use super::streams::remove_scratch;
use crate::backend::{BackendError, ContainerBackend, Exit, Task};
use crate::engine::core::Core;
use crate::engine::{DeleteContainer, Error, StopContainer};
use crate::model::container::{Intent, Operation};
use crate::model::{Cause, Container, EventKind, State};

impl Actor {
    pub(super) async fn delete(
        &mut self,
        cause: Cause,
        delete: &DeleteContainer,
        reply: Reply<()>,
    ) {
        wait_with(&mut self.deletions, reply);
        let intent = Intent {
            cause: Some(cause.clone()),
            key: None,
            operation: Operation::Delete,
        };
        match self.record.state() {
            State::Running | State::Paused => {
                let stop = StopContainer {
                    grace_period: Some(delete.grace_period),
                    ..StopContainer::default()
                };
                self.begin_stop(cause, &stop, Some(intent)).await;
            }
            State::Stopping => self.delete_after_stop(intent, delete.grace_period).await,
            State::Created | State::Exited | State::BackingOff | State::Failed => {
                self.begin_delete(intent).await;
            }
            // Policy defers or joins these.
            State::Creating | State::Starting | State::Deleting => {}
        }
    }

    /// The stop under way ends in a deletion now; a restart that was to follow does not happen.
    async fn delete_after_stop(&mut self, intent: Intent, grace: Duration) {
        let mut draft = self.record.draft();
        if let Some(stop) = &mut draft.next.stop {
            stop.then = Some(intent);
        }
        let given_back = self
            .claim
            .as_ref()
            .map(crate::engine::idempotency::Claim::given_back);
        if let Err(error) = self.record.commit(draft.with(given_back)).await {
            return self.deletion_failed(&error);
        }
        self.claim = None;
        if let Some(starting) = self.starting.take() {
            let container = self.record.container().id.to_string();
            starting.refuse(Error::DeletedConcurrently { container });
        }
        self.shorten_grace(grace).await;
        self.stop_again();
    }

    /// Stores the intent; the removal is the actor's next step.
    pub(super) async fn begin_delete(&mut self, intent: Intent) {
        let mut draft = self.record.draft_to(State::Deleting);
        draft.next.intent = Some(intent);
        match self.record.commit(draft).await {
            Ok(()) => {
                // Whatever was to be tried again is part of the removal.
                self.timer = None;
                self.next_step();
            }
            Err(error) => self.deletion_failed(&error),
        }
    }

    /// Removes a container whose start, asked for with its create, could not even be begun.
    pub(super) fn delete_failed_create(&mut self) {
        let cause = self.record.intent().and_then(|intent| intent.cause.clone());
        self.record.force_deleting(Intent {
            cause,
            key: None,
            operation: Operation::Delete,
        });
        self.next_step();
    }

    /// Removes what there is, in an order that leaves nothing unreferenced behind.
    pub(super) fn remove(&mut self) {
        let (core, container) = (self.core.clone(), self.record.snapshot());
        // A task that still runs, of a container out of control, is not removed but discarded.
        let remains = self.remains_of_run();
        let discard = self.unknown_task || self.task.is_some();
        let root_returned = self.loans.call_back();
        self.begin(&tracing::Span::current(), async move {
            root_returned.await;
            Outcome::Removed(remove(&core, &container, remains, discard).await)
        });
    }

    pub(super) async fn removed(&mut self, result: Result<(), BackendError>) {
        if let Err(error) = result {
            tracing::warn!(container = %self.record.container().id, %error, "a deletion is not done yet");
            self.deletion_failed(&error.into());
            return self.retry_later();
        }
        if self.record.run_is_open() {
            let known = self
                .task
                .as_ref()
                .and_then(|task| task.exit().borrow().clone());
            self.run_ended(known.unwrap_or_else(Exit::lost)).await;
        }
        let cause = self.record.intent().and_then(|intent| intent.cause.clone());
        let draft = self
            .record
            .draft_deleted()
            .event(EventKind::ContainerDeleted, cause)
            .synced();
        self.record.commit_observed(draft).await;
        self.execs_are_gone();
        self.gone = true;
        for reply in self.deletions.drain(..) {
            drop(reply.send(Ok(())));
        }
        self.answer_failed_create();
    }

    /// The callers hear of it; the deletion goes on.
    fn deletion_failed(&mut self, error: &Error) {
        for reply in self.deletions.drain(..) {
            drop(reply.send(Err(error.clone())));
        }
        self.answer_failed_create();
    }

    fn answer_failed_create(&mut self) {
        if let Some((reply, error)) = self.failed_create.take() {
            Starting::Created(reply).refuse(error);
        }
    }
}

async fn remove(
    core: &Arc<Core>,
    container: &Container,
    remains: Option<Remains>,
    discard: bool,
) -> Result<(), BackendError> {
    let id = container.id;
    if let Some(remains) = remains {
        remains.remove().await?;
    } else if discard {
        core.backend.discard_task(id).await?;
    }
    core.backend.delete(id).await?;
    // Those of the last run, and of a start after it that was cut off.
    for run in [container.run, container.run.next()] {
        core.run_stream(container, run).abandon().await;
    }
    remove_scratch(core, id).await;
    Ok(())
}
