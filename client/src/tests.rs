//! The client against a scripted server: what is sent, what is repeated, what is resumed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::time::Duration;

use tokio::time::timeout;
use tonic::Status;
use wharf_api::v1::watch_events_request::{GapPolicy, Start};
use wharf_api::v1::watch_events_response::Response;
use wharf_api::v1::*;

use crate::testing::{Server, Step, away, ok, send};
use crate::{CallOptions, Client, Error, ErrorReason, RequestId, RetryPolicy};

const LIMIT: Duration = Duration::from_secs(20);

fn get() -> GetContainerRequest {
    GetContainerRequest {
        container: "web".into(),
        ..Default::default()
    }
}

fn create(key: &str) -> CreateContainerRequest {
    CreateContainerRequest {
        idempotency_key: key.into(),
        ..Default::default()
    }
}

fn got() -> Vec<Step> {
    vec![send(&GetContainerResponse::default()), ok()]
}

#[tokio::test]
async fn a_call_carries_request_id_trace_and_deadline() {
    let server = Server::start(vec![got()]);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let options = CallOptions::new()
        .request_id("job-7".parse().unwrap())
        .trace_parent(trace.parse().unwrap())
        .timeout(Duration::from_secs(9));
    server
        .client()
        .await
        .with(options)
        .call(get())
        .await
        .unwrap();
    let call = &server.calls()[0];
    assert_eq!(call.path, "/wharf.v1.ContainerService/GetContainer");
    assert_eq!(call.header("x-request-id"), Some("job-7"));
    assert_eq!(call.header("traceparent"), Some(trace));
    assert!(call.header("grpc-timeout").is_some());
    assert_eq!(call.message::<GetContainerRequest>(), get());
}

#[tokio::test]
async fn without_options_each_call_has_an_id_of_its_own_and_no_deadline() {
    let server = Server::start(vec![got(), got()]);
    let client = server.client().await;
    client.call(get()).await.unwrap();
    client.call(get()).await.unwrap();
    let calls = server.calls();
    let id = |n: usize| calls[n].header("x-request-id").unwrap().to_owned();
    assert!(id(0).parse::<RequestId>().is_ok());
    assert_ne!(id(0), id(1));
    assert_eq!(calls[0].header("grpc-timeout"), None);
}

#[tokio::test]
async fn a_read_is_repeated_when_the_server_asks_for_it_and_keeps_its_request_id() {
    let server = Server::start(vec![
        vec![away("SERVER_STARTING")],
        vec![away("SERVER_STARTING")],
        got(),
    ]);
    server.client().await.call(get()).await.unwrap();
    let calls = server.calls();
    assert_eq!(calls.len(), 3);
    assert_eq!(
        calls[0].header("x-request-id"),
        calls[2].header("x-request-id")
    );
}

#[tokio::test]
async fn a_create_is_repeated_only_with_an_idempotency_key() {
    let unkeyed = Server::start(vec![vec![away("BACKEND_UNAVAILABLE")]]);
    let error = unkeyed.client().await.call(create("")).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::BackendUnavailable));
    assert_eq!(unkeyed.calls().len(), 1);

    let keyed = Server::start(vec![
        vec![away("BACKEND_UNAVAILABLE")],
        vec![send(&CreateContainerResponse::default()), ok()],
    ]);
    keyed.client().await.call(create("k-1")).await.unwrap();
    assert_eq!(keyed.calls().len(), 2);
}

#[tokio::test]
async fn nothing_is_repeated_without_retry_info_or_beyond_the_attempts() {
    let plain = Server::start(vec![vec![Step::End(Status::unavailable("x"))]]);
    assert!(plain.client().await.call(get()).await.is_err());
    assert_eq!(plain.calls().len(), 1);

    let stubborn = Server::start((0..9).map(|_| vec![away("OVERLOADED")]).collect());
    let policy = RetryPolicy {
        max_attempts: 3,
        ..RetryPolicy::default()
    };
    let client = stubborn.client().await;
    assert!(
        client
            .with(CallOptions::new().retry(policy))
            .call(get())
            .await
            .is_err()
    );
    assert_eq!(stubborn.calls().len(), 3);
}

