//! `LogService`.

use std::future::ready;

use futures_util::{StreamExt, stream};
use tonic::{Request, Response, Status};
use wharf_api::v1;
use wharf_api::v1::log_service_server::LogService;

use super::{About, Answers, parsed, parsed_about};
use crate::engine::Engine;
use crate::transport::parse::Field;
use crate::transport::{CallError, parse, render};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Logs {
    engine: Engine,
}

impl Logs {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl LogService for Logs {
    type StreamLogsStream = Answers<v1::StreamLogsResponse>;

    async fn stream_logs(
        &self,
        request: Request<v1::StreamLogsRequest>,
    ) -> Result<Response<Self::StreamLogsStream>, Status> {
        let request = request.into_inner();
        let container = request.container.clone();
        let about = About::Container(&container);
        let field = Field::new("container");
        let query = parsed_about(&self.engine, about, &field, |out| {
            parse::log::stream(request, out)
        })?
        .map_err(|invalid| about.missing(&self.engine).map_or(invalid, CallError::from))?;
        let log = self
            .engine
            .logs(&container, query)
            .await
            .map_err(CallError::of(&container))?;
        // Pulls as fast as the client reads, and no faster.
        let messages = stream::try_unfold(log, |mut log| async move {
            let next = log.next().await.map_err(CallError::from)?;
            Ok(next.map(|message| (render::log::message(message), log)))
        });
        Ok(Response::new(Box::pin(messages)))
    }

    type FollowLogsStream = Answers<v1::FollowLogsResponse>;

    async fn follow_logs(
        &self,
        request: Request<v1::FollowLogsRequest>,
    ) -> Result<Response<Self::FollowLogsStream>, Status> {
        let request = request.into_inner();
        let query = parsed(&self.engine, |out| parse::log::follow(request, out))??;
        let logs = self
            .engine
            .follow_logs(query)
            .await
            .map_err(CallError::from)?;
        let begun = stream::once(ready(Ok(render::log::followed(None))));
        let messages = stream::try_unfold(logs, |mut logs| async move {
            let next = logs.next().await.map_err(CallError::from)?;
            Ok::<_, Status>(Some((render::log::followed(next), logs)))
        });
        Ok(Response::new(Box::pin(begun.chain(messages))))
    }
}
