//! `EventService`.

mod list;
mod watch;

use tonic::{Request, Response, Status};
use wharf_api::v1;
use wharf_api::v1::event_service_server::EventService;

use super::{Answers, parsed};
use crate::engine::Engine;
use crate::engine::watch::EventWatch;
use crate::transport::{CallError, parse};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Events {
    engine: Engine,
}

impl Events {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl EventService for Events {
    type WatchEventsStream = Answers<v1::WatchEventsResponse>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let request = request.into_inner();
        let watch = parsed(&self.engine, |out| parse::event::watch(request, out))??;
        let events = EventWatch::open(&self.engine, watch.options)
            .await
            .map_err(CallError::of_journal(self.engine.journal()))?;
        let shown = watch::Shown::new(self.engine.clone(), watch.views);
        Ok(Response::new(watch::messages(events, shown)))
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let page = list::events(&self.engine, request.into_inner()).await?;
        Ok(Response::new(page))
    }
}
