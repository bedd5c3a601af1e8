//! The state that a watch sends: the containers there are, then their execs.
//!
//! It is read a page at a time, from snapshots. An exec is sent only if its container was: one whose
//! container came later is told by the events that follow.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::{Execs, StateFilter, WatchItem};
use crate::engine::Error;
use crate::engine::query::{ContainerFilter, ContainerPosition, ExecPosition};
use crate::model::{Container, ContainerId, Exec};

/// Entries listed at once.
const PAGE: usize = 100;

/// What lists the containers and execs there are.
pub(super) trait StateSource {
    /// Containers that match, in order of creation, after `after`; at most `limit`.
    fn containers(
        &self,
        filter: &ContainerFilter,
        after: Option<ContainerPosition>,
        limit: usize,
    ) -> Vec<Arc<Container>>;

    /// Execs of all containers, in order of creation, after `after`; at most `limit`.
    fn execs(&self, after: Option<ExecPosition>, limit: usize) -> Result<Vec<Arc<Exec>>, Error>;
}

/// A list of containers and execs, half sent.
#[derive(Debug)]
pub(super) struct Listing {
    filter: ContainerFilter,
    after: Option<ContainerPosition>,
    page: VecDeque<Arc<Container>>,
    sent: u32,
    /// `None` if execs are not wanted.
    execs: Option<ExecListing>,
}

/// The execs of the containers that were sent.
#[derive(Debug, Default)]
struct ExecListing {
    containers: HashSet<ContainerId>,
    after: Option<ExecPosition>,
    page: VecDeque<Arc<Exec>>,
    sent: u32,
}

impl Listing {
    pub(super) fn of(filter: StateFilter) -> Self {
        Self {
            filter: filter.containers,
            after: None,
            page: VecDeque::new(),
            sent: 0,
            execs: match filter.execs {
                Execs::Include => Some(ExecListing::default()),
                Execs::Omit => None,
            },
        }
    }

    /// The next of what there is; `None` once all of it was sent.
    pub(super) fn next(&mut self, source: &impl StateSource) -> Result<Option<WatchItem>, Error> {
        if let Some(container) = self.next_container(source) {
            return Ok(Some(WatchItem::Container(container)));
        }
        match &mut self.execs {
            Some(execs) => Ok(execs.next(source)?.map(WatchItem::Exec)),
            None => Ok(None),
        }
    }

    /// How much was sent.
    pub(super) fn synced(&self) -> WatchItem {
        WatchItem::Synced {
            containers: self.sent,
            execs: self.execs.as_ref().map_or(0, |execs| execs.sent),
        }
    }

    fn next_container(&mut self, source: &impl StateSource) -> Option<Arc<Container>> {
        if self.page.is_empty() {
            self.page = source.containers(&self.filter, self.after, PAGE).into();
        }
        let container = self.page.pop_front()?;
        self.after = Some(ContainerPosition::of(&container));
        self.sent = self.sent.saturating_add(1);
        if let Some(execs) = &mut self.execs {
            execs.containers.insert(container.id);
        }
        Some(container)
    }
}

impl ExecListing {
    fn next(&mut self, source: &impl StateSource) -> Result<Option<Arc<Exec>>, Error> {
        loop {
            if self.page.is_empty() {
                self.page = source.execs(self.after, PAGE)?.into();
            }
            let Some(exec) = self.page.pop_front() else {
                return Ok(None);
            };
            self.after = Some(ExecPosition::of(&exec));
            if self.containers.contains(&exec.container) {
                self.sent = self.sent.saturating_add(1);
                return Ok(Some(exec));
            }
        }
    }
}
