//! Namespaces, hidden paths and devices: what a container cannot see or reach.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxNamespace, LinuxNamespaceType};

use super::host::Host;
use crate::model::spec::Network;

/// What would show the host's hardware, keys, other tenants' load, or memory. From moby's default
/// (oci/defaults.go, 2026), which is where each was found to leak.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What would change the host. From moby's default, too.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The character devices that every container may use (runtime-spec, "Default Devices"; the runtime
/// makes the files itself): major, minor; `None` for every minor.
/// See Linux's Documentation/admin-guide/devices.txt.
const DEVICES: [(i64, Option<i64>); 9] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(1)), // console
    (5, Some(2)), // ptmx
    (136, None),  // pts/*
];

/// All of a container's own, but for the network it was given.
pub(super) fn namespaces(network: &Network, network_pid: Option<u32>) -> Vec<LinuxNamespace> {
    let own = [
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
    ];
    let own = own.into_iter().map(|kind| namespace(kind, None));
    own.chain(network_namespace(network, network_pid)).collect()
}

/// No entry means the host's.
fn network_namespace(network: &Network, pid: Option<u32>) -> Option<LinuxNamespace> {
    let path = match network {
        Network::Host => return None,
        Network::None => None,
        Network::Path { path } => Some(PathBuf::from(path)),
        Network::Container { .. } => pid.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net"))),
    };
    Some(namespace(LinuxNamespaceType::Network, path))
}

fn namespace(kind: LinuxNamespaceType, path: Option<PathBuf>) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind).set_path(path);
    namespace
}

pub(super) fn masked_paths(host: &Host) -> Vec<String> {
    let fixed = MASKED.into_iter().map(str::to_owned);
    fixed.chain(host.thermal_throttle.iter().cloned()).collect()
}

pub(super) fn read_only_paths() -> Vec<String> {
    READ_ONLY.into_iter().map(str::to_owned).collect()
}

/// First nothing, then the ones there are.
pub(super) fn device_rules() -> Vec<LinuxDeviceCgroup> {
    let mut nothing = LinuxDeviceCgroup::default();
    nothing.set_allow(false).set_access(Some("rwm".to_owned()));
    let devices = DEVICES.into_iter().map(|(major, minor)| {
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(LinuxDeviceType::C))
            .set_major(Some(major))
            .set_minor(minor)
            .set_access(Some("rwm".to_owned()));
        rule
    });
    std::iter::once(nothing).chain(devices).collect()
}
