//! Which containers somebody wants, and where their pages and those of execs end.

use std::collections::HashSet;
use std::time::SystemTime;

use crate::model::spec::TextMap;
use crate::model::{Container, ContainerId, Exec, ExecId, State};

/// Selects containers: fields are ANDed, values of one field ORed, labels ANDed; empty fields select all.
#[derive(Debug, Clone, Default)]
pub struct ContainerFilter {
    /// Ids, or prefixes of at least 4 hex digits.
    pub id_prefixes: Vec<String>,
    /// Exact names.
    pub names: HashSet<String>,
    /// Image references (normalised), digests or ids.
    pub images: HashSet<String>,
    /// States.
    pub states: HashSet<State>,
    /// Labels that must have these values.
    pub labels: TextMap,
    /// Labels of which one must exist.
    pub label_keys: Vec<String>,
    /// Whether a health state is asked for; no container has one yet.
    pub any_health: bool,
    /// Created before.
    pub created_before: Option<SystemTime>,
    /// Created at or after.
    pub created_after: Option<SystemTime>,
}

impl ContainerFilter {
    /// Whether `container` is wanted.
    #[must_use]
    pub fn matches(&self, container: &Container) -> bool {
        self.matches_identity(container)
            && self.matches_labels(container)
            && self.matches_life(container)
    }

    fn matches_identity(&self, container: &Container) -> bool {
        let id_fits = self.id_prefixes.is_empty() || {
            let id = container.id.to_string();
            self.id_prefixes.iter().any(|prefix| id.starts_with(prefix))
        };
        let image_fits = self.images.is_empty()
            || self.images.contains(&container.image.reference)
            || self.images.contains(&container.spec.image)
            || self.images.contains(container.image.id.as_str());
        id_fits && image_fits && (self.names.is_empty() || self.names.contains(&*container.name))
    }

    fn matches_labels(&self, container: &Container) -> bool {
        let labels = &container.labels;
        self.labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && (self.label_keys.is_empty()
                || self.label_keys.iter().any(|key| labels.contains_key(key)))
    }

    fn matches_life(&self, container: &Container) -> bool {
        !self.any_health
            && (self.states.is_empty() || self.states.contains(&container.state))
            && self
                .created_before
                .is_none_or(|time| container.create_time < time)
            && self
                .created_after
                .is_none_or(|time| container.create_time >= time)
    }
}

/// Where a page of containers ended.
pub type ContainerPosition = Position<ContainerId>;

/// Where a page of execs ended.
pub type ExecPosition = Position<ExecId>;

/// A place in a list that is ordered by time of creation and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position<I> {
    /// Time of creation.
    pub create_time: SystemTime,
    /// Identity.
    pub id: I,
}

impl ContainerPosition {
    /// A container's place in the order.
    #[must_use]
    pub fn of(container: &Container) -> Self {
        Self {
            create_time: container.create_time,
            id: container.id,
        }
    }
}

impl ExecPosition {
    /// An exec's place in the order.
    #[must_use]
    pub fn of(exec: &Exec) -> Self {
        Self {
            create_time: exec.create_time,
            id: exec.id,
        }
    }
}
