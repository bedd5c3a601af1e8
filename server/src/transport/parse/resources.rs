//! Limits: of the container and of its processes.

use wharf_api::v1;

use super::{Field, reason};
use crate::model::limits;
use crate::model::spec::{Resources, Rlimit};
use crate::transport::Violations;

/// Weights of CPU and block I/O, as cgroup v2 has them.
const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10_000;
/// More processors than Linux can be built for.
const MAX_CPUS: u32 = 8_192;
/// Sizes the API can show.
const MAX_SIZE: u64 = i64::MAX.cast_unsigned();

/// The resource limits of Linux, setrlimit(2).
const RLIMITS: [&str; 16] = [
    "RLIMIT_AS",
    "RLIMIT_CORE",
    "RLIMIT_CPU",
    "RLIMIT_DATA",
    "RLIMIT_FSIZE",
    "RLIMIT_LOCKS",
    "RLIMIT_MEMLOCK",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_NOFILE",
    "RLIMIT_NPROC",
    "RLIMIT_RSS",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
    "RLIMIT_SIGPENDING",
    "RLIMIT_STACK",
];

/// Reads the limits of a container, each for itself; see [`check_together`].
pub(super) fn resources(
    resources: v1::Resources,
    field: &Field<'_>,
    out: &mut Violations,
) -> Resources {
    let mut read = |value, min, max, name| number(value, (min, max), &field.child(name), out);
    let parsed = Resources {
        cpu_limit_millicores: read(
            resources.cpu_limit_millicores,
            limits::MIN_CPU_MILLICORES,
            u64::from(MAX_CPUS) * 1_000,
            "cpu_limit_millicores",
        ),
        memory_limit_bytes: read(
            resources.memory_limit_bytes,
            limits::MIN_MEMORY_BYTES,
            MAX_SIZE,
            "memory_limit_bytes",
        ),
        memory_reservation_bytes: read(
            resources.memory_reservation_bytes,
            0,
            MAX_SIZE,
            "memory_reservation_bytes",
        ),
        swap_limit_bytes: read(resources.swap_limit_bytes, 0, MAX_SIZE, "swap_limit_bytes"),
        pids_limit: read(resources.pids_limit, 1, MAX_SIZE, "pids_limit"),
        cpu_weight: resources.cpu_weight,
        io_weight: resources.io_weight,
        cpuset_cpus: (!resources.cpuset_cpus.is_empty()).then_some(resources.cpuset_cpus),
    };
    weight(parsed.cpu_weight, &field.child("cpu_weight"), out);
    weight(parsed.io_weight, &field.child("io_weight"), out);
    cpuset(
        parsed.cpuset_cpus.as_deref(),
        &field.child("cpuset_cpus"),
        out,
    );
    parsed
}

/// Checks the limits that depend on each other. Needs all of them, so after an update of some fields
/// the engine checks, which knows the others.
pub(super) fn check_together(resources: &Resources, field: &Field<'_>, out: &mut Violations) {
    if let Some((name, problem)) = resources.conflict() {
        field.child(name).reject(reason::CONFLICT, problem, out);
    }
}

fn number(
    value: Option<i64>,
    (min, max): (u64, u64),
    field: &Field<'_>,
    out: &mut Violations,
) -> Option<u64> {
    let value = value?;
    let number = u64::try_from(value)
        .ok()
        .filter(|n| (min..=max).contains(n));
    if number.is_none() {
        field.reject(
            reason::OUT_OF_RANGE,
            format!("must be from {min} to {max}"),
            out,
        );
    }
    number
}

fn weight(weight: Option<u32>, field: &Field<'_>, out: &mut Violations) {
    if weight.is_some_and(|weight| !WEIGHTS.contains(&weight)) {
        field.reject(reason::OUT_OF_RANGE, "must be from 1 to 10000", out);
    }
}

/// Checks a list of processors as cpuset(7) writes it: `0-3,7`.
fn cpuset(cpus: Option<&str>, field: &Field<'_>, out: &mut Violations) {
    let number = |text: &str| {
        text.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| text.parse::<u32>().ok())
            .flatten()
            .filter(|cpu| *cpu < MAX_CPUS)
    };
    let is_range = |range: &str| match range.split_once('-') {
        Some((first, last)) => {
            matches!((number(first), number(last)), (Some(f), Some(l)) if f <= l)
        }
        None => number(range).is_some(),
    };
    if cpus
        .is_some_and(|cpus| cpus.len() > limits::MAX_PATH_BYTES || !cpus.split(',').all(is_range))
    {
        field.reject(
            reason::MALFORMED,
            "must be a list of processors, such as \"0-3,7\"",
            out,
        );
    }
}

/// Reads a size in bytes that must not be negative.
pub(super) fn size(bytes: i64, field: &Field<'_>, out: &mut Violations) -> u64 {
    u64::try_from(bytes).unwrap_or_else(|_| {
        field.reject(reason::OUT_OF_RANGE, "must not be negative", out);
        0
    })
}

/// Reads the limits of each process.
pub(super) fn rlimits(
    rlimits: Vec<v1::Rlimit>,
    field: &Field<'_>,
    out: &mut Violations,
) -> Vec<Rlimit> {
    // Each name at most once: more entries than names cannot be right, and need no further look.
    if !field.count(rlimits.len(), RLIMITS.len(), out) {
        return Vec::new();
    }
    let mut read: Vec<Rlimit> = Vec::with_capacity(rlimits.len());
    for (n, limit) in rlimits.into_iter().enumerate() {
        check_rlimit(&limit, &read, &field.at(n), out);
        read.push(Rlimit {
            name: limit.name,
            soft: limit.soft,
            hard: limit.hard,
        });
    }
    read
}

fn check_rlimit(limit: &v1::Rlimit, earlier: &[Rlimit], field: &Field<'_>, out: &mut Violations) {
    let name = field.child("name");
    if !RLIMITS.contains(&limit.name.as_str()) {
        name.reject(
            reason::UNKNOWN_VALUE,
            "is no limit, such as \"RLIMIT_NOFILE\"",
            out,
        );
    } else if earlier.iter().any(|other| other.name == limit.name) {
        name.reject(reason::DUPLICATE, "an earlier entry sets this limit", out);
    }
    if limit.soft > limit.hard {
        field
            .child("soft")
            .reject(reason::CONFLICT, "must be at most hard", out);
    }
}
