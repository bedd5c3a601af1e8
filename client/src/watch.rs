//! Watching events over interruptions, without gap or repeat.
//!
//! ```text
//!            open                      message                   interruption
//!   Closed --------> Open(Messages) --------> deliver, note ... -------------> Closed
//!      ^                                      cursor, sequence                    |
//!      +------------------ after a delay, from the last cursor -------------------+
//! ```
//!
//! It owns the resume point: the cursor of the last message that was *delivered*, so a caller that
//! saves [`EventWatch::cursor`] after handling a message can go on from there in another process.

use wharf_api::v1::watch_events_request::{GapPolicy, Start};
use wharf_api::v1::watch_events_response::Response;
use wharf_api::v1::{WatchEventsRequest, WatchEventsResponse, WatchStarted};

use crate::client::Client;
use crate::error::Error;
use crate::resume::Resuming;

/// A watch of events. Dropping it ends the watch and leaves nothing behind.
#[derive(Debug)]
pub struct EventWatch {
    /// Its `start` moves along with what has been delivered.
    request: WatchEventsRequest,
    stream: Resuming<WatchEventsRequest>,
    /// Set by the first `started`.
    epoch: Option<String>,
    /// Of the last event delivered in this epoch.
    last_sequence: u64,
}

impl EventWatch {
    pub(crate) fn new(client: Client, request: WatchEventsRequest) -> Self {
        Self {
            request,
            stream: Resuming::new(client),
            epoch: None,
            last_sequence: 0,
        }
    }

    /// The resume point just after the last message that [`Self::next`] returned; `None` before
    /// there is one, as while the initial state is sent.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        match &self.request.start {
            Some(Start::Cursor(cursor)) => Some(cursor),
            Some(Start::SinceTime(_) | Start::InitialState(_)) | None => None,
        }
    }

    /// The next message; `None` once `until_time` is reached.
    ///
    /// After an interruption (the server drains, restarts, or the connection is lost) it goes on
    /// after the last event, and `started` is not repeated. A *state* that was cut before `synced` is
    /// sent again from its beginning; `synced` counts only what came with it. Safe to drop and call
    /// again.
    ///
    /// # Errors
    /// [`Error::Call`] when the server refuses (`CURSOR_EXPIRED` and `CURSOR_EPOCH_CHANGED` with the
    /// gap policy FAIL), [`Error::Deadline`], and the interruption itself when the server has been
    /// away for a minute, or was never there. Calling again tries again.
    pub async fn next(&mut self) -> Result<Option<WatchEventsResponse>, Error> {
        while let Some(message) = self.stream.next(&self.request).await? {
            if !self.is_repeat(&message) {
                self.note(&message);
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    /// Whether the caller has had this message before the interruption.
    fn is_repeat(&self, message: &WatchEventsResponse) -> bool {
        match &message.response {
            Some(Response::Started(started)) => self.epoch.as_ref() == Some(&started.epoch),
            Some(Response::Event(event)) => event.sequence <= self.last_sequence,
            Some(
                Response::InitialContainer(_)
                | Response::InitialExec(_)
                | Response::Synced(_)
                | Response::Progress(_)
                | Response::Gap(_),
            )
            | None => false,
        }
    }

    fn note(&mut self, message: &WatchEventsResponse) {
        match &message.response {
            Some(Response::Started(started)) => self.note_epoch(started),
            Some(Response::Event(event)) => self.last_sequence = event.sequence,
            // Just after this gap comes a state; whoever resumes between the two would miss it.
            Some(Response::Gap(_)) if self.request.gap_policy() == GapPolicy::Resync => return,
            Some(
                Response::InitialContainer(_)
                | Response::InitialExec(_)
                | Response::Synced(_)
                | Response::Progress(_)
                | Response::Gap(_),
            )
            | None => {}
        }
        if !message.cursor.is_empty() {
            self.request.start = Some(Start::Cursor(message.cursor.clone()));
        }
    }

    /// Sequence numbers mean nothing beyond their epoch.
    fn note_epoch(&mut self, started: &WatchStarted) {
        self.epoch = Some(started.epoch.clone());
        self.last_sequence = 0;
    }
}
