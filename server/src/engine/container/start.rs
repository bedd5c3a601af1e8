//! Starting: the intent is stored with the run's number, the backend starts the process, then the run
//! exists. A start that fails takes the number back.

use std::sync::Arc;

use super::actor::{Actor, Doubt, Outcome};
use super::command::{Reply, StartOrder};
use super::streams::Remains;
use crate::backend::{Applied, BackendError, ContainerBackend, Start, Task, TaskHandle};
use crate::engine::core::Core;
use crate::engine::idempotency::Claim;
use crate::engine::{Error, Started};
use crate::model::container::{Intent, Operation};
use crate::model::spec::Network;
use crate::model::{
    Cause, Container, EventKind, Failure, LaunchFailure, Run, State, StdioPaths, TerminalSize,
};
use crate::stdio::{StdioError, Stream};
use std::time::SystemTime;

/// Who waits for a start.
pub(super) enum Starting {
    /// A create, with or without a start.
    Created(Reply<Arc<Container>>),
    Started(Reply<Started>),
    Restarted(Reply<Arc<Container>>),
}

impl Starting {
    fn answer(self, container: Arc<Container>) {
        match self {
            Self::Created(reply) | Self::Restarted(reply) => drop(reply.send(Ok(container))),
            Self::Started(reply) => drop(reply.send(Ok(Started {
                changed: true,
                container,
            }))),
        }
    }

    pub(super) fn refuse(self, error: Error) {
        match self {
            Self::Created(reply) | Self::Restarted(reply) => drop(reply.send(Err(error))),
            Self::Started(reply) => drop(reply.send(Err(error))),
        }
    }
}

impl StartOrder {
    pub(super) fn answer(self, started: Started) {
        drop(self.reply.send(Ok(started)));
    }
}

impl Actor {
    pub(super) async fn start(&mut self, span: &tracing::Span, order: StartOrder) {
        self.claim = order.claim;
        self.starting = Some(Starting::Started(order.reply));
        self.begin_start(span, order.cause, Operation::Start).await;
    }

    /// Stores the intent and asks the backend.
    pub(super) async fn begin_start(
        &mut self,
        span: &tracing::Span,
        cause: Cause,
        operation: Operation,
    ) {
        let mut draft = self.record.draft_to(State::Starting);
        draft.next.run = draft.next.run.next();
        draft.next.failure = None;
        draft.next.signaled = None;
        draft.next.stop = None;
        let key = self.claim.as_ref().map(|claim| claim.key().clone());
        draft.next.intent = Some(Intent {
            cause: Some(cause),
            key,
            operation,
        });
        let id = draft.next.id;
        let pending = self.claim.as_mut().map(|claim| claim.pending(id));
        if let Err(error) = self.record.commit(draft.with(pending)).await {
            return self.start_not_begun(operation, error);
        }
        self.timer = None;
        let (core, container) = (self.core.clone(), self.record.snapshot());
        // Both stay on the actor's list until the start is known to have got rid of them.
        let remains = self.remains_of_run();
        let forget_start = self.unknown_task;
        let root_returned = self.loans.call_back();
        self.begin(span, async move {
            root_returned.await;
            Outcome::Started(launch(core, container, remains, forget_start).await)
        });
    }

    /// The intent could not be stored: nothing has changed, but a create with a start must be undone.
    fn start_not_begun(&mut self, operation: Operation, error: Error) {
        self.claim = None;
        if operation == Operation::Start {
            self.record.clear_intent();
        }
        match self.starting.take() {
            Some(Starting::Created(reply)) if operation == Operation::CreateAndStart => {
                self.failed_create = Some((reply, error));
                self.delete_failed_create();
            }
            Some(starting) => starting.refuse(error),
            None => {}
        }
        self.next_step();
    }

    pub(super) async fn started(&mut self, result: Result<Launched, BackendError>) {
        match result {
            Ok(launched) => self.run_began(launched).await,
            Err(error) if error.leaves_doubt() => {
                tracing::warn!(container = %self.record.container().id, %error, "it is not known whether it started");
                self.raise(Doubt::Container);
                if let Some(starting) = self.starting.take() {
                    starting.refuse(error.into());
                }
            }
            Err(error) => {
                self.doubt_if_missing(&error);
                self.start_failed(failure_of(&error), Some(error.into()))
                    .await
            }
        }
    }

    /// If the backend has no such container, somebody else has removed it.
    pub(super) fn doubt_if_missing(&mut self, error: &BackendError) {
        if matches!(error, BackendError::NotFound { .. }) {
            self.raise(Doubt::Container);
        }
    }

    /// The process runs (and may have ended since).
    pub(super) async fn run_began(&mut self, launched: Launched) {
        let mut draft = self.record.draft_to(State::Running);
        draft.next.pid = Some(launched.task.pid());
        draft.next.start_time = Some(SystemTime::now());
        draft.next.exit_status = None;
        let intent = draft.next.intent.take();
        let answer = match self.starting {
            Some(Starting::Started(_)) => self.started_change(&draft.next),
            // Also for a create or restart that the last server began.
            Some(Starting::Created(_) | Starting::Restarted(_)) | None => {
                self.interrupted_answer(intent.as_ref(), &draft.next)
            }
        };
        let cause = intent.and_then(|intent| intent.cause);
        let draft = draft.event(EventKind::ContainerStarted, cause).with(answer);
        self.record.commit_observed(draft).await;
        let started_size = launched.terminal_size;
        self.watch_run(launched);
        self.answer_start();
        self.catch_up_with_size(started_size);
    }

