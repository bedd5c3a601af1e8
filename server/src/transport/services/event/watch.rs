//! The messages of a watch.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::stream;
use wharf_api::v1;
use wharf_api::v1::ContainerView;
use wharf_api::v1::watch_events_response::Response;

use super::Answers;
use crate::engine::Engine;
use crate::engine::watch::{EventWatch, WatchItem};
use crate::journal::Cursor;
use crate::model::Event;
use crate::transport::parse::event::Views;
use crate::transport::services::container::show;
use crate::transport::{CallError, render};

/// Shows what a watch yields.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    engine: Engine,
    views: Views,
    /// Of containers sent as state: the initial view until there was a gap.
    state_view: ContainerView,
}

/// Pulls from the watch as fast as the client reads, and no faster.
pub(super) fn messages(events: EventWatch, shown: Shown) -> Answers<v1::WatchEventsResponse> {
    Box::pin(stream::try_unfold(
        (events, shown),
        |(mut events, mut shown)| async move {
            let next = events
                .next()
                .await
                .map_err(CallError::of_journal(shown.engine.journal()))?;
            Ok(next.map(|(cursor, item)| (shown.message(cursor, item), (events, shown))))
        },
    ))
}

impl Shown {
    pub(super) fn new(engine: Engine, views: Views) -> Self {
        Self {
            engine,
            views,
            state_view: views.initial,
        }
    }

    fn message(&mut self, cursor: Option<Cursor>, item: WatchItem) -> v1::WatchEventsResponse {
        v1::WatchEventsResponse {
            cursor: cursor.map(|cursor| cursor.to_string()).unwrap_or_default(),
            response: Some(self.response(item)),
        }
    }

    fn response(&mut self, item: WatchItem) -> Response {
        match item {
            WatchItem::Started { epoch, oldest } => Response::Started(v1::WatchStarted {
                epoch: epoch.to_string(),
                oldest_cursor: oldest.to_string(),
            }),
            WatchItem::Container(container) => Response::InitialContainer(Box::new(show(
                &self.engine,
                &container,
                self.state_view,
            ))),
            WatchItem::Exec(exec) => Response::InitialExec(Box::new(render::exec::exec(&exec))),
            WatchItem::Synced { containers, execs } => {
                Response::Synced(v1::WatchSynced { containers, execs })
            }
            WatchItem::Event(event) => Response::Event(Box::new(self.event(&event))),
            WatchItem::Progress => Response::Progress(v1::WatchProgress {
                time: Some(SystemTime::now().into()),
            }),
            WatchItem::Gap { reason, missed } => {
                self.state_view = self.views.resync;
                Response::Gap(render::event::gap(reason, missed))
            }
        }
    }

    fn event(&self, event: &Arc<Event>) -> v1::Event {
        let cursor = self.engine.journal().cursor(event.sequence);
        v1::Event {
            container: self.container(event),
            ..render::event::event(event, cursor)
        }
    }

    /// The container as it is now; none once it is deleted.
    fn container(&self, event: &Event) -> Option<v1::Container> {
        let view = self.views.event?;
        let id = event.body.container.as_ref()?.id.to_string();
        let container = self.engine.get(&id).ok()?;
        Some(show(&self.engine, &container, view))
    }
}
