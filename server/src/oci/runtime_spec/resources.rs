//! Limits, as the runtimes take them on cgroup v1 and v2.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

use super::host::{CgroupVersion, Host};
use crate::model::limits::DEFAULT_PIDS;
use crate::model::spec::Resources;

/// The kernel's default scheduling period in microseconds, and the one all limits are counted in.
const CPU_PERIOD: u64 = 100_000;
/// What the runtime spec and the kernel take for "no limit".
const NO_LIMIT: i64 = -1;
/// The kernel's default weights, on v1 (cpu.shares, blkio.weight) and on v2 (cpu.weight, io.weight).
const DEFAULT_SHARES: u64 = 1_024;
const DEFAULT_BLKIO_WEIGHT: u16 = 500;
const DEFAULT_WEIGHT: u32 = 100;

/// The limits a container starts with. Those that are not set are left to the kernel, except the
/// process limit, which every container has.
#[must_use]
pub fn resources(limits: &Resources, cgroup: CgroupVersion) -> LinuxResources {
    let mut result = LinuxResources::default();
    result
        .set_cpu(cpu(limits, cgroup))
        .set_memory(memory(limits, cgroup))
        .set_pids(Some(pids(limits)))
        .set_block_io(block_io(limits, cgroup))
        .set_unified(unified(limits, cgroup));
    result
}

/// The limits of a running container, all of them: a runtime leaves alone what an update does not name,
/// so that a limit that is gone must be named as none.
#[must_use]
pub fn resources_update(limits: &Resources, host: &Host) -> LinuxResources {
    let mut cpu = cpu(limits, host.cgroup).unwrap_or_default();
    let mut memory = memory(limits, host.cgroup).unwrap_or_default();
    let quota = cpu.quota().or(Some(NO_LIMIT));
    cpu.set_period(Some(CPU_PERIOD)).set_quota(quota);
    if cpu.cpus().is_none() && !host.online_cpus.is_empty() {
        cpu.set_cpus(Some(host.online_cpus.clone()));
    }
    // Without a memory limit the runtime lifts the one of memory and swap by itself, where there is one.
    memory.set_limit(memory.limit().or(Some(NO_LIMIT)));
    if limits.memory_limit_bytes.is_some() && limits.swap_limit_bytes.is_none() {
        memory.set_swap(Some(NO_LIMIT));
    }

    let mut result = resources(limits, host.cgroup);
    match host.cgroup {
        CgroupVersion::V1 => {
            cpu.set_shares(cpu.shares().or(Some(DEFAULT_SHARES)));
            memory.set_reservation(memory.reservation().or(Some(NO_LIMIT)));
        }
        CgroupVersion::V2 => {
            let unified = result.unified_mut().get_or_insert_default();
            let weight = || DEFAULT_WEIGHT.to_string();
            unified
                .entry("cpu.weight".to_owned())
                .or_insert_with(weight);
            unified
                .entry("memory.low".to_owned())
                .or_insert_with(|| "0".to_owned());
        }
    }
    result.set_cpu(Some(cpu)).set_memory(Some(memory));
    result
}

fn cpu(limits: &Resources, cgroup: CgroupVersion) -> Option<LinuxCpu> {
    let mut cpu = LinuxCpu::default();
    if let Some(millicores) = limits.cpu_limit_millicores {
        let quota = millicores.saturating_mul(CPU_PERIOD / 1_000);
        cpu.set_period(Some(CPU_PERIOD))
            .set_quota(Some(signed(quota)));
    }
    if cgroup == CgroupVersion::V1 {
        cpu.set_shares(limits.cpu_weight.map(shares));
    }
    cpu.set_cpus(limits.cpuset_cpus.clone());
    (cpu != LinuxCpu::default()).then_some(cpu)
}

fn memory(limits: &Resources, cgroup: CgroupVersion) -> Option<LinuxMemory> {
    let mut memory = LinuxMemory::default();
    memory.set_limit(limits.memory_limit_bytes.map(signed));
    if let (Some(limit), Some(swap)) = (limits.memory_limit_bytes, limits.swap_limit_bytes) {
        // The runtime spec counts memory and swap together, on v2 as well.
        memory.set_swap(Some(signed(limit.saturating_add(swap))));
    }
    if cgroup == CgroupVersion::V1 {
        memory.set_reservation(limits.memory_reservation_bytes.map(signed));
    }
    (memory != LinuxMemory::default()).then_some(memory)
}

fn pids(limits: &Resources) -> LinuxPids {
    let mut pids = LinuxPids::default();
    pids.set_limit(signed(limits.pids_limit.unwrap_or(DEFAULT_PIDS)));
    pids
}

fn block_io(limits: &Resources, cgroup: CgroupVersion) -> Option<LinuxBlockIo> {
    let weight = match cgroup {
        CgroupVersion::V1 => limits.io_weight.map(blkio_weight)?,
        CgroupVersion::V2 => return None,
    };
    let mut block_io = LinuxBlockIo::default();
    block_io.set_weight(Some(weight));
    Some(block_io)
}

/// What v2 takes in its own scale, past the runtimes' conversions from v1's, of which there are several.
fn unified(limits: &Resources, cgroup: CgroupVersion) -> Option<HashMap<String, String>> {
    if cgroup == CgroupVersion::V1 {
        return None;
    }
    let mut files = HashMap::new();
    let mut file = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            files.insert(name.to_owned(), value);
        }
    };
    file("cpu.weight", limits.cpu_weight.map(|w| w.to_string()));
    file("io.weight", limits.io_weight.map(|w| w.to_string()));
    let reservation = limits.memory_reservation_bytes;
    file("memory.low", reservation.map(|bytes| bytes.to_string()));
    if limits.memory_limit_bytes.is_none() {
        // With a limit the runtime spec's `swap` says it.
        let swap = limits.swap_limit_bytes;
        file("memory.swap.max", swap.map(|bytes| bytes.to_string()));
    }
    (!files.is_empty()).then_some(files)
}

