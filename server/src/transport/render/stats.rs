//! What containers use.

use wharf_api::v1;

use super::{duration, signed};
use crate::engine::ContainerSample;
use crate::model::NetworkUsage;
use crate::model::usage::{CpuUsage, IoUsage, MemoryUsage};

/// One sample.
pub(in crate::transport) fn sample(sample: ContainerSample) -> v1::ContainerStats {
    let ContainerSample {
        container,
        sample,
        cores,
    } = sample;
    v1::ContainerStats {
        container_id: container.id.to_string(),
        container_name: container.name.to_string(),
        image: container.spec.image.clone(),
        labels: container.labels.as_ref().clone(),
        run: container.run.0,
        start_time: container.start_time.map(Into::into),
        sample_time: Some(sample.time.into()),
        cpu: Some(cpu(sample.usage.cpu, cores)),
        memory: Some(memory(sample.usage.memory)),
        io: Some(io(sample.usage.io)),
        networks: sample.networks.into_iter().map(network).collect(),
        pids: sample.usage.pids,
    }
}

fn cpu(usage: CpuUsage, cores: Option<f64>) -> v1::CpuStats {
    v1::CpuStats {
        usage: Some(duration(usage.total)),
        user: Some(duration(usage.user)),
        system: Some(duration(usage.system)),
        throttled: Some(duration(usage.throttled)),
        cores,
    }
}

fn memory(usage: MemoryUsage) -> v1::MemoryStats {
    v1::MemoryStats {
        usage_bytes: signed(usage.usage_bytes),
        working_set_bytes: signed(usage.working_set_bytes),
        limit_bytes: usage.limit_bytes.map(signed),
        swap_bytes: signed(usage.swap_bytes),
        oom_kills: usage.oom_kills,
    }
}

fn io(usage: IoUsage) -> v1::IoStats {
    v1::IoStats {
        read_bytes: signed(usage.read_bytes),
        write_bytes: signed(usage.write_bytes),
        read_ops: usage.read_ops,
        write_ops: usage.write_ops,
    }
}

fn network(usage: NetworkUsage) -> v1::NetworkStats {
    let (received, sent) = (usage.received, usage.sent);
    v1::NetworkStats {
        interface: usage.interface,
        receive_bytes: signed(received.bytes),
        transmit_bytes: signed(sent.bytes),
        receive_packets: received.packets,
        transmit_packets: sent.packets,
        receive_errors: received.errors,
        receive_drops: received.drops,
        transmit_errors: sent.errors,
        transmit_drops: sent.drops,
    }
}
