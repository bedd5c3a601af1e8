//! What to run and in what surroundings: a request's spec after it was checked, with defaults filled in.
//!
//! Sizes are bytes, times are [`Duration`]s. Fields that a later capability brings are absent here:
//! the parser answers `OPTION_NOT_SUPPORTED` for them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::limits;
use super::signal::Signal;
use super::stdio::TerminalSize;

/// Labels, annotations, environments: ordered, so that equal ones encode equally.
pub type TextMap = BTreeMap<String, String>;

/// A container's spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The image as asked for.
    pub image: String,
    /// The main process.
    pub process: ProcessSpec,
    /// Keep stdin open.
    #[serde(default)]
    pub stdin_open: bool,
    /// Run it below a small init.
    #[serde(default)]
    pub init: bool,
    /// What is kept of its output.
    #[serde(default)]
    pub log: Log,
    /// Asks the main process to stop; `None` takes the image's, else SIGTERM.
    pub stop_signal: Option<Signal>,
    /// How long after the stop signal to kill; `None` for the server's default, which a container's
    /// record has filled in.
    pub stop_grace_period: Option<Duration>,
    /// Delete the container after its run.
    pub auto_delete: bool,
    /// Mounts besides the root, in this order.
    pub mounts: Vec<Mount>,
    /// Make the root read-only.
    pub read_only_root: bool,
    /// Size of `/dev/shm`.
    pub shm_size_bytes: u64,
    /// Limits of the container.
    pub resources: Resources,
    /// Limits of each process.
    pub rlimits: Vec<Rlimit>,
    /// Privileges and confinement.
    pub security: Security,
    /// Network surroundings.
    pub network: Network,
    /// Host name inside; `None` for the first 12 digits of the id, or the host's with its network.
    pub hostname: Option<String>,
    /// Runtime by name; `None` for the server's default.
    pub runtime: Option<String>,
    /// OCI annotations.
    pub annotations: TextMap,
}

/// What is kept of a container's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Whether anything is kept for later than the run.
    pub disabled: bool,
    /// Size of one segment.
    pub segment_bytes: u64,
    /// Segments at most; the oldest go first.
    pub segments: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            disabled: false,
            segment_bytes: limits::LOG_SEGMENT_BYTES,
            segments: limits::LOG_SEGMENTS,
        }
    }
}

/// A process as asked for. Empty fields take the image's values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Replaces the image's entrypoint and cmd.
    pub entrypoint: Vec<String>,
    /// Arguments; without entrypoint, replaces the image's cmd only.
    pub args: Vec<String>,
    /// Environment, over the image's.
    pub env: TextMap,
    /// Absolute directory.
    pub working_dir: Option<String>,
    /// `user`, `user:group`, `uid` or `uid:gid`.
    pub user: Option<String>,
    /// Extra groups, by name or gid.
    pub supplemental_groups: Vec<String>,
    /// Allocate a terminal of this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
}

/// A process as it will be started: spec, image and the image's account files put together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments; never empty.
    pub args: Vec<String>,
    /// `KEY=value`, sorted by key, with `PATH` and `HOME` filled in.
    pub env: Vec<String>,
    /// Absolute directory.
    pub working_dir: String,
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Further groups, sorted, without repeats.
    pub additional_gids: Vec<u32>,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside, without `..`.
    pub target: String,
    /// What to mount.
    pub source: MountSource,
    /// Read-only, recursively where the runtime can.
    pub read_only: bool,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MountSource {
    /// A host path.
    Bind {
        /// Absolute host path.
        path: String,
        /// Create the directory (mode 0755, root) if missing.
        create: bool,
        /// How later mounts below the path are shared.
        propagation: Propagation,
    },
    /// Memory.
    Tmpfs {
        /// Size limit; `None` for the kernel's default, half of the memory.
        size_bytes: Option<u64>,
        /// Permission bits.
        mode: u32,
    },
}

/// How mounts made later below a bind mount are shared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Neither way.
    #[default]
    Private,
    /// From the host into the container.
    Slave,
    /// Both ways.
    Shared,
}

/// Limits of a container; `None` is no limit (or the kernel's default weight).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// CPU time per wall-clock time, in thousandths of a core.
    pub cpu_limit_millicores: Option<u64>,
    /// Relative share, 1 to 10000.
    pub cpu_weight: Option<u32>,
    /// Processors, `0-3,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory.
    pub memory_limit_bytes: Option<u64>,
    /// Memory kept from reclaim under pressure.
    pub memory_reservation_bytes: Option<u64>,
    /// Swap besides memory.
    pub swap_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids_limit: Option<u64>,
    /// Relative block I/O share, 1 to 10000.
    pub io_weight: Option<u32>,
}

impl Resources {
    /// The first limit that does not go with the others: its field, and why.
    #[must_use]
    pub fn conflict(&self) -> Option<(&'static str, &'static str)> {
        let memory = self.memory_limit_bytes;
        if let (Some(limit), Some(reservation)) = (memory, self.memory_reservation_bytes)
            && reservation > limit
        {
            return Some((
                "memory_reservation_bytes",
                "must be at most memory_limit_bytes",
            ));
        }
        let swap = self.swap_limit_bytes?;
        match memory {
            // cgroup v1 limits swap only together with memory.
            None => Some(("swap_limit_bytes", "needs memory_limit_bytes")),
            // The runtime specification counts both in one signed number.
            Some(memory) if memory.saturating_add(swap) > i64::MAX.cast_unsigned() => Some((
                "swap_limit_bytes",
                "is too large together with memory_limit_bytes",
            )),
            Some(_) => None,
        }
    }
}

/// One process limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE`.
    pub name: String,
    /// Soft limit; `u64::MAX` for none.
    pub soft: u64,
    /// Hard limit; `u64::MAX` for none.
    pub hard: u64,
}

/// Privileges and confinement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Security {
    /// `CAP_NET_ADMIN`, or `ALL`.
    pub capabilities_add: Vec<String>,
    /// As `capabilities_add`; applied before it.
    pub capabilities_drop: Vec<String>,
    /// Forbid gaining privileges.
    pub no_new_privileges: bool,
    /// System call filter.
    pub seccomp: Seccomp,
}

/// A system call filter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "profile", rename_all = "snake_case")]
pub enum Seccomp {
    /// The server's default.
    Default,
    /// None.
    Unconfined,
    /// OCI seccomp JSON.
    Json {
        /// The profile.
        json: String,
    },
}

/// Where the network comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Network {
    /// Loopback only.
    None,
    /// The host's.
    Host,
    /// Another container's.
    Container {
        /// Id or name, as asked for.
        container: String,
    },
    /// A network namespace of the host.
    Path {
        /// Absolute host path.
        path: String,
    },
}
