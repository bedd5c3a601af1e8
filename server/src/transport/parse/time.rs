//! Durations and timestamps.

use std::time::{Duration, SystemTime};

use super::{Field, reason};
use crate::transport::Violations;

/// Range of `google.protobuf.Timestamp`: the years 1 to 9999.
const TIMESTAMP_SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
const NANOS_PER_SECOND: u32 = 1_000_000_000;

/// Reads a duration from `min` to `max`; `None` if it is not set.
pub(super) fn duration(
    duration: Option<prost_types::Duration>,
    (min, max): (Duration, Duration),
    field: &Field<'_>,
    out: &mut Violations,
) -> Option<Duration> {
    let duration = duration?;
    let Some(value) = checked(duration) else {
        field.reject(
            reason::MALFORMED,
            "must not be negative, with nanos below 1000000000",
            out,
        );
        return None;
    };
    if !(min..=max).contains(&value) {
        field.reject(
            reason::OUT_OF_RANGE,
            format!("must be from {min:?} to {max:?}"),
            out,
        );
        return None;
    }
    Some(value)
}

fn checked(duration: prost_types::Duration) -> Option<Duration> {
    let seconds = u64::try_from(duration.seconds).ok()?;
    let nanos = nanos(duration.nanos)?;
    Some(Duration::new(seconds, nanos))
}

fn nanos(nanos: i32) -> Option<u32> {
    u32::try_from(nanos).ok().filter(|n| *n < NANOS_PER_SECOND)
}

/// Reads a timestamp; `None` if it is not set.
pub(super) fn timestamp(
    timestamp: Option<prost_types::Timestamp>,
    field: &Field<'_>,
    out: &mut Violations,
) -> Option<SystemTime> {
    let value = system_time(timestamp?);
    if value.is_none() {
        field.reject(
            reason::MALFORMED,
            "must be in the years 1 to 9999, with nanos from 0 to 999999999",
            out,
        );
    }
    value
}

fn system_time(timestamp: prost_types::Timestamp) -> Option<SystemTime> {
    if !TIMESTAMP_SECONDS.contains(&timestamp.seconds) {
        return None;
    }
    let seconds = Duration::from_secs(timestamp.seconds.unsigned_abs());
    let whole = if timestamp.seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    whole?.checked_add(Duration::from_nanos(nanos(timestamp.nanos)?.into()))
}
