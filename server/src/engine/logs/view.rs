//! What a look at a log knows of its container.

use std::sync::Arc;

use crate::engine::registry::Snapshot;
use crate::model::{Container, ExitStatus, Run, State};

/// A container as it was just before a look at its log.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) container: Arc<Container>,
    /// Whether it is deleted.
    pub(super) gone: bool,
    /// Whether all output of its latest run is recorded. Its exit is known before.
    pub(super) drained: bool,
}

impl View {
    pub(super) fn new(snapshot: Snapshot, drained: bool) -> Self {
        Self {
            container: snapshot.container,
            gone: snapshot.gone,
            drained,
        }
    }

    /// The latest run that has begun; 0 if there was none.
    pub(super) fn latest(&self) -> u64 {
        latest(&self.container)
    }

    /// How a run ended, if it did and that is remembered.
    pub(super) fn exit_of(&self, run: u64) -> Option<Arc<ExitStatus>> {
        self.container.exit_of(Run(run)).cloned()
    }

    /// Whether nothing of a run can come any more.
    pub(super) fn is_over(&self, run: u64) -> bool {
        let has_ended = self.drained && self.exit_of(run).is_some();
        self.gone || run < self.latest() || has_ended
    }

    /// Whether the latest run has ended, and the rest of its output is on its way.
    pub(super) fn is_draining(&self) -> bool {
        let run = self.latest();
        self.exit_of(run).is_some() && !self.is_over(run)
    }
}

/// While STARTING, a run has its number but has not begun, and what is left of the one before may still
/// be on its way.
pub(super) fn latest(container: &Container) -> u64 {
    let Run(run) = container.run;
    if container.state == State::Starting {
        run.saturating_sub(1)
    } else {
        run
    }
}
