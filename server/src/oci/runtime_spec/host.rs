//! What a runtime spec depends on of the machine it is for.

use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Capabilities;

use super::capabilities;

/// How the kernel's control groups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupVersion {
    /// One hierarchy a controller, alone or besides a v2 one without controllers ("hybrid").
    V1,
    /// The unified hierarchy.
    V2,
}

impl CgroupVersion {
    /// This host's: cgroups(7), "a cgroup v2 hierarchy contains all controllers" lists them at its root.
    #[must_use]
    pub fn detect() -> Self {
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            Self::V2
        } else {
            Self::V1
        }
    }
}

/// How far a read-only bind mount reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnlyMounts {
    /// The mount itself: mounts below it stay as they are on the host.
    Top,
    /// All below it, too (`rro`): Linux 5.12 with runc 1.1, crun 1.4 or newer.
    Recursive,
}

/// What a runtime spec depends on of the machine it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its control groups.
    pub cgroup: CgroupVersion,
    /// Its name.
    pub hostname: String,
    /// Its name resolution files that exist, for containers on its network.
    pub resolver_files: Vec<PathBuf>,
    /// What its kernel and runtime can do for read-only mounts.
    pub read_only_mounts: ReadOnlyMounts,
    /// Its processors' `thermal_throttle` directories: counters that show other tenants' load.
    pub thermal_throttle: Vec<String>,
    /// What can be given to a container: what this process's own bounding set has.
    pub capabilities: Capabilities,
    /// Its processors that are online, as `0-3`: what "no cpuset" means.
    pub online_cpus: String,
}

impl Host {
    /// This machine. Reads a few small files; blocking.
    #[must_use]
    pub fn detect() -> Self {
        let system = rustix::system::uname();
        Self {
            cgroup: CgroupVersion::detect(),
            hostname: system.nodename().to_string_lossy().into_owned(),
            resolver_files: existing(&["/etc/resolv.conf", "/etc/hosts"]),
            read_only_mounts: read_only_mounts(&system.release().to_string_lossy()),
            thermal_throttle: thermal_throttle(Path::new("/sys/devices/system/cpu")),
            capabilities: fs::read_to_string("/proc/self/status")
                .ok()
                .and_then(|status| bounding_set(&status))
                .unwrap_or_else(capabilities::all),
            online_cpus: fs::read_to_string("/sys/devices/system/cpu/online")
                .map(|text| text.trim().to_owned())
                .unwrap_or_default(),
        }
    }
}

fn existing(paths: &[&str]) -> Vec<PathBuf> {
    let paths = paths.iter().map(PathBuf::from);
    paths.filter(|path| path.exists()).collect()
}

/// mount_setattr(2) came with Linux 5.12.
fn read_only_mounts(release: &str) -> ReadOnlyMounts {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (5, 12) {
        ReadOnlyMounts::Recursive
    } else {
        ReadOnlyMounts::Top
    }
}

/// proc_pid_status(5).
fn bounding_set(status: &str) -> Option<Capabilities> {
    let line = |line: &str| {
        line.strip_prefix("CapBnd:")
            .map(str::trim)
            .map(str::to_owned)
    };
    let bits = status.lines().find_map(line)?;
    let bits = u64::from_str_radix(&bits, 16).ok()?;
    Some(capabilities::from_bits(bits))
}

fn thermal_throttle(cpus: &Path) -> Vec<String> {
    let entries = fs::read_dir(cpus).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .map(|entry| entry.path().join("thermal_throttle"))
        .filter(|path| path.is_dir())
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use oci_spec::runtime::Capability;

    use super::*;

    #[test]
    fn recursive_read_only_mounts_need_linux_5_12() {
        for old in ["", "4.18.0-553.el8", "5.11.22-generic", "what"] {
            assert_eq!(read_only_mounts(old), ReadOnlyMounts::Top, "{old}");
        }
        for new in ["5.12.0", "6.1.0-18-amd64", "10.0"] {
            assert_eq!(read_only_mounts(new), ReadOnlyMounts::Recursive, "{new}");
        }
    }

    #[test]
    fn the_bounding_set_is_read_by_its_bits() {
        let status = "Name:\tx\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000021\n";
        let chown_and_kill = [Capability::Chown, Capability::Kill].into();
        assert_eq!(bounding_set(status), Some(chown_and_kill));
        assert_eq!(bounding_set("CapBnd:\twhat\n"), None);
        assert_eq!(bounding_set(""), None);
    }

    #[test]
    fn only_processors_that_count_throttling_are_listed() {
        let root = tempfile::tempdir().expect("directory");
        fs::create_dir_all(root.path().join("cpu1/thermal_throttle")).expect("made");
        fs::create_dir_all(root.path().join("cpu0")).expect("made");
        let found = thermal_throttle(root.path());
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with("cpu1/thermal_throttle"));
    }
}
