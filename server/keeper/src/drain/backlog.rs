//! How much of a recording a reader has not taken: what it takes to keep it, not only its bytes.

use std::collections::VecDeque;

/// A place in the recording.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Bytes of both outputs before it.
    drained: u64,
    /// What has been stored before it, data and index, since this was made.
    stored: u64,
}

/// From the bytes that a reader says it has taken to what is stored behind them: exactly at the marks, and
/// a little too much between two of them.
#[derive(Debug)]
pub(super) struct Backlog {
    spacing: u64,
    stored: u64,
    /// None while there is no reader.
    marks: VecDeque<Mark>,
}

impl Backlog {
    /// Marks lie `spacing` bytes apart, as they are stored.
    pub(super) fn new(spacing: u64) -> Self {
        Self {
            spacing,
            stored: 0,
            marks: VecDeque::new(),
        }
    }

    /// The recording has grown by `stored` bytes, to `drained` bytes of output.
    pub(super) fn grew(&mut self, drained: u64, stored: u64) {
        self.stored = self.stored.saturating_add(stored);
        let is_due = |last: &Mark| self.stored - last.stored >= self.spacing;
        if self.marks.back().is_some_and(is_due) {
            self.mark(drained);
        }
    }

    /// What is stored behind the first `taken` bytes; `None` if nobody takes any. What was stored before
    /// anybody did counts by its bytes alone.
    pub(super) fn unread(&mut self, taken: Option<u64>, drained: u64) -> Option<u64> {
        let Some(taken) = taken else {
            self.marks.clear();
            return None;
        };
        if self.marks.is_empty() {
            self.mark(drained);
        }
        while self.marks.get(1).is_some_and(|mark| mark.drained <= taken) {
            self.marks.pop_front();
        }
        let first = self.marks.front()?;
        let stored = self.stored - first.stored;
        Some(stored.saturating_add(first.drained).saturating_sub(taken))
    }

    fn mark(&mut self, drained: u64) {
        let stored = self.stored;
        self.marks.push_back(Mark { drained, stored });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_reader_nothing_is_unread() {
        let mut backlog = Backlog::new(10);
        backlog.grew(100, 116);
        assert_eq!(backlog.unread(None, 100), None);
    }

    #[test]
    fn what_came_before_the_reader_counts_by_its_bytes() {
        let mut backlog = Backlog::new(10);
        backlog.grew(100, 1_700);
        assert_eq!(backlog.unread(Some(60), 100), Some(40));
    }

    #[test]
    fn single_bytes_count_with_their_entries() {
        let mut backlog = Backlog::new(170);
        assert_eq!(backlog.unread(Some(0), 0), Some(0));
        for drained in 1..=100 {
            backlog.grew(drained, 17);
        }
        assert_eq!(backlog.unread(Some(0), 100), Some(1_700));
        assert_eq!(backlog.unread(Some(50), 100), Some(850), "at a mark");
        let between = backlog.unread(Some(55), 100).unwrap();
        assert!((765..=850).contains(&between), "{between}");
        assert_eq!(backlog.unread(Some(100), 100), Some(0));
    }

    #[test]
    fn marks_go_with_what_is_taken() {
        let mut backlog = Backlog::new(1);
        backlog.unread(Some(0), 0);
        for drained in 1..=1_000 {
            backlog.grew(drained, 17);
            backlog.unread(Some(drained - 1), drained);
        }
        assert!(backlog.marks.len() <= 3);
    }
}
