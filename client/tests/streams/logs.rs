//! `wharf logs`.

use wharf_client::v1::*;

use crate::replies::answer;
use crate::testing::{Server, Step, ok, send};
use crate::wharf::run;

fn entry(stream: OutputStream, data: &'static str) -> LogEntry {
    LogEntry {
        time: Some("2026-01-02T03:04:05.25Z".parse().unwrap()),
        stream: stream.into(),
        data: data.into(),
        partial: false,
    }
}

fn log(entries: Vec<LogEntry>) -> Vec<Step> {
    let response = stream_logs_response::Response::Entries(LogEntries { entries });
    answer(&StreamLogsResponse {
        cursor: "k".into(),
        response: Some(response),
        ..Default::default()
    })
}

#[tokio::test]
async fn a_log_is_the_bytes_that_were_written_each_on_its_stream() {
    let entries = vec![
        entry(OutputStream::Stdout, "\u{1b}[1mbold\n"),
        entry(OutputStream::Stderr, "oops\n"),
        entry(OutputStream::Stdout, "open"),
    ];
    let server = Server::start(vec![log(entries)]);
    let ran = run(
        &server,
        &["logs", "-n", "5", "--since", "100", "--until", "200", "web"],
    )
    .await;
    assert_eq!(
        (ran.code, &ran.out[..], &ran.err[..]),
        (0, "\u{1b}[1mbold\nopen", "oops\n")
    );
    let request = server.calls()[0].message::<StreamLogsRequest>();
    assert_eq!(request.tail_entries, Some(5));
    assert_eq!(request.until_time.unwrap().seconds, 200);
    assert!(!request.follow && !request.stop_at_exit);
}

#[tokio::test]
async fn following_one_container_ends_with_its_run() {
    let server = Server::start(vec![log(vec![entry(OutputStream::Stdout, "a\n")])]);
    let ran = run(&server, &["logs", "-ft", "web"]).await;
    assert_eq!(ran.out, "2026-01-02T03:04:05.250Z a\n");
    let request = server.calls()[0].message::<StreamLogsRequest>();
    assert!(request.follow && request.stop_at_exit);
}

#[tokio::test]
async fn several_logs_have_their_names_before_each_line() {
    let line = |text| log(vec![entry(OutputStream::Stdout, text)]);
    let server = Server::start(vec![line("a"), line("b\n")]);
    let ran = run(&server, &["logs", "web", "db"]).await;
    assert_eq!(ran.out, "web | a\ndb | b\n");
}

fn named(id: &str, name: &str) -> Vec<Step> {
    let container = Container {
        id: id.into(),
        name: name.into(),
        ..Default::default()
    };
    answer(&GetContainerResponse {
        container: Some(container),
    })
}

#[tokio::test]
async fn following_several_takes_one_call_for_all() {
    let message = |id: &str, text| {
        let entries = vec![entry(OutputStream::Stdout, text)];
        send(&FollowLogsResponse {
            cursor: "k".into(),
            container_id: id.into(),
            response: Some(follow_logs_response::Response::Entries(LogEntries {
                entries,
            })),
            ..Default::default()
        })
    };
    let server = Server::start(vec![
        named("id-1", "web"),
        named("id-2", "db"),
        vec![message("id-2", "x\n"), message("id-1", "y\n"), ok()],
    ]);
    let ran = run(&server, &["logs", "-f", "--tail", "0", "web", "id-2"]).await;
    assert_eq!((ran.code, &ran.out[..]), (0, "db | x\nweb | y\n"));
    let request = server.calls()[2].message::<FollowLogsRequest>();
    assert_eq!(request.filter.unwrap().id_prefixes, ["id-1", "id-2"]);
    assert_eq!(request.tail_entries, Some(0));
}

#[tokio::test]
async fn what_cannot_be_followed_is_bad_usage() {
    let server = Server::start(vec![]);
    for args in [
        &["logs"][..],
        &["logs", "--filter", "label=a", "web"],
        &["logs", "--filter", "label=a"],
        &["logs", "-f", "--until", "5", "a", "b"],
        &["logs", "--tail", "some", "a"],
    ] {
        assert_eq!(run(&server, args).await.code, 125, "{args:?}");
    }
    assert_eq!(server.calls().len(), 0);
}
