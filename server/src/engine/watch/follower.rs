//! What a watch does, over a journal and whatever can list containers and execs.
//!
//! Everything it has found but not yet given out is kept in itself, and no state is held across an
//! await, so that a dropped [`Follower::next`] loses nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::listing::{Listing, StateSource};
use super::{GapPolicy, GapReason, StateFilter, WatchItem, WatchOptions, WatchStart};
use crate::engine::Error;
use crate::journal::{Cursor, Filter, Journal, JournalError};
use crate::model::{Event, Sequence};

/// Events taken from the journal at once.
const BATCH: usize = 256;

/// An item and the resume point after it.
type Told = (Option<Cursor>, WatchItem);

/// A watch.
#[derive(Debug)]
pub(super) struct Follower<S> {
    journal: Journal,
    source: S,
    newest: watch::Receiver<Sequence>,
    filter: Filter,
    gap_policy: GapPolicy,
    until: Option<Until>,
    silence: Silence,
    phase: Phase,
    /// Whatever is at or before it has been dealt with.
    position: Sequence,
    /// Items that come before anything else.
    announced: VecDeque<Told>,
    /// Events after the position, not yet looked at.
    unread: VecDeque<Arc<Event>>,
}

/// What a watch is doing.
#[derive(Debug)]
enum Phase {
    /// Sending what there is.
    State(Box<Listing>),
    /// Following the journal.
    Events,
    /// Nothing more will come.
    Ended,
}

/// When to end.
#[derive(Debug, Clone, Copy)]
struct Until {
    /// Events from then on do not count.
    time: SystemTime,
    /// The same moment by the clock of timers; `None` if it is too far to be counted.
    instant: Option<Instant>,
}

/// How long nothing was said.
#[derive(Debug)]
struct Silence {
    interval: Duration,
    /// `None` if the interval is too long to be counted.
    ends: Option<Instant>,
}

/// Where a watch begins.
struct Origin {
    position: Sequence,
    /// The resume point until something else is said.
    cursor: Option<Cursor>,
    gap: Option<(GapReason, u64)>,
    state: Option<StateFilter>,
}

impl<S: StateSource> Follower<S> {
    /// Places a watch.
    pub(super) async fn open(
        journal: Journal,
        source: S,
        options: WatchOptions,
    ) -> Result<Self, Error> {
        // Before anything is read: what comes from now on is seen.
        let newest = journal.newest();
        let origin = Origin::find(&journal, options.start).await?;
        let started = WatchItem::Started {
            epoch: journal.epoch(),
            oldest: journal.cursor(journal.oldest()),
        };
        let mut follower = Self {
            journal,
            source,
            newest,
            filter: options.filter,
            gap_policy: options.gap_policy,
            until: options.until.map(Until::at),
            silence: Silence::of(options.progress_interval),
            phase: origin.state.map_or(Phase::Events, Phase::listing),
            position: origin.position,
            announced: VecDeque::from([(origin.cursor, started)]),
            unread: VecDeque::new(),
        };
        if let Some((reason, missed)) = origin.gap {
            let beginning = follower.journal.cursor(Sequence(0));
            let lost_at = origin.cursor.unwrap_or(beginning);
            follower.bridge(reason, missed, lost_at)?;
        }
        Ok(follower)
    }

