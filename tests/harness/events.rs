//! The journal as scenarios look at it.

use std::time::Duration;

use tokio::time::timeout;
use tonic::Streaming;
use wharf_api::v1::watch_events_response::Response as Told;
use wharf_api::v1::{
    Event, EventFilter, ListEventsRequest, WatchEventsRequest, WatchEventsResponse, event,
};

use super::client::{Client, answer};
use super::refusal::Refusal;

/// No event of a scenario is later than this: hundreds of containers may be living on two busy cores.
const LATE: Duration = Duration::from_secs(240);

impl Client {
    /// The whole journal, oldest first.
    pub async fn every_event(&self) -> Vec<Event> {
        self.events_where(EventFilter::default()).await
    }

    /// The events of one container, oldest first.
    pub async fn events_of(&self, container_id: &str) -> Vec<Event> {
        self.events_where(EventFilter {
            container_ids: vec![container_id.to_owned()],
            ..Default::default()
        })
        .await
    }

    pub async fn events_where(&self, filter: EventFilter) -> Vec<Event> {
        let mut request = ListEventsRequest {
            page_size: 1_000,
            filter: Some(filter),
            ..Default::default()
        };
        let mut all = Vec::new();
        loop {
            let page = self.list_events(request.clone()).await.unwrap();
            all.extend(page.events);
            if page.next_page_token.is_empty() {
                return all;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Starts watching, and takes the first message, which says that the watch is in place.
    pub async fn watch(&self, request: WatchEventsRequest) -> Result<Watch, Refusal> {
        let forever = self.with_deadline(None);
        let request = forever.request(request);
        let mut messages = answer(self.events().watch_events(request).await)?;
        let first = messages.message().await?.expect("a first message");
        assert!(
            matches!(first.response, Some(Told::Started(_))),
            "{first:?} came first"
        );
        Ok(Watch {
            messages,
            cursor: first.cursor,
        })
    }
}

/// A watch in place.
#[derive(Debug)]
pub struct Watch {
    messages: Streaming<WatchEventsResponse>,
    /// The last resume point.
    pub cursor: String,
}

impl Watch {
    /// The next message of any kind.
    pub async fn next(&mut self) -> Result<Option<Told>, Refusal> {
        let Some(message) = self.messages.message().await? else {
            return Ok(None);
        };
        if !message.cursor.is_empty() {
            self.cursor = message.cursor;
        }
        Ok(Some(message.response.expect("a message says something")))
    }

    /// The next event, past heartbeats; `None` at the end, an error if the server or the connection breaks.
    pub async fn event_or_break(&mut self) -> Result<Option<Event>, Refusal> {
        loop {
            match self.next().await? {
                Some(Told::Event(event)) => return Ok(Some(*event)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// The next event, past heartbeats.
    pub async fn event(&mut self) -> Event {
        timeout(LATE, self.event_or_break())
            .await
            .expect("an event in time")
            .unwrap()
            .expect("the watch goes on")
    }

    /// All events up to the first of this type.
    pub async fn until(&mut self, last: event::Type) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.event().await;
            let done = event.r#type() == last;
            events.push(event);
            if done {
                return events;
            }
        }
    }
}

/// The types, in order.
pub fn types(events: &[Event]) -> Vec<event::Type> {
    events.iter().map(Event::r#type).collect()
}

/// The request id of what caused it.
pub fn cause(event: &Event) -> Option<&str> {
    event.cause.as_ref().map(|cause| cause.request_id.as_str())
}

/// Fails unless the sequences of a whole journal have no hole and no repeat.
pub fn must_be_dense(events: &[Event]) {
    for pair in events.windows(2) {
        assert_eq!(
            pair[1].sequence,
            pair[0].sequence + 1,
            "between {:?} and {:?}",
            pair[0],
            pair[1]
        );
    }
}