    /// The answer to store for a call whose caller is not known here any more: its method tells its form.
    fn interrupted_answer(
        &mut self,
        intent: Option<&Intent>,
        container: &Container,
    ) -> Option<crate::store::Change> {
        let is_start = intent
            .and_then(|intent| intent.key.as_ref())
            .is_some_and(|key| key.method.ends_with("/StartContainer"));
        if is_start {
            self.started_change(container)
        } else {
            self.answer_change(container)
        }
    }

    fn started_change(&mut self, container: &Container) -> Option<crate::store::Change> {
        let claim = self.claim.as_mut()?;
        let answer = Started {
            changed: true,
            container: Arc::new(container.clone()),
        };
        claim
            .answered(&answer)
            .inspect_err(|error| tracing::error!(%error, "an answer is not stored"))
            .ok()
    }

    /// A new run's processes are to be watched.
    pub(super) fn watch_run(&mut self, Launched { task, stream, .. }: Launched) {
        self.stream = Some(stream);
        self.task = Some(task);
        self.remains = false;
        self.unknown_task = false;
        self.interrupted = false;
        self.oom_seen = 0;
        self.killed = false;
        self.frozen = false;
    }

    /// Answers whoever waits for the create or start, which is committed.
    pub(super) fn answer_start(&mut self) {
        if let Some(claim) = self.claim.take() {
            claim.complete();
        }
        if let Some(starting) = self.starting.take() {
            starting.answer(self.record.snapshot());
        }
    }

    /// No process has run. `error` is for whoever waits for the start, if anybody still does.
    pub(super) async fn start_failed(&mut self, failure: Failure, error: Option<Error>) {
        self.interrupted = false;
        let container = self.record.container();
        let before = Run(container.run.0.saturating_sub(1));
        let state = if before == Run::default() {
            State::Created
        } else {
            State::Exited
        };
        let mut draft = self.record.draft_to(state);
        draft.next.run = before;
        draft.next.failure = Some(failure.clone());
        let intent = draft.next.intent.take();
        let given_back = self.claim.as_ref().map(Claim::given_back);
        let cause = intent.as_ref().and_then(|intent| intent.cause.clone());
        let undo = intent.filter(|intent| intent.operation == Operation::CreateAndStart);
        if let Some(intent) = undo.clone() {
            draft.next.state = State::Deleting;
            draft.next.intent = Some(Intent {
                operation: Operation::Delete,
                key: None,
                ..intent
            });
        }
        let draft = draft
            .event(EventKind::ContainerStartFailed { failure }, cause)
            .with(given_back);
        self.record.commit_observed(draft).await;
        self.claim = None;
        match (self.starting.take(), error) {
            (Some(Starting::Created(reply)), Some(error)) if undo.is_some() => {
                self.failed_create = Some((reply, error));
            }
            (Some(starting), Some(error)) => starting.refuse(error),
            (_, None) | (None, _) => {}
        }
    }
}

/// A run's processes and their streams. The streams come along because they are open only as long as
/// somebody holds them: another one of that name would have no input, and would not be taken up again
/// after the keeper's death.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) task: TaskHandle,
    pub(super) stream: Arc<Stream>,
    /// The size that the terminal was started with, as far as this server knows.
    pub(super) terminal_size: Option<TerminalSize>,
}

/// Removes the last run's remains, or a task that should not be, if they are there still, and starts
/// the next run.
async fn launch(
    core: Arc<Core>,
    container: Arc<Container>,
    remains: Option<Remains>,
    forget_start: bool,
) -> Result<Launched, BackendError> {
    if let Some(remains) = remains {
        remains.remove().await?;
    }
    if forget_start {
        core.backend.forget_start(&container).await?;
    }
    let network_pid = network_pid(&core, &container)?;
    let run = container.run;
    let stream = core.run_stream(&container, run);
    let stdio = open_streams(&stream).await?;
    let terminal_size = container.terminal_size;
    let start = Start {
        terminal_size,
        container,
        run,
        stdio,
        network_pid,
    };
    let started = core.backend.start(start).await;
    if started.as_ref().is_err_and(|error| !error.leaves_doubt()) {
        stream.undo().await;
    }
    started.map(|task| Launched {
        task,
        stream,
        terminal_size,
    })
}

/// The main process of the container whose network is to be shared.
fn network_pid(core: &Core, container: &Container) -> Result<Option<u32>, BackendError> {
    let Network::Container { container: key } = &container.spec.network else {
        return Ok(None);
    };
    let found = core.registry.find(key).map(|entry| entry.container()).ok();
    let pid = found.as_ref().and_then(|other| other.pid);
    let not_running = || LaunchFailure::NetworkContainerNotRunning {
        container: key.clone(),
        state: found
            .as_ref()
            .map_or_else(|| "ABSENT".to_owned(), |other| other.state.to_string()),
    };
    pid.map(Some).ok_or_else(|| not_running().into())
}

/// Makes the streams of a process and has them read from now on.
pub(super) async fn open_streams(stream: &Arc<Stream>) -> Result<StdioPaths, BackendError> {
    stream.open().await.map_err(|error| match error {
        StdioError::Unavailable { detail } => keeper_unavailable(detail),
        error if error.is_no_space() => BackendError::NoSpace {
            path: stream.segments().display().to_string(),
        },
        error => LaunchFailure::Refused {
            message: format!("its streams cannot be made: {error}"),
        }
        .into(),
    })
}

/// Nothing was done, because the keeper is not there.
pub(in crate::engine) fn keeper_unavailable(detail: String) -> BackendError {
    BackendError::Unavailable {
        backend: "keeper",
        detail,
        applied: Applied::No,
    }
}

/// The failure as the record keeps it.
pub(super) fn failure_of(error: &BackendError) -> Failure {
    match error {
        BackendError::Launch(failure) => failure.clone().into(),
        other => LaunchFailure::Refused {
            message: other.to_string(),
        }
        .into(),
    }
}
