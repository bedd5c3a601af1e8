//! What runs use, as containerd's shims read it: one call for all.
//!
//! Its answers hold a message for each container, of one of two types: those of control groups version 1 and
//! version 2, <https://github.com/containerd/cgroups>. Only the fields that are used are declared here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use containerd_client::services::v1::MetricsRequest;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::types::Metric;
use prost::Message;
use prost_types::Any;
use tokio::time::Instant;

use super::Containerd;
use super::connection::{Rpc, max_answer};
use super::error::BACKEND;
use crate::backend::{BackendError, Sample, network};
use crate::cgroup::limit_of_v1;
use crate::model::usage::{CpuUsage, IoUsage, MemoryUsage};
use crate::model::{Container, NetworkUsage, Usage};

const METRICS: Rpc = Rpc::quick("containerd.tasks.metrics");

/// One call: Tasks.Metrics, with a filter for each container. None for no containers: without a filter it is for all
/// there are.
pub(super) async fn usage(
    backend: &Containerd,
    containers: &[Arc<Container>],
) -> Result<Vec<Option<Sample>>, BackendError> {
    if containers.is_empty() {
        return Ok(Vec::new());
    }
    let mut names = Vec::with_capacity(containers.len());
    for container in containers {
        names.push(backend.name(container.id).await?.to_string());
    }
    let request = MetricsRequest {
        filters: names.iter().map(|name| format!("id==\"{name}\"")).collect(),
    };
    let begin = Instant::now();
    let answer = backend
        .connection()
        .call(METRICS, request, |channel, request| async move {
            let mut client = TasksClient::new(channel).max_decoding_message_size(max_answer());
            client.metrics(request).await
        })
        .await
        .map_err(|error| error.about("task"))?;
    let clock = Clock {
        begin,
        end: Instant::now(),
        end_time: SystemTime::now(),
    };
    let mut metrics: HashMap<_, _> = answer
        .metrics
        .into_iter()
        .map(|metric| (metric.id.clone(), metric))
        .collect();
    let networks = networks(containers.to_vec()).await?;
    let read = names.iter().zip(networks).map(|(name, networks)| {
        let metric = metrics.remove(name)?;
        sample(&metric, &clock, networks)
    });
    Ok(read.collect())
}

/// The kernel has them, for the main process of each container.
async fn networks(containers: Vec<Arc<Container>>) -> Result<Vec<Vec<NetworkUsage>>, BackendError> {
    let read = move || containers.iter().map(|it| network::usage(it)).collect();
    let done = tokio::task::spawn_blocking(read).await;
    done.map_err(|_| BackendError::Protocol {
        backend: BACKEND,
        code: "Interrupted".to_owned(),
        message: "reading network counters was interrupted".to_owned(),
    })
}

/// `None` also for what a shim of another kind says of its own.
fn sample(metric: &Metric, clock: &Clock, networks: Vec<NetworkUsage>) -> Option<Sample> {
    let usage = decode(metric.data.as_ref()?)?;
    let time = metric.timestamp.and_then(|time| time.try_into().ok());
    let time = time.unwrap_or(clock.end_time);
    Some(Sample {
        time,
        instant: clock.instant(time),
        usage,
        networks,
    })
}

/// When a call was made, and what time it was then.
#[derive(Debug)]
struct Clock {
    begin: Instant,
    end: Instant,
    end_time: SystemTime,
}

impl Clock {
    /// The moment within the call at which it was `time`, even if that has been set meanwhile.
    fn instant(&self, time: SystemTime) -> Instant {
        let ago = self.end_time.duration_since(time).unwrap_or_default();
        let at = self.end.checked_sub(ago).unwrap_or(self.begin);
        at.clamp(self.begin, self.end)
    }
}

fn decode(data: &Any) -> Option<Usage> {
    let (_, name) = data
        .type_url
        .rsplit_once('/')
        .unwrap_or(("", &data.type_url));
    let decoded = match name {
        "io.containerd.cgroups.v1.Metrics" => {
            v1::Metrics::decode(&*data.value).map(|metrics| Usage::from(&metrics))
        }
        "io.containerd.cgroups.v2.Metrics" => {
            v2::Metrics::decode(&*data.value).map(|metrics| Usage::from(&metrics))
        }
        other => {
            tracing::debug!(kind = other, "a shim's metrics are of an unknown kind");
            return None;
        }
    };
    if let Err(error) = &decoded {
        tracing::debug!(%error, "a shim's metrics cannot be read");
    }
    decoded.ok()
}

