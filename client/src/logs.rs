//! Reading logs over interruptions, without gap or repeat.
//!
//! It owns the resume points: the cursors of the last messages that were *delivered*, one for each
//! container, so a caller that saves them can go on from there in another process.

use std::collections::BTreeMap;
use std::time::SystemTime;

use wharf_api::v1::stream_logs_request::Start;
use wharf_api::v1::{
    FollowLogsRequest, FollowLogsResponse, LogPosition, StreamLogsRequest, StreamLogsResponse,
};

use crate::client::Client;
use crate::error::Error;
use crate::resume::Resuming;

/// One container's log. Dropping it ends the call and leaves nothing behind.
///
/// ```no_run
/// # async fn run() -> Result<(), wharf_client::Error> {
/// use wharf_client::Client;
/// use wharf_client::v1::StreamLogsRequest;
/// use wharf_client::v1::stream_logs_response::Response;
///
/// let client = Client::from_env().await?;
/// let request = StreamLogsRequest { container: "web".into(), follow: true, ..Default::default() };
/// let mut logs = client.logs(request);
/// while let Some(message) = logs.next().await? {
///     if let Some(Response::Entries(batch)) = message.response {
///         println!("{} lines", batch.entries.len());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Logs {
    /// Its `start` moves along with what has been delivered.
    request: StreamLogsRequest,
    stream: Resuming<StreamLogsRequest>,
}

impl Logs {
    pub(crate) fn new(client: Client, request: StreamLogsRequest) -> Self {
        Self {
            request,
            stream: Resuming::new(client),
        }
    }

    /// The next message; `None` at the end of what was asked for. After an interruption it goes on
    /// just after the last message. Safe to drop and call again.
    ///
    /// # Errors
    /// [`Error::Call`] when the server refuses, [`Error::Deadline`], and the interruption itself when
    /// the server has been away for a minute, or was never there. Calling again tries again.
    pub async fn next(&mut self) -> Result<Option<StreamLogsResponse>, Error> {
        let message = self.stream.next(&self.request).await?;
        if let Some(message) = &message
            && !message.cursor.is_empty()
        {
            self.request.start = Some(Start::Cursor(message.cursor.clone()));
            self.request.tail_entries = None;
        }
        Ok(message)
    }

    /// The resume point just after the last message that [`Self::next`] returned; `None` before there
    /// is one.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        match &self.request.start {
            Some(Start::Cursor(cursor)) => Some(cursor),
            Some(Start::SinceTime(_)) | None => None,
        }
    }
}

/// The logs of all containers that match, also of later ones. Dropping it ends the call.
///
/// It keeps one cursor for each container it has heard of. With more than 1000 of them, which is all
/// that a request may name, an interruption ends it with `INVALID_FIELD`.
#[derive(Debug)]
pub struct LogFollow {
    /// Its `positions` move along with what has been delivered.
    request: FollowLogsRequest,
    /// Where in `positions` a container is.
    places: BTreeMap<String, usize>,
    begun: SystemTime,
    stream: Resuming<FollowLogsRequest>,
}

impl LogFollow {
    pub(crate) fn new(client: Client, request: FollowLogsRequest) -> Self {
        let positions = request.positions.iter().enumerate();
        Self {
            places: positions
                .map(|(place, position)| (position.container_id.clone(), place))
                .collect(),
            begun: SystemTime::now(),
            stream: Resuming::new(client),
            request,
        }
    }

    /// The next message, of any of the containers. As [`Logs::next`].
    ///
    /// An interruption while the first entries are sent can swallow entries of `tail_entries` that
    /// are older than the call; newer ones are never lost.
    ///
    /// # Errors
    /// As [`Logs::next`].
    pub async fn next(&mut self) -> Result<Option<FollowLogsResponse>, Error> {
        let message = self.stream.next(&self.request).await?;
        if let Some(message) = &message {
            self.note(message);
        }
        Ok(message)
    }

    /// The resume points just after the last message that [`Self::next`] returned, for another
    /// request's `positions`.
    #[must_use]
    pub fn positions(&self) -> &[LogPosition] {
        &self.request.positions
    }

    fn note(&mut self, message: &FollowLogsResponse) {
        if self.request.tail_entries.take().is_some() {
            // A container that is heard of after an interruption is either new, and then all of its
            // log is, or has been silent, and then has nothing from before.
            self.request.since_time = Some(self.begun.into());
        }
        if message.cursor.is_empty() {
            return;
        }
        let positions = &mut self.request.positions;
        let place = self.places.entry(message.container_id.clone());
        let place = *place.or_insert(positions.len());
        match positions.get_mut(place) {
            Some(position) => position.cursor.clone_from(&message.cursor),
            None => positions.push(LogPosition {
                container_id: message.container_id.clone(),
                cursor: message.cursor.clone(),
            }),
        }
    }
}
