//! Bringing the state in line with the backend: when the server starts, and whenever the backend
//! comes back. Doing it twice changes nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::join_all;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use super::container::actor;
use super::container::command::{Command, Order};
use super::core::Core;
use super::idempotency::Claim;
use super::registry::Entry;
use super::sweep;
use crate::backend::{BackendError, ContainerBackend, Found, Status};
use crate::model::request::IdempotencyKey;
use crate::model::{Container, ContainerId, EventKind, Exec, Failure, NewEvent, State, limits};
use crate::store::{Change, Durability, IdempotencyRecord, Recovered, Transaction};

/// How far the engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It is not known yet what the backend has.
    Recovering,
    /// The backend is away: states are the last ones known.
    Detached,
    /// States are true.
    Settled,
}

/// Takes up what was stored, and starts the tasks that keep it true.
pub(super) fn begin(core: &Arc<Core>, recovered: Recovered) -> watch::Receiver<Readiness> {
    let Recovered {
        containers,
        execs,
        images,
        idempotency,
    } = recovered;
    let mut unfinished: HashMap<_, _> = idempotency
        .iter()
        .filter(|(_, record)| record.answer.is_none())
        .cloned()
        .collect();
    core.idempotency.restore(idempotency);
    core.images.restore(images);
    let (unmade, made): (Vec<_>, Vec<_>) = containers
        .into_iter()
        .partition(|container| container.state == State::Creating);
    let mut execs = by_container(execs);
    for container in made {
        let claim = reclaim(core, &container, &mut unfinished);
        let execs = execs.remove(&container.id).unwrap_or_default();
        revive(core, container, execs, claim);
    }
    let (readiness, receiver) = watch::channel(Readiness::Recovering);
    let lost_keys = unfinished.into_keys().collect();
    core.spawn(
        Recovery {
            core: core.clone(),
            readiness,
            unmade,
            lost_keys,
            are_names_known: false,
        }
        .run(),
    );
    core.spawn(sweep::run(core.clone()));
    core.spawn(sweep::expire_execs(core.clone()));
    receiver
}

/// A container goes on with the call that was under way.
fn reclaim(
    core: &Core,
    container: &Container,
    unfinished: &mut HashMap<IdempotencyKey, IdempotencyRecord>,
) -> Option<Claim> {
    let then = container.stop.as_ref().and_then(|stop| stop.then.as_ref());
    let key = container
        .intent
        .iter()
        .chain(then)
        .find_map(|intent| intent.key.clone())?;
    let record = unfinished.remove(&key)?;
    Some(core.idempotency.reclaim(key, record))
}

fn by_container(execs: Vec<Exec>) -> HashMap<ContainerId, Vec<Exec>> {
    let mut sorted: HashMap<_, Vec<Exec>> = HashMap::new();
    for exec in execs {
        sorted.entry(exec.container).or_default().push(exec);
    }
    sorted
}

fn revive(core: &Arc<Core>, container: Container, execs: Vec<Exec>, claim: Option<Claim>) {
    let (entry, mailbox) = actor::channels(&container);
    // What was stored was within the limits, and under names of its own.
    if let Err(error) = core.registry.insert(&container, entry, usize::MAX) {
        return tracing::error!(container = %container.id, %error, "a stored container is left out");
    }
    actor::resume(core, container, mailbox, execs, claim);
}

/// Writes an event about the server itself. One that cannot be stored is logged instead.
pub(super) async fn announce(core: &Core, kind: EventKind) {
    let event = NewEvent {
        time: SystemTime::now(),
        kind,
        cause: None,
        container: None,
        image: None,
    };
    let transaction = Transaction {
        changes: Vec::new(),
        events: vec![event],
        durability: Durability::Written,
        on_commit: None,
    };
    if let Err(error) = core.store.commit(transaction).await {
        tracing::error!(%error, "an event is not stored");
    }
}

/// The task that follows the backend's coming and going.
struct Recovery {
    core: Arc<Core>,
    readiness: watch::Sender<Readiness>,
    /// Containers whose create the last server did not finish.
    unmade: Vec<Container>,
    /// Keys of calls that nobody goes on with.
    lost_keys: Vec<IdempotencyKey>,
    /// Names that the last server gave to images and did not record are gone.
    are_names_known: bool,
}

