//! Clearing away a task that nobody has a handle of.

use std::time::Duration;

use containerd_client::types::v1::Status as ProcessStatus;
use tokio::time::{Instant, sleep};

use super::connection::Connection;
use super::name::Name;
use super::{Containerd, tasks};
use crate::backend::{BackendError, SignalScope};
use crate::model::{Signal, limits};

/// First pause between two looks at a task that is being killed; it doubles, up to [`MAX_POLL`].
const MIN_POLL: Duration = Duration::from_millis(5);
const MAX_POLL: Duration = Duration::from_millis(200);

/// Kills and removes whatever task has this name; two calls if it dies at once.
pub(super) async fn discard(backend: &Containerd, name: Name) -> Result<(), BackendError> {
    let connection = backend.connection();
    let killed = tasks::kill(connection, name, Signal::KILL, SignalScope::All).await;
    match killed {
        Ok(()) => {}
        // Not there, or over: both are for the removal to find out.
        Err(error) if error.is_not_found() => {}
        // A task that was never started, or is frozen, may refuse the signal but not the removal.
        Err(error) if error.code().is_some() => {
            tracing::debug!(container = %name, %error, "a left task refused SIGKILL");
        }
        Err(error) => return Err(error.about("task")),
    }
    remove_when_dead(backend, name).await
}

/// Removes a task that has been killed, as soon as its process is gone.
async fn remove_when_dead(backend: &Containerd, name: Name) -> Result<(), BackendError> {
    let connection = backend.connection();
    let deadline = Instant::now() + limits::KILL_TIMEOUT;
    let mut pause = MIN_POLL;
    loop {
        let Err(error) = tasks::delete(connection, name).await else {
            return Ok(());
        };
        if error.is_not_found() {
            return Ok(());
        }
        // That it still runs comes as an error like any other, without a code of its own.
        if error.code().is_none() || Instant::now() >= deadline {
            return Err(error.about("task"));
        }
        thaw(connection, name).await;
        sleep(pause).await;
        pause = (pause * 2).min(MAX_POLL);
    }
}

/// Lets a frozen task meet its SIGKILL (on cgroup v1 a frozen process does not die). If this fails,
/// the removal does, too, and says so.
async fn thaw(connection: &Connection, name: Name) {
    let Ok(process) = tasks::get(connection, name).await else {
        return;
    };
    if tasks::status_of(&process) != ProcessStatus::Paused {
        return;
    }
    if let Err(error) = tasks::resume(connection, name).await {
        tracing::debug!(container = %name, %error, "a frozen task that is to be removed stays frozen");
    }
}
