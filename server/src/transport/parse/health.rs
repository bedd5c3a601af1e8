//! Health checks: no backend runs them yet, but a wrong one is called wrong.

use std::time::Duration;

use wharf_api::v1;

use super::{Field, reason, time};
use crate::transport::Violations;

const SHORTEST: Duration = Duration::from_millis(1);
/// A year: longer is a mistake.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Checks a health check. One that is disabled is what every container has.
pub(super) fn check(check: &v1::HealthCheck, field: &Field<'_>, out: &mut Violations) {
    if check.disabled {
        let otherwise_empty = v1::HealthCheck {
            disabled: true,
            ..v1::HealthCheck::default()
        };
        if *check != otherwise_empty {
            field
                .child("disabled")
                .reject(reason::CONFLICT, "all other fields must be empty", out);
        }
        return;
    }
    if check.args.is_empty() {
        field.child("args").missing(out);
    }
    check_times(check, field, out);
    field.unsupported(out);
}

fn check_times(check: &v1::HealthCheck, field: &Field<'_>, out: &mut Violations) {
    for (value, min, name) in [
        (check.interval, SHORTEST, "interval"),
        (check.timeout, SHORTEST, "timeout"),
        (check.start_period, Duration::ZERO, "start_period"),
        (check.start_interval, SHORTEST, "start_interval"),
    ] {
        time::duration(value, (min, LONGEST), &field.child(name), out);
    }
}
