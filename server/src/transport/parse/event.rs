//! The requests of `EventService`.

use std::collections::HashSet;
use std::time::Duration;

use wharf_api::v1;
use wharf_api::v1::ContainerView;
use wharf_api::v1::watch_events_request::Start;

use super::{Field, filter, labels, reason, text, time};
use crate::engine::watch::{Execs, GapPolicy, StateFilter, WatchOptions, WatchStart};
use crate::journal::{Cursor, Direction, Filter, Query};
use crate::model::event::EventType;
use crate::model::{ContainerId, RequestId, limits};
use crate::transport::{CallError, Violations};

/// Longest silence that can be asked for: a day, after which nobody would wait for a sign of life.
const MAX_PROGRESS_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// A watch, and how much of the containers it shows.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) options: WatchOptions,
    pub(crate) views: Views,
}

/// How much of a container is shown, by why it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Views {
    /// Because it existed when the watch started.
    pub(crate) initial: ContainerView,
    /// Because it exists after a gap.
    pub(crate) resync: ContainerView,
    /// Because an event is about it; `None` for nothing.
    pub(crate) event: Option<ContainerView>,
}

/// What to send as state, and how much of each container.
#[derive(Debug, Clone)]
struct State {
    filter: StateFilter,
    view: ContainerView,
}

impl Default for State {
    fn default() -> Self {
        Self {
            filter: StateFilter::default(),
            view: ContainerView::Basic,
        }
    }
}

/// Reads a watch.
///
/// # Errors
/// [`CallError::CursorInvalid`], which matters only if there are no violations.
pub(crate) fn watch(
    request: v1::WatchEventsRequest,
    out: &mut Violations,
) -> Result<Watch, CallError> {
    let (start, initial) = start(request.start, out);
    let resync = request
        .resync_state
        .map(|message| state(message, &Field::new("resync_state"), out))
        .or_else(|| initial.clone())
        .unwrap_or_default();
    let views = Views {
        initial: initial.map_or(resync.view, |initial| initial.view),
        resync: resync.view,
        event: event_view(request.container_view, out),
    };
    let options = WatchOptions {
        until: time::timestamp(request.until_time, &Field::new("until_time"), out),
        filter: filter(request.filter, out),
        progress_interval: progress_interval(request.progress_interval, out),
        gap_policy: gap_policy(request.gap_policy, resync.filter, out),
        start: start?,
    };
    Ok(Watch { options, views })
}

fn start(
    start: Option<Start>,
    out: &mut Violations,
) -> (Result<WatchStart, CallError>, Option<State>) {
    match start {
        None => (Ok(WatchStart::Now), None),
        Some(Start::Cursor(text)) => {
            let cursor = Cursor::parse(&text).map(WatchStart::Cursor);
            let invalid = |_| CallError::CursorInvalid {
                field: "cursor".to_owned(),
            };
            (cursor.map_err(invalid), None)
        }
        Some(Start::SinceTime(time)) => {
            let time = time::timestamp(Some(time), &Field::new("since_time"), out);
            (Ok(time.map_or(WatchStart::Now, WatchStart::Since)), None)
        }
        Some(Start::InitialState(message)) => {
            let state = state(message, &Field::new("initial_state"), out);
            (Ok(WatchStart::State(state.filter.clone())), Some(state))
        }
    }
}

fn state(state: v1::InitialState, field: &Field<'_>, out: &mut Violations) -> State {
    let filter = StateFilter {
        containers: filter::containers(state.filter, &field.child("filter"), out),
        execs: if state.include_execs {
            Execs::Include
        } else {
            Execs::Omit
        },
    };
    State {
        filter,
        view: filter::view(state.view, ContainerView::Basic, &field.child("view"), out),
    }
}

fn event_view(view: Option<i32>, out: &mut Violations) -> Option<ContainerView> {
    let field = Field::new("container_view");
    view.map(|view| filter::view(view, ContainerView::Basic, &field, out))
}

fn progress_interval(interval: Option<prost_types::Duration>, out: &mut Violations) -> Duration {
    let field = Field::new("progress_interval");
    if interval.is_none_or(|interval| interval == prost_types::Duration::default()) {
        return limits::DEFAULT_PROGRESS_INTERVAL;
    }
    let range = (limits::MIN_PROGRESS_INTERVAL, MAX_PROGRESS_INTERVAL);
    time::duration(interval, range, &field, out).unwrap_or_default()
}

fn gap_policy(policy: i32, resync: StateFilter, out: &mut Violations) -> GapPolicy {
    use v1::watch_events_request::GapPolicy as Asked;
    match Field::new("gap_policy").enumeration(policy, out) {
        None | Some(Asked::Unspecified | Asked::Fail) => GapPolicy::Fail,
        Some(Asked::Continue) => GapPolicy::Continue,
        Some(Asked::Resync) => GapPolicy::Resync(resync),
    }
}

