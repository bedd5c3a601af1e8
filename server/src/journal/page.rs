//! Paging through past events. SQL narrows the rows by what has a column; the filter decides.
//!
//! A search is made in slices, and gives its connection back after each: one that finds little in a
//! large journal must not keep others waiting, and ends with the slice if its caller goes away.

use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::tail::Room;
use super::{Direction, Query, rows};
use crate::model::{Event, Sequence};

/// Rows that one slice decodes at most.
const SLICE_ROWS: usize = 2_048;

/// A page in the making.
#[derive(Debug)]
pub(super) struct Page {
    query: Query,
    room: Room,
    /// Events outside of (after, through] are not looked at.
    after: Sequence,
    through: Sequence,
    events: Vec<Arc<Event>>,
}

/// How far a page got.
#[derive(Debug)]
pub(super) enum Progress {
    /// There is more to look at.
    Unfinished(Box<Page>),
    /// It is full; the last of its events is where the next page goes on.
    Full(Vec<Arc<Event>>),
    /// There is nothing more.
    Last(Vec<Arc<Event>>),
}

impl Page {
    /// A page of what is in (oldest, newest].
    pub(super) fn new(query: Query, oldest: Sequence, newest: Sequence) -> Self {
        let (after, through) = match (query.direction, query.from) {
            (_, None) => (oldest, newest),
            (Direction::Ascending, Some(from)) => (from, newest),
            (Direction::Descending, Some(from)) => {
                (oldest, newest.min(Sequence(from.0.saturating_sub(1))))
            }
        };
        Self {
            room: Room::of(query.limit, query.max_bytes),
            query,
            after,
            through,
            events: Vec::new(),
        }
    }

    /// The resume point that must still be there after the next [`Self::advance`], or the page may
    /// have a hole: none if nothing was promised before it, as events go at the old end only.
    pub(super) fn depends_on(&self) -> Option<Sequence> {
        let goes_on = self.query.from.is_some() || !self.events.is_empty();
        match self.query.direction {
            Direction::Ascending => goes_on.then_some(self.after),
            Direction::Descending => None,
        }
    }

    /// Looks at some more rows.
    pub(super) fn advance(
        mut self: Box<Self>,
        connection: &Connection,
    ) -> rusqlite::Result<Progress> {
        let (sql, values) = self.statement()?;
        let mut statement = connection.prepare_cached(&sql)?;
        let mut found = statement.query(params_from_iter(values))?;
        let mut looked_at = 0;
        while let Some(row) = found.next()? {
            let weighed = rows::event(row)?;
            let sequence = weighed.event.sequence;
            if self.query.filter.matches(&weighed.event.body) {
                if !self.room.takes(weighed.bytes) {
                    return Ok(Progress::Full(self.events));
                }
                self.events.push(weighed.event);
            }
            self.move_past(sequence);
            looked_at += 1;
        }
        Ok(if looked_at < SLICE_ROWS {
            Progress::Last(self.events)
        } else {
            Progress::Unfinished(self)
        })
    }

    fn move_past(&mut self, sequence: Sequence) {
        match self.query.direction {
            Direction::Ascending => self.after = sequence,
            Direction::Descending => self.through = Sequence(sequence.0.saturating_sub(1)),
        }
    }

    fn statement(&self) -> rusqlite::Result<(String, Vec<Value>)> {
        let mut sql = String::from("SELECT sequence, body FROM events WHERE ");
        let mut values = vec![
            Value::Integer(self.after.0.cast_signed()),
            Value::Integer(self.through.0.cast_signed()),
        ];
        sql.push_str(self.range());
        for (condition, value) in self.conditions()? {
            sql.push_str(" AND ");
            sql.push_str(condition);
            values.push(value);
        }
        sql.push_str(match self.query.direction {
            Direction::Ascending => " ORDER BY sequence LIMIT ",
            Direction::Descending => " ORDER BY sequence DESC LIMIT ",
        });
        sql.push_str(&SLICE_ROWS.to_string());
        Ok((sql, values))
    }

    /// The plus signs keep SQLite from walking the whole range by sequence where an index of few
    /// rows is at hand: it has no statistics that would tell it.
    fn range(&self) -> &'static str {
        let filter = &self.query.filter;
        if filter.request_ids.is_empty() && filter.containers.is_empty() {
            "sequence > ? AND sequence <= ?"
        } else {
            "+sequence > ? AND +sequence <= ?"
        }
    }

    /// What narrows the rows. Each takes the next parameter.
    fn conditions(&self) -> rusqlite::Result<Vec<(&'static str, Value)>> {
        let filter = &self.query.filter;
        let mut conditions = Vec::new();
        if !filter.request_ids.is_empty() {
            let ids = filter.request_ids.iter().map(|id| id.as_str().to_owned());
            conditions.push(("request_id IN (SELECT value FROM json_each(?))", list(ids)?));
        } else if !filter.containers.is_empty() {
            let ids = filter.containers.iter().map(ToString::to_string);
            conditions.push((
                "container_id IN (SELECT value FROM json_each(?))",
                list(ids)?,
            ));
        }
        if let Some(types) = &filter.types {
            let names = types.iter().map(|event_type| rows::type_name(*event_type));
            let names = names.collect::<Result<Vec<_>, _>>()?;
            conditions.push(("type IN (SELECT value FROM json_each(?))", list(names)?));
        }
        if !filter.images.is_empty() {
            let images = filter.images.iter().cloned();
            conditions.push(("image IN (SELECT value FROM json_each(?))", list(images)?));
        }
        if let Some(since) = self.query.since {
            conditions.push(("time >= ?", Value::Integer(rows::to_nanos(since))));
        }
        if let Some(until) = self.query.until {
            conditions.push(("time < ?", Value::Integer(rows::to_nanos(until))));
        }
        Ok(conditions)
    }
}

/// Several values as one parameter.
fn list(values: impl IntoIterator<Item = String>) -> rusqlite::Result<Value> {
    let values: Vec<String> = values.into_iter().collect();
    rows::encode(&values).map(Value::Text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
pub(super) mod tests {
    use super::*;

    /// Asks SQLite how it would look for a page.
    pub(in crate::journal) fn explain(query: Query) -> String {
        let page = Page::new(query, Sequence(0), Sequence(10));
        format!("EXPLAIN QUERY PLAN {}", page.statement().unwrap().0)
    }
}
