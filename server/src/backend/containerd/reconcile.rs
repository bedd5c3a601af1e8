//! Settling the runs that ended while nobody listened.

use std::collections::HashMap;

use containerd_client::types::v1::{Process, Status as ProcessStatus};

use super::connection::Connection;
use super::error::RpcError;
use super::exit::Ended;
use super::name::Name;
use super::observer::Observer;
use super::tasks;
use crate::backend::Exit;

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
    for (name, pid) in unsettled {
        match listed.get(name.to_string().as_str()) {
            Some(process) if process.pid == pid => settle(observer, name, process),
            // containerd leaves out tasks whose shim is slow to answer: look again, closely.
            _ => look(connection, observer, name, pid).await?,
        }
    }
    Ok(())
}

async fn look(
    connection: &Connection,
    observer: &Observer,
    name: Name,
    pid: u32,
) -> Result<(), RpcError> {
    match tasks::get(connection, name).await {
        Ok(process) if process.pid == pid => settle(observer, name, &process),
        Ok(process) if tasks::status_of(&process) == ProcessStatus::Unknown => {
            tracing::warn!(container = %name, "a task is there, but its shim does not answer");
        }
        Ok(_) => observer.runs().exited(name, pid, Exit::lost()),
        Err(error) if error.is_not_found() => observer.runs().exited(name, pid, Exit::lost()),
        Err(error) if error.code().is_some() => {
            tracing::warn!(container = %name, %error, "the state of a task cannot be read");
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn settle(observer: &Observer, name: Name, process: &Process) {
    if tasks::status_of(process) == ProcessStatus::Stopped {
        observer.ended(name, &Ended::from(process));
    }
}
