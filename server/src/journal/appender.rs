//! The journal's writing end. The store's writer owns it, and with it the numbering.
//!
//! ```text
//! append (in the store's transaction) --commit--> publish: tail, then newest
//!                                     --failed--> discard: the numbers are free again
//! ```

use std::mem;
use std::sync::Arc;

use rusqlite::Connection;

use super::retention::{Retention, Step};
use super::tail::Weighed;
use super::{Journal, rows};
use crate::model::{Event, NewEvent, Sequence};

/// Appends events. There is one for each journal.
#[derive(Debug)]
pub(crate) struct Appender {
    journal: Journal,
    retention: Retention,
    /// The newest event, published or staged.
    last: Sequence,
    /// The journal's running size with it.
    end_bytes: u64,
    /// Written in the transaction at hand.
    staged: Vec<Weighed>,
    /// As of the last commit.
    committed: (Sequence, u64),
}

impl Appender {
    pub(super) fn new(journal: Journal, retention: Retention, last: Sequence, bytes: u64) -> Self {
        Self {
            journal,
            retention,
            last,
            end_bytes: bytes,
            staged: Vec::new(),
            committed: (last, bytes),
        }
    }

    /// The newest event, also if it is not yet committed.
    pub(crate) fn last(&self) -> Sequence {
        self.last
    }

    /// Writes an event and gives it its number.
    pub(crate) fn append(
        &mut self,
        connection: &Connection,
        event: NewEvent,
    ) -> rusqlite::Result<Sequence> {
        let sequence = self.last.next();
        let (bytes, end_bytes) = rows::insert(connection, sequence, &event, self.end_bytes)?;
        let event = Arc::new(Event {
            sequence,
            body: event,
        });
        self.staged.push(Weighed { event, bytes });
        self.last = sequence;
        self.end_bytes = end_bytes;
        Ok(sequence)
    }

    /// The transaction failed: what was appended is not.
    pub(crate) fn discard(&mut self) {
        self.staged.clear();
        (self.last, self.end_bytes) = self.committed;
    }

    /// The transaction is committed: its events may be seen. Returns how many.
    pub(crate) fn publish(&mut self) -> usize {
        let events = mem::take(&mut self.staged);
        let count = events.len();
        self.committed = (self.last, self.end_bytes);
        if count > 0 {
            let shared = &self.journal.shared;
            shared.tail.write().extend(events);
            shared.newest.send_replace(self.last);
        }
        count
    }

    /// Whether events may be due to go, as far as can be told without asking the database.
    pub(crate) fn may_retain(&self) -> bool {
        self.retention.may_be_due(self.end_bytes)
    }

    /// Removes up to `rows` of the oldest events if they are due. No transaction may be open.
    pub(crate) fn retain(
        &mut self,
        connection: &Connection,
        rows: usize,
    ) -> rusqlite::Result<Step> {
        self.retention
            .step(&self.journal.shared, connection, self.end_bytes, rows)
    }
}
