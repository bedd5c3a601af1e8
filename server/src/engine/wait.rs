//! Waiting for a container: derived from snapshots, so a wait registers nothing anywhere and a
//! cancelled one leaves nothing behind.

use std::sync::Arc;

use tokio::sync::watch;

use super::Error;
use super::registry::Snapshot;
use crate::model::{Container, ExitStatus, Run, State};

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The run has started (and may have ended since).
    Running,
    /// The run has ended.
    Exited,
    /// The container is gone.
    Deleted,
    /// Health is good.
    Healthy,
    /// Health is bad.
    Unhealthy,
}

/// A wait in place.
#[derive(Debug)]
pub struct Wait {
    /// State when it was registered; `None` if the container is deleted.
    pub state: Option<State>,
    /// The run waited for.
    pub run: Run,
    conditions: Vec<Condition>,
    snapshot: watch::Receiver<Snapshot>,
}

/// Which condition was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitResult {
    /// Which; the first of the request's if several are met at once.
    pub condition: Condition,
    /// How the run ended, if it did.
    pub exit: Option<Arc<ExitStatus>>,
    /// Which run.
    pub run: Run,
}

/// What a condition is worth, looking at one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prospect {
    Met,
    /// It may yet be met.
    Open,
    Never,
}

impl Wait {
    pub(crate) fn new(
        snapshot: watch::Receiver<Snapshot>,
        conditions: Vec<Condition>,
        run: Run,
    ) -> Self {
        let now = snapshot.borrow().clone();
        let state = (!now.gone).then_some(now.container.state);
        let run = if run == Run::default() {
            now.container.run.max(Run(1))
        } else {
            run
        };
        Self {
            state,
            run,
            conditions,
            snapshot,
        }
    }

    /// Waits for the first condition that is met.
    ///
    /// # Errors
    /// [`Error::ConditionUnreachable`] or [`Error::ContainerNotFound`] once none can ever be met.
    pub async fn result(mut self) -> Result<WaitResult, Error> {
        loop {
            let now = self.snapshot.borrow_and_update().clone();
            let prospects: Vec<Prospect> = self
                .conditions
                .iter()
                .map(|condition| prospect(&now, self.run, *condition))
                .collect();
            if let Some(index) = prospects
                .iter()
                .position(|prospect| *prospect == Prospect::Met)
            {
                return Ok(self.met(&now.container, self.conditions[index]));
            }
            if !prospects.contains(&Prospect::Open) {
                return Err(self.unreachable(&now));
            }
            if self.snapshot.changed().await.is_err() {
                // The actor ended without a deletion: the server is stopping.
                return Err(Error::Draining);
            }
        }
    }

    fn met(&self, container: &Container, condition: Condition) -> WaitResult {
        WaitResult {
            condition,
            exit: container.exit_of(self.run).cloned(),
            run: self.run,
        }
    }

    fn unreachable(&self, now: &Snapshot) -> Error {
        let container = now.container.id.to_string();
        if now.gone {
            return Error::ContainerNotFound { container };
        }
        let conditions: Vec<&str> = self
            .conditions
            .iter()
            .map(|condition| condition.name())
            .collect();
        Error::ConditionUnreachable {
            container,
            run: self.run,
            state: now.container.state,
            conditions: conditions.join(","),
        }
    }
}

impl Condition {
    fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Exited => "EXITED",
            Self::Deleted => "DELETED",
            Self::Healthy => "HEALTHY",
            Self::Unhealthy => "UNHEALTHY",
        }
    }
}

fn prospect(now: &Snapshot, run: Run, condition: Condition) -> Prospect {
    let container = &now.container;
    let ended = container.exit_of(run).is_some();
    let over = run < container.run || ended;
    // While STARTING, the run has its number but has not begun.
    let began = over || (run == container.run && container.state != State::Starting);
    // Out of control nothing starts again, but what runs will end.
    let is_last = container.state == State::Failed && !container.has_open_run();
    let hope = if now.gone || is_last {
        Prospect::Never
    } else {
        Prospect::Open
    };
    match condition {
        Condition::Running if began && container.run > Run::default() => Prospect::Met,
        Condition::Exited if ended => Prospect::Met,
        // It ended so long ago that how is forgotten.
        Condition::Exited if over => Prospect::Never,
        Condition::Running | Condition::Exited => hope,
        Condition::Deleted if now.gone => Prospect::Met,
        Condition::Deleted => Prospect::Open,
        // No container has a health check yet.
        Condition::Healthy | Condition::Unhealthy => Prospect::Never,
    }
}
