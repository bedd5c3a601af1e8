//! Sweeping: what has expired is let go of, and what was left behind by crashes is removed.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{MissedTickBehavior, interval};

use super::container::command::{Command, Order};
use super::container::execs::ExecOrder;
use super::core::Core;
use crate::backend::{ContainerBackend, Found, Status};
use crate::model::{ContainerId, limits};
use crate::store::{Change, Durability, Transaction};

/// Sweeps from time to time, as long as the engine lives.
pub(super) async fn run(core: Arc<Core>) {
    let shutdown = core.shutdown.clone();
    shutdown
        .run_until_cancelled(async {
            let mut ticks = interval(limits::SWEEP_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks.tick().await;
            loop {
                ticks.tick().await;
                expire(&core).await;
                look_for_leftovers(&core).await;
                stray_files(&core).await;
                stray_downloads(&core).await;
            }
        })
        .await;
}

/// Has execs forgotten whose time is over, as long as the engine lives.
pub(super) async fn expire_execs(core: Arc<Core>) {
    let shutdown = core.shutdown.clone();
    shutdown
        .run_until_cancelled(async {
            let mut ticks = interval(limits::EXEC_SWEEP_INTERVAL);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                for id in core.execs.containers() {
                    let Ok(entry) = core.registry.find(&id.to_string()) else {
                        continue;
                    };
                    let order = Order::Exec(ExecOrder::Expire);
                    let span = tracing::Span::none();
                    // An actor that is gone has no execs.
                    drop(entry.commands.send(Command { span, order }).await);
                }
            }
        })
        .await;
}

/// What pulls have left that nobody went on with.
async fn stray_downloads(core: &Arc<Core>) {
    let core = Arc::clone(core);
    // One that is interrupted is done the next time.
    drop(tokio::task::spawn_blocking(move || core.staging.sweep()).await);
}

async fn expire(core: &Core) {
    let before = |age: Duration| {
        SystemTime::now()
            .checked_sub(age)
            .unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let deleted_before = before(limits::DELETED_KEPT);
    let idempotency_before = before(limits::IDEMPOTENCY_KEPT);
    core.idempotency.expire(idempotency_before);
    let transaction = Transaction {
        changes: vec![Change::Expire {
            deleted_before,
            idempotency_before,
        }],
        events: Vec::new(),
        durability: Durability::Written,
        on_commit: None,
    };
    if let Err(error) = core.store.commit(transaction).await {
        tracing::warn!(%error, "what has expired is not removed");
    }
}

async fn look_for_leftovers(core: &Core) {
    if !matches!(*core.backend.status().borrow(), Status::Connected { .. }) {
        return;
    }
    match core.backend.inventory().await {
        Ok(found) => leftovers(core, found).await,
        Err(error) => tracing::warn!(%error, "leftovers were not looked for"),
    }
}

/// Removes what the backend has of containers that do not exist. `found` is older than the look at
/// the registry, and containers are registered before they are made: so none is taken that is being made.
pub(super) async fn leftovers(core: &Core, found: HashMap<ContainerId, Found>) {
    for id in found.into_keys().filter(|id| !core.registry.contains(*id)) {
        let removed = async {
            core.backend.discard_task(id).await?;
            core.backend.delete(id).await
        };
        match removed.await {
            Ok(()) => tracing::warn!(container = %id, "a leftover without a record was removed"),
            Err(error) => {
                tracing::warn!(container = %id, %error, "a leftover without a record is not removed")
            }
        }
    }
}

/// Removes directories of containers that do not exist, and whose logs nobody may read any more.
pub(super) async fn stray_files(core: &Core) {
    let directory = core.settings.state_dir.join("containers");
    let Ok(mut entries) = tokio::fs::read_dir(&directory).await else {
        return;
    };
    let mut gone = Vec::new();
    while let Ok(Some(entry)) = entries.next_entry().await {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.parse().ok());
        gone.extend(id.filter(|id: &ContainerId| !core.registry.contains(*id)));
    }
    if gone.is_empty() {
        return;
    }
    // Asked after the registry: who leaves the one is in the other.
    let kept = match core.store.deleted_ids().await {
        Ok(kept) => kept,
        Err(error) => return tracing::warn!(%error, "stray files are not looked for"),
    };
    for id in gone.into_iter().filter(|id| !kept.contains(id)) {
        if let Err(error) = tokio::fs::remove_dir_all(directory.join(id.to_string())).await
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(container = %id, %error, "stray files are not removed");
        }
    }
}