/// Reads which past events are wanted; where the page starts and ends is the caller's to add.
pub(crate) fn list(request: v1::ListEventsRequest, out: &mut Violations) -> Query {
    Query {
        filter: filter(request.filter, out),
        since: time::timestamp(request.since_time, &Field::new("since_time"), out),
        until: time::timestamp(request.until_time, &Field::new("until_time"), out),
        direction: if request.descending {
            Direction::Descending
        } else {
            Direction::Ascending
        },
        from: None,
        limit: limits::DEFAULT_PAGE,
        max_bytes: limits::MAX_PAGE_BYTES,
    }
}

fn filter(filter: Option<v1::EventFilter>, out: &mut Violations) -> Filter {
    let field = Field::new("filter");
    let filter = filter.unwrap_or_default();
    let any_type = filter.types.is_empty();
    let types: HashSet<EventType> =
        filter::values(filter.types, &field.child("types"), out, event_type);
    Filter {
        types: (!any_type).then_some(types),
        containers: filter::values(
            filter.container_ids,
            &field.child("container_ids"),
            out,
            container_id,
        ),
        labels: labels::wanted(filter.labels, &field.child("labels"), out),
        images: filter::values(filter.images, &field.child("images"), out, image),
        request_ids: filter::values(
            filter.request_ids,
            &field.child("request_ids"),
            out,
            request_id,
        ),
    }
}

fn container_id(id: String, field: &Field<'_>, out: &mut Violations) -> Option<ContainerId> {
    let id = id.parse().ok();
    if id.is_none() {
        field.reject(reason::MALFORMED, "must be a container's id", out);
    }
    id
}

fn image(image: String, field: &Field<'_>, out: &mut Violations) -> Option<String> {
    text::required(&image, limits::MAX_REFERENCE_BYTES, field, out);
    Some(image)
}

fn request_id(id: String, field: &Field<'_>, out: &mut Violations) -> Option<RequestId> {
    let id = RequestId::parse(&id);
    if id.is_none() {
        field.reject(
            reason::MALFORMED,
            "must be 1 to 128 of [A-Za-z0-9._:@/+=-]",
            out,
        );
    }
    id
}

/// The type that a number names; `None` also for those that no event has yet.
fn event_type(number: i32, field: &Field<'_>, out: &mut Violations) -> Option<EventType> {
    use v1::event::Type;
    match field.enumeration(number, out)? {
        Type::Unspecified => {
            field.missing(out);
            None
        }
        Type::ContainerCreated => Some(EventType::ContainerCreated),
        Type::ContainerStarted => Some(EventType::ContainerStarted),
        Type::ContainerExited => Some(EventType::ContainerExited),
        Type::ContainerStartFailed => Some(EventType::ContainerStartFailed),
        Type::ContainerStopping => Some(EventType::ContainerStopping),
        Type::ContainerSignaled => Some(EventType::ContainerSignaled),
        Type::ContainerPaused => Some(EventType::ContainerPaused),
        Type::ContainerResumed => Some(EventType::ContainerResumed),
        Type::ContainerUpdated => Some(EventType::ContainerUpdated),
        Type::ContainerFailed => Some(EventType::ContainerFailed),
        Type::ContainerDeleted => Some(EventType::ContainerDeleted),
        Type::ContainerOom => Some(EventType::ContainerOom),
        Type::ExecCreated => Some(EventType::ExecCreated),
        Type::ExecStarted => Some(EventType::ExecStarted),
        Type::ExecStartFailed => Some(EventType::ExecStartFailed),
        Type::ExecExited => Some(EventType::ExecExited),
        Type::ImagePulled => Some(EventType::ImagePulled),
        Type::ImagePullFailed => Some(EventType::ImagePullFailed),
        Type::ImageImported => Some(EventType::ImageImported),
        Type::ImageTagged => Some(EventType::ImageTagged),
        Type::ImageUntagged => Some(EventType::ImageUntagged),
        Type::ImageDeleted => Some(EventType::ImageDeleted),
        Type::SystemStarted => Some(EventType::SystemStarted),
        Type::SystemDraining => Some(EventType::SystemDraining),
        Type::BackendDisconnected => Some(EventType::BackendDisconnected),
        Type::BackendConnected => Some(EventType::BackendConnected),
        Type::ContainerRestartScheduled
        | Type::ContainerHealthChanged
        | Type::ContainerAttached
        | Type::ContainerDetached
        | Type::ContainerFilesWritten => None,
    }
}
