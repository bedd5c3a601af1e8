//! Back-pressure that was asked for: while a caller holds a process, output is drained only so far ahead
//! of that caller. How far is the keeper's business: it knows what is kept.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use wharf_keeper::segment::MAX_READ_AHEAD_BYTES;

use super::stream::Stream;
use crate::model::limits::BLOCK_WINDOW_BYTES;

const _: () = assert!(BLOCK_WINDOW_BYTES == MAX_READ_AHEAD_BYTES);

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
    fn slowest(&self) -> Option<u64> {
        self.taken.values().min().copied()
    }

    /// How far the slowest is, if that is to be told.
    fn news(&mut self) -> Option<Option<u64>> {
        let slowest = self.slowest();
        let is_news = self.told != slowest;
        self.told = slowest;
        is_news.then_some(slowest)
    }
}

impl Window {
    /// How far the slowest is, which whoever asks tells the keeper.
    pub(super) fn taken(&self) -> Option<u64> {
        let mut inner = self.inner.lock();
        inner.told = inner.slowest();
        inner.told
    }
}

/// A caller's hold on a process: it waits for this caller. Ends when dropped.
#[derive(Debug)]
pub struct Hold {
    stream: Arc<Stream>,
    id: u64,
    /// What was taken, of both streams together.
    total: u64,
    /// What of it was taken since it was last said, as it is stored.
    unsaid: u64,
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
        Self {
            stream,
            id,
            total: taken,
            unsaid: 0,
        }
    }

    /// The caller has taken `total` bytes, of both streams together; what came last takes `stored` bytes of
    /// the recording. Each time it is told costs a message, so it is told in steps, which are measured as
    /// the keeper measures: a caller that has taken everything is never waited for.
    pub fn taken(&mut self, total: u64, stored: u64) {
        // Of a gap the keeper counts what was lost.
        self.unsaid += stored.max(total.saturating_sub(self.total));
        self.total = total;
        if self.unsaid >= self.stream.limits().read_ahead_bytes() / 8 {
            self.unsaid = 0;
            self.change(|taken, id| {
                taken.insert(id, total);
            });
        }
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use wharf_keeper::segment::Limits;

    use super::super::Place;
    use super::*;

    fn hold() -> Hold {
        let place = Place {
            segments: PathBuf::new(),
            run: 1,
            limits: Limits {
                segment_bytes: 1 << 20,
                total_bytes: 8 << 20,
            },
            fifos: PathBuf::new(),
            stdin: false,
            terminal: false,
        };
        Stream::new("held".to_owned(), place, None).hold(0)
    }

    #[test]
    fn single_bytes_are_told_as_often_as_the_keeper_counts_them() {
        let mut hold = hold();
        let step = hold.stream.limits().read_ahead_bytes() / 8;
        let bytes = step.div_ceil(17);
        for total in 1..=bytes {
            assert_eq!(hold.stream.window.taken(), Some(0));
            hold.taken(total, 17);
        }
        assert_eq!(hold.stream.window.taken(), Some(bytes));
    }

    #[test]
    fn a_gap_that_takes_nothing_to_keep_is_told_by_what_was_lost() {
        let mut hold = hold();
        hold.taken(4 << 20, 16);
        assert_eq!(hold.stream.window.taken(), Some(4 << 20));
    }
}
