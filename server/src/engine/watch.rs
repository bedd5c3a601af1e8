//! Watching the journal: where to start, what to do about gaps, when to say that one is alive.
//!
//! A watch pulls. It is a position in the journal and nothing else: nobody knows of it, nobody waits
//! for it, and dropping it leaves nothing behind.
//!
//! ```text
//! Started --> [Gap] --> [containers, execs, Synced] --> events and progress --> end at `until`
//!                ^                                        |
//!                +----- fallen behind the journal --------+
//! ```

mod follower;
mod listing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::engine::query::{ContainerFilter, ContainerPosition, ExecPosition};
use crate::engine::{Engine, Error};
use crate::journal::{Cursor, Filter};
use crate::model::{Container, Epoch, Event, Exec};
use follower::Follower;
use listing::StateSource;

/// Where a watch starts.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each watch, hardly ever moved"
)]
pub enum WatchStart {
    /// Now.
    Now,
    /// Just after a cursor.
    Cursor(Cursor),
    /// At the first event at or after a time.
    Since(SystemTime),
    /// With what there is, then everything after.
    State(StateFilter),
}

/// What is sent as state.
#[derive(Debug, Clone, Default)]
pub struct StateFilter {
    /// Which containers.
    pub containers: ContainerFilter,
    /// Whether their execs follow.
    pub execs: Execs,
}

/// Whether the execs of containers are sent with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Execs {
    /// They are.
    Include,
    /// They are not.
    #[default]
    Omit,
}

/// What to do if events after the start point are gone.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each watch, hardly ever moved"
)]
pub enum GapPolicy {
    /// End with an error.
    Fail,
    /// Say so and go on from the oldest event there is.
    Continue,
    /// Say so and send what there is, then events.
    Resync(StateFilter),
}

/// What somebody wants to watch.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// Where to start.
    pub start: WatchStart,
    /// End before the first event at or after this time.
    pub until: Option<SystemTime>,
    /// Which events. Does not apply to containers sent as state.
    pub filter: Filter,
    /// Silence after which to say that one is alive.
    pub progress_interval: Duration,
    /// What to do about gaps.
    pub gap_policy: GapPolicy,
}

/// Why events are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// Older than the journal keeps.
    Expired,
    /// The journal was replaced.
    EpochChanged,
}

/// One thing a watcher is told.
#[derive(Debug, Clone)]
pub enum WatchItem {
    /// The watch is in place. Always first.
    Started {
        /// The journal.
        epoch: Epoch,
        /// Its oldest resume point.
        oldest: Cursor,
    },
    /// A container that exists.
    Container(Arc<Container>),
    /// An exec that exists.
    Exec(Arc<Exec>),
    /// All of the state has been sent.
    Synced {
        /// How many containers.
        containers: u32,
        /// How many execs.
        execs: u32,
    },
    /// An event.
    Event(Arc<Event>),
    /// Nothing matched for a while; the cursor has moved on.
    Progress,
    /// Events are missing here.
    Gap {
        /// Why.
        reason: GapReason,
        /// How many; 0 if not known.
        missed: u64,
    },
}

/// A watch in place. Pull from it with [`EventWatch::next`]; dropping it leaves nothing behind.
#[derive(Debug)]
pub struct EventWatch {
    follower: Follower<Engine>,
}

impl EventWatch {
    /// Places a watch.
    ///
    /// # Errors
    /// [`Error::ForeignCursor`]; with [`GapPolicy::Fail`] also [`Error::EpochChanged`] and
    /// [`JournalError::Expired`](crate::journal::JournalError::Expired).
    pub async fn open(engine: &Engine, options: WatchOptions) -> Result<Self, Error> {
        let journal = engine.journal().clone();
        let follower = Follower::open(journal, engine.clone(), options).await?;
        Ok(Self { follower })
    }

    /// The next item with the resume point after it (`None` while state is sent, until synced);
    /// `None` once `until` is reached. Safe to drop and call again.
    ///
    /// # Errors
    /// As [`Self::open`], if the watcher falls behind the journal's oldest event.
    pub async fn next(&mut self) -> Result<Option<(Option<Cursor>, WatchItem)>, Error> {
        self.follower.next().await
    }
}

impl StateSource for Engine {
    fn containers(
        &self,
        filter: &ContainerFilter,
        after: Option<ContainerPosition>,
        limit: usize,
    ) -> Vec<Arc<Container>> {
        Self::list(self, filter, after, limit)
    }

    fn execs(&self, after: Option<ExecPosition>, limit: usize) -> Result<Vec<Arc<Exec>>, Error> {
        Self::execs(self, None, after, limit)
    }
}
