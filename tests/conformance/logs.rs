//! Logs of real containers: no line missing, none doubled, whatever restarts.

use std::time::Duration;

use wharf_api::v1::stream_logs_request::Start;
use wharf_api::v1::stream_logs_response::Response;
use wharf_api::v1::{self, OutputStream};

use crate::harness::client::answer;
use crate::harness::{Client, Refusal, scenario};

/// Writes numbered lines without an end, as fast as it can, over more segments than are kept.
const NUMBERS: &[&str] = &[
    "sh",
    "-c",
    "i=0; while :; do echo \"line $i of many\"; i=$((i+1)); done",
];

/// A reader that goes on from its cursor.
pub struct Lines<'a> {
    client: &'a Client,
    cursor: Option<String>,
    pub text: Vec<u8>,
    /// Marks and gaps, as words.
    pub marks: Vec<String>,
    /// Where in the text the gaps are.
    pub gaps: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub fn of(client: &'a Client) -> Self {
        Self {
            client,
            cursor: None,
            text: Vec::new(),
            marks: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// Follows until it has read enough or the stream ends. Says whether it has.
    pub async fn read(&mut self, container: &str, enough: impl Fn(&Self) -> bool) -> bool {
        let request = self.client.request(v1::StreamLogsRequest {
            container: container.to_owned(),
            start: self.cursor.clone().map(Start::Cursor),
            follow: true,
            ..v1::StreamLogsRequest::default()
        });
        let answered = self.client.logs().stream_logs(request).await;
        let mut messages = answered.unwrap().into_inner();
        loop {
            let message = match messages.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return false,
                Err(status) => {
                    eprintln!("the log of {container} breaks off: {status}");
                    return false;
                }
            };
            self.cursor = Some(message.cursor);
            let run = message.run;
            match message.response.unwrap() {
                Response::Entries(batch) => {
                    let data = batch.entries.iter().map(|entry| &entry.data[..]);
                    data.for_each(|data| self.text.extend_from_slice(data));
                }
                Response::Gap(gap) => {
                    self.marks.push(format!("gap {}", gap.missed_bytes));
                    self.gaps.push(self.text.len());
                }
                Response::RunStarted(_) => self.marks.push(format!("started {run}")),
                Response::RunExited(_) => self.marks.push(format!("exited {run}")),
                Response::Idle(_) => {}
            }
            if enough(self) {
                return true;
            }
        }
    }

    /// That each run's lines are there once, in order, from its first on.
    fn assert_complete(&self) {
        let text = std::str::from_utf8(&self.text).unwrap();
        let mut next = 0;
        for line in text.lines() {
            let number: u64 = line.split(' ').nth(1).unwrap().parse().unwrap();
            if number == 0 {
                next = 0;
            }
            assert_eq!(number, next, "a line is missing or doubled");
            next += 1;
        }
    }
}

#[test]
fn one_cursor_leads_over_restarts_of_the_container_and_of_the_server() {
    scenario(async |world| {
        let client = world.up().await;
        let slowly = "i=0; while :; do echo \"line $i of many\"; i=$((i+1)); sleep 0.01; done";
        client.run("writer", &["sh", "-c", slowly]).await.unwrap();
        let mut lines = Lines::of(&client);
        assert!(lines.read("writer", |lines| lines.text.len() > 1_000).await);
        client.stop("writer", Duration::ZERO).await.unwrap();
        client.start("writer").await.unwrap();
        let second = |lines: &Lines<'_>| lines.marks.ends_with(&["started 2".to_owned()]);
        assert!(lines.read("writer", second).await);
        world.wharfd.kill();
        world.wharfd.start().await;
        let before = lines.text.len();
        let more = |lines: &Lines<'_>| lines.text.len() > before + 2_000;
        assert!(lines.read("writer", more).await);
        assert_eq!(lines.marks, ["started 1", "exited 1", "started 2"]);
        lines.assert_complete();
    });
}

#[test]
fn a_follower_of_a_fast_writer_gets_every_line() {
    scenario(async |world| {
        let client = world.up().await;
        client.run("writer", NUMBERS).await.unwrap();
        let mut lines = Lines::of(&client);
        let enough = |lines: &Lines<'_>| lines.text.len() > 8 << 20;
        assert!(lines.read("writer", enough).await);
        assert_eq!(lines.marks, ["started 1"]);
        lines.assert_complete();
    });
}

async fn whole(client: &Client, request: v1::StreamLogsRequest) -> Result<Vec<Response>, Refusal> {
    let answered = client.logs().stream_logs(client.request(request)).await;
    let mut messages = answer(answered)?;
    let mut told = Vec::new();
    while let Ok(Some(message)) = messages.message().await {
        told.push(message.response.unwrap());
    }
    Ok(told)
}

fn entries(told: &[Response]) -> Vec<(OutputStream, Vec<u8>)> {
    let batches = told.iter().filter_map(|response| match response {
        Response::Entries(batch) => Some(&batch.entries),
        _ => None,
    });
    let entries = batches.flatten();
    entries
        .map(|entry| (entry.stream(), entry.data.to_vec()))
        .collect()
}

#[test]
fn all_output_of_a_process_that_has_just_ended_is_there_also_after_its_deletion() {
    scenario(async |world| {
        let client = world.up().await;
        let script = "printf 'out\\r\\n'; printf err >&2; printf 'no end'";
        let container = client.run("brief", &["sh", "-c", script]).await.unwrap();
        client.exit_of("brief", 1).await.unwrap();
        let request = v1::StreamLogsRequest {
            container: container.id.clone(),
            ..v1::StreamLogsRequest::default()
        };
        let told = whole(&client, request.clone()).await.unwrap();
        assert!(
            matches!(told.last(), Some(Response::RunExited(_))),
            "{told:?}"
        );
        let mut found = entries(&told);
        found.sort_by_key(|(stream, _)| i32::from(*stream));
        let expected = [
            (OutputStream::Stdout, b"out\r\n".to_vec()),
            (OutputStream::Stdout, b"no end".to_vec()),
            (OutputStream::Stderr, b"err".to_vec()),
        ];
        assert_eq!(found, expected);
        client.delete("brief").await.unwrap();
        let after = whole(&client, request).await.unwrap();
        // What comes in one message may differ.
        assert_eq!(entries(&after), entries(&told));
        assert_eq!(after.last(), told.last());
    });
}

#[test]
fn all_containers_are_followed_on_one_stream() {
    scenario(async |world| {
        let client = world.up().await;
        client
            .run("first", &["sh", "-c", "echo first; sleep 60"])
            .await
            .unwrap();
        let request = client.request(v1::FollowLogsRequest::default());
        let mut messages = answer(client.logs().follow_logs(request).await).unwrap();
        client
            .run("second", &["sh", "-c", "echo second; sleep 60"])
            .await
            .unwrap();
        let mut found = Vec::new();
        while found.len() < 2 {
            let message = messages.message().await.unwrap().unwrap();
            if let Some(v1::follow_logs_response::Response::Entries(batch)) = message.response {
                found.extend(batch.entries.into_iter().map(|entry| entry.data));
            }
        }
        found.sort();
        assert_eq!(found, ["first\n", "second\n"]);
    });
}