#[tokio::test]
async fn a_repeat_after_a_drain_uses_a_new_connection() {
    let server = Server::start(vec![vec![away("SERVER_DRAINING")], got()]);
    let client = server.client().await;
    client.call(get()).await.unwrap();
    assert_eq!((server.calls().len(), server.connections()), (2, 2));
}

#[tokio::test]
async fn a_deadline_that_passes_is_told_with_the_request_id() {
    let server = Server::start(vec![vec![Step::Hang]]);
    let options = CallOptions::new()
        .request_id("slow-1".parse().unwrap())
        .timeout(Duration::from_millis(50));
    let client = server.client().await.with(options);
    let error = timeout(LIMIT, client.call(get())).await.unwrap();
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Deadline { .. }), "{error:?}");
    assert_eq!(error.request_id(), Some("slow-1"));
}

#[tokio::test]
async fn a_lost_connection_is_neither_an_answer_nor_repeated() {
    let server = Server::start(vec![vec![Step::Cut], got()]);
    let error = server.client().await.call(get()).await.unwrap_err();
    assert!(matches!(error, Error::Disconnected { .. }), "{error:?}");
    assert_eq!(server.calls().len(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_connect_error_with_the_systems_kind() {
    let directory = tempfile::tempdir().unwrap();
    let address = format!("unix://{}/none.sock", directory.path().display());
    let error = Client::connect(address).await.unwrap_err();
    let Error::Connect { source, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test]
async fn pages_are_read_to_the_last_one() {
    let page = |name: &str, token: &str| {
        let page = ListContainersResponse {
            containers: vec![Container {
                name: name.into(),
                ..Default::default()
            }],
            next_page_token: token.into(),
            ..Default::default()
        };
        vec![send(&page), ok()]
    };
    let server = Server::start(vec![page("a", "t1"), page("b", "")]);
    let pages = server
        .client()
        .await
        .pages(ListContainersRequest::default());
    let names: Vec<_> = pages.collect().await.unwrap();
    assert_eq!(
        names.iter().map(|c| &c.name[..]).collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(
        server.calls()[1]
            .message::<ListContainersRequest>()
            .page_token,
        "t1"
    );
}

#[tokio::test]
async fn an_import_streams_start_chunks_and_end_with_the_digest() {
    let server = Server::start(vec![vec![send(&ImportImageResponse::default()), ok()]]);
    let archive = std::io::Cursor::new(vec![7_u8; (256 << 10) + 3]);
    let start = ImportImageStart {
        reference: "demo:1".into(),
        ..Default::default()
    };
    server
        .client()
        .await
        .upload(start.clone(), archive)
        .await
        .unwrap();
    let parts: Vec<_> = server.calls()[0]
        .messages
        .iter()
        .map(|m| {
            <ImportImageRequest as prost::Message>::decode(m.clone())
                .unwrap()
                .request
                .unwrap()
        })
        .collect();
    use import_image_request::Request as Part;
    let [
        Part::Start(first),
        Part::Data(one),
        Part::Data(two),
        Part::End(end),
    ] = &parts[..]
    else {
        panic!("{} parts", parts.len());
    };
    assert_eq!(
        (first, one.len(), two.len(), end.size_bytes),
        (&start, 256 << 10, 3, (256 << 10) + 3)
    );
    // printf '\007%.0s' $(seq 262147) | sha256sum
    assert_eq!(
        end.digest,
        "sha256:98fc5852311a67ec47ce1c98189275062ca4b2ba65697dfae7c816cef5f27311"
    );
}

struct Broken;

impl tokio::io::AsyncRead for Broken {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()))
    }
}

#[tokio::test]
async fn an_archive_that_cannot_be_read_is_never_ended() {
    let server = Server::start(vec![vec![Step::End(Status::invalid_argument("no end"))]]);
    let error = server
        .client()
        .await
        .upload(ImportImageStart::default(), Broken)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Read(_)), "{error:?}");
    assert_eq!(server.calls()[0].messages.len(), 1);
}

