#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod runc;

use std::sync::Arc;

use oci_spec::runtime::{Capability, LinuxNamespaceType, Mount as OciMount};

use super::*;
use crate::model::samples;
use crate::model::spec::{Mount, MountSource, Propagation, Resources};

fn host() -> Host {
    Host {
        cgroup: CgroupVersion::V1,
        hostname: "the-host".to_owned(),
        resolver_files: vec!["/etc/resolv.conf".into(), "/etc/hosts".into()],
        read_only_mounts: ReadOnlyMounts::Recursive,
        thermal_throttle: vec!["/sys/devices/system/cpu/cpu0/thermal_throttle".to_owned()],
        capabilities: all_capabilities(),
        online_cpus: "0-1".to_owned(),
    }
}

fn options() -> RuntimeOptions {
    RuntimeOptions::new(host())
}

fn container(spec: ContainerSpec) -> Container {
    let container = samples::container(spec);
    Container {
        id: "0123456789abcdef0123456789abcdef".parse().expect("an id"),
        process: Arc::new(crate::model::spec::Process {
            working_dir: "/work".to_owned(),
            additional_gids: vec![7],
            ..crate::model::spec::Process::clone(&container.process)
        }),
        ..container
    }
}

fn built(change: impl FnOnce(&mut ContainerSpec)) -> Spec {
    let mut spec = samples::spec();
    change(&mut spec);
    build(&container(spec), &options()).expect("a spec")
}

fn network_of(spec: &Spec) -> Option<Option<PathBuf>> {
    let namespaces = spec.linux().as_ref()?.namespaces().clone()?;
    namespaces
        .into_iter()
        .find(|namespace| namespace.typ() == LinuxNamespaceType::Network)
        .map(|namespace| namespace.path().clone())
}

fn mount_at(spec: &Spec, target: &str) -> Option<OciMount> {
    let mounts = spec.mounts().clone()?;
    mounts
        .into_iter()
        .rev()
        .find(|mount| mount.destination() == std::path::Path::new(target))
}

fn options_at(spec: &Spec, target: &str) -> Vec<String> {
    let mount = mount_at(spec, target).expect(target);
    mount.options().clone().expect("options")
}

#[test]
fn every_container_has_namespaces_of_its_own() {
    let spec = built(|_| {});
    let linux = spec.linux().clone().expect("linux");
    let kinds: Vec<_> = linux
        .namespaces()
        .iter()
        .flatten()
        .map(|n| n.typ())
        .collect();
    for kind in [
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
        LinuxNamespaceType::Network,
    ] {
        assert!(kinds.contains(&kind), "{kind}");
    }
    assert!(!kinds.contains(&LinuxNamespaceType::User));
}

#[test]
fn the_network_is_the_one_asked_for() {
    let network = |network| network_of(&built(|spec| spec.network = network));
    let path = "/run/netns/a".to_owned();
    assert_eq!(network(Network::None), Some(None));
    assert_eq!(network(Network::Host), None);
    assert_eq!(
        network(Network::Path { path: path.clone() }),
        Some(Some(path.into()))
    );

    let shared = || Network::Container {
        container: "other".to_owned(),
    };
    assert_eq!(network(shared()), Some(None), "recorded, not started");
    let mut spec = samples::spec();
    spec.network = shared();
    let mut options = options();
    options.network_pid = Some(42);
    let spec = build(&container(spec), &options).expect("a spec");
    assert_eq!(network_of(&spec), Some(Some("/proc/42/ns/net".into())));
}

#[test]
fn the_host_name_is_asked_for_or_from_the_id_or_the_hosts() {
    let name = |change: fn(&mut ContainerSpec)| built(change).hostname().clone();
    assert_eq!(name(|_| {}).as_deref(), Some("0123456789ab"));
    assert_eq!(
        name(|spec| spec.network = Network::Host).as_deref(),
        Some("the-host")
    );
    assert_eq!(
        name(|spec| spec.hostname = Some("mine".to_owned())).as_deref(),
        Some("mine")
    );
}

#[test]
fn the_hosts_resolver_comes_with_the_hosts_network_only() {
    let spec = built(|spec| spec.network = Network::Host);
    let hosts = mount_at(&spec, "/etc/hosts").expect("mounted");
    assert_eq!(hosts.source(), &Some("/etc/hosts".into()));
    assert!(options_at(&spec, "/etc/resolv.conf").contains(&"ro".to_owned()));
    assert_eq!(mount_at(&built(|_| {}), "/etc/hosts"), None);
}

