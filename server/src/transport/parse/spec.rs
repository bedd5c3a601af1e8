//! What to run and in what surroundings.

use std::time::Duration;

use wharf_api::v1;
use wharf_api::v1::network_spec::Mode;

use super::{
    Field, labels, later, log, mounts, name, path, process, reason, resources, security, time,
};
use crate::model::limits;
use crate::model::spec::{ContainerSpec, Network, Resources};
use crate::transport::Violations;

/// Reads a spec and fills in the server's defaults.
pub(crate) fn spec(
    spec: v1::ContainerSpec,
    field: &Field<'_>,
    out: &mut Violations,
) -> ContainerSpec {
    later::check(&spec, field, out);
    name::image(&spec.image, &field.child("image"), out);
    let network = network(spec.network, &field.child("network"), out);
    if spec.init {
        mounts::check_init(&spec.mounts, &field.child("mounts"), out);
    }
    let hostname = field.child("hostname");
    check_hostname(&spec.hostname, &network, &hostname, out);
    ContainerSpec {
        process: process::process(
            spec.process.unwrap_or_default(),
            &field.child("process"),
            out,
        ),
        stop_signal: name::signal(&spec.stop_signal, &field.child("stop_signal"), out),
        stop_grace_period: grace_period(
            spec.stop_grace_period,
            &field.child("stop_grace_period"),
            out,
        ),
        mounts: mounts::mounts(spec.mounts, &field.child("mounts"), out),
        shm_size_bytes: shm_size(spec.shm_size_bytes, &field.child("shm_size_bytes"), out),
        resources: all_resources(spec.resources, &field.child("resources"), out),
        rlimits: resources::rlimits(spec.rlimits, &field.child("rlimits"), out),
        security: security::security(
            spec.security.unwrap_or_default(),
            &field.child("security"),
            out,
        ),
        hostname: name::host(spec.hostname, &hostname, out),
        runtime: name::runtime(spec.runtime, &field.child("runtime"), out),
        annotations: labels::annotations(spec.annotations, &field.child("annotations"), out),
        network,
        image: spec.image,
        stdin_open: spec.stdin_open,
        init: spec.init,
        log: log::log(spec.log, &field.child("log"), out),
        auto_delete: spec.auto_delete,
        read_only_root: spec.read_only_root,
    }
}

/// Reads the limits of a container, all of them: what is not set gets its default.
pub(super) fn all_resources(
    resources: Option<v1::Resources>,
    field: &Field<'_>,
    out: &mut Violations,
) -> Resources {
    let read = resources::resources(resources.unwrap_or_default(), field, out);
    resources::check_together(&read, field, out);
    with_defaults(read)
}

/// Fills in the limits that a container has unless others are asked for.
pub(super) fn with_defaults(resources: Resources) -> Resources {
    Resources {
        pids_limit: resources.pids_limit.or(Some(limits::DEFAULT_PIDS)),
        ..resources
    }
}

/// Reads the time between a stop signal and SIGKILL; `None` if it is not set.
pub(super) fn grace_period(
    period: Option<prost_types::Duration>,
    field: &Field<'_>,
    out: &mut Violations,
) -> Option<Duration> {
    time::duration(period, (Duration::ZERO, limits::MAX_STOP_GRACE), field, out)
}

fn shm_size(bytes: i64, field: &Field<'_>, out: &mut Violations) -> u64 {
    match resources::size(bytes, field, out) {
        0 => limits::DEFAULT_SHM_BYTES,
        bytes => bytes,
    }
}

fn network(network: Option<v1::NetworkSpec>, field: &Field<'_>, out: &mut Violations) -> Network {
    match network.and_then(|network| network.mode) {
        None | Some(Mode::None(_)) => Network::None,
        Some(Mode::Host(_)) => Network::Host,
        Some(Mode::Container(container)) => {
            name::container(&container, &field.child("container"), out);
            Network::Container { container }
        }
        Some(Mode::NamespacePath(path)) => Network::Path {
            path: path::absolute(&path, &field.child("namespace_path"), out).unwrap_or_default(),
        },
    }
}

/// With the network of the host or of another container comes their host name.
fn check_hostname(hostname: &str, network: &Network, field: &Field<'_>, out: &mut Violations) {
    let comes_with_it = match network {
        Network::Host | Network::Container { .. } => true,
        Network::None | Network::Path { .. } => false,
    };
    if comes_with_it && !hostname.is_empty() {
        field.reject(
            reason::CONFLICT,
            "does not go with the network of the host or of a container",
            out,
        );
    }
}
