//! Pages of past events.

use wharf_api::v1;

use super::parsed;
use crate::engine::{Engine, Error};
use crate::journal::{Journal, Query};
use crate::model::{Epoch, Sequence};
use crate::transport::page::{self, More, Page};
use crate::transport::{CallError, parse, render};

/// Where a page of events ended. Sequence numbers mean something only together with their epoch.
#[derive(Clone, PartialEq, prost::Message)]
struct EventPlace {
    #[prost(bytes = "vec", tag = "1")]
    epoch: Vec<u8>,
    #[prost(uint64, tag = "2")]
    sequence: u64,
}

impl EventPlace {
    fn at(journal: &Journal, sequence: Sequence) -> Self {
        Self {
            epoch: journal.epoch().as_bytes().to_vec(),
            sequence: sequence.0,
        }
    }

    fn sequence(&self, engine: &Engine) -> Result<Sequence, CallError> {
        let journal = engine.journal();
        let epoch: [u8; 16] = self
            .epoch
            .as_slice()
            .try_into()
            .map_err(|_| CallError::PageTokenInvalid)?;
        if Epoch::from_bytes(epoch) == journal.epoch() {
            return Ok(Sequence(self.sequence));
        }
        Err(CallError::Engine(Error::EpochChanged {
            epoch: journal.epoch().to_string(),
            oldest: journal.cursor(journal.oldest()).to_string(),
            newest: engine.cursor().to_string(),
        }))
    }
}

/// One page of past events.
pub(super) async fn events(
    engine: &Engine,
    request: v1::ListEventsRequest,
) -> Result<v1::ListEventsResponse, CallError> {
    let (page, query) = parsed(engine, |out| {
        (
            Page::<EventPlace>::of(&request, out),
            parse::event::list(request, out),
        )
    })?;
    let page = page?;
    let journal = engine.journal();
    let from = page.after.as_ref().map(|place| place.sequence(engine));
    let query = Query {
        from: from.transpose()?,
        limit: page.size,
        ..query
    };
    let (found, next) = journal
        .page(query)
        .await
        .map_err(|error| CallError::of_journal(journal)(error.into()))?;
    let shown = found
        .iter()
        .map(|event| render::event::event(event, journal.cursor(event.sequence)));
    // The journal's own size counts stored bytes; messages can be larger.
    let (events, more) = page::fill(shown, page.size);
    let cut = events.last().map(|event| Sequence(event.sequence));
    let next = match more {
        More::Yes => cut,
        More::No => next,
    };
    Ok(v1::ListEventsResponse {
        events,
        next_page_token: next
            .map(|sequence| page.token(&EventPlace::at(journal, sequence)))
            .unwrap_or_default(),
    })
}
