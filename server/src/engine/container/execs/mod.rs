//! The execs of one container, owned by its actor.
//!
//! ```text
//! create ──► CREATED ──start──► STARTING ──► RUNNING ──► EXITED ──► remains removed ──► forgotten
//!                                   └──► FAILED
//! ```
//!
//! What is done for execs goes on side by side, beside the one operation that the container itself may
//! have in flight, and comes back to the actor as an [`Outcome`]; only the actor changes a record. When
//! the container's run ends, all its execs end with it, in the same transaction at the latest.

mod create;
mod end;
mod order;
mod remove;
mod settle;
mod start;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tracing::Instrument;

pub(crate) use order::{ExecOrder, NewExec};

use super::actor::Actor;
use super::command::Reply;
use super::record::{Draft, ExecChange};
use crate::backend::{BackendError, Exit, FoundTask, ProcessHandle};
use crate::engine::exec::registry::ExecSnapshot;
use crate::engine::idempotency::Claim;
use crate::engine::{Error, StartedExec};
use crate::model::{Exec, ExecId, TerminalSize};
use crate::stdio::Stream;

/// Something that was begun for an exec, or for the container beside its operation.
type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What came of it.
pub(super) enum Outcome {
    /// Whoever waited for it has been answered.
    Answered,
    /// A process was started, or not.
    Started(ExecId, Result<ProcessHandle, BackendError>),
    /// A process ended.
    Ended(ExecId, Exit),
    /// Its time is over.
    TimedOut(ExecId),
    /// A signal was sent, or not.
    Signaled {
        id: ExecId,
        claim: Option<Claim>,
        reply: Reply<()>,
        result: Result<(), BackendError>,
    },
    /// What was left of it in the backend is gone.
    Removed(ExecId),
    /// It was looked up.
    Found(ExecId, Result<Option<FoundTask>, BackendError>),
    /// Nobody has taken up the streams that the server's restart cut; none for the main process's.
    LeashOver(Option<ExecId>),
}

/// One exec.
pub(super) struct LiveExec {
    pub(super) exec: Arc<Exec>,
    publish: watch::Sender<ExecSnapshot>,
    /// From its start on.
    stream: Option<Arc<Stream>>,
    /// While it runs, and until what is left of it is removed.
    process: Option<ProcessHandle>,
    /// Those who wait for its start; the first of them has asked for it.
    starting: Vec<Reply<StartedExec>>,
    /// Whether its start is under way, and will tell.
    is_launching: bool,
    /// The size that its terminal was started with, as far as this server knows.
    started_size: Option<TerminalSize>,
    /// Those who wait for it to be forgotten.
    deletions: Vec<Reply<()>>,
    /// Whether it was killed because its time was over.
    timed_out: bool,
    /// Whether the streams it had before the server's restart have not been taken up.
    is_cut: bool,
    failures: u32,
}

/// The execs of one container.
#[derive(Default)]
pub(super) struct Execs {
    by_id: HashMap<ExecId, LiveExec>,
    work: FuturesUnordered<Work>,
}

impl Execs {
    /// Begins something beside the container's own operation, below the caller's span.
    pub(super) fn begin(
        &self,
        span: &tracing::Span,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) {
        self.work.push(Box::pin(work.instrument(span.clone())));
    }

    /// What comes of the next thing to end; waits for ever if nothing is under way.
    pub(super) async fn next_outcome(&mut self) -> Outcome {
        match self.work.next().await {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    }

    /// Execs that have not ended.
    fn live(&self) -> impl Iterator<Item = &LiveExec> {
        self.by_id
            .values()
            .filter(|live| !live.exec.state.is_over())
    }
}

impl LiveExec {
    fn new(exec: Exec) -> Self {
        let exec = Arc::new(exec);
        let snapshot = ExecSnapshot {
            exec: exec.clone(),
            gone: false,
        };
        Self {
            exec,
            publish: watch::Sender::new(snapshot),
            stream: None,
            process: None,
            starting: Vec::new(),
            is_launching: false,
            started_size: None,
            deletions: Vec::new(),
            timed_out: false,
            is_cut: false,
            failures: 0,
        }
    }

    /// A change of its record.
    fn change(&self, change: impl FnOnce(&mut Exec)) -> ExecChange {
        let mut exec = Exec::clone(&self.exec);
        change(&mut exec);
        ExecChange::put(exec, self.publish.clone())
    }
}

impl Actor {
    /// Goes on with an exec, or answers whoever waited.
    pub(super) async fn exec_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Answered => {}
            Outcome::Started(id, result) => self.exec_started(id, result).await,
            Outcome::Ended(id, exit) => self.exec_ended(id, exit).await,
            Outcome::TimedOut(id) => self.exec_timed_out(id),
            Outcome::Signaled {
                id,
                claim,
                reply,
                result,
            } => self.exec_signaled(id, claim, reply, result).await,
            Outcome::Removed(id) => self.exec_removed(id).await,
            Outcome::Found(id, result) => self.exec_found(id, result).await,
            Outcome::LeashOver(id) => self.leash_is_over(id),
        }
    }

    fn exec(&mut self, id: ExecId) -> Result<&mut LiveExec, Error> {
        self.execs
            .by_id
            .get_mut(&id)
            .ok_or_else(|| Error::ExecNotFound {
                exec: id.to_string(),
            })
    }

    /// Commits a change of execs that somebody asked for.
    async fn commit_exec(&mut self, draft: Draft) -> Result<(), Error> {
        let changed = draft.execs();
        self.record.commit(draft).await?;
        self.take_in(changed);
        Ok(())
    }

    /// Commits a change of execs that has happened.
    pub(super) async fn commit_exec_observed(&mut self, draft: Draft) {
        let changed = draft.execs();
        self.record.commit_observed(draft).await;
        self.take_in(changed);
    }

    /// What is committed is what the actor goes on from.
    pub(super) fn take_in(&mut self, changed: Vec<Arc<Exec>>) {
        for exec in changed {
            if let Some(live) = self.execs.by_id.get_mut(&exec.id) {
                live.exec = exec;
            }
        }
    }
}
