#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

mod events;
mod execs;
mod fuzz;
mod images;
mod logs;
mod requests;
mod spec;
mod stats;
mod stdio;
mod update;

use crate::transport::Violations;
use crate::transport::error::ViolationKind;

const UNSUPPORTED: &str = "unsupported";

/// What `parse` finds wrong, as `field reason`, in order.
fn flaws<T>(parse: impl FnOnce(&mut Violations) -> T) -> Vec<String> {
    let mut violations = Violations::new();
    let _ = parse(&mut violations);
    violations
        .as_slice()
        .iter()
        .map(|violation| {
            let reason = match violation.kind {
                ViolationKind::Invalid(reason) => reason,
                ViolationKind::Unsupported => UNSUPPORTED,
            };
            format!("{} {reason}", violation.field)
        })
        .collect()
}
