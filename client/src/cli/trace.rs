//! `wharf trace`.

use clap::Args;
use wharf_client::RequestId;
use wharf_client::v1::{EventFilter, ListEventsRequest};

use super::events;
use super::failure::Failure;
use super::output::Format;
use super::session::Session;

/// Show what a request did: all events that it caused
#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// How to show them
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// The request's id, as events and errors tell it
    // Not `request_id`: that is the id of this command itself.
    #[arg(value_name = "REQUEST_ID")]
    traced: RequestId,
}

impl Trace {
    pub(crate) fn request(&self) -> ListEventsRequest {
        ListEventsRequest {
            filter: Some(EventFilter {
                request_ids: vec![self.traced.to_string()],
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let client = session.connect().await?;
        events::list(&client, self.request(), self.format, &mut session.output).await
    }
}