impl Recovery {
    async fn run(mut self) {
        let shutdown = self.core.shutdown.clone();
        shutdown.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&mut self) {
        announce(&self.core, EventKind::SystemStarted).await;
        // Before anybody can use one of them again.
        self.forget_keys().await;
        let mut status = self.core.backend.status();
        let mut away = false;
        loop {
            let now = status.borrow_and_update().clone();
            match now {
                Status::Connected { version } => {
                    tracing::info!(%version, "the backend is there");
                    if self.settle_until_done().await.is_ok() {
                        if std::mem::take(&mut away) {
                            announce(&self.core, EventKind::BackendConnected).await;
                        }
                        self.readiness.send_replace(Readiness::Settled);
                        // Nobody waits for this: of thousands of deleted containers there are logs.
                        sweep::stray_files(&self.core).await;
                    }
                }
                // The first try is still under way.
                Status::Connecting { detail } if detail.is_empty() => {}
                Status::Connecting { detail } | Status::Disconnected { detail } => {
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(%detail, "the backend is away");
                        let failure = Failure::BackendUnavailable { detail };
                        announce(&self.core, EventKind::BackendDisconnected { failure }).await;
                    }
                    self.readiness.send_replace(Readiness::Detached);
                }
            }
            if status.changed().await.is_err() {
                return;
            }
        }
    }

    /// Settles everything; while the backend fails, again and again.
    ///
    /// # Errors
    /// The last failure, if the backend is away again.
    async fn settle_until_done(&mut self) -> Result<(), BackendError> {
        let mut delay = limits::RETRY_FIRST;
        while let Err(error) = self.settle_all().await {
            tracing::warn!(%error, "states are not reconciled yet");
            if !matches!(
                *self.core.backend.status().borrow(),
                Status::Connected { .. }
            ) {
                return Err(error);
            }
            sleep(delay).await;
            delay = (delay * 2).min(limits::RETRY_MAX);
        }
        Ok(())
    }

    async fn settle_all(&mut self) -> Result<(), BackendError> {
        // Taken first: what comes or changes after it was not there when the backend was asked.
        let known = self.core.registry.entries().into_iter();
        let known = known.map(|(id, entry)| (id, entry.container().generation, entry));
        let known = known.collect();
        let found = self.core.backend.inventory().await?;
        self.undo_unmade().await?;
        self.forget_unknown_names().await?;
        tokio::select! {
            biased;
            () = settle_each(known, &found) => {}
            // What has changed is told when it can be stored; until then what is known is served.
            () = store_fails(&self.core) => tracing::error!("states are settled but not stored yet"),
        }
        sweep::leftovers(&self.core, found).await;
        self.core.stdio.forget_strays().await;
        Ok(())
    }

    /// Nobody was told of these, so nothing remains of them.
    async fn undo_unmade(&mut self) -> Result<(), BackendError> {
        while let Some(container) = self.unmade.last() {
            self.core.backend.discard_task(container.id).await?;
            self.core.backend.delete(container.id).await?;
            self.commit(vec![Change::ForgetContainer(container.id)])
                .await;
            tracing::info!(container = %container.id, "an unfinished create was undone");
            self.unmade.pop();
        }
        Ok(())
    }

    /// A name is given before it is recorded. What is not recorded, nobody was told of.
    async fn forget_unknown_names(&mut self) -> Result<(), BackendError> {
        if self.are_names_known {
            return Ok(());
        }
        for name in self.core.backend.names().await? {
            if !self.core.images.has_name(&name) {
                self.core.backend.untag(&name).await?;
                tracing::info!(name, "an image that had not come whole was removed");
            }
        }
        self.are_names_known = true;
        Ok(())
    }

    async fn forget_keys(&mut self) {
        let changes: Vec<Change> = self
            .lost_keys
            .drain(..)
            .map(Change::ForgetIdempotency)
            .collect();
        if !changes.is_empty() {
            self.commit(changes).await;
        }
    }

    async fn commit(&self, changes: Vec<Change>) {
        let transaction = Transaction {
            changes,
            events: Vec::new(),
            durability: Durability::Written,
            on_commit: None,
        };
        if let Err(error) = self.core.store.commit(transaction).await {
            tracing::error!(%error, "a clean-up is not stored; the next start repeats it");
        }
    }
}

/// Waits until the store cannot write.
async fn store_fails(core: &Core) {
    let mut health = core.store.health();
    // A store that has ended fails, too.
    drop(health.wait_for(Option::is_some).await);
}

/// Tells every actor what the backend has of its container, and waits until all have settled it.
async fn settle_each(known: Vec<(ContainerId, u64, Entry)>, found: &HashMap<ContainerId, Found>) {
    let settling = known.into_iter().map(|(id, generation, entry)| {
        let found = found.get(&id).cloned();
        async move {
            let (reply, settled) = oneshot::channel();
            let order = Order::Settle {
                found,
                generation,
                reply,
            };
            let command = Command {
                span: tracing::Span::none(),
                order,
            };
            // An actor that is gone has nothing to settle.
            if entry.commands.send(command).await.is_ok() {
                drop(settled.await);
            }
        }
    });
    join_all(settling).await;
}
