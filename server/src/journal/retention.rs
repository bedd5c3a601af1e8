//! Which events go: those beyond the journal's size, and those beyond its age.
//!
//! Removed from the old end in small steps, between commits. The oldest resume point moves before
//! rows go, so that whoever reads there is told so and never finds a silent hole.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension as _};

use super::{Shared, rows};
use crate::model::Sequence;

/// What the journal keeps at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes, all events together.
    pub(crate) bytes: u64,
    /// Age of an event.
    pub(crate) age: Duration,
}

/// What a step found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing has to go for now.
    Done,
    /// More has to go.
    More,
}

/// The oldest event there is, as far as needed to tell whether it is due.
#[derive(Debug, Clone, Copy)]
struct Oldest {
    /// The journal's running size before it.
    start_bytes: u64,
    /// When it was, in nanoseconds.
    time: i64,
}

/// The state of the old end.
#[derive(Debug)]
pub(crate) struct Retention {
    limits: Limits,
    /// `None` if there was no event when last looked at.
    oldest: Option<Oldest>,
}

/// A row as far as retention needs it.
struct Candidate {
    sequence: Sequence,
    time: i64,
    end_bytes: u64,
}

impl Retention {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            oldest: None,
        }
    }

    /// Whether something may have to go, from what is remembered of the oldest event.
    pub(super) fn may_be_due(&self, end_bytes: u64) -> bool {
        self.oldest
            .is_none_or(|oldest| self.is_due(oldest, end_bytes))
    }

    /// Removes at most `rows` events that are due, of a journal whose running size is `end_bytes`.
    pub(super) fn step(
        &mut self,
        shared: &Shared,
        connection: &Connection,
        end_bytes: u64,
        rows: usize,
    ) -> rusqlite::Result<Step> {
        if !self.may_be_due(end_bytes) {
            return Ok(Step::Done);
        }
        let gone = Sequence(shared.oldest.load(Ordering::Acquire));
        let candidates = candidates(connection, gone, rows)?;
        let doomed = self.doomed(connection, &candidates, end_bytes)?;
        if let Some(last) = doomed.last() {
            let latest = doomed
                .iter()
                .map(|gone| gone.time)
                .max()
                .unwrap_or_default();
            let lost = shared.lost.fetch_max(latest, Ordering::AcqRel).max(latest);
            shared.oldest.store(last.sequence.0, Ordering::Release);
            shared.tail.write().forget(last.sequence);
            remove(connection, last.sequence, lost)?;
        }
        Ok(if !doomed.is_empty() && doomed.len() == candidates.len() {
            Step::More
        } else {
            Step::Done
        })
    }

    /// The first of `candidates`, as many as must go. Remembers the first that stays.
    fn doomed<'a>(
        &mut self,
        connection: &Connection,
        candidates: &'a [Candidate],
        end_bytes: u64,
    ) -> rusqlite::Result<&'a [Candidate]> {
        let Some(first) = candidates.first() else {
            self.oldest = None;
            return Ok(&[]);
        };
        let mut start_bytes = start_of(connection, first)?;
        for (index, candidate) in candidates.iter().enumerate() {
            let oldest = Oldest {
                start_bytes,
                time: candidate.time,
            };
            self.oldest = Some(oldest);
            if !self.is_due(oldest, end_bytes) {
                return Ok(&candidates[..index]);
            }
            start_bytes = candidate.end_bytes;
        }
        // What follows was not looked at: the next step must.
        self.oldest = None;
        Ok(candidates)
    }

    fn is_due(&self, oldest: Oldest, end_bytes: u64) -> bool {
        let horizon = SystemTime::now().checked_sub(self.limits.age);
        end_bytes.saturating_sub(oldest.start_bytes) > self.limits.bytes
            || horizon.is_some_and(|horizon| oldest.time < rows::to_nanos(horizon))
    }
}

fn candidates(
    connection: &Connection,
    after: Sequence,
    limit: usize,
) -> rusqlite::Result<Vec<Candidate>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "SELECT sequence, time, end_bytes FROM events
             WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
        )?
        .query_map((after.0.cast_signed(), limit), |row| {
            Ok(Candidate {
                sequence: rows::sequence(row)?,
                time: row.get(1)?,
                end_bytes: row.get::<_, i64>(2)?.cast_unsigned(),
            })
        })?
        .collect()
}

/// The journal's running size before `first`. The row before it may be gone, so it follows from its
/// own size.
fn start_of(connection: &Connection, first: &Candidate) -> rusqlite::Result<u64> {
    let body_bytes = connection
        .prepare_cached("SELECT octet_length(body) FROM events WHERE sequence = ?1")?
        .query_row([first.sequence.0.cast_signed()], |row| row.get::<_, i64>(0))?;
    let row_bytes = rows::row_bytes(body_bytes.cast_unsigned());
    Ok(first.end_bytes.saturating_sub(row_bytes))
}

/// Removes the events up to and including `last`, and writes what no row may be left to tell.
fn remove(connection: &Connection, last: Sequence, lost: i64) -> rusqlite::Result<()> {
    let removal = connection.unchecked_transaction()?;
    removal
        .prepare_cached("DELETE FROM events WHERE sequence <= ?1")?
        .execute([last.0.cast_signed()])?;
    removal
        .prepare_cached("UPDATE journal SET oldest = ?1, lost = ?2")?
        .execute([last.0.cast_signed(), lost])?;
    removal.commit()
}

/// Where the journal in a database begins and ends.
#[derive(Debug)]
pub(super) struct Extent {
    /// The oldest resume point.
    pub(super) oldest: Sequence,
    /// The newest event, there or gone.
    pub(super) newest: Sequence,
    /// When the latest of the events that are gone was, in nanoseconds; 0 if none is gone.
    pub(super) lost: i64,
    /// The running size with the newest event.
    pub(super) end_bytes: u64,
}

impl Extent {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let (oldest, lost) =
            connection.query_row("SELECT oldest, lost FROM journal", [], |row| {
                Ok((rows::sequence(row)?, row.get(1)?))
            })?;
        let last = connection
            .query_row(
                "SELECT sequence, end_bytes FROM events ORDER BY sequence DESC LIMIT 1",
                [],
                |row| Ok((rows::sequence(row)?, row.get::<_, i64>(1)?.cast_unsigned())),
            )
            .optional()?;
        let (newest, end_bytes) = last.unwrap_or((oldest, 0));
        Ok(Self {
            oldest,
            newest: newest.max(oldest),
            lost,
            end_bytes,
        })
    }
}