    /// The next item and the resume point after it; `None` at the end. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Option<Told>, Error> {
        // What there is to read comes before saying that there is nothing.
        let mut has_read = false;
        let told = loop {
            if let Some(told) = self.announced.pop_front() {
                break told;
            }
            let found = match self.phase {
                Phase::Ended => return Ok(None),
                Phase::State(_) => self.next_of_state()?,
                Phase::Events => self.next_unread(),
            };
            if let Some(told) = found {
                break told;
            }
            if has_read && self.is_silent() {
                break (Some(self.cursor()), WatchItem::Progress);
            }
            self.read_on().await?;
            has_read = true;
        };
        self.silence.begin();
        Ok(Some(told))
    }

    fn cursor(&self) -> Cursor {
        self.journal.cursor(self.position)
    }

    /// The next of what there is, or that there is no more.
    fn next_of_state(&mut self) -> Result<Option<Told>, Error> {
        let Phase::State(listing) = &mut self.phase else {
            return Ok(None);
        };
        if let Some(item) = listing.next(&self.source)? {
            return Ok(Some((None, item)));
        }
        let synced = listing.synced();
        self.phase = Phase::Events;
        Ok(Some((Some(self.cursor()), synced)))
    }

    /// The first wanted event of those at hand; the position moves past the others.
    fn next_unread(&mut self) -> Option<Told> {
        while let Some(event) = self.unread.pop_front() {
            if self
                .until
                .is_some_and(|until| event.body.time >= until.time)
            {
                self.end();
                return None;
            }
            self.position = event.sequence;
            if self.filter.matches(&event.body) {
                return Some((Some(self.cursor()), WatchItem::Event(event)));
            }
        }
        None
    }

    /// Gets what follows, or waits for it, or for the time to say or end something.
    async fn read_on(&mut self) -> Result<(), Error> {
        if !matches!(self.phase, Phase::Events) {
            return Ok(());
        }
        // A filter that wants little must not keep the thread while it passes over much.
        tokio::task::consume_budget().await;
        self.newest.mark_unchanged();
        match self.journal.read(self.position, BATCH).await {
            Ok(events) if events.is_empty() => self.wait().await,
            Ok(events) => {
                self.unread = events.into();
                Ok(())
            }
            Err(JournalError::Expired { oldest, .. }) => self.fall_behind(oldest),
            Err(error @ JournalError::Unreadable { .. }) => {
                self.end();
                Err(error.into())
            }
        }
    }

    /// Everything has been read: waits for an event, or for the time to say or end something.
    async fn wait(&mut self) -> Result<(), Error> {
        if self.until.is_some_and(Until::has_passed) {
            self.end();
            return Ok(());
        }
        let until = self.until.and_then(|until| until.instant);
        let moved = self.newest.changed();
        let moved = match [self.silence.ends, until].into_iter().flatten().min() {
            Some(deadline) => timeout_at(deadline, moved).await,
            None => Ok(moved.await),
        };
        match moved {
            // A deadline; the caller looks which.
            Err(_) | Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Error::Bug {
                what: "a journal in use is gone",
            }),
        }
    }

    /// What comes after the position is gone.
    fn fall_behind(&mut self, oldest: Sequence) -> Result<(), Error> {
        let missed = oldest.0.saturating_sub(self.position.0);
        let lost_at = self.cursor();
        self.bridge(GapReason::Expired, missed, lost_at)
    }

    /// Deals with a gap after `lost_at` as the watcher wants.
    fn bridge(&mut self, reason: GapReason, missed: u64, lost_at: Cursor) -> Result<(), Error> {
        let gap = WatchItem::Gap { reason, missed };
        match &self.gap_policy {
            GapPolicy::Fail => {
                self.end();
                Err(self.gap_error(reason, lost_at))
            }
            GapPolicy::Continue => {
                self.position = self.journal.oldest();
                self.announced.push_back((Some(self.cursor()), gap));
                Ok(())
            }
            GapPolicy::Resync(filter) => {
                self.phase = Phase::listing(filter.clone());
                // Before the containers are listed: what changes meanwhile is sent afterwards.
                self.position = *self.newest.borrow();
                self.announced.push_back((None, gap));
                Ok(())
            }
        }
    }

    fn gap_error(&self, reason: GapReason, lost_at: Cursor) -> Error {
        let (oldest, newest) = (self.journal.oldest(), *self.newest.borrow());
        match reason {
            GapReason::Expired => Error::Journal(JournalError::Expired {
                after: lost_at.sequence,
                oldest,
                newest,
            }),
            GapReason::EpochChanged => Error::EpochChanged {
                epoch: lost_at.epoch.to_string(),
                oldest: self.journal.cursor(oldest).to_string(),
                newest: self.journal.cursor(newest).to_string(),
            },
        }
    }

    fn is_silent(&self) -> bool {
        matches!(self.phase, Phase::Events) && self.silence.is_over()
    }

    fn end(&mut self) {
        self.phase = Phase::Ended;
        self.unread.clear();
    }
}

impl Phase {
    fn listing(filter: StateFilter) -> Self {
        Self::State(Box::new(Listing::of(filter)))
    }
}

impl Until {
    fn at(time: SystemTime) -> Self {
        let left = time.duration_since(SystemTime::now()).unwrap_or_default();
        Self {
            time,
            instant: Instant::now().checked_add(left),
        }
    }

    fn has_passed(self) -> bool {
        self.instant
            .is_some_and(|instant| instant <= Instant::now())
    }
}

impl Silence {
    fn of(interval: Duration) -> Self {
        let ends = Instant::now().checked_add(interval);
        Self { interval, ends }
    }

    fn begin(&mut self) {
        *self = Self::of(self.interval);
    }

    fn is_over(&self) -> bool {
        self.ends.is_some_and(|end| end <= Instant::now())
    }
}

impl Origin {
    async fn find(journal: &Journal, start: WatchStart) -> Result<Self, Error> {
        let newest = *journal.newest().borrow();
        match start {
            WatchStart::Now => Ok(Self::at(journal, newest)),
            WatchStart::Since(time) => Self::since(journal, time).await,
            WatchStart::State(filter) => Ok(Self {
                // Taken before the containers are listed: what changes meanwhile is sent afterwards.
                position: newest,
                cursor: None,
                gap: None,
                state: Some(filter),
            }),
            WatchStart::Cursor(cursor) => Self::after(journal, cursor, newest),
        }
    }

    fn at(journal: &Journal, position: Sequence) -> Self {
        Self {
            position,
            cursor: Some(journal.cursor(position)),
            gap: None,
            state: None,
        }
    }

    /// There is no resume point from which a gap would be told again, so none is given before it.
    async fn since(journal: &Journal, time: SystemTime) -> Result<Self, Error> {
        let position = journal.position_at(time).await?;
        let mut origin = Self::at(journal, position);
        if journal.has_lost_since(time) {
            origin.cursor = None;
            origin.gap = Some((GapReason::Expired, 0));
        }
        Ok(origin)
    }

    /// A cursor stays the resume point until the gap after it has been told.
    fn after(journal: &Journal, cursor: Cursor, newest: Sequence) -> Result<Self, Error> {
        if cursor.server != journal.server_id() {
            return Err(Error::ForeignCursor);
        }
        let oldest = journal.oldest();
        let gap = if cursor.epoch != journal.epoch() {
            Some((GapReason::EpochChanged, 0))
        } else if cursor.sequence > newest {
            // This journal never gave it out.
            return Err(Error::ForeignCursor);
        } else if cursor.sequence < oldest {
            Some((GapReason::Expired, oldest.0 - cursor.sequence.0))
        } else {
            None
        };
        Ok(Self {
            position: cursor.sequence,
            cursor: Some(cursor),
            gap,
            state: None,
        })
    }
}
