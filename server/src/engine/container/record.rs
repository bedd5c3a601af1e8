//! A container's committed record: read freely, changed only by a commit of the change together with
//! the events that announce it.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::engine::Error;
use crate::engine::core::Core;
use crate::engine::exec::registry::ExecSnapshot;
use crate::engine::registry::Snapshot;
use crate::model::container::{Intent, Operation};
use crate::model::event::ContainerSubject;
use crate::model::{
    Cause, Container, EventKind, Exec, ExitStatus, NewEvent, RequestId, Run, State, limits,
};
use crate::store::{Change, Committed, Durability, StoreError, Transaction};

/// The record and its way to the store and to readers.
pub(super) struct Record {
    core: Arc<Core>,
    container: Container,
    publish: watch::Sender<Snapshot>,
    /// Set when something that happened could not be stored before the server's end.
    abandoned: CancellationToken,
}

/// A change that is not committed yet.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) next: Container,
    events: Vec<(EventKind, Option<Cause>)>,
    changes: Vec<Change>,
    execs: Vec<ExecChange>,
    durability: Durability,
    fate: Fate,
}

/// What becomes of the container itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// It is not what changes.
    Untouched,
    /// It was never acknowledged.
    Forgotten,
    Deleted,
}

/// A change of an exec of the container.
#[derive(Clone)]
pub(super) struct ExecChange {
    exec: Arc<Exec>,
    publish: watch::Sender<ExecSnapshot>,
    fate: ExecFate,
}

/// What becomes of an exec.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ExecFate {
    Made,
    Stays,
    Forgotten,
}

impl ExecChange {
    /// It is there from now on.
    pub(super) fn make(exec: Arc<Exec>, publish: watch::Sender<ExecSnapshot>) -> Self {
        Self {
            exec,
            publish,
            fate: ExecFate::Made,
        }
    }

    /// It is so from now on.
    pub(super) fn put(exec: Exec, publish: watch::Sender<ExecSnapshot>) -> Self {
        Self {
            exec: Arc::new(exec),
            publish,
            fate: ExecFate::Stays,
        }
    }

    /// There is no such exec any more.
    pub(super) fn forget(exec: Arc<Exec>, publish: watch::Sender<ExecSnapshot>) -> Self {
        Self {
            exec,
            publish,
            fate: ExecFate::Forgotten,
        }
    }

    fn change(&self) -> Change {
        match self.fate {
            ExecFate::Made | ExecFate::Stays => Change::PutExec(self.exec.clone()),
            ExecFate::Forgotten => Change::DeleteExec(self.exec.id),
        }
    }

    fn publish(self, core: &Core) {
        match self.fate {
            ExecFate::Made => core.execs.insert(&self.exec, self.publish.subscribe()),
            ExecFate::Stays => {}
            ExecFate::Forgotten => core.execs.forget(&self.exec),
        }
        self.publish.send_replace(ExecSnapshot {
            exec: self.exec,
            gone: self.fate == ExecFate::Forgotten,
        });
    }
}

impl Draft {
    /// Adds a change of an exec.
    pub(super) fn exec(mut self, change: ExecChange) -> Self {
        self.execs.push(change);
        self
    }

    /// The execs it changes, as they will be.
    pub(super) fn execs(&self) -> Vec<Arc<Exec>> {
        self.execs
            .iter()
            .map(|change| change.exec.clone())
            .collect()
    }

    /// Adds an event.
    pub(super) fn event(mut self, kind: EventKind, cause: Option<Cause>) -> Self {
        self.events.push((kind, cause));
        self
    }

    /// Adds what `first` has, before what this has.
    pub(super) fn after(mut self, first: Self) -> Self {
        self.execs.splice(0..0, first.execs);
        self.events.splice(0..0, first.events);
        self.changes.splice(0..0, first.changes);
        self
    }

    /// Adds the end of the current run, and the event that tells it.
    pub(super) fn exited(self, status: &Arc<ExitStatus>) -> Self {
        let run = Change::PutRun(self.next.id, status.clone());
        let exit = status.clone();
        self.event(EventKind::ContainerExited { exit }, status.cause.clone())
            .with([run])
    }