#[test]
fn a_mount_asked_for_wins_over_the_hosts_resolver() {
    let spec = built(|spec| {
        spec.network = Network::Host;
        spec.mounts = vec![bind("/etc/hosts", "/srv/hosts", Propagation::Private)];
    });
    let hosts = mount_at(&spec, "/etc/hosts").expect("mounted");
    assert_eq!(hosts.source(), &Some("/srv/hosts".into()));
}

#[test]
fn a_container_with_an_init_has_its_file_to_itself_and_starts_with_it() {
    let mut spec = samples::spec();
    spec.init = true;
    let mut options = options();
    options.init = Some(Init {
        file: "/state/wharf-init".into(),
        failures: wharf_init::Failures::Exit,
    });
    let spec = build(&container(spec), &options).expect("a spec");
    let process = spec.process().clone().expect("process");
    let args = ["/dev/wharf-init", "--", "/bin/true"].map(str::to_owned);
    assert_eq!(process.args().as_deref(), Some(&args[..]));
    let mount = mount_at(&spec, "/dev/wharf-init").expect("mounted");
    assert_eq!(mount.source(), &Some("/state/wharf-init".into()));
    let protected = options_at(&spec, "/dev/wharf-init");
    for option in ["ro", "nosuid", "nodev", "rprivate"] {
        assert!(protected.iter().any(|is| is == option), "{protected:?}");
    }
    let without = built(|_| {});
    assert_eq!(mount_at(&without, "/dev/wharf-init"), None);
}

fn bind(target: &str, path: &str, propagation: Propagation) -> Mount {
    Mount {
        target: target.to_owned(),
        source: MountSource::Bind {
            path: path.to_owned(),
            create: false,
            propagation,
        },
        read_only: false,
    }
}

#[test]
fn mounts_keep_their_order_and_come_after_the_kernels() {
    let spec = built(|spec| {
        spec.mounts = vec![
            bind("/b", "/srv/b", Propagation::Private),
            bind("/a", "/srv/a", Propagation::Private),
        ];
    });
    let targets: Vec<_> = spec
        .mounts()
        .iter()
        .flatten()
        .map(|m| m.destination().clone())
        .collect();
    assert_eq!(targets.first(), Some(&PathBuf::from("/proc")));
    assert_eq!(
        targets[targets.len() - 2..],
        ["/b", "/a"].map(PathBuf::from)
    );
}

#[test]
fn bind_mounts_say_who_sees_later_mounts() {
    for (propagation, option, root) in [
        (Propagation::Private, "rprivate", None),
        (Propagation::Slave, "rslave", Some("rslave")),
        (Propagation::Shared, "rshared", Some("shared")),
    ] {
        let spec = built(|spec| spec.mounts = vec![bind("/b", "/srv/b", propagation)]);
        assert_eq!(options_at(&spec, "/b"), ["rbind", option, "rw"]);
        let linux = spec.linux().clone().expect("linux");
        assert_eq!(linux.rootfs_propagation().as_deref(), root);
    }
}

#[test]
fn read_only_binds_reach_as_deep_as_the_host_can() {
    let mut spec = samples::spec();
    spec.mounts = vec![bind("/b", "/srv/b", Propagation::Private)];
    spec.mounts[0].read_only = true;
    let container = container(spec);
    let mut options = options();
    let deep = build(&container, &options).expect("a spec");
    assert_eq!(options_at(&deep, "/b"), ["rbind", "rprivate", "ro", "rro"]);
    options.host.read_only_mounts = ReadOnlyMounts::Top;
    let flat = build(&container, &options).expect("a spec");
    assert_eq!(options_at(&flat, "/b"), ["rbind", "rprivate", "ro"]);
}

#[test]
fn memory_mounts_have_their_size_and_mode() {
    let spec = built(|spec| {
        spec.shm_size_bytes = 4_096;
        spec.mounts = vec![Mount {
            target: "/tmp".to_owned(),
            source: MountSource::Tmpfs {
                size_bytes: Some(1 << 20),
                mode: 0o1777,
            },
            read_only: false,
        }];
    });
    let tmp = options_at(&spec, "/tmp");
    assert!(tmp.contains(&"size=1048576".to_owned()), "{tmp:?}");
    assert!(tmp.contains(&"mode=1777".to_owned()), "{tmp:?}");
    assert!(options_at(&spec, "/dev/shm").contains(&"size=4096".to_owned()));
}

