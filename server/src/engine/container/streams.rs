//! What concerns the standard streams of the main process and holds up nothing else: sizes, the end of
//! input, what is to happen without the caller, and the end of the output with that of the run.

use std::sync::Arc;

use super::actor::Actor;
use super::command::{Early, Reply, ResizeOrder};
use super::execs::Outcome;
use super::policy::Refusal;
use crate::backend::{BackendError, Task, TaskHandle};
use crate::engine::Error;
use crate::engine::core::Core;
use crate::engine::leave::LeashChange;
use crate::model::{Container, ContainerId, Run, TerminalSize, limits};
use crate::stdio::Stream;

/// What is left of a run that is over.
#[derive(Debug)]
pub(super) struct Remains {
    task: TaskHandle,
    stream: Option<Arc<Stream>>,
}

impl Remains {
    /// Reads the output to its end, and removes the rest. Repeating it is OK.
    pub(super) async fn remove(self) -> Result<(), BackendError> {
        if let Some(stream) = self.stream {
            stream.finish(limits::DRAIN_AFTER_EXIT).await;
        }
        self.task.delete().await
    }
}

impl Actor {
    /// What is left of the last run, if anything is.
    pub(super) fn remains_of_run(&self) -> Option<Remains> {
        let task = self.task.clone().filter(|_| self.remains)?;
        let stream = self.stream.clone();
        Some(Remains { task, stream })
    }

    /// Takes up the streams of a run that an earlier server started.
    pub(super) fn adopt_streams(&self) {
        let Some(stream) = self.stream.clone() else {
            return;
        };
        let id = self.record.container().id;
        self.execs.begin(&tracing::Span::none(), async move {
            if let Err(error) = stream.adopt().await {
                tracing::error!(container = %id, %error, "its output is not recorded any more");
            }
            Outcome::Answered
        });
    }

    pub(super) async fn resize(&mut self, span: &tracing::Span, order: ResizeOrder) {
        let ResizeOrder {
            size, early, reply, ..
        } = order;
        let container = self.record.container();
        if container.spec.process.terminal.is_none() {
            let error = Error::TerminalNotAllocated {
                container: container.id.to_string(),
                exec: None,
            };
            return drop(reply.send(Err(error)));
        }
        let task = self.task.clone().filter(|_| !self.remains);
        if task.is_none() && early == Early::Refuse {
            return drop(reply.send(Err(self.refusal(Refusal::NotRunning))));
        }
        let mut draft = self.record.draft();
        draft.next.terminal_size = Some(size);
        if let Err(error) = self.record.commit(draft).await {
            return drop(reply.send(Err(error)));
        }
        let gone = self.refusal(Refusal::NotRunning);
        match task {
            None => drop(reply.send(Ok(()))),
            Some(task) => self.execs.begin(span, async move {
                let resized = task.resize(size).await;
                drop(reply.send(resized.map_err(|error| acted_on(error, gone))));
                Outcome::Answered
            }),
        }
    }

    /// Sets the size that was asked for when another one was already on its way to the process.
    pub(super) fn catch_up_with_size(&self, started_size: Option<TerminalSize>) {
        let container = self.record.container();
        let (id, wanted) = (container.id, container.terminal_size);
        let (Some(size), Some(task)) = (wanted, self.task.clone()) else {
            return;
        };
        if wanted != started_size {
            self.execs.begin(&tracing::Span::none(), async move {
                if let Err(error) = task.resize(size).await {
                    tracing::debug!(container = %id, %error, "a terminal has the size it was started with");
                }
                Outcome::Answered
            });
        }
    }

    pub(super) fn close_stdin(&self, span: &tracing::Span, reply: Reply<()>) {
        let task = self.task.clone().filter(|_| !self.remains);
        let gone = self.refusal(Refusal::NotRunning);
        let (Some(task), Some(stream)) = (task, self.stream.clone()) else {
            return drop(reply.send(Err(gone)));
        };
        self.execs.begin(span, async move {
            // First what may fail: as long as the rest is open, it can be asked for again.
            let closed = task.close_stdin().await;
            if closed.is_ok() {
                stream.close_input().await;
            }
            drop(reply.send(closed.map_err(|error| acted_on(error, gone))));
            Outcome::Answered
        });
    }

    pub(super) async fn leash(&mut self, change: LeashChange, reply: Reply<()>) {
        let container = self.record.container();
        match &change {
            LeashChange::Joined(leash) | LeashChange::Left(leash)
                if is_over(container, leash.run) =>
            {
                // Nothing can become of it, and the run there is has a caller of its own, or none.
                return drop(reply.send(Ok(())));
            }
            LeashChange::Joined(_) => self.is_cut = false,
            LeashChange::Left(_) | LeashChange::Over(_) => {}
        }
        let leash = change.apply(container.leash.as_ref());
        if container.leash == leash {
            return drop(reply.send(Ok(())));
        }
        let mut draft = self.record.draft();
        draft.next.leash = leash;
        let done = self.record.commit(draft).await;
        drop(reply.send(done));
    }
}

fn is_over(container: &Container, run: Run) -> bool {
    run < container.run || run == container.run && !container.has_open_run()
}

/// A process that has just ended is "not running", not a fault of the backend.
fn acted_on(error: BackendError, gone: Error) -> Error {
    match error {
        BackendError::NotFound { .. } => gone,
        other => other.into(),
    }
}

/// Removes what a deleted container's processes needed. Its log stays readable for a while, until the sweep
/// removes it; the output of execs goes with its last reader.
pub(super) async fn remove_scratch(core: &Core, id: ContainerId) {
    let dir = core.container_dir(id).join("stdio");
    match tokio::fs::remove_dir_all(&dir).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(container = %id, %error, "FIFOs are not removed");
        }
        _ => {}
    }
}