fn registered(run: u64) -> Step {
    let registered = WaitRegistered {
        run,
        ..Default::default()
    };
    send(&WaitContainerResponse {
        response: Some(wait_container_response::Response::Registered(registered)),
    })
}

#[tokio::test]
async fn a_wait_that_was_cut_is_asked_again_about_the_same_run() {
    let result = WaitResult {
        run: 4,
        ..Default::default()
    };
    let last = send(&WaitContainerResponse {
        response: Some(wait_container_response::Response::Result(result.clone())),
    });
    let server = Server::start(vec![
        vec![registered(4), Step::Cut],
        vec![registered(4), last, ok()],
    ]);
    let request = WaitContainerRequest {
        container: "web".into(),
        ..Default::default()
    };
    let client = server.client().await;
    let answer = timeout(LIMIT, client.wait(request)).await.unwrap();
    assert_eq!(answer.unwrap(), result);
    let runs: Vec<_> = server
        .calls()
        .iter()
        .map(|c| c.message::<WaitContainerRequest>().run)
        .collect();
    assert_eq!(runs, [0, 4]);
}

#[tokio::test]
async fn a_wait_that_ends_without_a_result_is_incomplete() {
    let server = Server::start(vec![vec![registered(1), ok()]]);
    let error = server
        .client()
        .await
        .wait(WaitContainerRequest::default())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
}

fn message(cursor: &str, response: Response) -> Step {
    send(&WatchEventsResponse {
        cursor: cursor.into(),
        response: Some(response),
    })
}

fn started(epoch: &str, cursor: &str) -> Step {
    let started = WatchStarted {
        epoch: epoch.into(),
        ..Default::default()
    };
    message(cursor, Response::Started(started))
}

fn event(sequence: u64) -> Step {
    let event = Event {
        sequence,
        ..Default::default()
    };
    message(&format!("c{sequence}"), Response::Event(Box::new(event)))
}

/// What a watch delivers, in short.
async fn delivered(client: &Client, request: WatchEventsRequest) -> Vec<String> {
    let mut watch = client.watch(request);
    let mut seen = Vec::new();
    while let Some(message) = timeout(LIMIT, watch.next()).await.unwrap().unwrap() {
        seen.push(match message.response {
            Some(Response::Started(_)) => "started".to_owned(),
            Some(Response::Event(event)) => event.sequence.to_string(),
            Some(Response::InitialContainer(container)) => container.name,
            Some(Response::Synced(_)) => "synced".to_owned(),
            Some(Response::Gap(_)) => "gap".to_owned(),
            Some(Response::InitialExec(_) | Response::Progress(_)) | None => "other".to_owned(),
        });
    }
    seen
}

fn starts(server: &Server) -> Vec<Option<Start>> {
    server
        .calls()
        .iter()
        .map(|c| c.message::<WatchEventsRequest>().start)
        .collect()
}

fn cursor(text: &str) -> Option<Start> {
    Some(Start::Cursor(text.into()))
}

#[tokio::test]
async fn a_watch_goes_on_after_a_drain_and_a_cut_without_gap_or_repeat() {
    let server = Server::start(vec![
        vec![
            started("e", "c0"),
            event(1),
            event(2),
            away("SERVER_DRAINING"),
        ],
        vec![started("e", "c2"), event(2), event(3), Step::Cut],
        vec![started("e", "c3"), event(4), ok()],
    ]);
    let client = server.client().await;
    let seen = delivered(&client, WatchEventsRequest::default()).await;
    assert_eq!(seen, ["started", "1", "2", "3", "4"]);
    assert_eq!(starts(&server), [None, cursor("c2"), cursor("c3")]);
}