#[test]
fn the_hosts_secrets_are_masked() {
    let linux = built(|_| {}).linux().clone().expect("linux");
    let masked = linux.masked_paths().clone().expect("masked");
    for path in [
        "/proc/kcore",
        "/proc/keys",
        "/proc/interrupts",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
        "/sys/devices/system/cpu/cpu0/thermal_throttle",
    ] {
        assert!(masked.iter().any(|p| p == path), "{path}");
    }
    let read_only = linux.readonly_paths().clone().expect("read-only");
    assert!(read_only.iter().any(|p| p == "/proc/sys"));
}

#[test]
fn devices_are_denied_before_the_usual_ones_are_allowed() {
    let linux = built(|_| {}).linux().clone().expect("linux");
    let rules = linux.resources().clone().expect("resources");
    let rules = rules.devices().clone().expect("rules");
    assert!(!rules[0].allow());
    assert_eq!(rules[0].typ(), None, "of every kind");
    assert!(rules[1..].iter().all(|rule| rule.allow()));
    assert_eq!(linux.devices(), &None, "the runtime makes the usual ones");
}

#[test]
fn the_process_is_as_resolved() {
    let spec = built(|spec| {
        spec.rlimits = vec![Rlimit {
            name: "RLIMIT_NOFILE".to_owned(),
            soft: 1_024,
            hard: u64::MAX,
        }];
    });
    let process = spec.process().clone().expect("process");
    assert_eq!(
        process.args().as_deref(),
        Some(&["/bin/true".to_owned()][..])
    );
    assert_eq!(process.cwd(), &PathBuf::from("/work"));
    assert_eq!(process.user().additional_gids().as_deref(), Some(&[7][..]));
    assert_eq!(process.no_new_privileges(), Some(true));
    assert_eq!(process.oom_score_adj(), Some(0));
    assert_eq!(process.apparmor_profile(), &None);
    let limits = process.rlimits().clone().expect("limits");
    assert_eq!((limits.len(), limits[0].soft()), (1, 1_024));
    assert_eq!(limits[0].hard(), u64::MAX);
}

#[test]
fn the_usual_limits_of_a_library_do_not_leak_in() {
    let process = built(|_| {}).process().clone().expect("process");
    assert_eq!(process.rlimits(), &None);
    let capabilities = process.capabilities().clone().expect("capabilities");
    let bounding = capabilities.bounding().clone().expect("bounding");
    assert_eq!(bounding.len(), 9);
    assert!(!bounding.contains(&Capability::NetRaw));
}

#[test]
fn the_cgroup_is_named_after_the_container() {
    let linux = built(|_| {}).linux().clone().expect("linux");
    assert_eq!(
        linux.cgroups_path(),
        &Some("/wharf/0123456789abcdef0123456789abcdef".into())
    );
}

#[test]
fn seccomp_is_the_default_or_none_or_the_one_given() {
    let seccomp = |seccomp: Seccomp| {
        let spec = built(|spec| spec.security.seccomp = seccomp);
        spec.linux().clone().expect("linux").seccomp().clone()
    };
    assert_eq!(
        seccomp(Seccomp::Default)
            .expect("a filter")
            .default_errno_ret(),
        Some(1)
    );
    assert_eq!(seccomp(Seccomp::Unconfined), None);
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#.to_owned();
    assert!(seccomp(Seccomp::Json { json }).is_some());
}

#[test]
fn what_a_parser_let_through_is_a_typed_error() {
    let error = |change: fn(&mut ContainerSpec)| {
        let mut spec = samples::spec();
        change(&mut spec);
        build(&container(spec), &options()).expect_err("refused")
    };
    assert!(matches!(
        error(|spec| spec.security.seccomp = Seccomp::Json {
            json: "{".to_owned()
        }),
        SpecError::Seccomp(_)
    ));
    assert!(matches!(
        error(|spec| spec.security.capabilities_add = vec!["CAP_X".to_owned()]),
        SpecError::Capability(_)
    ));
    assert!(matches!(
        error(|spec| spec.rlimits = vec![Rlimit {
            name: "NOFILE".to_owned(),
            soft: 1,
            hard: 1
        }]),
        SpecError::UnknownRlimit { .. }
    ));
}
