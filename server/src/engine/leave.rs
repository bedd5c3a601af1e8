//! What becomes of a process whose caller left.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::StopContainer;
use super::container::command::{Order, SignalOrder};
use super::container::execs::ExecOrder;
use super::core::Core;
use super::error::Error;
use super::exec::registry::ExecSnapshot;
use super::registry::Snapshot;
use crate::backend::SignalScope;
use crate::model::exec::Leash;
use crate::model::{Cause, ContainerId, ExecId, ExecState, OnDisconnect, Signal, State};

/// A change of what is to become of a process without its caller.
#[derive(Debug)]
pub(crate) enum LeashChange {
    /// A caller has joined: from now on it is as this one says.
    Joined(Leash),
    /// A caller has left before it has joined. Whoever has joined by now, in a repeat of its call, stays.
    Left(Leash),
    /// It has been done, or is not to be done any more.
    Over(Leash),
}

impl LeashChange {
    /// What holds from now on.
    pub(super) fn apply(self, now: Option<&Leash>) -> Option<Leash> {
        match self {
            Self::Joined(leash) => leash.kept(),
            Self::Left(leash) => now.cloned().or(leash.kept()),
            Self::Over(leash) => now.filter(|now| **now != leash).cloned(),
        }
    }
}

/// Has it noted with the process.
pub(super) async fn tell(
    core: &Core,
    container: ContainerId,
    exec: Option<ExecId>,
    change: LeashChange,
) -> Result<(), Error> {
    let order = |reply| match exec {
        Some(id) => Order::Exec(ExecOrder::Leash { id, change, reply }),
        None => Order::Leash { change, reply },
    };
    core.ask(&container.to_string(), order).await
}

/// How the start ends that was asked for together with the streams.
pub(super) type Start = oneshot::Receiver<Result<(), Error>>;

/// Does it, in a task of the engine's own: nobody waits for it. A start under way is not overtaken: what
/// comes of it is without its caller, too.
pub(super) fn leave(
    core: &Arc<Core>,
    container: ContainerId,
    exec: Option<ExecId>,
    leash: Leash,
    start: Option<Start>,
) {
    let owner = core.clone();
    core.spawn(async move {
        let done = match exec {
            _ if !is_left(&owner, container, exec, &leash, start).await => Ok(()),
            None => leave_container(&owner, container, &leash).await,
            Some(exec) => leave_exec(&owner, container, exec, &leash).await,
        };
        match done {
            Err(error) if !is_over(&error) => {
                tracing::warn!(%container, ?exec, action = ?leash.action, %error, "a process without its caller goes on");
            }
            // Once only, also if the process survives it. What cannot be stored, or not any more, is done
            // again by the next server.
            Ok(()) | Err(_) => drop(tell(&owner, container, exec, LeashChange::Over(leash)).await),
        }
    });
}

/// Whether the process has ended by itself.
fn is_over(error: &Error) -> bool {
    matches!(
        error,
        Error::NotRunning { .. }
            | Error::RunChanged { .. }
            | Error::ExecNotRunning { .. }
            | Error::ExecNotFound { .. }
            | Error::ContainerNotFound { .. }
            | Error::DeletedConcurrently { .. }
    )
}

/// Whether there may be a process without a caller, once it is clear what came of its start. Whoever joins
/// meanwhile, as a repeat of a call that was cut off does, takes it over.
async fn is_left(
    core: &Core,
    container: ContainerId,
    exec: Option<ExecId>,
    leash: &Leash,
    start: Option<Start>,
) -> bool {
    let is_awaited = start.is_some();
    if let Some(start) = start
        && let Ok(Err(error)) = start.await
        && !error.leaves_doubt()
    {
        return false;
    }
    match after_start(core, container, exec).await {
        Ok(now) => !is_awaited || now.as_ref() == Some(leash),
        Err(_) => false,
    }
}

/// What is to be done without a caller, once the process is not about to start any more.
async fn after_start(
    core: &Core,
    container: ContainerId,
    exec: Option<ExecId>,
) -> Result<Option<Leash>, Error> {
    // An error means that nothing comes any more: the server ends.
    if let Some(id) = exec {
        let mut snapshot = core.execs.find(id)?;
        let is_clear = |now: &ExecSnapshot| now.gone || now.exec.state != ExecState::Starting;
        drop(snapshot.wait_for(is_clear).await);
        return Ok(snapshot.borrow().exec.leash.clone());
    }
    let mut snapshot = core.registry.find(&container.to_string())?.snapshot;
    let is_clear = |now: &Snapshot| now.gone || now.container.state != State::Starting;
    drop(snapshot.wait_for(is_clear).await);
    Ok(snapshot.borrow().container.leash.clone())
}

async fn leave_container(core: &Core, id: ContainerId, leash: &Leash) -> Result<(), Error> {
    let (key, cause) = (id.to_string(), leash.cause.clone());
    let expected_run = Some(leash.run);
    let signal = match leash.action {
        OnDisconnect::Detach => return Ok(()),
        OnDisconnect::Stop => {
            let stop = StopContainer {
                expected_run,
                ..StopContainer::default()
            };
            let stopped = core.ask(&key, |reply| Order::Stop { cause, stop, reply });
            return stopped.await.map(drop);
        }
        OnDisconnect::HangUp => Signal::HUP,
        OnDisconnect::Kill => Signal::KILL,
    };
    core.ask(&key, |reply| {
        Order::Signal(SignalOrder {
            cause,
            signal,
            scope: SignalScope::Main,
            expected_run,
            claim: None,
            reply,
        })
    })
    .await
}

async fn leave_exec(
    core: &Core,
    container: ContainerId,
    id: ExecId,
    leash: &Leash,
) -> Result<(), Error> {
    let cause = || leash.cause.clone();
    match leash.action {
        OnDisconnect::Detach => Ok(()),
        OnDisconnect::HangUp => signal(core, container, id, cause(), Signal::HUP).await,
        OnDisconnect::Kill => signal(core, container, id, cause(), Signal::KILL).await,
        OnDisconnect::Stop => {
            let entry = core.registry.find(&container.to_string())?;
            let container_now = entry.container();
            let ask = super::container::stop_signal(&container_now);
            let grace = container_now.spec.stop_grace_period;
            let grace = grace.unwrap_or(core.settings.stop_grace_period);
            signal(core, container, id, cause(), ask).await?;
            let mut snapshot = core.execs.find(id)?;
            let ended = snapshot.wait_for(|now| now.gone || now.exec.state.is_over());
            if timeout(grace, ended).await.is_ok() {
                return Ok(());
            }
            signal(core, container, id, cause(), Signal::KILL).await
        }
    }
}

async fn signal(
    core: &Core,
    container: ContainerId,
    id: ExecId,
    cause: Cause,
    signal: Signal,
) -> Result<(), Error> {
    core.ask(&container.to_string(), |reply| {
        Order::Exec(ExecOrder::Signal {
            cause,
            id,
            signal,
            claim: None,
            reply,
        })
    })
    .await
}
