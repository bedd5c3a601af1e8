//! `LogService`.

use tonic::Code;
use wharf_api::v1;
use wharf_api::v1::log_service_client::LogServiceClient;
use wharf_api::v1::stream_logs_request::Start;
use wharf_api::v1::stream_logs_response::Response;
use wharf_api::v1::{OutputStream, follow_logs_response};

use super::{Api, Channel, refusal};
use crate::stdio::segment::{End, Limits, Output, Writer};

const LIMITS: Limits = Limits {
    segment_bytes: 1 << 20,
    total_bytes: 1 << 22,
};
/// 2023-11-14T22:13:20.000000123Z.
const TIME: u64 = 1_700_000_000_000_000_123;

impl Api {
    fn logs(&self) -> LogServiceClient<Channel> {
        LogServiceClient::new(self.channel())
    }

    /// Records what a container's first run wrote, as the keeper would.
    fn record(&self, container: &v1::Container, output: &[(Output, &[u8])]) {
        let state = self._dir.path().join("state/containers");
        let directory = state.join(&container.id).join("log");
        let mut writer = Writer::open(&directory, 1, LIMITS, TIME - 1).unwrap();
        for (stream, bytes) in output {
            writer.append(TIME, *stream, bytes).unwrap();
        }
        writer.end(TIME + 1, End { truncated: false }).unwrap();
    }

    async fn messages(&self, request: v1::StreamLogsRequest) -> Vec<v1::StreamLogsResponse> {
        let answer = self.logs().stream_logs(request).await.unwrap();
        let mut stream = answer.into_inner();
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            messages.push(message);
        }
        messages
    }
}

fn of(container: &str) -> v1::StreamLogsRequest {
    v1::StreamLogsRequest {
        container: container.to_owned(),
        ..Default::default()
    }
}

fn after(container: &str, cursor: &str) -> v1::StreamLogsRequest {
    v1::StreamLogsRequest {
        start: Some(Start::Cursor(cursor.to_owned())),
        ..of(container)
    }
}

async fn started(api: &Api, name: &str) -> v1::Container {
    api.create(|r| {
        r.name = name.to_owned();
        r.start = true;
    })
    .await
}

#[tokio::test]
async fn a_log_is_told_with_marks_bytes_and_cursors() {
    let api = Api::new().await;
    let container = started(&api, "a").await;
    let output: [(Output, &[u8]); 2] =
        [(Output::Stdout, b"out\xff\r\n"), (Output::Stderr, b"err\n")];
    api.record(&container, &output);
    let messages = api.messages(of("a")).await;
    assert_eq!(messages.len(), 2);
    for message in &messages {
        assert_eq!((&message.container_id, message.run), (&container.id, 1));
        assert!(!message.cursor.is_empty());
    }
    let Some(Response::RunStarted(mark)) = &messages[0].response else {
        unreachable!("{messages:?}");
    };
    assert_eq!(mark.start_time.unwrap().nanos, 122);
    let Some(Response::Entries(batch)) = &messages[1].response else {
        unreachable!("{messages:?}");
    };
    let [first, second] = &batch.entries[..] else {
        unreachable!("{batch:?}");
    };
    assert_eq!(&first.data[..], b"out\xff\r\n");
    assert_eq!(first.stream(), OutputStream::Stdout);
    let time = first.time.unwrap();
    assert_eq!((time.seconds, time.nanos), (1_700_000_000, 123));
    assert_eq!(second.stream(), OutputStream::Stderr);
    assert!(!first.partial && !second.partial);

    let rest = api.messages(after("a", &messages[0].cursor)).await;
    assert_eq!(rest, messages[1..]);
    let only = v1::StreamLogsRequest {
        streams: vec![OutputStream::Stderr.into()],
        tail_entries: Some(1),
        ..of(&container.id)
    };
    let told = api.messages(only).await;
    let Some(Response::Entries(batch)) = &told.last().unwrap().response else {
        unreachable!("{told:?}");
    };
    assert_eq!(&batch.entries[0].data[..], b"err\n");
    api.close().await;
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let api = Api::new().await;
    let container = started(&api, "a").await;
    let other = started(&api, "b").await;
    api.record(&container, &[]);
    let cursor = api.messages(of("a")).await[0].cursor.clone();
    let invalid = (Code::InvalidArgument, "CURSOR_INVALID".to_owned());
    let request = after("b", &cursor);
    assert_eq!(refusal(api.logs().stream_logs(request).await), invalid);
    for bad in ["", "nonsense"] {
        let request = after("a", bad);
        assert_eq!(refusal(api.logs().stream_logs(request).await), invalid);
    }
    let missing = (Code::NotFound, "CONTAINER_NOT_FOUND".to_owned());
    let request = after("nobody", "nonsense");
    assert_eq!(refusal(api.logs().stream_logs(request).await), missing);
    let silent = |r: &mut v1::CreateContainerRequest| {
        r.name = "silent".to_owned();
        let spec = r.spec.as_mut().unwrap();
        spec.log = Some(v1::LogSpec {
            disabled: true,
            ..Default::default()
        });
    };
    api.create(silent).await;
    let none = (Code::NotFound, "LOG_NOT_FOUND".to_owned());
    assert_eq!(refusal(api.logs().stream_logs(of("silent")).await), none);

    let at = |container_id: &str, cursor: &str| v1::LogPosition {
        container_id: container_id.to_owned(),
        cursor: cursor.to_owned(),
    };
    let follow = async |positions: Vec<v1::LogPosition>| {
        let request = v1::FollowLogsRequest {
            positions,
            ..Default::default()
        };
        refusal(api.logs().follow_logs(request).await)
    };
    assert_eq!(follow(vec![at(&other.id, &cursor)]).await, invalid);
    assert_eq!(follow(vec![at(&other.id, "nonsense")]).await, invalid);
    let field = (Code::InvalidArgument, "INVALID_FIELD".to_owned());
    let twice = vec![at(&container.id, &cursor), at(&container.id, &cursor)];
    assert_eq!(follow(twice).await, field);
    assert_eq!(follow(vec![at("a", &cursor)]).await, field);
    api.close().await;
}

#[tokio::test]
async fn many_logs_come_on_one_stream() {
    let api = Api::new().await;
    let mut ids = Vec::new();
    for name in ["a", "b"] {
        let container = started(&api, name).await;
        api.record(&container, &[(Output::Stdout, name.as_bytes())]);
        ids.push(container.id);
    }
    let request = v1::FollowLogsRequest {
        filter: Some(v1::ContainerFilter {
            names: vec!["b".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let answer = api.logs().follow_logs(request).await.unwrap();
    let mut stream = answer.into_inner();
    let begun = stream.message().await.unwrap().unwrap();
    assert!(matches!(
        begun.response,
        Some(follow_logs_response::Response::Idle(_))
    ));
    let started = stream.message().await.unwrap().unwrap();
    assert!(matches!(
        started.response,
        Some(follow_logs_response::Response::RunStarted(_))
    ));
    let entries = stream.message().await.unwrap().unwrap();
    assert_eq!(entries.container_id, ids[1]);
    let Some(follow_logs_response::Response::Entries(batch)) = entries.response else {
        unreachable!("{entries:?}");
    };
    assert_eq!(&batch.entries[0].data[..], b"b");
    drop(stream);
    api.close().await;
}
