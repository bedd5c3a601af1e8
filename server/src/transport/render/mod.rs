//! Domain values into messages. Pure: whatever a message needs besides the value, such as a cursor's
//! text, comes as an argument.

pub(super) mod container;
pub(super) mod event;
pub(super) mod exec;
pub(super) mod file;
pub(super) mod image;
pub(super) mod log;
pub(super) mod spec;
pub(super) mod stats;
pub(super) mod status;
pub(super) mod stdio;

#[cfg(test)]
mod tests;

use std::time::Duration;

/// A size or time span as the API's signed numbers hold it.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count.
pub(super) fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A time span.
pub(super) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: signed(duration.as_secs()),
        // Below a thousand million by its type.
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}
