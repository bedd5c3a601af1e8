//! The journal's rows: how an event becomes one and how it is read back.
//!
//! The body is the event as JSON; the other columns repeat what is searched for. `end_bytes` is the
//! running total of the journal's size, so that the size of any stretch is one subtraction.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use super::tail::Weighed;
use crate::model::event::EventType;
use crate::model::{Event, NewEvent, Sequence};

/// What a row costs besides its body: keys, columns and three index entries, roughly.
const ROW_OVERHEAD: u64 = 128;

/// Writes an event; returns the encoded size of its body and the journal's size with it.
pub(super) fn insert(
    connection: &Connection,
    sequence: Sequence,
    event: &NewEvent,
    end_bytes: u64,
) -> rusqlite::Result<(usize, u64)> {
    let body = encode(event)?;
    let end_bytes = end_bytes + row_bytes(body.len() as u64);
    let container = event.container.as_ref().map(|c| c.id.to_string());
    let request = event.cause.as_ref().map(|cause| cause.request_id.as_str());
    connection
        .prepare_cached(
            "INSERT INTO events
             (sequence, time, type, container_id, request_id, image, end_bytes, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            sequence.0.cast_signed(),
            to_nanos(event.time),
            type_name(event.kind.event_type())?,
            container,
            request,
            event.image.as_deref(),
            end_bytes.cast_signed(),
            body,
        ])?;
    Ok((body.len(), end_bytes))
}

/// What a row with such a body counts.
pub(super) fn row_bytes(body_bytes: u64) -> u64 {
    body_bytes + ROW_OVERHEAD
}

/// Reads an event from a row of `sequence, body`.
pub(super) fn event(row: &Row<'_>) -> rusqlite::Result<Weighed> {
    let sequence = Sequence(row.get::<_, i64>(0)?.cast_unsigned());
    let text = row.get_ref(1)?.as_str()?;
    let body = decode(1, text)?;
    Ok(Weighed {
        event: Arc::new(Event { sequence, body }),
        bytes: text.len(),
    })
}

/// Reads a sequence from the first column.
pub(super) fn sequence(row: &Row<'_>) -> rusqlite::Result<Sequence> {
    row.get::<_, i64>(0).map(|n| Sequence(n.cast_unsigned()))
}

/// An event's type as the `type` column has it.
pub(super) fn type_name(event_type: EventType) -> rusqlite::Result<String> {
    encode(&event_type).map(|quoted| quoted.trim_matches('"').to_owned())
}

/// A value as the JSON of a column.
pub(crate) fn encode<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

/// A value from the JSON of a column.
pub(crate) fn decode<T: serde::de::DeserializeOwned>(
    column: usize,
    text: &str,
) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

/// A time as a column: nanoseconds since 1970; what does not fit (before 1970, after 2262) is the
/// nearest that does.
pub(crate) fn to_nanos(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A time from a column.
pub(crate) fn from_nanos(nanos: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos).unwrap_or_default())
}