#[tokio::test]
async fn a_watch_outlives_a_server_that_is_gone_for_a_while() {
    let mut server = Server::start(vec![
        vec![started("e", "c0"), event(1), Step::Hang],
        vec![started("e", "c1"), event(2), ok()],
    ]);
    let client = server.client().await;
    let mut watch = client.watch(WatchEventsRequest::default());
    for _ in 0..2 {
        timeout(LIMIT, watch.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }
    server.stop().await;
    // It meets the absent server at least once before the server is back.
    assert!(
        timeout(Duration::from_millis(150), watch.next())
            .await
            .is_err()
    );
    server.restart();
    let message = timeout(LIMIT, watch.next()).await.unwrap().unwrap();
    assert_eq!(message.unwrap().cursor, "c2");
    assert_eq!(watch.cursor(), Some("c2"));
}

#[tokio::test]
async fn a_state_that_was_cut_is_sent_again_from_its_beginning() {
    let container = |name: &str| {
        let container = Container {
            name: name.into(),
            ..Default::default()
        };
        message("", Response::InitialContainer(Box::new(container)))
    };
    let server = Server::start(vec![
        vec![started("e", ""), container("a"), Step::Cut],
        vec![
            started("e", ""),
            container("a"),
            container("b"),
            message("c5", Response::Synced(WatchSynced::default())),
            Step::Cut,
        ],
        vec![started("e", "c5"), event(6), ok()],
    ]);
    let start = Start::InitialState(InitialState::default());
    let request = WatchEventsRequest {
        start: Some(start.clone()),
        ..Default::default()
    };
    let seen = delivered(&server.client().await, request).await;
    assert_eq!(seen, ["started", "a", "a", "b", "synced", "6"]);
    assert_eq!(
        starts(&server),
        [Some(start.clone()), Some(start), cursor("c5")]
    );
}

#[tokio::test]
async fn a_watch_cut_between_a_gap_and_its_state_sees_the_gap_again() {
    let gap = || message("c90", Response::Gap(WatchGap::default()));
    let synced = || message("c95", Response::Synced(WatchSynced::default()));
    let server = Server::start(vec![
        vec![started("e", "c1"), gap(), Step::Cut],
        vec![started("e", "c1"), gap(), synced(), event(96), ok()],
    ]);
    let request = WatchEventsRequest {
        start: cursor("c1"),
        gap_policy: GapPolicy::Resync.into(),
        ..Default::default()
    };
    let seen = delivered(&server.client().await, request).await;
    assert_eq!(seen, ["started", "gap", "gap", "synced", "96"]);
    assert_eq!(starts(&server), [cursor("c1"), cursor("c1")]);
}

#[tokio::test]
async fn a_refused_cursor_ends_the_watch() {
    let refused = Step::End(Status::out_of_range("expired"));
    let server = Server::start(vec![vec![refused]]);
    let mut watch = server.client().await.watch(WatchEventsRequest::default());
    assert!(watch.next().await.is_err());
    assert_eq!(server.calls().len(), 1);
}

fn log_message(cursor: &str, text: &'static str) -> Step {
    let entry = LogEntry {
        data: text.into(),
        ..Default::default()
    };
    send(&StreamLogsResponse {
        cursor: cursor.into(),
        response: Some(stream_logs_response::Response::Entries(LogEntries {
            entries: vec![entry],
        })),
        ..Default::default()
    })
}

#[tokio::test]
async fn a_log_that_is_cut_goes_on_after_the_last_message() {
    let server = Server::start(vec![
        vec![log_message("k1", "a"), log_message("k2", "b"), Step::Cut],
        vec![away("SERVER_STARTING")],
        vec![log_message("k3", "c"), ok()],
    ]);
    let request = StreamLogsRequest {
        container: "web".into(),
        tail_entries: Some(2),
        ..Default::default()
    };
    let mut logs = server.client().await.logs(request.clone());
    let mut cursors = Vec::new();
    while let Some(message) = timeout(LIMIT, logs.next()).await.unwrap().unwrap() {
        cursors.push(message.cursor);
    }
    assert_eq!(cursors, ["k1", "k2", "k3"]);
    assert_eq!(logs.cursor(), Some("k3"));
    let calls = server.calls();
    assert_eq!(calls[0].message::<StreamLogsRequest>(), request);
    let again = calls[2].message::<StreamLogsRequest>();
    let cursor = stream_logs_request::Start::Cursor("k2".into());
    assert_eq!((again.start, again.tail_entries), (Some(cursor), None));
}

#[tokio::test]
async fn a_log_cut_before_its_first_message_is_asked_for_as_before() {
    let server = Server::start(vec![vec![Step::Cut], vec![log_message("k1", "a"), ok()]]);
    let request = StreamLogsRequest {
        tail_entries: Some(2),
        ..Default::default()
    };
    let mut logs = server.client().await.logs(request.clone());
    assert!(
        timeout(LIMIT, logs.next())
            .await
            .unwrap()
            .unwrap()
            .is_some()
    );
    assert_eq!(server.calls()[1].message::<StreamLogsRequest>(), request);
}

fn round(number: u64, names: &[&str], is_last: bool) -> Step {
    let stats = names.iter().map(|name| ContainerStats {
        container_name: (*name).to_owned(),
        ..Default::default()
    });
    send(&StreamStatsResponse {
        stats: stats.collect(),
        round: number,
        round_end: is_last,
    })
}

#[tokio::test]
async fn rounds_of_statistics_are_whole_also_after_an_interruption() {
    let server = Server::start(vec![
        vec![
            round(1, &["a"], false),
            round(1, &["b"], true),
            round(2, &[], true),
            round(3, &["a"], false),
            Step::Cut,
        ],
        // A part of the first round, as the one that was cut off was in its third.
        vec![round(1, &["a"], false), Step::Cut],
        vec![round(1, &["a"], false), round(1, &["c"], true), ok()],
    ]);
    let mut rounds = server.client().await.stats(StreamStatsRequest::default());
    let mut seen = Vec::new();
    while let Some(round) = timeout(LIMIT, rounds.next()).await.unwrap().unwrap() {
        let names: Vec<_> = round.into_iter().map(|it| it.container_name).collect();
        seen.push(names.join(" "));
    }
    assert_eq!(seen, ["a b", "", "a c"]);
}

#[tokio::test]
async fn logs_of_many_containers_go_on_from_the_cursor_of_each() {
    let message = |container: &str, cursor: &str| {
        send(&FollowLogsResponse {
            cursor: cursor.into(),
            container_id: container.into(),
            ..Default::default()
        })
    };
    let server = Server::start(vec![
        vec![
            message("a", "a1"),
            message("b", "b1"),
            message("", ""),
            message("a", "a2"),
            Step::Cut,
        ],
        vec![message("c", "c1"), ok()],
    ]);
    let request = FollowLogsRequest {
        tail_entries: Some(0),
        ..Default::default()
    };
    let mut logs = server.client().await.follow_logs(request);
    let mut count = 0;
    while timeout(LIMIT, logs.next())
        .await
        .unwrap()
        .unwrap()
        .is_some()
    {
        count += 1;
    }
    assert_eq!(count, 5);
    let again = server.calls()[1].message::<FollowLogsRequest>();
    let positions: Vec<_> = again.positions.iter().map(|p| &p.cursor[..]).collect();
    assert_eq!(positions, ["a2", "b1"]);
    // A container that is new since the cut is read from its beginning.
    assert_eq!(again.tail_entries, None);
    assert!(again.since_time.is_some());
}
