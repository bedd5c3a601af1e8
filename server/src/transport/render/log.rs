//! The messages of logs.

use std::time::SystemTime;

use wharf_api::v1;
use wharf_api::v1::{follow_logs_response, stream_logs_response};

use super::{signed, status};
use crate::engine::logs::{LogEntry, LogItem, LogMessage};
use crate::transport::render::stdio::stream;

/// Implements the rendering of an item as either response's: they have the same cases.
macro_rules! response {
    ($module:ident, $item:expr) => {{
        use $module::Response as R;
        match $item {
            LogItem::Entries(entries) => R::Entries(v1::LogEntries {
                entries: entries.into_iter().map(entry).collect(),
            }),
            LogItem::Gap { missed } => R::Gap(v1::LogGap {
                missed_bytes: signed(missed),
            }),
            LogItem::RunStarted { time } => R::RunStarted(v1::LogRunStarted {
                start_time: Some(time.into()),
            }),
            LogItem::RunExited(exit) => R::RunExited(status::exit_status(&exit)),
            LogItem::Idle => R::Idle(idle()),
        }
    }};
}

/// One message of one container's log.
pub(in crate::transport) fn message(message: LogMessage) -> v1::StreamLogsResponse {
    v1::StreamLogsResponse {
        cursor: message.cursor.to_string(),
        container_id: message.cursor.container().to_string(),
        run: message.run.0,
        response: Some(response!(stream_logs_response, message.item)),
    }
}

/// One message of many logs; `None` after a silence.
pub(in crate::transport) fn followed(message: Option<LogMessage>) -> v1::FollowLogsResponse {
    let Some(message) = message else {
        return v1::FollowLogsResponse {
            response: Some(follow_logs_response::Response::Idle(idle())),
            ..v1::FollowLogsResponse::default()
        };
    };
    v1::FollowLogsResponse {
        cursor: message.cursor.to_string(),
        container_id: message.cursor.container().to_string(),
        run: message.run.0,
        response: Some(response!(follow_logs_response, message.item)),
    }
}

fn entry(entry: LogEntry) -> v1::LogEntry {
    v1::LogEntry {
        time: Some(time(entry.time)),
        stream: stream(entry.stream).into(),
        data: entry.data,
        partial: entry.partial,
    }
}

/// Made for each line: without the detour over the system's type.
fn time(nanos: u64) -> prost_types::Timestamp {
    const SECOND: u64 = 1_000_000_000;
    prost_types::Timestamp {
        seconds: signed(nanos / SECOND),
        // Below a thousand million.
        nanos: i32::try_from(nanos % SECOND).unwrap_or_default(),
    }
}

fn idle() -> v1::LogIdle {
    v1::LogIdle {
        time: Some(SystemTime::now().into()),
    }
}
