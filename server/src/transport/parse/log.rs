//! What is kept of a container's output, and the requests of `LogService`.

use std::collections::HashMap;

use wharf_api::v1;
use wharf_api::v1::stream_logs_request::Start;

use super::{Field, filter, reason, resources, stdio, time};
use crate::engine::logs::{FollowQuery, LogCursor, LogEnd, LogQuery, LogStart};
use crate::model::spec::Log;
use crate::model::{ContainerId, OutputStream, limits};
use crate::transport::{CallError, Violations};

const MIN_SEGMENT_BYTES: u64 = 64 << 10;
const MAX_SEGMENTS: u32 = 100;

/// Reads how a log is kept; what is 0 gets the server's default.
pub(super) fn log(log: Option<v1::LogSpec>, field: &Field<'_>, out: &mut Violations) -> Log {
    let log = log.unwrap_or_default();
    let default = Log::default();
    let (max_bytes, max_files) = (field.child("max_bytes"), field.child("max_files"));
    let bytes = resources::size(log.max_bytes, &max_bytes, out);
    if (1..MIN_SEGMENT_BYTES).contains(&bytes) {
        max_bytes.reject(reason::OUT_OF_RANGE, "must be 0 or at least 65536", out);
    }
    if log.max_files > MAX_SEGMENTS {
        max_files.reject(reason::OUT_OF_RANGE, "must be at most 100", out);
    }
    Log {
        disabled: log.disabled,
        segment_bytes: if bytes == 0 {
            default.segment_bytes
        } else {
            bytes
        },
        segments: if log.max_files == 0 {
            default.segments
        } else {
            log.max_files
        },
    }
}

/// Reads what is wanted of one log.
///
/// # Errors
/// [`CallError::CursorInvalid`], which matters only if there are no violations.
pub(crate) fn stream(
    request: v1::StreamLogsRequest,
    out: &mut Violations,
) -> Result<LogQuery, CallError> {
    if request.tail_entries.is_some() && matches!(request.start, Some(Start::Cursor(_))) {
        let description = "a cursor says already where to begin";
        Field::new("tail_entries").reject(reason::CONFLICT, description, out);
    }
    let query = LogQuery {
        start: LogStart::Beginning,
        tail: request.tail_entries,
        until: time::timestamp(request.until_time, &Field::new("until_time"), out),
        only: only(request.streams, out),
        end: end(request.follow, request.stop_at_exit, out),
    };
    let start = start(request.start, out)?;
    Ok(LogQuery { start, ..query })
}

fn start(start: Option<Start>, out: &mut Violations) -> Result<LogStart, CallError> {
    match start {
        None => Ok(LogStart::Beginning),
        Some(Start::Cursor(text)) => cursor(&text, &Field::new("cursor")).map(LogStart::Cursor),
        Some(Start::SinceTime(since)) => {
            let since = time::timestamp(Some(since), &Field::new("since_time"), out);
            Ok(since.map_or(LogStart::Beginning, LogStart::Since))
        }
    }
}

fn end(follow: bool, stop_at_exit: bool, out: &mut Violations) -> LogEnd {
    match (follow, stop_at_exit) {
        (true, true) => LogEnd::Exit,
        (true, false) => LogEnd::Deletion,
        (false, false) => LogEnd::Now,
        (false, true) => {
            Field::new("stop_at_exit").reject(reason::CONFLICT, "is for follow only", out);
            LogEnd::Now
        }
    }
}

/// Reads what is wanted of many logs.
///
/// # Errors
/// [`CallError::CursorInvalid`], which matters only if there are no violations.
pub(crate) fn follow(
    request: v1::FollowLogsRequest,
    out: &mut Violations,
) -> Result<FollowQuery, CallError> {
    let query = FollowQuery {
        filter: filter::containers(request.filter, &Field::new("filter"), out),
        positions: HashMap::new(),
        since: time::timestamp(request.since_time, &Field::new("since_time"), out),
        tail: request.tail_entries,
        only: only(request.streams, out),
    };
    let positions = positions(request.positions, out)?;
    Ok(FollowQuery { positions, ..query })
}

fn positions(
    positions: Vec<v1::LogPosition>,
    out: &mut Violations,
) -> Result<HashMap<ContainerId, LogCursor>, CallError> {
    let list = Field::new("positions");
    let mut read = HashMap::new();
    if !list.count(positions.len(), limits::MAX_LOG_POSITIONS, out) {
        return Ok(read);
    }
    let mut invalid = None;
    for (n, position) in positions.into_iter().enumerate() {
        let field = list.at(n);
        let id_field = field.child("container_id");
        let Ok(container) = position.container_id.parse::<ContainerId>() else {
            id_field.reject(reason::MALFORMED, "must be a container's id", out);
            continue;
        };
        let cursor_field = field.child("cursor");
        match cursor(&position.cursor, &cursor_field) {
            Ok(cursor) if cursor.container() == container => {
                if read.insert(container, cursor).is_some() {
                    id_field.reject(reason::DUPLICATE, "is in the list already", out);
                }
            }
            Ok(_) => _ = invalid.get_or_insert(cursor_invalid(&cursor_field)),
            Err(error) => _ = invalid.get_or_insert(error),
        }
    }
    invalid.map_or(Ok(read), Err)
}

fn cursor(text: &str, field: &Field<'_>) -> Result<LogCursor, CallError> {
    LogCursor::parse(text).map_err(|_| cursor_invalid(field))
}

fn cursor_invalid(field: &Field<'_>) -> CallError {
    CallError::CursorInvalid {
        field: field.to_string(),
    }
}

/// One stream, or `None` for both.
fn only(streams: Vec<i32>, out: &mut Violations) -> Option<OutputStream> {
    match stdio::streams(streams, &Field::new("streams"), out)[..] {
        [one] => Some(one),
        _ => None,
    }
}
