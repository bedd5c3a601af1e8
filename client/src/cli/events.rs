//! `wharf events`.

use std::time::SystemTime;

use clap::{ArgAction, Args};
use prost_types::Timestamp;
use wharf_client::v1::event::{Detail, Type};
use wharf_client::v1::watch_events_request::Start;
use wharf_client::v1::watch_events_response::Response;
use wharf_client::v1::{
    Event, EventFilter, GetContainerRequest, ListEventsRequest, WatchEventsRequest,
};
use wharf_client::{Client, Error};

use super::failure::Failure;
use super::filters::{self, Pair};
use super::human::familiar;
use super::json::Json;
use super::output::{Format, Output};
use super::session::Session;
use super::values;

/// Show events as they happen, with the requests that caused them
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// From this time on: 10m (ago), 2026-01-02T03:04:05Z or seconds since 1970
    #[arg(long, value_name = "TIME", value_parser = values::point_in_time)]
    since: Option<Timestamp>,
    /// Up to this time; "now" ends with what there is
    #[arg(long, value_name = "TIME", value_parser = values::point_in_time)]
    until: Option<Timestamp>,
    /// Just after this cursor, of an event's JSON
    #[arg(long, conflicts_with = "since")]
    cursor: Option<String>,
    /// Only those: type=TYPE, container=NAME, image=IMAGE, label=KEY=VALUE, request=ID
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filters::pair)]
    filter: Vec<Pair>,
    /// Go on with what happens next; --follow=false ends with what there is
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = ArgAction::Set
    )]
    follow: bool,
    /// How to show them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How the events are read.
#[derive(Debug, PartialEq)]
pub(crate) enum Plan {
    /// Those of the past, page by page.
    List(ListEventsRequest),
    /// As they come.
    Watch(Box<WatchEventsRequest>),
}

impl Events {
    /// What is over by now is listed. A cursor is where only a watch can start.
    pub(crate) fn plan(&self, filter: EventFilter, now: Timestamp) -> Plan {
        let is_over = self.until.is_some_and(|until| !is_after(until, now));
        match (&self.cursor, self.follow && !is_over) {
            (None, false) => Plan::List(ListEventsRequest {
                filter: Some(filter),
                since_time: self.since,
                until_time: self.until,
                ..Default::default()
            }),
            (Some(_), false) => self.watch(filter, self.until.or(Some(now))),
            (_, true) => self.watch(filter, self.until),
        }
    }

    fn watch(&self, filter: EventFilter, until_time: Option<Timestamp>) -> Plan {
        let cursor = self.cursor.clone().map(Start::Cursor);
        Plan::Watch(Box::new(WatchEventsRequest {
            start: cursor.or(self.since.map(Start::SinceTime)),
            until_time,
            filter: Some(filter),
            ..Default::default()
        }))
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        // Bad usage is told before anybody is asked.
        let mut filter = filters::events(&self.filter)?;
        let client = session.connect().await?;
        for container in &mut filter.container_ids {
            *container = resolved(&client, container).await?;
        }
        let output = &mut session.output;
        match self.plan(filter, SystemTime::now().into()) {
            Plan::List(request) => list(&client, request, self.format, output).await,
            Plan::Watch(request) => watch(&client, *request, self.format, output).await,
        }
    }
}

fn is_after(time: Timestamp, other: Timestamp) -> bool {
    (time.seconds, time.nanos) > (other.seconds, other.nanos)
}

/// The id behind a name: events are filtered by id. An id also names a container that is gone.
async fn resolved(client: &Client, container: &str) -> Result<String, Error> {
    if container.len() == 32 && container.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(container.to_owned());
    }
    let request = GetContainerRequest {
        container: container.to_owned(),
        ..Default::default()
    };
    let found = client.call(request).await?.container;
    Ok(found.unwrap_or_default().id)
}

/// Prints past events, page by page.
pub(crate) async fn list(
    client: &Client,
    request: ListEventsRequest,
    format: Format,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut pages = client.pages(request);
    while let Some(events) = pages.next().await? {
        events
            .iter()
            .try_for_each(|event| print(event, format, output))?;
        output.flush()?;
    }
    Ok(())
}