/// `io.containerd.cgroups.v1`.
mod v1 {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Metrics {
        #[prost(message, optional, tag = "2")]
        pub(super) pids: Option<super::Pids>,
        #[prost(message, optional, tag = "3")]
        pub(super) cpu: Option<Cpu>,
        #[prost(message, optional, tag = "4")]
        pub(super) memory: Option<Memory>,
        #[prost(message, optional, tag = "5")]
        pub(super) io: Option<Io>,
        #[prost(message, optional, tag = "9")]
        pub(super) oom: Option<Oom>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Cpu {
        #[prost(message, optional, tag = "1")]
        pub(super) usage: Option<CpuUsage>,
        #[prost(message, optional, tag = "2")]
        pub(super) throttling: Option<Throttling>,
    }

    /// In nanoseconds.
    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct CpuUsage {
        #[prost(uint64, tag = "1")]
        pub(super) total: u64,
        #[prost(uint64, tag = "2")]
        pub(super) kernel: u64,
        #[prost(uint64, tag = "3")]
        pub(super) user: u64,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Throttling {
        /// In nanoseconds.
        #[prost(uint64, tag = "3")]
        pub(super) throttled: u64,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Memory {
        #[prost(uint64, tag = "30")]
        pub(super) total_inactive_file: u64,
        #[prost(message, optional, tag = "33")]
        pub(super) memory: Option<Entry>,
        /// Both together.
        #[prost(message, optional, tag = "34")]
        pub(super) memory_and_swap: Option<Entry>,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Entry {
        #[prost(uint64, tag = "1")]
        pub(super) limit: u64,
        #[prost(uint64, tag = "2")]
        pub(super) usage: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Io {
        #[prost(message, repeated, tag = "1")]
        pub(super) bytes: Vec<IoEntry>,
        #[prost(message, repeated, tag = "2")]
        pub(super) operations: Vec<IoEntry>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct IoEntry {
        /// `Read`, `Write`, `Sync` ... in either case.
        #[prost(string, tag = "1")]
        pub(super) operation: String,
        #[prost(uint64, tag = "5")]
        pub(super) value: u64,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Oom {
        #[prost(uint64, tag = "3")]
        pub(super) kills: u64,
    }
}

/// `io.containerd.cgroups.v2`.
mod v2 {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Metrics {
        #[prost(message, optional, tag = "1")]
        pub(super) pids: Option<super::Pids>,
        #[prost(message, optional, tag = "2")]
        pub(super) cpu: Option<Cpu>,
        #[prost(message, optional, tag = "4")]
        pub(super) memory: Option<Memory>,
        #[prost(message, optional, tag = "6")]
        pub(super) io: Option<Io>,
        #[prost(message, optional, tag = "8")]
        pub(super) memory_events: Option<MemoryEvents>,
    }

    /// In microseconds.
    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Cpu {
        #[prost(uint64, tag = "1")]
        pub(super) usage: u64,
        #[prost(uint64, tag = "2")]
        pub(super) user: u64,
        #[prost(uint64, tag = "3")]
        pub(super) system: u64,
        #[prost(uint64, tag = "6")]
        pub(super) throttled: u64,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct Memory {
        #[prost(uint64, tag = "13")]
        pub(super) inactive_file: u64,
        #[prost(uint64, tag = "32")]
        pub(super) usage: u64,
        #[prost(uint64, tag = "33")]
        pub(super) limit: u64,
        #[prost(uint64, tag = "34")]
        pub(super) swap: u64,
    }

    #[derive(Clone, PartialEq, Message)]
    pub(super) struct Io {
        #[prost(message, repeated, tag = "1")]
        pub(super) devices: Vec<IoEntry>,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct IoEntry {
        #[prost(uint64, tag = "3")]
        pub(super) read_bytes: u64,
        #[prost(uint64, tag = "4")]
        pub(super) write_bytes: u64,
        #[prost(uint64, tag = "5")]
        pub(super) read_ops: u64,
        #[prost(uint64, tag = "6")]
        pub(super) write_ops: u64,
    }

    #[derive(Clone, Copy, PartialEq, Message)]
    pub(super) struct MemoryEvents {
        #[prost(uint64, tag = "5")]
        pub(super) oom_kills: u64,
    }
}

/// The same in both.
#[derive(Clone, Copy, PartialEq, Message)]
struct Pids {
    #[prost(uint64, tag = "1")]
    current: u64,
}

impl From<&v1::Metrics> for Usage {
    fn from(metrics: &v1::Metrics) -> Self {
        let cpu = metrics.cpu.clone().unwrap_or_default();
        let times = cpu.usage.unwrap_or_default();
        let memory = metrics.memory.unwrap_or_default();
        let used = memory.memory.unwrap_or_default();
        let both = memory.memory_and_swap.unwrap_or(used);
        let io = metrics.io.clone().unwrap_or_default();
        Self {
            cpu: CpuUsage {
                total: Duration::from_nanos(times.total),
                user: Duration::from_nanos(times.user),
                system: Duration::from_nanos(times.kernel),
                throttled: Duration::from_nanos(cpu.throttling.unwrap_or_default().throttled),
            },
            memory: MemoryUsage {
                usage_bytes: used.usage,
                working_set_bytes: used.usage.saturating_sub(memory.total_inactive_file),
                limit_bytes: metrics.memory.and_then(|_| limit_of_v1(used.limit)),
                swap_bytes: both.usage.saturating_sub(used.usage),
                oom_kills: metrics.oom.unwrap_or_default().kills,
            },
            io: IoUsage {
                read_bytes: sum(&io.bytes, "read"),
                write_bytes: sum(&io.bytes, "write"),
                read_ops: sum(&io.operations, "read"),
                write_ops: sum(&io.operations, "write"),
            },
            pids: metrics.pids.unwrap_or_default().current,
        }
    }
}

/// Over all devices.
fn sum(entries: &[v1::IoEntry], operation: &str) -> u64 {
    let of = entries
        .iter()
        .filter(|entry| entry.operation.eq_ignore_ascii_case(operation));
    of.map(|entry| entry.value).sum()
}

impl From<&v2::Metrics> for Usage {
    fn from(metrics: &v2::Metrics) -> Self {
        let cpu = metrics.cpu.unwrap_or_default();
        let memory = metrics.memory.unwrap_or_default();
        let devices = metrics.io.clone().unwrap_or_default().devices;
        let over = |field: fn(&v2::IoEntry) -> u64| devices.iter().map(field).sum();
        Self {
            cpu: CpuUsage {
                total: Duration::from_micros(cpu.usage),
                user: Duration::from_micros(cpu.user),
                system: Duration::from_micros(cpu.system),
                throttled: Duration::from_micros(cpu.throttled),
            },
            memory: MemoryUsage {
                usage_bytes: memory.usage,
                working_set_bytes: memory.usage.saturating_sub(memory.inactive_file),
                // "max" is the largest number here, which is no limit by version 1's rule, too.
                limit_bytes: metrics.memory.and_then(|_| limit_of_v1(memory.limit)),
                swap_bytes: memory.swap,
                oom_kills: metrics.memory_events.unwrap_or_default().oom_kills,
            },
            io: IoUsage {
                read_bytes: over(|device| device.read_bytes),
                write_bytes: over(|device| device.write_bytes),
                read_ops: over(|device| device.read_ops),
                write_ops: over(|device| device.write_ops),
            },
            pids: metrics.pids.unwrap_or_default().current,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn any(kind: &str, message: &impl Message) -> Any {
        Any {
            type_url: kind.to_owned(),
            value: message.encode_to_vec(),
        }
    }

    #[test]
    fn metrics_of_version_1_are_understood() {
        let entry = |operation: &str, value| v1::IoEntry {
            operation: operation.to_owned(),
            value,
        };
        let metrics = v1::Metrics {
            pids: Some(Pids { current: 3 }),
            cpu: Some(v1::Cpu {
                usage: Some(v1::CpuUsage {
                    total: 1_500_000_000,
                    kernel: 500_000_000,
                    user: 1_000_000_000,
                }),
                throttling: Some(v1::Throttling { throttled: 7 }),
            }),
            memory: Some(v1::Memory {
                total_inactive_file: 1_000,
                memory: Some(v1::Entry {
                    limit: 9_223_372_036_854_771_712,
                    usage: 5_000,
                }),
                memory_and_swap: Some(v1::Entry {
                    limit: 0,
                    usage: 5_600,
                }),
            }),
            io: Some(v1::Io {
                bytes: vec![entry("Read", 1), entry("Write", 20), entry("Total", 21)],
                operations: vec![entry("read", 1), entry("write", 2), entry("write", 3)],
            }),
            oom: Some(v1::Oom { kills: 1 }),
        };
        let usage = decode(&any("io.containerd.cgroups.v1.Metrics", &metrics)).unwrap();
        let expected = Usage {
            cpu: CpuUsage {
                total: Duration::from_millis(1_500),
                user: Duration::from_secs(1),
                system: Duration::from_millis(500),
                throttled: Duration::from_nanos(7),
            },
            memory: MemoryUsage {
                usage_bytes: 5_000,
                working_set_bytes: 4_000,
                limit_bytes: None,
                swap_bytes: 600,
                oom_kills: 1,
            },
            io: IoUsage {
                read_bytes: 1,
                write_bytes: 20,
                read_ops: 1,
                write_ops: 5,
            },
            pids: 3,
        };
        assert_eq!(usage, expected);
    }

    #[test]
    fn metrics_of_version_2_are_understood() {
        let device = v2::IoEntry {
            read_bytes: 1,
            write_bytes: 2,
            read_ops: 3,
            write_ops: 4,
        };
        let metrics = v2::Metrics {
            pids: Some(Pids { current: 3 }),
            cpu: Some(v2::Cpu {
                usage: 1_500_000,
                user: 1_000_000,
                system: 500_000,
                throttled: 7,
            }),
            memory: Some(v2::Memory {
                inactive_file: 1_000,
                usage: 5_000,
                limit: 1 << 20,
                swap: 600,
            }),
            io: Some(v2::Io {
                devices: vec![device, device],
            }),
            memory_events: Some(v2::MemoryEvents { oom_kills: 1 }),
        };
        let kind = "types.containerd.io/io.containerd.cgroups.v2.Metrics";
        let usage = decode(&any(kind, &metrics)).unwrap();
        assert_eq!(usage.cpu.total, Duration::from_millis(1_500));
        assert_eq!(usage.cpu.throttled, Duration::from_micros(7));
        assert_eq!(usage.memory.limit_bytes, Some(1 << 20));
        assert_eq!(usage.memory.working_set_bytes, 4_000);
        assert_eq!((usage.memory.swap_bytes, usage.memory.oom_kills), (600, 1));
        assert_eq!((usage.io.read_bytes, usage.io.write_ops), (2, 8));
        assert_eq!(usage.pids, 3);
        let unlimited = v2::Metrics {
            memory: Some(v2::Memory {
                limit: u64::MAX,
                ..metrics.memory.unwrap()
            }),
            ..metrics
        };
        assert_eq!(Usage::from(&unlimited).memory.limit_bytes, None);
    }

    #[test]
    fn metrics_of_another_kind_or_damaged_ones_are_none() {
        let metrics = v2::Metrics::default();
        assert_eq!(decode(&any("io.example.Metrics", &metrics)), None);
        let damaged = Any {
            type_url: "io.containerd.cgroups.v1.Metrics".to_owned(),
            value: vec![0xff],
        };
        assert_eq!(decode(&damaged), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_set_does_not_move_a_sample_out_of_its_call() {
        let begin = Instant::now();
        let end = begin + Duration::from_millis(20);
        let end_time = SystemTime::now();
        let clock = Clock {
            begin,
            end,
            end_time,
        };
        let at = |time| clock.instant(time);
        let millisecond = Duration::from_millis(1);
        assert_eq!(at(end_time - 5 * millisecond), end - 5 * millisecond);
        assert_eq!(at(end_time + Duration::from_secs(3600)), end);
        assert_eq!(at(end_time - Duration::from_secs(3600)), begin);
    }
}
