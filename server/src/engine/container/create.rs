//! Creating: the intent is stored, the backend makes record and root, then the container exists.
//! Whatever fails, nothing remains.

use tracing::Instrument;

use super::actor::{Actor, Outcome};
use super::command::Reply;
use super::start::Starting;
use crate::backend::{BackendError, ContainerBackend};
use crate::engine::Error;
use crate::engine::core::Core;
use crate::engine::idempotency::Claim;
use crate::model::container::{Operation, RootMount};
use crate::model::{Container, ContainerId, EventKind, State};
use std::sync::Arc;

/// A container that is to be made.
pub(crate) struct Creation {
    pub(crate) span: tracing::Span,
    pub(crate) claim: Option<Claim>,
    pub(crate) reply: Reply<Arc<Container>>,
}

impl Actor {
    /// Begins to make the container. Says whether there will be one.
    pub(super) async fn create(&mut self, creation: Creation) -> bool {
        let Creation {
            span,
            mut claim,
            reply,
        } = creation;
        let pending = claim
            .as_mut()
            .map(|claim| claim.pending(self.record.container().id));
        let intent = self.record.draft().with(pending);
        if let Err(error) = self.record.commit(intent).instrument(span.clone()).await {
            self.core.registry.remove(self.record.container());
            self.record.vanish();
            drop(claim);
            drop(reply.send(Err(error)));
            return false;
        }
        self.claim = claim;
        self.starting = Some(Starting::Created(reply));
        let (core, container) = (self.core.clone(), self.record.container().clone());
        self.begin(&span, async move {
            Outcome::Created(core.backend.create(&container).await)
        });
        true
    }

    pub(super) async fn created(&mut self, result: Result<Vec<RootMount>, BackendError>) {
        let root = match result {
            Ok(root) => root,
            Err(error) => return self.create_failed(error).await,
        };
        let mut draft = self.record.draft_to(State::Created).synced();
        draft.next.root = Arc::new(root);
        let intent = draft.next.intent.take();
        let cause = intent.as_ref().and_then(|intent| intent.cause.clone());
        let and_start = intent
            .as_ref()
            .is_some_and(|i| i.operation == Operation::CreateAndStart);
        if and_start {
            draft.next.intent = intent;
        }
        let answer = if and_start {
            None
        } else {
            self.answer_change(&draft.next)
        };
        let draft = draft
            .event(EventKind::ContainerCreated, cause.clone())
            .with(answer);
        if let Err(error) = self.record.commit(draft).await {
            return self.create_failed(error).await;
        }
        match (and_start, cause) {
            (true, Some(cause)) => {
                self.begin_start(&tracing::Span::current(), cause, Operation::CreateAndStart)
                    .await
            }
            _ => self.answer_start(),
        }
    }

    /// The caller hears of it at once; what may remain is removed by the actor, as long as it takes.
    async fn create_failed(&mut self, error: impl Into<Error>) {
        let error = error.into();
        tracing::info!(container = %self.record.container().id, %error, "create failed");
        if let Some(Starting::Created(reply)) = self.starting.take() {
            drop(reply.send(Err(error)));
        }
        // No intent: from here on it is an undoing, also for the retry.
        self.record.clear_intent();
        self.core.registry.remove(self.record.container());
        self.undo_create();
    }

    pub(super) fn undo_create(&mut self) {
        let (core, id) = (self.core.clone(), self.record.container().id);
        self.begin(&tracing::Span::current(), async move {
            let result = core.backend.delete(id).await;
            if result.is_ok() {
                remove_files(&core, id).await;
            }
            Outcome::Undone(result)
        });
    }

    pub(super) async fn undone(&mut self, result: Result<(), BackendError>) {
        if let Err(error) = result {
            tracing::warn!(container = %self.record.container().id, %error, "a failed create is not undone yet");
            return self.retry_later();
        }
        let given_back = self.claim.as_ref().map(Claim::given_back);
        let draft = self.record.draft_forgotten().with(given_back);
        self.record.commit_observed(draft).await;
        self.claim = None;
        self.gone = true;
    }

    /// The stored answer of a create or restart that ends in `container`, if there is a key for it.
    pub(super) fn answer_change(&mut self, container: &Container) -> Option<crate::store::Change> {
        let claim = self.claim.as_mut()?;
        claim
            .answered(container)
            .inspect_err(|error| tracing::error!(%error, "an answer is not stored"))
            .ok()
    }
}

/// Removes the directory of a container's files. What cannot be removed is found by the next sweep.
pub(super) async fn remove_files(core: &Core, id: ContainerId) {
    let dir = core.container_dir(id);
    match tokio::fs::remove_dir_all(&dir).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(container = %id, %error, "its files are not removed");
        }
        _ => {}
    }
}
