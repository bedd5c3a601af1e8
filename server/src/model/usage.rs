//! What a run of a container uses. Counters count from the start of the run.

use std::time::Duration;

/// What all processes of a run use together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU.
    pub cpu: CpuUsage,
    /// Memory.
    pub memory: MemoryUsage,
    /// Block I/O, as far as the kernel accounts it to the container.
    pub io: IoUsage,
    /// Processes and threads.
    pub pids: u64,
}

/// CPU time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuUsage {
    /// All of it.
    pub total: Duration,
    /// In user mode.
    pub user: Duration,
    /// In kernel mode.
    pub system: Duration,
    /// Kept waiting by the limit.
    pub throttled: Duration,
}

/// Memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// In use, with page cache.
    pub usage_bytes: u64,
    /// In use, without the page cache that is given back first.
    pub working_set_bytes: u64,
    /// What it may use; `None` without a limit.
    pub limit_bytes: Option<u64>,
    /// Swap in use.
    pub swap_bytes: u64,
    /// How many processes the OOM killer has killed inside.
    pub oom_kills: u64,
}

/// Block I/O, of all devices together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoUsage {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub read_ops: u64,
    /// Write operations.
    pub write_ops: u64,
}

/// What went through one network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkUsage {
    /// Its name inside.
    pub interface: String,
    /// Received.
    pub received: Traffic,
    /// Sent.
    pub sent: Traffic,
}

/// One direction of a network interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets with errors.
    pub errors: u64,
    /// Packets dropped.
    pub drops: u64,
}
