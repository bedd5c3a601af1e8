//! `StatsService`.

use std::collections::VecDeque;

use futures_util::stream;
use tonic::{Request, Response, Status};
use wharf_api::v1;
use wharf_api::v1::stats_service_server::StatsService;

use super::{Answers, parsed};
use crate::engine::query::ContainerPosition;
use crate::engine::{Engine, RoundPart, StatsRounds};
use crate::model::{ContainerId, limits};
use crate::transport::page::{self, CreationPlace, More, Page};
use crate::transport::{CallError, parse, render};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Stats {
    engine: Engine,
}

impl Stats {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    async fn page(
        &self,
        request: v1::ListStatsRequest,
    ) -> Result<v1::ListStatsResponse, CallError> {
        let (page, filter) = parsed(&self.engine, |out| {
            (Page::of(&request, out), parse::stats::list(request, out))
        })?;
        let page: Page<CreationPlace> = page?;
        let after = page.after.as_ref();
        let after = after
            .map(|place| place.position(ContainerId::from_bytes))
            .transpose()?;
        let found = self.engine.stats(&filter, after, page.size).await?;
        let places: Vec<_> = found
            .samples
            .iter()
            .map(|sample| ContainerPosition::of(&sample.container))
            .collect();
        let shown = found.samples.into_iter().map(render::stats::sample);
        let (stats, more) = page::fill(shown, page.size);
        let next = match more {
            More::Yes => stats
                .len()
                .checked_sub(1)
                .and_then(|n| places.get(n))
                .copied(),
            More::No => found.next,
        };
        let token = |at: ContainerPosition| {
            page.token(&CreationPlace::of(at.create_time, at.id.as_bytes(), ""))
        };
        Ok(v1::ListStatsResponse {
            next_page_token: next.map(token).unwrap_or_default(),
            stats,
        })
    }
}

#[tonic::async_trait]
impl StatsService for Stats {
    async fn list_stats(
        &self,
        request: Request<v1::ListStatsRequest>,
    ) -> Result<Response<v1::ListStatsResponse>, Status> {
        Ok(Response::new(self.page(request.into_inner()).await?))
    }

    type StreamStatsStream = Answers<v1::StreamStatsResponse>;

    async fn stream_stats(
        &self,
        request: Request<v1::StreamStatsRequest>,
    ) -> Result<Response<Self::StreamStatsStream>, Status> {
        let request = request.into_inner();
        let (filter, interval) = parsed(&self.engine, |out| parse::stats::stream(request, out))?;
        let rounds = self
            .engine
            .stats_rounds(filter, interval)
            .map_err(CallError::from)?;
        Ok(Response::new(messages(rounds)))
    }
}

/// Pulls a part of a round when the client has taken the last one, and no sooner.
fn messages(rounds: StatsRounds) -> Answers<v1::StreamStatsResponse> {
    let begin = (rounds, VecDeque::new());
    Box::pin(stream::try_unfold(begin, |(mut rounds, mut parts)| async {
        if parts.is_empty() {
            let part = rounds.next().await.map_err(CallError::from)?;
            parts = split(part);
        }
        Ok(parts.pop_front().map(|message| (message, (rounds, parts))))
    }))
}

/// The messages of a part: none is larger than a page. One that is empty is a message, too.
fn split(part: RoundPart) -> VecDeque<v1::StreamStatsResponse> {
    let mut samples = part
        .samples
        .into_iter()
        .map(render::stats::sample)
        .peekable();
    let mut messages = VecDeque::new();
    loop {
        let stats = page::take(&mut samples, limits::MAX_PAGE);
        let is_last = samples.peek().is_none();
        messages.push_back(v1::StreamStatsResponse {
            stats,
            round: part.round,
            round_end: part.is_last && is_last,
        });
        if is_last {
            return messages;
        }
    }
}
