//! The requests of `StatsService`.

use std::time::Duration;

use wharf_api::v1;

use super::flaws;
use crate::transport::Violations;
use crate::transport::parse::stats;

fn every(seconds: i64, nanos: i32) -> v1::StreamStatsRequest {
    v1::StreamStatsRequest {
        interval: Some(prost_types::Duration { seconds, nanos }),
        ..Default::default()
    }
}

#[test]
fn an_interval_is_a_second_by_default_and_at_least_a_tenth_of_it() {
    let interval = |request| {
        let mut violations = Violations::new();
        let (_, interval) = stats::stream(request, &mut violations);
        assert!(violations.as_slice().is_empty());
        interval
    };
    let second = Duration::from_secs(1);
    assert_eq!(interval(v1::StreamStatsRequest::default()), second);
    assert_eq!(interval(every(0, 0)), second);
    assert_eq!(interval(every(0, 100_000_000)), second / 10);
    assert_eq!(interval(every(86_400, 0)), second * 86_400);
}

#[test]
fn an_interval_that_is_too_short_too_long_or_none_is_refused() {
    for (seconds, nanos) in [(0, 1), (0, 99_999_999), (86_400, 1), (i64::MAX, 0)] {
        assert_eq!(
            flaws(|out| stats::stream(every(seconds, nanos), out)),
            ["interval OUT_OF_RANGE"],
            "{seconds} {nanos}"
        );
    }
    for (seconds, nanos) in [(-1, 0), (0, -1), (1, 1_000_000_000)] {
        assert_eq!(
            flaws(|out| stats::stream(every(seconds, nanos), out)),
            ["interval MALFORMED"],
            "{seconds} {nanos}"
        );
    }
}

#[test]
fn filters_are_checked() {
    let filter = Some(v1::ContainerFilter {
        id_prefixes: vec!["ab".to_owned()],
        ..Default::default()
    });
    let list = v1::ListStatsRequest {
        filter: filter.clone(),
        ..Default::default()
    };
    let stream = v1::StreamStatsRequest {
        filter,
        interval: None,
    };
    let [list, stream] = [
        flaws(|out| stats::list(list, out)),
        flaws(|out| stats::stream(stream, out)),
    ];
    assert_eq!(list.len(), 1);
    assert!(list[0].starts_with("filter.id_prefixes[0] "), "{list:?}");
    assert_eq!(list, stream);
}