    /// Adds a change besides the container's own.
    pub(super) fn with(mut self, change: impl IntoIterator<Item = Change>) -> Self {
        self.changes.extend(change);
        self
    }

    /// On disk before the answer: for what a caller asked for.
    pub(super) fn synced(mut self) -> Self {
        self.durability = Durability::Synced;
        self
    }
}

impl Record {
    pub(super) fn new(
        core: Arc<Core>,
        container: Container,
        publish: watch::Sender<Snapshot>,
    ) -> Self {
        Self {
            core,
            container,
            publish,
            abandoned: CancellationToken::new(),
        }
    }

    /// Ends the actor that owns this record: it must not go on from, or tell anybody of, what is not
    /// stored.
    pub(super) fn abandoned(&self) -> CancellationToken {
        self.abandoned.clone()
    }

    pub(super) fn container(&self) -> &Container {
        &self.container
    }

    pub(super) fn state(&self) -> State {
        self.container.state
    }

    /// Whether it is there and has no process.
    pub(super) fn is_idle(&self) -> bool {
        matches!(
            self.container.state,
            State::Created | State::Exited | State::BackingOff
        )
    }

    /// Whether a run has begun and its end has not been told.
    pub(super) fn run_is_open(&self) -> bool {
        let container = &self.container;
        container.state != State::Starting && container.has_open_run()
    }

    pub(super) fn intent(&self) -> Option<&Intent> {
        self.container.intent.as_ref()
    }

    /// Gives up in memory only what was to be done. The next server undoes a create all the same, and
    /// tries once more to start what was to be restarted.
    pub(super) fn clear_intent(&mut self) {
        self.container.intent = None;
    }

    /// Begins a deletion in memory only: what is stored tells the next server the same.
    pub(super) fn force_deleting(&mut self, intent: Intent) {
        self.container.state = State::Deleting;
        self.container.intent = Some(intent);
    }

    /// What readers see now.
    pub(super) fn snapshot(&self) -> Arc<Container> {
        self.publish.borrow().container.clone()
    }

    /// What is under way, in words, and in which call.
    pub(super) fn under_way(&self) -> (&'static str, Option<RequestId>) {
        let container = &self.container;
        let of = |cause: &Option<Cause>| cause.as_ref().map(|cause| cause.request_id.clone());
        match (&container.intent, &container.stop) {
            (Some(intent), _) => {
                let operation = match intent.operation {
                    Operation::Create | Operation::CreateAndStart => "create",
                    Operation::Start => "start",
                    Operation::Delete => "delete",
                };
                (operation, of(&intent.cause))
            }
            (None, Some(stop)) => ("stop", of(&stop.cause)),
            (None, None) => ("recover", None),
        }
    }

    /// Tells readers that the container is gone: it was never stored.
    pub(super) fn vanish(&self) {
        self.publish.send_modify(|snapshot| snapshot.gone = true);
    }

    /// Begins a change: the record as it is, to be altered. It has the generation it will have once
    /// committed, so that an answer made from it tells the etag.
    pub(super) fn draft(&self) -> Draft {
        let mut next = self.container.clone();
        next.generation += 1;
        next.update_time = SystemTime::now();
        Draft {
            next,
            events: Vec::new(),
            changes: Vec::new(),
            execs: Vec::new(),
            durability: Durability::Written,
            fate: Fate::Stays,
        }
    }

    /// Begins a change of what belongs to the container and not of its own record.
    pub(super) fn draft_beside(&self) -> Draft {
        Draft {
            next: self.container.clone(),
            events: Vec::new(),
            changes: Vec::new(),
            execs: Vec::new(),
            durability: Durability::Written,
            fate: Fate::Untouched,
        }
    }

    /// Begins a change to another state.
    pub(super) fn draft_to(&self, state: State) -> Draft {
        let mut draft = self.draft();
        draft.next.state = state;
        draft
    }

    /// Begins the end of a container that somebody knows of.
    pub(super) fn draft_deleted(&self) -> Draft {
        Draft {
            fate: Fate::Deleted,
            ..self.draft_to(State::Deleting)
        }
    }

