//! The newest events in memory, shared by all readers: a watcher that keeps up never touches the disk.
//! Bounded by count and by bytes; what falls off is read from disk.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::{Event, Sequence};

/// Events kept in memory at most.
const TAIL_EVENTS: usize = 4_096;
/// Their encoded bytes at most.
const TAIL_BYTES: usize = 2 << 20;
/// One read ends here: a batch must not hold much memory for a reader that is slow to use it.
pub(super) const READ_BYTES: usize = 256 << 10;

/// An event and how large it is encoded.
#[derive(Debug, Clone)]
pub(super) struct Weighed {
    pub(super) event: Arc<Event>,
    pub(super) bytes: usize,
}

/// A dense run of events up to the newest.
#[derive(Debug)]
pub(super) struct Tail {
    /// The newest event that is not in here: events after it are.
    before: Sequence,
    events: VecDeque<Weighed>,
    bytes: usize,
}

impl Tail {
    /// An empty one, after `newest`.
    pub(super) fn new(newest: Sequence) -> Self {
        Self {
            before: newest,
            events: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Adds the next events. They must follow what is there.
    pub(super) fn extend(&mut self, events: impl IntoIterator<Item = Weighed>) {
        for weighed in events {
            self.bytes += weighed.bytes;
            self.events.push_back(weighed);
        }
        while self.events.len() > TAIL_EVENTS || self.bytes > TAIL_BYTES {
            self.drop_oldest();
        }
    }

    /// Drops the events up to and including `oldest`.
    pub(super) fn forget(&mut self, oldest: Sequence) {
        while self.before < oldest && !self.events.is_empty() {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(weighed) = self.events.pop_front() {
            self.bytes -= weighed.bytes;
            self.before = weighed.event.sequence;
        }
    }

    /// The events after `after`, at most `limit`, at least one if there is one; `None` if some of
    /// them are not in memory.
    pub(super) fn after(&self, after: Sequence, limit: usize) -> Option<Vec<Arc<Event>>> {
        let skip = after.0.checked_sub(self.before.0)?;
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let mut room = Room::new(limit);
        let wanted = self.events.iter().skip(skip);
        Some(
            wanted
                .take_while(|weighed| room.takes(weighed.bytes))
                .map(|weighed| Arc::clone(&weighed.event))
                .collect(),
        )
    }
}

/// What still fits into one read: the first event always does.
#[derive(Debug)]
pub(super) struct Room {
    events: usize,
    bytes: usize,
    empty: bool,
}

impl Room {
    pub(super) fn new(limit: usize) -> Self {
        Self::of(limit, READ_BYTES)
    }

    pub(super) fn of(events: usize, bytes: usize) -> Self {
        Self {
            events,
            bytes,
            empty: true,
        }
    }

    /// Whether an event of this size still fits; it takes its place then.
    pub(super) fn takes(&mut self, bytes: usize) -> bool {
        if self.events == 0 || (bytes > self.bytes && !self.empty) {
            return false;
        }
        self.empty = false;
        self.events -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        true
    }
}
