//! What becomes of a command: it is done, joined, put off, answered at once or refused. Policy says
//! what the state allows; here is added what it does not know: preconditions, an operation in flight,
//! a backend that is away or must be asked first.

use super::actor::Actor;
use super::command::{Command, Order, wait_with};
use super::policy::{self, Decision, Refusal};
use crate::engine::{Error, Stopped};
use crate::model::{Container, State};
use std::sync::Arc;

impl Actor {
    /// Decides a command, and does, answers, joins, defers or refuses it.
    pub(super) async fn take(&mut self, command: Command) {
        let Command { span, order } = command;
        if let Err(error) = self.preconditions(&order) {
            return order.refuse(error);
        }
        let Some(request) = order.request() else {
            return self.take_beside(span, order).await;
        };
        match policy::decide(self.record.state(), request) {
            Decision::Refuse(refusal) => {
                let error = self.refusal(refusal);
                order.refuse(error);
            }
            Decision::Already => self.already(order),
            Decision::Join => self.join(order).await,
            Decision::Defer => match self.require_certainty() {
                Ok(()) => self.deferred.push_back(Command { span, order }),
                // Nothing may be under way, and so nothing to wait for.
                Err(error) => order.refuse(error),
            },
            Decision::Do if self.is_busy() && !self.may_overtake(&order) => {
                self.deferred.push_back(Command { span, order });
            }
            Decision::Do => self.carry_out(span, order).await,
        }
    }

    /// What policy is not asked about: it holds up nothing and waits for nothing.
    async fn take_beside(&mut self, span: tracing::Span, order: Order) {
        match order {
            Order::Exec(order) => self.take_exec(span, order).await,
            Order::Resize(resize) => self.resize(&span, resize).await,
            Order::CloseStdin { reply, .. } => self.close_stdin(&span, reply),
            Order::Leash { change, reply } => self.leash(change, reply).await,
            order => self.take_settle(order).await,
        }
    }

    /// A forced deletion of a container that is being stopped only changes what comes after the exit; a
    /// terminal's size has nothing to do with an operation.
    fn may_overtake(&self, order: &Order) -> bool {
        let is_stopping = self.record.state() == State::Stopping;
        matches!(order, Order::Resize(_)) || is_stopping && matches!(order, Order::Delete { .. })
    }

    async fn carry_out(&mut self, span: tracing::Span, order: Order) {
        if let Err(error) = self.require_backend_for(&order) {
            return order.refuse(error);
        }
        self.span = span.clone();
        match order {
            Order::Start(start) => self.start(&span, start).await,
            Order::Stop { cause, stop, reply } => self.stop(cause, &stop, reply).await,
            Order::Restart {
                cause,
                stop,
                claim,
                reply,
            } => {
                self.restart(&span, cause, stop, claim, reply).await;
            }
            Order::Signal(signal) => self.signal(&span, signal).await,
            Order::Pause { cause, reply, .. } => self.pause(&span, cause, reply),
            Order::Resume { cause, reply, .. } => self.resume(&span, cause, reply),
            Order::Update {
                cause,
                update,
                reply,
            } => self.update(&span, cause, update, reply).await,
            Order::Delete {
                cause,
                delete,
                reply,
            } => self.delete(cause, &delete, reply).await,
            Order::ListProcesses { reply } => self.list_processes(&span, reply),
            Order::LendRoot { reply } => self.lend_root(&span, reply),
            Order::Resize(resize) => self.resize(&span, resize).await,
            // Taken before.
            Order::CloseStdin { .. }
            | Order::Leash { .. }
            | Order::Exec(_)
            | Order::Settle { .. } => {}
        }
    }

    /// Everything done needs the backend, but for changes to the record alone.
    fn require_backend_for(&self, order: &Order) -> Result<(), Error> {
        match order {
            Order::Update { update, .. } if update.resources.is_empty() => Ok(()),
            Order::Start(_)
            | Order::Stop { .. }
            | Order::Restart { .. }
            | Order::Signal(_)
            | Order::Pause { .. }
            | Order::Resume { .. }
            | Order::Update { .. }
            | Order::Delete { .. }
            | Order::ListProcesses { .. }
            | Order::Resize(_)
            | Order::CloseStdin { .. }
            | Order::Leash { .. }
            | Order::Exec(_)
            | Order::LendRoot { .. }
            | Order::Settle { .. } => self.require_certainty(),
        }
    }

    /// The backend can be asked, and what it has is known.
    pub(super) fn require_certainty(&self) -> Result<(), Error> {
        self.core.require_backend()?;
        if self.is_in_doubt() {
            return Err(self.refusal(Refusal::Busy));
        }
        Ok(())
    }

    pub(super) async fn decide_deferred(&mut self) {
        // Those that must go on waiting come back into the queue behind the rest, in order.
        for _ in 0..self.deferred.len() {
            if self.gone {
                break;
            }
            if let Some(command) = self.deferred.pop_front() {
                self.take(command).await;
            }
        }
        if self.gone {
            let container = self.record.container().id.to_string();
            for command in self.deferred.drain(..) {
                command.order.refuse(Error::DeletedConcurrently {
                    container: container.clone(),
                });
            }
        }
    }

    /// Etag before run, as the API promises.
    fn preconditions(&self, order: &Order) -> Result<(), Error> {
        let container = self.record.container();
        let (expected_run, etag) = order.preconditions();
        if let Some(etag) = etag
            && etag != container.etag()
        {
            return Err(Error::EtagMismatch {
                container: container.id.to_string(),
                etag: container.etag(),
            });
        }
        match expected_run {
            Some(expected) if expected != container.run => Err(Error::RunChanged {
                container: container.id.to_string(),
                expected,
                run: container.run,
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn refusal(&self, refusal: Refusal) -> Error {
        let Container { id, state, .. } = self.record.container();
        let (container, state) = (id.to_string(), *state);
        match refusal {
            Refusal::NotRunning => Error::NotRunning { container, state },
            Refusal::Running => Error::StillRunning { container, state },
            Refusal::Paused => Error::Paused { container },
            Refusal::ControlLost => Error::ControlLost { container },
            Refusal::Busy => {
                let under_way = self.record.under_way();
                Error::OperationInProgress {
                    container,
                    operation: under_way.0,
                    request_id: under_way.1.map(|id| id.to_string()).unwrap_or_default(),
                }
            }
        }
    }

    fn already(&mut self, order: Order) {
        // While nobody can see the process, it may not be so any more.
        if self.record.state().has_process()
            && let Err(error) = self.require_certainty()
        {
            return order.refuse(error);
        }
        let snapshot = self.record.snapshot();
        match order {
            Order::Start(start) => start.answer(crate::engine::Started {
                changed: false,
                container: snapshot,
            }),
            Order::Stop { reply, .. } => {
                let exit = snapshot.exit_status.clone().map(Arc::new);
                drop(reply.send(Ok(Stopped {
                    changed: false,
                    killed: false,
                    exit,
                })));
            }
            Order::Pause { reply, .. } | Order::Resume { reply, .. } => drop(reply.send(Ok(false))),
            other => other.refuse(Error::Bug {
                what: "a request that cannot be so already",
            }),
        }
    }

    async fn join(&mut self, order: Order) {
        if let Err(error) = self.core.require_backend() {
            return order.refuse(error);
        }
        match order {
            Order::Stop { stop, reply, .. } => self.join_stop(&stop, reply).await,
            Order::Delete { reply, .. } => wait_with(&mut self.deletions, reply),
            other => other.refuse(Error::Bug {
                what: "a request that cannot be joined",
            }),
        }
    }
}
