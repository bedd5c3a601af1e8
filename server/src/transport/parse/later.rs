//! Options that later capabilities bring. Their form is checked, so that wrong values are called
//! wrong; right ones are unsupported, unless they say what holds anyway.

use std::time::Duration;

use wharf_api::v1;
use wharf_api::v1::restart_policy::Condition;

use super::{Field, health, reason, time};
use crate::transport::Violations;

/// Checks the options of a spec that no backend has yet.
pub(super) fn check(spec: &v1::ContainerSpec, field: &Field<'_>, out: &mut Violations) {
    for (asked, name) in [
        (!spec.devices.is_empty(), "devices"),
        (!spec.extra_hosts.is_empty(), "extra_hosts"),
        (
            spec.dns
                .as_ref()
                .is_some_and(|dns| *dns != v1::DnsConfig::default()),
            "dns",
        ),
    ] {
        if asked {
            field.child(name).unsupported(out);
        }
    }
    run_timeout(spec.run_timeout, &field.child("run_timeout"), out);
    if let Some(check) = &spec.health_check {
        health::check(check, &field.child("health_check"), out);
    }
    if let Some(policy) = &spec.restart_policy {
        restart_policy(policy, spec, field, out);
    }
}

fn run_timeout(timeout: Option<prost_types::Duration>, field: &Field<'_>, out: &mut Violations) {
    let range = (Duration::ZERO, Duration::MAX);
    if time::duration(timeout, range, field, out).is_some_and(|timeout| !timeout.is_zero()) {
        field.unsupported(out);
    }
}

fn restart_policy(
    policy: &v1::RestartPolicy,
    spec: &v1::ContainerSpec,
    spec_field: &Field<'_>,
    out: &mut Violations,
) {
    let field = spec_field.child("restart_policy");
    let Some(condition) = field
        .child("condition")
        .enumeration::<Condition>(policy.condition, out)
    else {
        return;
    };
    if policy.max_retries > 0 && condition != Condition::OnFailure {
        field
            .child("max_retries")
            .reject(reason::CONFLICT, "is for ON_FAILURE only", out);
    }
    match condition {
        Condition::Unspecified | Condition::Never => {
            if policy.restart_on_unhealthy {
                field.child("restart_on_unhealthy").reject(
                    reason::CONFLICT,
                    "needs a condition other than NEVER",
                    out,
                );
            }
        }
        Condition::OnFailure | Condition::Always => {
            if spec.auto_delete {
                spec_field.child("auto_delete").reject(
                    reason::CONFLICT,
                    "needs restart policy NEVER",
                    out,
                );
            }
            field.unsupported(out);
        }
    }
}
