//! What becomes of a process whose caller left.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::StopContainer;
use super::container::command::{Order, SignalOrder};
use super::container::execs::ExecOrder;
use super::core::Core;
use super::error::Error;
use crate::backend::SignalScope;
use crate::model::exec::Leash;
use crate::model::{Cause, ContainerId, ExecId, ExecState, OnDisconnect, Signal};

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
        if !may_have_begun(start).await {
            return;
        }
        let done = match exec {
            None => leave_container(&owner, container, &leash).await,
            Some(exec) => leave_exec(&owner, container, exec, &leash).await,
        };
        match done {
            Ok(()) => {}
            // It has ended by itself.
            Err(
                Error::NotRunning { .. }
                | Error::ExecNotRunning { .. }
                | Error::ExecNotFound { .. }
                | Error::ContainerNotFound { .. }
                | Error::DeletedConcurrently { .. },
            ) => {}
            Err(error) => {
                tracing::warn!(%container, ?exec, action = ?leash.action, %error, "a process without its caller goes on");
            }
        }
    });
}

/// Whether there may be a process, once the start has been answered.
async fn may_have_begun(start: Option<Start>) -> bool {
    let Some(start) = start else { return true };
    match start.await {
        Ok(Err(error)) => error.leaves_doubt(),
        // Whoever started it has left: then the state tells.
        Ok(Ok(())) | Err(_) => true,
    }
}

async fn leave_container(core: &Core, id: ContainerId, leash: &Leash) -> Result<(), Error> {
    let (key, cause) = (id.to_string(), leash.cause.clone());
    let signal = match leash.action {
        OnDisconnect::Detach => return Ok(()),
        OnDisconnect::Stop => {
            let stop = StopContainer::default();
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
            expected_run: None,
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
    let mut snapshot = core.execs.find(id)?;
    // A start whose end is not known is found out, unless the server ends before.
    let is_clear = snapshot.wait_for(|now| now.gone || now.exec.state != ExecState::Starting);
    drop(is_clear.await);
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
