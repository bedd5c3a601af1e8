//! The requests of `LogService`.

use wharf_api::v1;
use wharf_api::v1::stream_logs_request::Start;

use super::flaws;
use crate::engine::logs::{LogEnd, LogStart};
use crate::model::{ContainerId, OutputStream};
use crate::transport::parse::log;
use crate::transport::{CallError, Violations};

fn stream_flaws(request: v1::StreamLogsRequest) -> Vec<String> {
    flaws(|out| log::stream(request, out))
}

#[test]
fn an_empty_request_wants_all_there_is() {
    let mut out = Violations::new();
    let query = log::stream(v1::StreamLogsRequest::default(), &mut out).unwrap();
    assert!(out.is_empty(), "{out}");
    assert_eq!((query.start, query.end), (LogStart::Beginning, LogEnd::Now));
    assert_eq!((query.tail, query.until, query.only), (None, None, None));
}

#[test]
fn each_field_is_read() {
    let mut out = Violations::new();
    let request = v1::StreamLogsRequest {
        streams: vec![2],
        follow: true,
        stop_at_exit: true,
        tail_entries: Some(0),
        start: Some(Start::SinceTime(prost_types::Timestamp::default())),
        ..Default::default()
    };
    let query = log::stream(request, &mut out).unwrap();
    assert!(out.is_empty(), "{out}");
    assert_eq!(
        query.start,
        LogStart::Since(std::time::SystemTime::UNIX_EPOCH)
    );
    assert_eq!((query.tail, query.end), (Some(0), LogEnd::Exit));
    assert_eq!(query.only, Some(OutputStream::Stderr));
}

#[test]
fn what_does_not_go_together_is_named() {
    let request = v1::StreamLogsRequest {
        streams: vec![0, 7],
        stop_at_exit: true,
        tail_entries: Some(1),
        start: Some(Start::Cursor(String::new())),
        ..Default::default()
    };
    let expected = [
        "tail_entries CONFLICT",
        "streams[0] REQUIRED",
        "streams[1] UNKNOWN_VALUE",
        "stop_at_exit CONFLICT",
    ];
    assert_eq!(stream_flaws(request), expected);
}

#[test]
fn positions_are_of_containers_and_few() {
    let id = ContainerId::generate().to_string();
    let position = |container_id: &str| v1::LogPosition {
        container_id: container_id.to_owned(),
        cursor: "nonsense".to_owned(),
    };
    let request = |positions| v1::FollowLogsRequest {
        positions,
        ..Default::default()
    };
    let found = flaws(|out| log::follow(request(vec![position("a")]), out));
    assert_eq!(found, ["positions[0].container_id MALFORMED"]);
    let many = vec![position(&id); 1_001];
    let found = flaws(|out| log::follow(request(many), out));
    assert_eq!(found, ["positions TOO_MANY"]);
    let mut out = Violations::new();
    let refused = log::follow(request(vec![position(&id)]), &mut out);
    assert!(
        matches!(&refused, Err(CallError::CursorInvalid { field }) if field == "positions[0].cursor"),
        "{refused:?}"
    );
}
