//! A spec as it is kept, with the server's defaults. What the image decides stays empty, so that the
//! spec can be used for another container.

use wharf_api::v1;
use wharf_api::v1::bind_mount;
use wharf_api::v1::mount::Source;
use wharf_api::v1::network_spec::Mode;
use wharf_api::v1::security::SeccompProfile;

use super::{duration, signed, stdio};
use crate::model::ExecSpec;
use crate::model::spec::{
    ContainerSpec, Log, Mount, MountSource, Network, ProcessSpec, Propagation, Resources, Rlimit,
    Seccomp, Security,
};

/// A container's spec.
pub(in crate::transport) fn spec(spec: &ContainerSpec) -> v1::ContainerSpec {
    v1::ContainerSpec {
        image: spec.image.clone(),
        process: Some(process(&spec.process)),
        stop_signal: spec
            .stop_signal
            .map(|signal| signal.to_string())
            .unwrap_or_default(),
        stop_grace_period: spec.stop_grace_period.map(duration),
        restart_policy: Some(v1::RestartPolicy {
            condition: v1::restart_policy::Condition::Never.into(),
            ..v1::RestartPolicy::default()
        }),
        auto_delete: spec.auto_delete,
        mounts: spec.mounts.iter().map(mount).collect(),
        read_only_root: spec.read_only_root,
        shm_size_bytes: signed(spec.shm_size_bytes),
        resources: Some(resources(&spec.resources)),
        rlimits: spec.rlimits.iter().map(rlimit).collect(),
        security: Some(security(&spec.security)),
        network: Some(v1::NetworkSpec {
            mode: Some(network(&spec.network)),
        }),
        hostname: spec.hostname.clone().unwrap_or_default(),
        runtime: spec.runtime.clone().unwrap_or_default(),
        annotations: spec.annotations.clone(),
        stdin_open: spec.stdin_open,
        log: Some(log(&spec.log)),
        init: spec.init,
        // No backend has these yet, so no kept spec does.
        run_timeout: None,
        health_check: None,
        devices: Vec::new(),
        extra_hosts: Vec::new(),
        dns: None,
    }
}

fn log(log: &Log) -> v1::LogSpec {
    v1::LogSpec {
        max_bytes: signed(log.segment_bytes),
        max_files: log.segments,
        disabled: log.disabled,
    }
}

/// What an exec is to run.
pub(super) fn exec(spec: &ExecSpec) -> v1::ExecSpec {
    v1::ExecSpec {
        process: Some(process(&spec.process)),
        stdin_open: spec.stdin_open,
        timeout: spec.timeout.map(duration),
        privileged: spec.privileged,
    }
}

fn process(process: &ProcessSpec) -> v1::ProcessSpec {
    v1::ProcessSpec {
        entrypoint: process.entrypoint.clone(),
        args: process.args.clone(),
        env: process.env.clone(),
        working_dir: process.working_dir.clone().unwrap_or_default(),
        user: process.user.clone().unwrap_or_default(),
        terminal: process.terminal.map(stdio::terminal_size),
        supplemental_groups: process.supplemental_groups.clone(),
    }
}

fn mount(mount: &Mount) -> v1::Mount {
    v1::Mount {
        target: mount.target.clone(),
        source: Some(source(&mount.source)),
        read_only: mount.read_only,
    }
}

fn source(source: &MountSource) -> Source {
    match source {
        MountSource::Bind {
            path,
            create,
            propagation,
        } => Source::Bind(v1::BindMount {
            path: path.clone(),
            create: *create,
            propagation: self::propagation(*propagation).into(),
        }),
        MountSource::Tmpfs { size_bytes, mode } => Source::Tmpfs(v1::TmpfsMount {
            size_bytes: size_bytes.map(signed).unwrap_or_default(),
            mode: Some(*mode),
        }),
    }
}

fn propagation(propagation: Propagation) -> bind_mount::Propagation {
    match propagation {
        Propagation::Private => bind_mount::Propagation::Rprivate,
        Propagation::Slave => bind_mount::Propagation::Rslave,
        Propagation::Shared => bind_mount::Propagation::Rshared,
    }
}

fn resources(resources: &Resources) -> v1::Resources {
    v1::Resources {
        cpu_limit_millicores: resources.cpu_limit_millicores.map(signed),
        cpu_weight: resources.cpu_weight,
        cpuset_cpus: resources.cpuset_cpus.clone().unwrap_or_default(),
        memory_limit_bytes: resources.memory_limit_bytes.map(signed),
        memory_reservation_bytes: resources.memory_reservation_bytes.map(signed),
        swap_limit_bytes: resources.swap_limit_bytes.map(signed),
        pids_limit: resources.pids_limit.map(signed),
        io_weight: resources.io_weight,
    }
}

fn rlimit(limit: &Rlimit) -> v1::Rlimit {
    v1::Rlimit {
        name: limit.name.clone(),
        soft: limit.soft,
        hard: limit.hard,
    }
}

fn security(security: &Security) -> v1::Security {
    v1::Security {
        privileged: false,
        capabilities_add: security.capabilities_add.clone(),
        capabilities_drop: security.capabilities_drop.clone(),
        no_new_privileges: Some(security.no_new_privileges),
        seccomp_profile: Some(match &security.seccomp {
            Seccomp::Default => SeccompProfile::SeccompDefault(v1::SeccompDefault {}),
            Seccomp::Unconfined => SeccompProfile::SeccompUnconfined(v1::SeccompUnconfined {}),
            Seccomp::Json { json } => SeccompProfile::SeccompJson(json.clone()),
        }),
        apparmor_profile: String::new(),
        user_namespace: None,
    }
}

fn network(network: &Network) -> Mode {
    match network {
        Network::None => Mode::None(v1::NoNetwork {}),
        Network::Host => Mode::Host(v1::HostNetwork {}),
        Network::Container { container } => Mode::Container(container.clone()),
        Network::Path { path } => Mode::NamespacePath(path.clone()),
    }
}
