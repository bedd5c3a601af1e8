//! The requests of `EventService`.

use std::time::Duration;

use wharf_api::v1;
use wharf_api::v1::ContainerView;
use wharf_api::v1::watch_events_request::Start;

use super::flaws;
use crate::engine::watch::{Execs, GapPolicy, WatchStart};
use crate::model::event::EventType;
use crate::transport::Violations;
use crate::transport::parse::event::{self, Watch};

fn watch_flaws(request: v1::WatchEventsRequest) -> Vec<String> {
    flaws(|out| event::watch(request, out))
}

fn parsed(request: v1::WatchEventsRequest) -> Watch {
    let mut out = Violations::new();
    let watch = event::watch(request, &mut out).unwrap();
    assert!(out.is_empty(), "{out}");
    watch
}

fn filtered(filter: v1::EventFilter) -> v1::WatchEventsRequest {
    v1::WatchEventsRequest {
        filter: Some(filter),
        ..Default::default()
    }
}

#[test]
fn an_empty_request_watches_everything_from_now() {
    let watch = parsed(v1::WatchEventsRequest::default());
    assert!(matches!(watch.options.start, WatchStart::Now));
    assert!(matches!(watch.options.gap_policy, GapPolicy::Fail));
    assert_eq!(watch.options.progress_interval, Duration::from_secs(30));
    assert!(watch.options.filter.types.is_none());
    assert_eq!(watch.views.event, None);
}

#[test]
fn a_resync_shows_what_it_asks_for_else_what_the_start_did() {
    let state = |name: &str, view| v1::InitialState {
        filter: Some(v1::ContainerFilter {
            names: vec![name.to_owned()],
            ..Default::default()
        }),
        view,
        include_execs: true,
    };
    let request = v1::WatchEventsRequest {
        start: Some(Start::InitialState(state("first", 2))),
        gap_policy: 3,
        ..Default::default()
    };
    let resync_names = |watch: Watch| match watch.options.gap_policy {
        GapPolicy::Resync(state) => state.containers.names.into_iter().collect::<Vec<_>>(),
        GapPolicy::Fail | GapPolicy::Continue => Vec::new(),
    };
    let watch = parsed(request.clone());
    assert_eq!(watch.views.resync, ContainerView::Full);
    assert!(matches!(
        &watch.options.start,
        WatchStart::State(state) if state.execs == Execs::Include
    ));
    assert_eq!(resync_names(watch), ["first"]);
    let watch = parsed(v1::WatchEventsRequest {
        resync_state: Some(state("second", 0)),
        ..request
    });
    assert_eq!(watch.views.initial, ContainerView::Full);
    assert_eq!(watch.views.resync, ContainerView::Basic);
    assert_eq!(resync_names(watch), ["second"]);
}

#[test]
fn types_that_no_event_has_yet_select_nothing() {
    let types = |types: Vec<i32>| {
        parsed(filtered(v1::EventFilter {
            types,
            ..Default::default()
        }))
        .options
        .filter
        .types
    };
    let exited = v1::event::Type::ContainerExited.into();
    let health = v1::event::Type::ContainerHealthChanged.into();
    let exec = v1::event::Type::ExecExited.into();
    assert_eq!(types(vec![health]), Some([].into()));
    assert_eq!(
        types(vec![health, exited, exec]),
        Some([EventType::ContainerExited, EventType::ExecExited].into())
    );
}

#[test]
fn wrong_values_are_named() {
    let filter = v1::EventFilter::default;
    let second = |seconds, nanos| prost_types::Duration { seconds, nanos };
    let time = |seconds, nanos| prost_types::Timestamp { seconds, nanos };
    let watch = v1::WatchEventsRequest::default;
    for (bad, flaw) in [
        (
            filtered(v1::EventFilter {
                types: vec![0],
                ..filter()
            }),
            "filter.types[0] REQUIRED",
        ),
        (
            filtered(v1::EventFilter {
                types: vec![999],
                ..filter()
            }),
            "filter.types[0] UNKNOWN_VALUE",
        ),
        (
            filtered(v1::EventFilter {
                container_ids: vec!["web".into()],
                ..filter()
            }),
            "filter.container_ids[0] MALFORMED",
        ),
        (
            filtered(v1::EventFilter {
                request_ids: vec!["a b".into()],
                ..filter()
            }),
            "filter.request_ids[0] MALFORMED",
        ),
        (
            filtered(v1::EventFilter {
                images: vec![String::new()],
                ..filter()
            }),
            "filter.images[0] REQUIRED",
        ),
        (
            v1::WatchEventsRequest {
                progress_interval: Some(second(0, 1)),
                ..watch()
            },
            "progress_interval OUT_OF_RANGE",
        ),
        (
            v1::WatchEventsRequest {
                progress_interval: Some(second(-1, 0)),
                ..watch()
            },
            "progress_interval MALFORMED",
        ),
        (
            v1::WatchEventsRequest {
                gap_policy: 9,
                ..watch()
            },
            "gap_policy UNKNOWN_VALUE",
        ),
        (
            v1::WatchEventsRequest {
                container_view: Some(9),
                ..watch()
            },
            "container_view UNKNOWN_VALUE",
        ),
        (
            v1::WatchEventsRequest {
                until_time: Some(time(0, -1)),
                ..watch()
            },
            "until_time MALFORMED",
        ),
        (
            v1::WatchEventsRequest {
                start: Some(Start::SinceTime(time(i64::MIN, 0))),
                ..watch()
            },
            "since_time MALFORMED",
        ),
    ] {
        assert_eq!(watch_flaws(bad), [flaw]);
    }
}
