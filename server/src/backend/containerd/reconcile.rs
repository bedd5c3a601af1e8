//! Settling the runs that ended while nobody listened.

use std::collections::HashMap;
use std::time::SystemTime;

use containerd_client::types::v1::{Process, Status as ProcessStatus};

use super::connection::Connection;
use super::error::RpcError;
use super::exit::Ended;
use super::observer::Observer;
use super::tasks;
use crate::backend::{Exit, WaitStatus};
use crate::model::ContainerId;

/// Compares every watched run with what containerd has: one Tasks.List, and one Tasks.Get for each
/// run that is not in it. To be called while the event subscription stands, so that no end falls
/// between the two.
pub(super) async fn reconcile(
    connection: &Connection,
    observer: &Observer,
) -> Result<(), RpcError> {
    let unsettled = observer.runs().unsettled();
    if unsettled.is_empty() {
        return Ok(());
    }
    let listed = tasks::list(connection).await?;
    let listed: HashMap<_, _> = listed.iter().map(|p| (p.id.as_str(), p)).collect();
    for (id, pid) in unsettled {
        match listed.get(id.to_string().as_str()) {
            Some(process) if process.pid == pid => settle(observer, id, process).await,
            // containerd leaves out tasks whose shim is slow to answer: look again, closely.
            _ => look(connection, observer, id, pid).await?,
        }
    }
    Ok(())
}

async fn look(
    connection: &Connection,
    observer: &Observer,
    id: ContainerId,
    pid: u32,
) -> Result<(), RpcError> {
    match tasks::get(connection, id).await {
        Ok(process) if process.pid == pid => settle(observer, id, &process).await,
        Ok(process) if tasks::status_of(&process) == ProcessStatus::Unknown => {
            tracing::warn!(container = %id, "a task is there, but its shim does not answer");
        }
        Ok(_) => observer.runs().exited(id, pid, lost()),
        Err(error) if error.is_not_found() => observer.runs().exited(id, pid, lost()),
        Err(error) if error.code().is_some() => {
            tracing::warn!(container = %id, %error, "the state of a task cannot be read");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

async fn settle(observer: &Observer, id: ContainerId, process: &Process) {
    if tasks::status_of(process) == ProcessStatus::Stopped {
        observer.ended(id, &Ended::from(process)).await;
    }
}

/// Its task is gone and no event told how it ended.
fn lost() -> Exit {
    Exit {
        status: WaitStatus::Lost,
        time: SystemTime::now(),
        oom_killed: false,
    }
}
