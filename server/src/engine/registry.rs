//! The containers there are: found by id or name, listed in order of creation, read as snapshots.
//!
//! Names are reserved here before anything is made, and free again in the moment a deletion becomes
//! visible. Locks are held for look-ups only, never across an await.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use super::Error;
use super::container::command::Command;
use super::query::{ContainerFilter, ContainerPosition};
use crate::model::{Container, ContainerId, Digest};

/// What readers see of a container: its last committed record.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// The record.
    pub(crate) container: Arc<Container>,
    /// Whether it has been deleted: then nothing comes after this.
    pub(crate) gone: bool,
}

/// The newest one, and those that follow.
pub(crate) type Snapshots = watch::Receiver<Snapshot>;

/// A container's entry: where its snapshots come from and where its commands go.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) snapshot: Snapshots,
    pub(crate) commands: mpsc::Sender<Command>,
}

impl Entry {
    /// The last committed record.
    pub(crate) fn container(&self) -> Arc<Container> {
        self.snapshot.borrow().container.clone()
    }
}

#[derive(Debug, Default)]
struct Index {
    by_id: HashMap<ContainerId, Entry>,
    by_name: HashMap<Arc<str>, ContainerId>,
    in_order: BTreeMap<ContainerPosition, ContainerId>,
}

/// The containers there are.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    index: RwLock<Index>,
}

impl Registry {
    /// Enters a container, reserving its name.
    ///
    /// # Errors
    /// [`Error::NameInUse`], [`Error::TooManyContainers`].
    pub(crate) fn insert(
        &self,
        container: &Container,
        entry: Entry,
        limit: usize,
    ) -> Result<(), Error> {
        let mut index = self.index.write();
        if let Some(existing) = index.by_name.get(&container.name) {
            return Err(Error::NameInUse {
                name: container.name.to_string(),
                existing: existing.to_string(),
            });
        }
        if index.by_id.len() >= limit {
            return Err(Error::TooManyContainers { limit });
        }
        index.by_name.insert(container.name.clone(), container.id);
        index
            .in_order
            .insert(ContainerPosition::of(container), container.id);
        index.by_id.insert(container.id, entry);
        Ok(())
    }

    /// Whether a live container has this name, and which.
    pub(crate) fn name_holder(&self, name: &str) -> Option<ContainerId> {
        self.index.read().by_name.get(name).copied()
    }

    /// Reserves a second name for a container that is being renamed.
    ///
    /// # Errors
    /// [`Error::NameInUse`].
    pub(crate) fn reserve_name(&self, id: ContainerId, name: &Arc<str>) -> Result<(), Error> {
        let mut index = self.index.write();
        match index.by_name.get(name) {
            Some(holder) if *holder != id => Err(Error::NameInUse {
                name: name.to_string(),
                existing: holder.to_string(),
            }),
            Some(_) => Ok(()),
            None => {
                index.by_name.insert(name.clone(), id);
                Ok(())
            }
        }
    }

    /// Frees a name that a container does not have (any more).
    pub(crate) fn release_name(&self, id: ContainerId, name: &str) {
        let mut index = self.index.write();
        if index.by_name.get(name) == Some(&id) {
            index.by_name.remove(name);
        }
    }

    /// Takes a container out that has been deleted, or was never acknowledged.
    pub(crate) fn remove(&self, container: &Container) {
        self.index.write().remove(container);
    }

    /// The live container that `key` names, by id or exact name.
    ///
    /// # Errors
    /// [`Error::ContainerNotFound`].
    pub(crate) fn find(&self, key: &str) -> Result<Entry, Error> {
        let index = self.index.read();
        let by_id = key
            .parse()
            .ok()
            .and_then(|id: ContainerId| index.by_id.get(&id));
        by_id
            .or_else(|| index.by_name.get(key).and_then(|id| index.by_id.get(id)))
            .cloned()
            .ok_or_else(|| Error::ContainerNotFound {
                container: key.to_owned(),
            })
    }

    /// Whether there is a container with this id.
    pub(crate) fn contains(&self, id: ContainerId) -> bool {
        self.index.read().by_id.contains_key(&id)
    }

    /// Containers that match, in order of creation, after `after`; at most `limit`.
    pub(crate) fn list(
        &self,
        filter: &ContainerFilter,
        after: Option<ContainerPosition>,
        limit: usize,
    ) -> Vec<Arc<Container>> {
        use std::ops::Bound;
        let index = self.index.read();
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = index.in_order.range((start, Bound::Unbounded));
        entries
            .filter_map(|(_, id)| index.by_id.get(id).map(Entry::container))
            .filter(|container| filter.matches(container))
            .take(limit)
            .collect()
    }

    /// Every container's entry.
    pub(crate) fn entries(&self) -> Vec<(ContainerId, Entry)> {
        self.index
            .read()
            .by_id
            .iter()
            .map(|(id, entry)| (*id, entry.clone()))
            .collect()
    }

    /// The containers, in any state, that were made from an image.
    pub(crate) fn users_of(&self, image: &Digest) -> Vec<Arc<Container>> {
        let index = self.index.read();
        let containers = index.by_id.values().map(Entry::container);
        containers
            .filter(|container| container.image.id == *image)
            .collect()
    }
}

impl Index {
    fn remove(&mut self, container: &Container) {
        self.by_id.remove(&container.id);
        self.in_order.remove(&ContainerPosition::of(container));
        if self.by_name.get(&container.name) == Some(&container.id) {
            self.by_name.remove(&container.name);
        }
    }
}
