//! What an actor is told to do, and by whom.

use tokio::sync::oneshot;

use crate::backend::{Found, SignalScope};
use crate::engine::idempotency::Claim;
use crate::engine::leave::LeashChange;
use crate::engine::{DeleteContainer, Error, Started, StopContainer, Stopped, UpdateContainer};
use crate::model::request::Cause;
use crate::model::{Container, Run, Signal, TerminalSize};
use std::sync::Arc;

use super::execs::ExecOrder;
use super::lend::Loan;
use super::policy::Request;

/// Where an answer goes. Nobody may be there any more: the command is done all the same.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Adds one more who waits for the same thing. Those who have left meanwhile are let go of, so that
/// callers that come and go leave nothing behind.
pub(crate) fn wait_with<T>(waiting: &mut Vec<Reply<T>>, reply: Reply<T>) {
    waiting.retain(|reply| !reply.is_closed());
    waiting.push(reply);
}

/// A command on its way to a container's actor.
#[derive(Debug)]
pub(crate) struct Command {
    /// The call's span: what the command does shows up below it.
    pub(crate) span: tracing::Span,
    pub(crate) order: Order,
}

/// What to do.
#[derive(Debug)]
pub(crate) enum Order {
    Start(StartOrder),
    Stop {
        cause: Cause,
        stop: StopContainer,
        reply: Reply<Stopped>,
    },
    Restart {
        cause: Cause,
        stop: StopContainer,
        claim: Option<Claim>,
        reply: Reply<Arc<Container>>,
    },
    Signal(SignalOrder),
    Pause {
        cause: Cause,
        expected_run: Option<Run>,
        reply: Reply<bool>,
    },
    Resume {
        cause: Cause,
        expected_run: Option<Run>,
        reply: Reply<bool>,
    },
    Update {
        cause: Cause,
        update: UpdateContainer,
        reply: Reply<Arc<Container>>,
    },
    Delete {
        cause: Cause,
        delete: DeleteContainer,
        reply: Reply<()>,
    },
    ListProcesses {
        reply: Reply<Vec<u32>>,
    },
    Resize(ResizeOrder),
    /// Let the main process see the end of its input.
    CloseStdin {
        expected_run: Option<Run>,
        reply: Reply<()>,
    },
    /// Note what is to become of the main process without its caller.
    Leash {
        change: LeashChange,
        reply: Reply<()>,
    },
    Exec(ExecOrder),
    /// Lend the root, for work on files.
    LendRoot {
        reply: Reply<Loan>,
    },
    /// What the backend has of it, when the server (re)connects; answered once it is settled.
    Settle {
        /// None if the listing, which only shows what has a record, does not show it.
        found: Option<Found>,
        /// The record's generation before the backend was asked.
        generation: u64,
        reply: oneshot::Sender<()>,
    },
}

/// A start.
#[derive(Debug)]
pub(crate) struct StartOrder {
    pub(crate) cause: Cause,
    pub(crate) expected_run: Option<Run>,
    pub(crate) claim: Option<Claim>,
    pub(crate) reply: Reply<Started>,
}

/// A new size of the main process's terminal.
#[derive(Debug)]
pub(crate) struct ResizeOrder {
    pub(crate) size: TerminalSize,
    pub(crate) early: Early,
    pub(crate) expected_run: Option<Run>,
    pub(crate) reply: Reply<()>,
}

/// What to do with a size for a process that does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Early {
    /// Refuse it.
    Refuse,
    /// Keep it for the next start.
    Keep,
}

/// A signal.
#[derive(Debug)]
pub(crate) struct SignalOrder {
    pub(crate) cause: Cause,
    pub(crate) signal: Signal,
    pub(crate) scope: SignalScope,
    pub(crate) expected_run: Option<Run>,
    pub(crate) claim: Option<Claim>,
    pub(crate) reply: Reply<()>,
}

impl Order {
    /// What policy is asked about it; none for what is not asked for.
    pub(crate) fn request(&self) -> Option<Request> {
        match self {
            Self::Start(_) => Some(Request::Start),
            Self::Stop { .. } => Some(Request::Stop),
            Self::Restart { .. } => Some(Request::Restart),
            Self::Signal(_) => Some(Request::Signal),
            Self::Pause { .. } => Some(Request::Pause),
            Self::Resume { .. } => Some(Request::Resume),
            Self::Update { .. } => Some(Request::Update),
            Self::Delete { delete, .. } if delete.force => Some(Request::ForceDelete),
            Self::Delete { .. } => Some(Request::Delete),
            Self::ListProcesses { .. } => Some(Request::ListProcesses),
            Self::Resize(resize) if resize.early == Early::Refuse => Some(Request::Resize),
            Self::LendRoot { .. } => Some(Request::LendRoot),
            Self::Resize(_)
            | Self::CloseStdin { .. }
            | Self::Leash { .. }
            | Self::Exec(_)
            | Self::Settle { .. } => None,
        }
    }

    /// The run that the caller means, and the etag.
    pub(crate) fn preconditions(&self) -> (Option<Run>, Option<&str>) {
        match self {
            Self::Start(StartOrder { expected_run, .. })
            | Self::Signal(SignalOrder { expected_run, .. })
            | Self::Pause { expected_run, .. }
            | Self::Resume { expected_run, .. }
            | Self::Resize(ResizeOrder { expected_run, .. })
            | Self::CloseStdin { expected_run, .. } => (*expected_run, None),
            Self::Stop { stop, .. } | Self::Restart { stop, .. } => (stop.expected_run, None),
            Self::Update { update, .. } => (None, update.etag.as_deref()),
            Self::Delete { delete, .. } => (None, delete.etag.as_deref()),
            Self::ListProcesses { .. }
            | Self::Leash { .. }
            | Self::Exec(_)
            | Self::LendRoot { .. }
            | Self::Settle { .. } => (None, None),
        }
    }

    /// Answers with a refusal; the idempotency key, if any, is given back unused.
    pub(crate) fn refuse(self, error: Error) {
        match self {
            Self::Start(StartOrder { reply, .. }) => drop(reply.send(Err(error))),
            Self::Stop { reply, .. } => drop(reply.send(Err(error))),
            Self::Restart { reply, .. } => drop(reply.send(Err(error))),
            Self::Signal(SignalOrder { reply, .. }) => drop(reply.send(Err(error))),
            Self::Pause { reply, .. } | Self::Resume { reply, .. } => drop(reply.send(Err(error))),
            Self::Update { reply, .. } => drop(reply.send(Err(error))),
            Self::Delete { reply, .. } => drop(reply.send(Err(error))),
            Self::ListProcesses { reply } => drop(reply.send(Err(error))),
            Self::Resize(ResizeOrder { reply, .. })
            | Self::CloseStdin { reply, .. }
            | Self::Leash { reply, .. } => drop(reply.send(Err(error))),
            Self::Exec(order) => order.refuse(error),
            Self::LendRoot { reply } => drop(reply.send(Err(error))),
            Self::Settle { reply, .. } => {
                let _ = reply.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_have_left_are_let_go_of_when_others_come() {
        let mut waiting = Vec::new();
        let (stays, mut answer) = oneshot::channel();
        wait_with(&mut waiting, stays);
        for _ in 0..10_000 {
            let (leaves, _) = oneshot::channel::<Result<(), Error>>();
            wait_with(&mut waiting, leaves);
        }
        assert_eq!(waiting.len(), 2, "the one who stays, and the last who came");
        drop(waiting);
        assert!(answer.try_recv().is_err());
    }
}
