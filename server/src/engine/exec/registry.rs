//! The execs there are, of all containers: found by id, listed in order of creation, read as snapshots.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::engine::Error;
use crate::engine::query::ExecPosition;
use crate::model::{ContainerId, Exec, ExecId};

/// What readers see of an exec: its last committed record.
#[derive(Debug, Clone)]
pub(crate) struct ExecSnapshot {
    /// The record.
    pub(crate) exec: Arc<Exec>,
    /// Whether it has been forgotten: then nothing comes after this.
    pub(crate) gone: bool,
}

#[derive(Debug, Default)]
struct Index {
    by_id: HashMap<ExecId, watch::Receiver<ExecSnapshot>>,
    in_order: BTreeMap<ExecPosition, ExecId>,
}

/// The execs there are. Locks are held for look-ups only.
#[derive(Debug, Default)]
pub(crate) struct ExecRegistry {
    index: RwLock<Index>,
}

impl ExecRegistry {
    /// Enters an exec.
    pub(crate) fn insert(&self, exec: &Exec, snapshot: watch::Receiver<ExecSnapshot>) {
        let mut index = self.index.write();
        index.in_order.insert(ExecPosition::of(exec), exec.id);
        index.by_id.insert(exec.id, snapshot);
    }

    /// Takes an exec out.
    pub(crate) fn forget(&self, exec: &Exec) {
        let mut index = self.index.write();
        index.in_order.remove(&ExecPosition::of(exec));
        index.by_id.remove(&exec.id);
    }

    /// The snapshots of an exec.
    ///
    /// # Errors
    /// [`Error::ExecNotFound`].
    pub(crate) fn find(&self, id: ExecId) -> Result<watch::Receiver<ExecSnapshot>, Error> {
        let found = self.index.read().by_id.get(&id).cloned();
        found.ok_or_else(|| Error::ExecNotFound {
            exec: id.to_string(),
        })
    }

    /// The containers that have execs.
    pub(crate) fn containers(&self) -> HashSet<ContainerId> {
        let index = self.index.read();
        let snapshots = index.by_id.values();
        snapshots
            .map(|snapshot| snapshot.borrow().exec.container)
            .collect()
    }

    /// Execs of `container`, or of all, after `after`; at most `limit`.
    pub(crate) fn list(
        &self,
        container: Option<ContainerId>,
        after: Option<ExecPosition>,
        limit: usize,
    ) -> Vec<Arc<Exec>> {
        let index = self.index.read();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let ids = index.in_order.range((start, Bound::Unbounded));
        ids.filter_map(|(_, id)| index.by_id.get(id))
            .map(|snapshot| snapshot.borrow().exec.clone())
            .filter(|exec| container.is_none_or(|container| exec.container == container))
            .take(limit)
            .collect()
    }
}