async fn watch(
    client: &Client,
    request: WatchEventsRequest,
    format: Format,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut watch = client.watch(request);
    while let Some(message) = watch.next().await? {
        match message.response {
            Some(Response::Event(event)) => {
                print(&event, format, output)?;
                output.flush()?;
            }
            Some(Response::Gap(gap)) => {
                output.warning(&format!("{} events are missing here", gap.missed));
            }
            Some(
                Response::Started(_)
                | Response::InitialContainer(_)
                | Response::InitialExec(_)
                | Response::Synced(_)
                | Response::Progress(_),
            )
            | None => {}
        }
    }
    Ok(())
}

fn print(event: &Event, format: Format, output: &mut Output) -> Result<(), Failure> {
    match format {
        Format::Json => output.json(&Json::of(event)?),
        Format::Table => output.line(line(event)),
    }
}

/// `TIME TYPE SUBJECT (attributes) request=ID`.
fn line(event: &Event) -> String {
    let mut words = vec![
        event.time.map_or_else(String::new, |time| time.to_string()),
        kind(event.r#type()),
    ];
    words.extend(subject(event));
    let attributes = attributes(event).join(", ");
    if !attributes.is_empty() {
        words.push(format!("({attributes})"));
    }
    if let Some(cause) = &event.cause {
        words.push(format!("request={}", cause.request_id));
    }
    words.join(" ")
}

/// "container-exited".
fn kind(kind: Type) -> String {
    let name = kind.as_str_name();
    let name = name.strip_prefix("TYPE_").unwrap_or(name);
    name.to_ascii_lowercase().replace('_', "-")
}

/// The exec, the container or the image that it is about.
fn subject(event: &Event) -> Option<String> {
    let ids = [&event.exec_id, &event.container_id, &event.image];
    ids.into_iter().find(|id| !id.is_empty()).cloned()
}

fn attributes(event: &Event) -> Vec<String> {
    let mut attributes = Vec::new();
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            attributes.push(format!("{name}={value}"));
        }
    };
    if !event.exec_id.is_empty() {
        add("container", event.container_id.clone());
    }
    if !event.container_id.is_empty() {
        add("image", familiar(&event.image).to_owned());
    }
    add("name", event.container_name.clone());
    if event.run > 0 {
        add("run", event.run.to_string());
    }
    if let Some((name, value)) = event.detail.as_ref().map(detail) {
        add(name, value);
    }
    for (key, value) in &event.labels {
        add(&format!("label.{key}"), value.clone());
    }
    attributes
}

fn detail(detail: &Detail) -> (&'static str, String) {
    match detail {
        Detail::ExitStatus(status) => ("exitCode", status.code.to_string()),
        Detail::Signal(signal) => ("signal", signal.clone()),
        Detail::Health(health) => ("health", health.state().as_str_name().to_owned()),
        Detail::Failure(failure) => ("reason", failure.reason.clone()),
        Detail::Changed(changed) => ("changed", changed.paths.join(" ")),
        Detail::NextStartTime(time) => ("nextStart", time.to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use wharf_client::v1::{Cause, ExitStatus};

    #[test]
    fn an_event_is_a_line_that_ends_with_its_request() {
        let event = Event {
            time: Some("2026-01-02T03:04:05.25Z".parse().unwrap()),
            r#type: Type::ContainerExited.into(),
            container_id: "0af1".into(),
            container_name: "web".into(),
            image: "docker.io/library/busybox:1".into(),
            run: 2,
            labels: [("app".to_owned(), "x".to_owned())].into(),
            detail: Some(Detail::ExitStatus(ExitStatus {
                code: 137,
                ..Default::default()
            })),
            cause: Some(Cause {
                request_id: "job-7".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(
            line(&event),
            "2026-01-02T03:04:05.250Z container-exited 0af1 \
             (image=busybox:1, name=web, run=2, exitCode=137, label.app=x) request=job-7"
        );
    }

    #[test]
    fn an_event_that_nobody_asked_for_has_no_request() {
        let event = Event {
            r#type: Type::SystemStarted.into(),
            ..Default::default()
        };
        assert_eq!(line(&event), " system-started");
    }
}