    /// Begins the end of a container that nobody was told of.
    pub(super) fn draft_forgotten(&self) -> Draft {
        Draft {
            fate: Fate::Forgotten,
            ..self.draft_to(State::Deleting)
        }
    }

    /// Makes the change true, visible and announced, or leaves everything as it was.
    pub(super) async fn commit(&mut self, draft: Draft) -> Result<(), Error> {
        Ok(self.try_commit(draft).await?)
    }

    /// As [`Self::commit`], for what has happened already and must not be lost: tried until it works.
    /// Does not return if the server ends first.
    pub(super) async fn commit_observed(&mut self, draft: Draft) {
        let mut delay = limits::RETRY_FIRST;
        while let Err(error) = self.try_commit(draft.clone()).await {
            if matches!(error, StoreError::Closed) || self.core.shutdown.is_cancelled() {
                // The next server finds it out again.
                self.abandoned.cancel();
                return std::future::pending().await;
            }
            tracing::error!(container = %self.container.id, %error, "a change cannot be stored; trying again");
            sleep(delay).await;
            delay = (delay * 2).min(limits::RETRY_MAX);
        }
    }

    async fn try_commit(&mut self, draft: Draft) -> Result<(), StoreError> {
        let Draft {
            mut next,
            events,
            changes,
            execs,
            durability,
            fate,
        } = draft;
        let now = SystemTime::now();
        if fate != Fate::Untouched {
            // Something else may have been committed since the draft was begun.
            next.generation = self.container.generation + 1;
        }
        let stored = Arc::new(next);
        let own = own_change(fate, &stored, now).into_iter();
        let of_execs = execs.iter().map(ExecChange::change);
        let changes = own.chain(of_execs).chain(changes).collect();
        let events: Vec<NewEvent> = events
            .into_iter()
            .map(|(kind, cause)| new_event(&stored, kind, cause, now))
            .collect();
        let publication = Publication {
            core: self.core.clone(),
            publish: self.publish.clone(),
            container: stored,
            execs,
            announced: !events.is_empty(),
            fate,
        };
        let on_commit = Box::new(move |committed| publication.publish(committed));
        let transaction = Transaction {
            changes,
            events,
            durability,
            on_commit: Some(on_commit),
        };
        self.core.store.commit(transaction).await?;
        if fate != Fate::Untouched {
            self.container = Container::clone(&self.snapshot());
        }
        Ok(())
    }
}

/// Makes a committed record visible, on the store's thread: before its events, in order of commits.
struct Publication {
    core: Arc<Core>,
    publish: watch::Sender<Snapshot>,
    container: Arc<Container>,
    execs: Vec<ExecChange>,
    announced: bool,
    fate: Fate,
}

impl Publication {
    fn publish(self, committed: Committed) {
        for change in self.execs {
            change.publish(&self.core);
        }
        let mut container = self.container;
        if self.announced {
            Arc::make_mut(&mut container).last_event = committed.last;
        }
        match self.fate {
            Fate::Stays => {}
            Fate::Untouched => return,
            Fate::Deleted | Fate::Forgotten => self.core.registry.remove(&container),
        }
        self.publish.send_replace(Snapshot {
            container,
            gone: self.fate != Fate::Stays,
        });
    }
}

fn own_change(fate: Fate, container: &Arc<Container>, now: SystemTime) -> Option<Change> {
    match fate {
        Fate::Stays => Some(Change::PutContainer(container.clone())),
        Fate::Untouched => None,
        Fate::Forgotten => Some(Change::ForgetContainer(container.id)),
        Fate::Deleted => Some(Change::DeleteContainer(container.clone(), now)),
    }
}

fn new_event(
    container: &Container,
    kind: EventKind,
    cause: Option<Cause>,
    time: SystemTime,
) -> NewEvent {
    // A start that failed took its number back; its event is about the run that was not.
    let failed_start = matches!(kind, EventKind::ContainerStartFailed { .. });
    let run = if failed_start {
        Run(container.run.0 + 1)
    } else {
        container.run
    };
    NewEvent {
        time,
        kind,
        cause,
        container: Some(ContainerSubject {
            id: container.id,
            name: container.name.clone(),
            labels: container.labels.clone(),
            run,
        }),
        image: Some(container.spec.image.as_str().into()),
    }
}
