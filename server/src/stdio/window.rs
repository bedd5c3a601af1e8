//! Back-pressure that was asked for: while a caller holds a process, output is drained only so far ahead
//! of that caller.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::stream::Stream;
use crate::model::limits::BLOCK_WINDOW_BYTES;

/// A new limit is told once it differs by so much: each costs a message.
const STEP: u64 = BLOCK_WINDOW_BYTES / 8;

/// Who holds a process, and how far each is.
#[derive(Debug, Default)]
pub(super) struct Window {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// How many bytes each has taken, of both streams together.
    taken: HashMap<u64, u64>,
    told: Option<u64>,
}

impl Inner {
    fn limit(&self) -> Option<u64> {
        let slowest = self.taken.values().min()?;
        Some(slowest.saturating_add(BLOCK_WINDOW_BYTES))
    }

    /// The limit, if it is to be told.
    fn news(&mut self) -> Option<Option<u64>> {
        let limit = self.limit();
        let is_news = match (self.told, limit) {
            (Some(told), Some(limit)) => limit.abs_diff(told) >= STEP,
            (told, limit) => told != limit,
        };
        is_news.then(|| {
            self.told = limit;
            limit
        })
    }
}

impl Window {
    /// The limit now, which whoever asks tells the keeper.
    pub(super) fn limit(&self) -> Option<u64> {
        let mut inner = self.inner.lock();
        inner.told = inner.limit();
        inner.told
    }
}

/// A caller's hold on a process: it waits for this caller. Ends when dropped.
#[derive(Debug)]
pub struct Hold {
    stream: Arc<Stream>,
    id: u64,
}

impl Hold {
    /// Begins to hold the process, with `taken` bytes taken already.
    pub(super) fn new(stream: Arc<Stream>, taken: u64) -> Self {
        let mut inner = stream.window.inner.lock();
        inner.next += 1;
        let id = inner.next;
        inner.taken.insert(id, taken);
        let news = inner.news();
        drop(inner);
        stream.tell_window(news);
        Self { stream, id }
    }

    /// The caller has taken so many bytes, of both streams together.
    pub fn taken(&self, total: u64) {
        self.change(|taken, id| {
            taken.insert(id, total);
        });
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<u64, u64>, u64)) {
        let mut inner = self.stream.window.inner.lock();
        change(&mut inner.taken, self.id);
        let news = inner.news();
        drop(inner);
        self.stream.tell_window(news);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.change(|taken, id| {
            taken.remove(&id);
        });
    }
}
