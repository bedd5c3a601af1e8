//! The requests of `StatsService`.

use std::time::Duration;

use wharf_api::v1;

use super::{Field, filter, time};
use crate::engine::query::ContainerFilter;
use crate::model::limits::{DEFAULT_STATS_INTERVAL, MIN_STATS_INTERVAL};
use crate::transport::Violations;

/// Longest interval that can be asked for: a day, after which nobody would wait for a sample.
const MAX_INTERVAL: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn list(request: v1::ListStatsRequest, out: &mut Violations) -> ContainerFilter {
    filter::containers(request.filter, &Field::new("filter"), out)
}

/// Which containers, and how far apart the rounds are.
pub(crate) fn stream(
    request: v1::StreamStatsRequest,
    out: &mut Violations,
) -> (ContainerFilter, Duration) {
    let zero = prost_types::Duration::default();
    let interval = request.interval.filter(|interval| *interval != zero);
    let range = (MIN_STATS_INTERVAL, MAX_INTERVAL);
    let interval = time::duration(interval, range, &Field::new("interval"), out);
    (
        filter::containers(request.filter, &Field::new("filter"), out),
        interval.unwrap_or(DEFAULT_STATS_INTERVAL),
    )
}