/// cpu.weight 1..=10000 to cpu.shares 2..=262144: the inverse of the conversion that runc documents in
/// docs/systemd.md and cgroups' `ConvertCPUSharesToCgroupV2Value`,
/// `weight = 1 + (shares - 2) * 9999 / 262142`.
fn shares(weight: u32) -> u64 {
    2 + (u64::from(weight.clamp(1, 10_000)) - 1) * 262_142 / 9_999
}

/// io.weight 1..=10000 to blkio.weight 10..=1000, in proportion.
fn blkio_weight(weight: u32) -> u16 {
    let scaled = 10 + (weight.clamp(1, 10_000) - 1) * 990 / 9_999;
    u16::try_from(scaled).unwrap_or(DEFAULT_BLKIO_WEIGHT)
}

/// More than the kernel can count is no limit in effect.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use super::super::host::ReadOnlyMounts;
    use super::*;

    fn host(cgroup: CgroupVersion) -> Host {
        Host {
            cgroup,
            hostname: "host".to_owned(),
            resolver_files: Vec::new(),
            read_only_mounts: ReadOnlyMounts::Recursive,
            thermal_throttle: Vec::new(),
            capabilities: super::super::all_capabilities(),
            online_cpus: "0-3".to_owned(),
        }
    }

    fn everything() -> Resources {
        Resources {
            cpu_limit_millicores: Some(1_500),
            cpu_weight: Some(100),
            cpuset_cpus: Some("0-1".to_owned()),
            memory_limit_bytes: Some(64 << 20),
            memory_reservation_bytes: Some(32 << 20),
            swap_limit_bytes: Some(0),
            pids_limit: Some(100),
            io_weight: Some(10_000),
        }
    }

    #[test]
    fn a_weight_survives_the_way_through_shares() {
        assert_eq!(shares(1), 2);
        assert_eq!(shares(10_000), 262_144);
        for weight in 1..=10_000_u32 {
            let back = 1 + (shares(weight) - 2) * 9_999 / 262_142;
            assert!(u64::from(weight).abs_diff(back) <= 1, "{weight} {back}");
        }
    }

    #[test]
    fn an_io_weight_is_scaled_to_what_v1_takes() {
        assert_eq!(blkio_weight(1), 10);
        assert_eq!(blkio_weight(10_000), 1_000);
    }

    #[test]
    fn v1_takes_everything_in_the_spec_fields() {
        let result = resources(&everything(), CgroupVersion::V1);
        let cpu = result.cpu().clone().expect("cpu");
        assert_eq!(cpu.quota(), Some(150_000));
        assert_eq!(cpu.period(), Some(100_000));
        assert_eq!(cpu.shares(), Some(shares(100)));
        assert_eq!(cpu.cpus().as_deref(), Some("0-1"));
        let memory = result.memory().expect("memory");
        assert_eq!(memory.limit(), Some(64 << 20));
        assert_eq!(memory.reservation(), Some(32 << 20));
        assert_eq!(memory.swap(), memory.limit(), "no swap besides memory");
        assert_eq!(result.pids().expect("pids").limit(), 100);
        let block_io = result.block_io().clone().expect("block io");
        assert_eq!(block_io.weight(), Some(1_000));
        assert_eq!(result.unified(), &None);
    }

    #[test]
    fn v2_takes_weights_in_its_own_scale() {
        let result = resources(&everything(), CgroupVersion::V2);
        let unified = result.unified().clone().expect("unified");
        assert_eq!(unified["cpu.weight"], "100");
        assert_eq!(unified["io.weight"], "10000");
        assert_eq!(unified["memory.low"], (32 << 20).to_string());
        assert_eq!(result.cpu().as_ref().expect("cpu").shares(), None);
        assert_eq!(result.block_io(), &None);
    }

    #[test]
    fn a_container_without_limits_still_has_a_process_limit() {
        for cgroup in [CgroupVersion::V1, CgroupVersion::V2] {
            let result = resources(&Resources::default(), cgroup);
            assert_eq!(result.pids().expect("pids").limit(), 4_096);
            assert_eq!(result.cpu(), &None);
            assert_eq!(result.memory(), &None);
        }
    }

    #[test]
    fn an_update_lifts_what_is_not_limited_any_more() {
        let v1 = resources_update(&Resources::default(), &host(CgroupVersion::V1));
        let cpu = v1.cpu().clone().expect("cpu");
        assert_eq!(cpu.quota(), Some(-1));
        assert_eq!(cpu.shares(), Some(1_024));
        assert_eq!(cpu.cpus().as_deref(), Some("0-3"));
        let memory = v1.memory().expect("memory");
        assert_eq!(memory.limit(), Some(-1));
        assert_eq!(memory.reservation(), Some(-1));

        let v2 = resources_update(&Resources::default(), &host(CgroupVersion::V2));
        let unified = v2.unified().clone().expect("unified");
        assert_eq!(unified["cpu.weight"], "100");
        assert_eq!(unified["memory.low"], "0");
    }

    #[test]
    fn an_update_keeps_what_is_still_limited() {
        for cgroup in [CgroupVersion::V1, CgroupVersion::V2] {
            let start = resources(&everything(), cgroup);
            assert_eq!(resources_update(&everything(), &host(cgroup)), start);
        }
    }
}
