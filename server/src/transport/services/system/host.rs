//! What the host is. Read once: none of it changes while the server runs.

use std::fs;
use std::thread;

use rustix::system::{sysinfo, uname};

use crate::model::image::Platform;
use crate::oci::runtime_spec::CgroupVersion;
use crate::store::StoreError;

/// The host.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// Kernel release.
    pub(super) kernel: String,
    /// `amd64`.
    pub(super) architecture: String,
    /// 1 or 2.
    pub(super) cgroup_version: u32,
    /// Processors that are on.
    pub(super) cpus: u32,
    /// Memory.
    pub(super) memory_bytes: u64,
}

impl Host {
    pub(super) fn read() -> Self {
        let memory = sysinfo();
        Self {
            kernel: uname().release().to_string_lossy().into_owned(),
            architecture: Platform::host().architecture,
            cgroup_version: cgroup_version(),
            cpus: cpus(),
            memory_bytes: memory.totalram.saturating_mul(memory.mem_unit.into()),
        }
    }
}

fn cgroup_version() -> u32 {
    match CgroupVersion::detect() {
        CgroupVersion::V1 => 1,
        CgroupVersion::V2 => 2,
    }
}

/// All that are on, also those that the server itself may not use.
fn cpus() -> u32 {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").ok();
    online
        .and_then(|list| count(list.trim()))
        .unwrap_or_else(|| {
            let usable = thread::available_parallelism().map_or(1, usize::from);
            u32::try_from(usable).unwrap_or(u32::MAX)
        })
}

/// Counts a list of processors, `0-3,7`.
fn count(list: &str) -> Option<u32> {
    list.split(',').try_fold(0, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        Some(sum + last.checked_sub(first)? + 1)
    })
}

/// Why the store cannot write, as a condition's reason.
pub(super) fn store_reason(error: &StoreError) -> &'static str {
    match error {
        StoreError::NoSpace { .. } => "NO_SPACE",
        StoreError::Corrupt { .. } => "CORRUPT",
        StoreError::Io { .. } => "IO_ERROR",
        StoreError::InUse { .. } => "IN_USE",
        StoreError::NewerFormat { .. } => "NEWER_FORMAT",
        StoreError::Closed => "CLOSED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_as_the_kernel_lists_them() {
        assert_eq!(count("0"), Some(1));
        assert_eq!(count("0-3,7"), Some(5));
        assert_eq!(count("3-0"), None);
        assert_eq!(count(""), None);
    }

    #[test]
    fn a_host_has_a_kernel_processors_and_memory() {
        let host = Host::read();
        assert!(!host.kernel.is_empty() && host.cpus > 0 && host.memory_bytes > 0);
    }
}
