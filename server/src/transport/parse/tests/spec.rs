//! Every rule of a spec: what it lets through and what it calls by which name.

use std::collections::BTreeMap;

use wharf_api::v1;
use wharf_api::v1::mount::Source;
use wharf_api::v1::network_spec::Mode;

use super::flaws;
use crate::model::spec::{Log, MountSource, Network, Propagation, Seccomp};
use crate::model::{TerminalSize, limits};
use crate::transport::Violations;
use crate::transport::parse::{Field, spec};

type Change = fn(&mut v1::ContainerSpec);

fn changed(change: Change) -> v1::ContainerSpec {
    let mut spec = v1::ContainerSpec {
        image: "alpine".to_owned(),
        ..Default::default()
    };
    change(&mut spec);
    spec
}

fn flaws_of(message: v1::ContainerSpec) -> Vec<String> {
    flaws(|out| spec::spec(message, &Field::new("spec"), out))
}

fn parsed(message: v1::ContainerSpec) -> crate::model::ContainerSpec {
    let mut out = Violations::new();
    let spec = spec::spec(message, &Field::new("spec"), &mut out);
    assert!(out.is_empty(), "{out}");
    spec
}

fn process(spec: &mut v1::ContainerSpec) -> &mut v1::ProcessSpec {
    spec.process.get_or_insert_default()
}

fn resources(spec: &mut v1::ContainerSpec) -> &mut v1::Resources {
    spec.resources.get_or_insert_default()
}

fn security(spec: &mut v1::ContainerSpec) -> &mut v1::Security {
    spec.security.get_or_insert_default()
}

fn tmpfs(target: &str) -> v1::Mount {
    v1::Mount {
        target: target.to_owned(),
        source: Some(Source::Tmpfs(v1::TmpfsMount::default())),
        read_only: false,
    }
}

fn bind(path: &str) -> v1::Mount {
    v1::Mount {
        target: "/data".to_owned(),
        source: Some(Source::Bind(v1::BindMount {
            path: path.to_owned(),
            ..Default::default()
        })),
        read_only: false,
    }
}

fn rlimit(name: &str, soft: u64, hard: u64) -> v1::Rlimit {
    v1::Rlimit {
        name: name.to_owned(),
        soft,
        hard,
    }
}

fn network(mode: Mode) -> Option<v1::NetworkSpec> {
    Some(v1::NetworkSpec { mode: Some(mode) })
}

fn seconds(seconds: i64, nanos: i32) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos })
}

fn map(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

#[test]
fn good_specs_have_no_flaw() {
    let good: &[Change] = &[
        |_| {},
        |s| s.image = format!("sha256:{}", "a".repeat(64)),
        |s| s.image = "registry.example:5000/team/app:1.2".into(),
        |s| process(s).args = vec!["sh".into(), String::new()],
        |s| process(s).env = map("EMPTY", ""),
        |s| process(s).working_dir = "/srv".into(),
        |s| process(s).user = "1000:users".into(),
        |s| process(s).supplemental_groups = vec!["wheel".into(), "0".into()],
        |s| s.stop_signal = "SIGRTMIN+3".into(),
        |s| s.stop_grace_period = seconds(0, 0),
        |s| s.run_timeout = seconds(0, 0),
        |s| s.mounts = vec![tmpfs("/a"), tmpfs("/a/b"), bind("/host")],
        |s| resources(s).cpu_limit_millicores = Some(10),
        |s| resources(s).cpuset_cpus = "0-3,7".into(),
        |s| resources(s).memory_limit_bytes = Some(6 << 20),
        |s| {
            resources(s).memory_limit_bytes = Some(64 << 20);
            resources(s).swap_limit_bytes = Some(0);
        },
        |s| s.rlimits = vec![rlimit("RLIMIT_NOFILE", 1, u64::MAX)],
        |s| security(s).capabilities_add = vec!["CAP_NET_ADMIN".into(), "ALL".into()],
        |s| s.security.get_or_insert_default().user_namespace = Some(v1::UserNamespace { mode: 1 }),
        |s| s.network = network(Mode::Container("web".into())),
        |s| s.hostname = "Web-1.example".into(),
        |s| s.runtime = "crun".into(),
        |s| s.annotations = map("org.example/key", "value"),
        |s| s.restart_policy = Some(v1::RestartPolicy::default()),
        |s| {
            s.health_check = Some(v1::HealthCheck {
                disabled: true,
                ..Default::default()
            })
        },
        |s| s.dns = Some(v1::DnsConfig::default()),
        |s| s.log = Some(v1::LogSpec::default()),
    ];
    for change in good {
        assert_eq!(flaws_of(changed(*change)), Vec::<String>::new());
    }
}

#[test]
fn each_wrong_value_is_named_with_its_field_and_reason() {
    let bad: &[(Change, &str)] = &[
        (|s| s.image.clear(), "spec.image REQUIRED"),
        (|s| s.image = "UPPER case".into(), "spec.image MALFORMED"),
        (|s| s.image = "a".repeat(10_000), "spec.image TOO_LONG"),
        (
            |s| s.stop_signal = "SIGNOPE".into(),
            "spec.stop_signal UNKNOWN_VALUE",
        ),
        (
            |s| s.stop_grace_period = seconds(-1, 0),
            "spec.stop_grace_period MALFORMED",
        ),
        (
            |s| s.stop_grace_period = seconds(1, -1),
            "spec.stop_grace_period MALFORMED",
        ),
        (
            |s| s.stop_grace_period = seconds(0, 1_000_000_000),
            "spec.stop_grace_period MALFORMED",
        ),
        (
            |s| s.stop_grace_period = seconds(i64::MAX, 0),
            "spec.stop_grace_period OUT_OF_RANGE",
        ),
        (
            |s| s.shm_size_bytes = -1,
            "spec.shm_size_bytes OUT_OF_RANGE",
        ),
        (
            |s| s.network = network(Mode::Container(String::new())),
            "spec.network.container REQUIRED",
        ),
        (
            |s| s.network = network(Mode::NamespacePath("ns".into())),
            "spec.network.namespace_path MALFORMED",
        ),
        (|s| s.hostname = "-a".into(), "spec.hostname MALFORMED"),
        (|s| s.hostname = "a..b".into(), "spec.hostname MALFORMED"),
        (|s| s.hostname = "a".repeat(65), "spec.hostname TOO_LONG"),
        (
            |s| {
                s.hostname = "a".into();
                s.network = network(Mode::Host(v1::HostNetwork {}));
            },
            "spec.hostname CONFLICT",
        ),
        (|s| s.runtime = "../runc".into(), "spec.runtime MALFORMED"),
        (
            |s| s.annotations = map("", "v"),
            "spec.annotations[\"\"] REQUIRED",
        ),
        (
            |s| s.annotations = map("k", &"v".repeat(64 << 10)),
            "spec.annotations TOO_LONG",
        ),
        (
            |s| s.rlimits = vec![rlimit("NOFILE", 0, 0)],
            "spec.rlimits[0].name UNKNOWN_VALUE",
        ),
        (
            |s| s.rlimits = vec![rlimit("RLIMIT_NOFILE", 2, 1)],
            "spec.rlimits[0].soft CONFLICT",
        ),
        (
            |s| s.rlimits = vec![rlimit("RLIMIT_AS", 1, 1), rlimit("RLIMIT_AS", 1, 1)],
            "spec.rlimits[1].name DUPLICATE",
        ),
        (
            |s| s.rlimits = vec![rlimit("RLIMIT_AS", 1, 1); 17],
            "spec.rlimits TOO_MANY",
        ),
    ];
    check(bad);
}

#[test]
fn wrong_processes_are_named() {
    check(&[
        (
            |s| process(s).args = vec!["a\0b".into()],
            "spec.process.args[0] MALFORMED",
        ),
        (
            |s| process(s).args = vec![String::new(); 300_000],
            "spec.process.args TOO_LONG",
        ),
        (
            |s| process(s).entrypoint = vec![String::new()],
            "spec.process.entrypoint[0] REQUIRED",
        ),
        (
            |s| process(s).env = map("A=B", "c"),
            "spec.process.env[\"A=B\"] MALFORMED",
        ),
        (
            |s| process(s).env = map("", "c"),
            "spec.process.env[\"\"] REQUIRED",
        ),
        (
            |s| process(s).env = map("A", "\0"),
            "spec.process.env[\"A\"] MALFORMED",
        ),
        (
            |s| process(s).env = map("A", &"x".repeat(300_000)),
            "spec.process.env TOO_LONG",
        ),
        (
            |s| process(s).env = (0..1_025).map(|n| (n.to_string(), String::new())).collect(),
            "spec.process.env TOO_MANY",
        ),
        (
            |s| process(s).working_dir = "srv".into(),
            "spec.process.working_dir MALFORMED",
        ),
        (
            |s| process(s).working_dir = "/a/../b".into(),
            "spec.process.working_dir MALFORMED",
        ),
        (
            |s| process(s).working_dir = format!("/{}", "a".repeat(4_096)),
            "spec.process.working_dir TOO_LONG",
        ),
        (
            |s| process(s).user = ":group".into(),
            "spec.process.user MALFORMED",
        ),
        (
            |s| process(s).user = "a:b:c".into(),
            "spec.process.user MALFORMED",
        ),
        (
            |s| process(s).user = "4294967295".into(),
            "spec.process.user OUT_OF_RANGE",
        ),
        (
            |s| process(s).user = "99999999999".into(),
            "spec.process.user OUT_OF_RANGE",
        ),
        (
            |s| process(s).user = "u".repeat(257),
            "spec.process.user TOO_LONG",
        ),
        (
            |s| process(s).supplemental_groups = vec!["0".into(); 33],
            "spec.process.supplemental_groups TOO_MANY",
        ),
        (
            |s| process(s).supplemental_groups = vec![String::new()],
            "spec.process.supplemental_groups[0] REQUIRED",
        ),
    ]);
}

#[test]
fn wrong_mounts_are_named() {
    check(&[
        (
            |s| s.mounts = vec![tmpfs("a")],
            "spec.mounts[0].target MALFORMED",
        ),
        (
            |s| s.mounts = vec![tmpfs("/..")],
            "spec.mounts[0].target MALFORMED",
        ),
        (
            |s| s.mounts = vec![tmpfs("/./")],
            "spec.mounts[0].target MALFORMED",
        ),
        (
            |s| s.mounts = vec![tmpfs("/a\0")],
            "spec.mounts[0].target MALFORMED",
        ),
        (
            |s| s.mounts = vec![tmpfs("")],
            "spec.mounts[0].target REQUIRED",
        ),
        (
            |s| s.mounts = vec![tmpfs("/a"), tmpfs("//a/.")],
            "spec.mounts[1].target DUPLICATE",
        ),
        (
            |s| s.mounts = vec![tmpfs("/a"); 257],
            "spec.mounts TOO_MANY",
        ),
        (
            |s| s.mounts = vec![bind("data")],
            "spec.mounts[0].bind.path MALFORMED",
        ),
        (
            |s| {
                s.mounts = vec![v1::Mount {
                    target: "/a".into(),
                    ..Default::default()
                }]
            },
            "spec.mounts[0].source REQUIRED",
        ),
        (
            |s| {
                s.mounts = vec![v1::Mount {
                    source: Some(Source::Bind(v1::BindMount {
                        path: "/x".into(),
                        propagation: 9,
                        ..Default::default()
                    })),
                    ..tmpfs("/a")
                }]
            },
            "spec.mounts[0].bind.propagation UNKNOWN_VALUE",
        ),
        (
            |s| {
                s.mounts = vec![v1::Mount {
                    source: Some(Source::Tmpfs(v1::TmpfsMount {
                        size_bytes: -1,
                        mode: None,
                    })),
                    ..tmpfs("/a")
                }]
            },
            "spec.mounts[0].tmpfs.size_bytes OUT_OF_RANGE",
        ),
        (
            |s| {
                s.mounts = vec![v1::Mount {
                    source: Some(Source::Tmpfs(v1::TmpfsMount {
                        size_bytes: 0,
                        mode: Some(0o10000),
                    })),
                    ..tmpfs("/a")
                }]
            },
            "spec.mounts[0].tmpfs.mode OUT_OF_RANGE",
        ),
    ]);
}

#[test]
fn wrong_limits_are_named() {
    check(&[
        (
            |s| resources(s).cpu_limit_millicores = Some(9),
            "spec.resources.cpu_limit_millicores OUT_OF_RANGE",
        ),
        (
            |s| resources(s).cpu_limit_millicores = Some(i64::MAX),
            "spec.resources.cpu_limit_millicores OUT_OF_RANGE",
        ),
        (
            |s| resources(s).cpu_weight = Some(0),
            "spec.resources.cpu_weight OUT_OF_RANGE",
        ),
        (
            |s| resources(s).io_weight = Some(10_001),
            "spec.resources.io_weight OUT_OF_RANGE",
        ),
        (
            |s| resources(s).cpuset_cpus = "3-1".into(),
            "spec.resources.cpuset_cpus MALFORMED",
        ),
        (
            |s| resources(s).cpuset_cpus = "0,".into(),
            "spec.resources.cpuset_cpus MALFORMED",
        ),
        (
            |s| resources(s).cpuset_cpus = "+1".into(),
            "spec.resources.cpuset_cpus MALFORMED",
        ),
        (
            |s| resources(s).cpuset_cpus = "-1".into(),
            "spec.resources.cpuset_cpus MALFORMED",
        ),
        (
            |s| resources(s).memory_limit_bytes = Some(1),
            "spec.resources.memory_limit_bytes OUT_OF_RANGE",
        ),
        (
            |s| resources(s).memory_limit_bytes = Some(-1),
            "spec.resources.memory_limit_bytes OUT_OF_RANGE",
        ),
        (
            |s| resources(s).swap_limit_bytes = Some(-1),
            "spec.resources.swap_limit_bytes OUT_OF_RANGE",
        ),
        (
            |s| resources(s).pids_limit = Some(0),
            "spec.resources.pids_limit OUT_OF_RANGE",
        ),
        (
            |s| {
                resources(s).memory_limit_bytes = Some(8 << 20);
                resources(s).memory_reservation_bytes = Some(9 << 20);
            },
            "spec.resources.memory_reservation_bytes CONFLICT",
        ),
        (
            |s| {
                resources(s).memory_limit_bytes = Some(i64::MAX);
                resources(s).swap_limit_bytes = Some(1);
            },
            "spec.resources.swap_limit_bytes CONFLICT",
        ),
        (
            |s| resources(s).swap_limit_bytes = Some(1 << 30),
            "spec.resources.swap_limit_bytes CONFLICT",
        ),
    ]);
}

#[test]
fn wrong_privileges_are_named() {
    use v1::security::SeccompProfile::SeccompJson;
    check(&[
        (
            |s| security(s).capabilities_add = vec!["NET_ADMIN".into()],
            "spec.security.capabilities_add[0] UNKNOWN_VALUE",
        ),
        (
            |s| security(s).capabilities_drop = vec!["CAP_NOPE".into()],
            "spec.security.capabilities_drop[0] UNKNOWN_VALUE",
        ),
        (
            |s| security(s).capabilities_drop = vec!["CAP_net_raw".into()],
            "spec.security.capabilities_drop[0] UNKNOWN_VALUE",
        ),
        (
            |s| security(s).seccomp_profile = Some(SeccompJson(String::new())),
            "spec.security.seccomp_json REQUIRED",
        ),
        (
            |s| security(s).seccomp_profile = Some(SeccompJson("x".repeat(300_000))),
            "spec.security.seccomp_json TOO_LONG",
        ),
        (
            |s| security(s).user_namespace = Some(v1::UserNamespace { mode: 3 }),
            "spec.security.user_namespace.mode UNKNOWN_VALUE",
        ),
    ]);
}

#[test]
fn an_init_and_a_mount_over_it_do_not_go_together() {
    fn init(s: &mut v1::ContainerSpec, target: &str) {
        s.init = true;
        s.mounts = vec![bind("/srv"), tmpfs(target)];
    }
    check(&[
        (|s| init(s, "/dev"), "spec.mounts[1].target CONFLICT"),
        (
            |s| init(s, "/dev/wharf-init"),
            "spec.mounts[1].target CONFLICT",
        ),
    ]);
    for beside in [
        changed(|s| init(s, "/dev/shm")),
        changed(|s| init(s, "/dev/wharf")),
        changed(|s| init(s, "/sbin")),
    ] {
        assert_eq!(flaws_of(beside), Vec::<String>::new());
    }
    assert!(parsed(changed(|s| s.init = true)).init);
    let without = changed(|s| s.mounts = vec![tmpfs("/dev")]);
    assert_eq!(flaws_of(without), Vec::<String>::new());
}

#[test]
fn options_that_no_backend_has_are_never_ignored() {
    check(&[
        (
            |s| s.run_timeout = seconds(1, 0),
            "spec.run_timeout unsupported",
        ),
        (
            |s| {
                s.restart_policy = Some(v1::RestartPolicy {
                    condition: 3,
                    ..Default::default()
                })
            },
            "spec.restart_policy unsupported",
        ),
        (
            |s| {
                s.health_check = Some(v1::HealthCheck {
                    args: vec!["true".into()],
                    ..Default::default()
                })
            },
            "spec.health_check unsupported",
        ),
        (
            |s| s.devices = vec![v1::Device::default()],
            "spec.devices unsupported",
        ),
        (
            |s| s.extra_hosts = vec![v1::ExtraHost::default()],
            "spec.extra_hosts unsupported",
        ),
        (
            |s| {
                s.dns = Some(v1::DnsConfig {
                    servers: vec!["1.1.1.1".into()],
                    ..Default::default()
                })
            },
            "spec.dns unsupported",
        ),
        (
            |s| security(s).privileged = true,
            "spec.security.privileged unsupported",
        ),
        (
            |s| security(s).apparmor_profile = "unconfined".into(),
            "spec.security.apparmor_profile unsupported",
        ),
        (
            |s| security(s).user_namespace = Some(v1::UserNamespace { mode: 2 }),
            "spec.security.user_namespace.mode unsupported",
        ),
        (
            |s| {
                s.mounts = vec![v1::Mount {
                    source: Some(Source::Image(v1::ImageMount::default())),
                    ..tmpfs("/a")
                }]
            },
            "spec.mounts[0].image unsupported",
        ),
    ]);
}

#[test]
fn wrong_values_of_unsupported_options_are_called_wrong() {
    check(&[
        (
            |s| s.run_timeout = seconds(-1, 0),
            "spec.run_timeout MALFORMED",
        ),
        (
            |s| {
                s.restart_policy = Some(v1::RestartPolicy {
                    condition: 77,
                    ..Default::default()
                })
            },
            "spec.restart_policy.condition UNKNOWN_VALUE",
        ),
        (
            |s| {
                s.restart_policy = Some(v1::RestartPolicy {
                    max_retries: 1,
                    ..Default::default()
                })
            },
            "spec.restart_policy.max_retries CONFLICT",
        ),
        (
            |s| {
                s.restart_policy = Some(v1::RestartPolicy {
                    restart_on_unhealthy: true,
                    ..Default::default()
                })
            },
            "spec.restart_policy.restart_on_unhealthy CONFLICT",
        ),
        (
            |s| {
                s.health_check = Some(v1::HealthCheck {
                    disabled: true,
                    retries: 1,
                    ..Default::default()
                })
            },
            "spec.health_check.disabled CONFLICT",
        ),
    ]);
}

#[test]
fn auto_delete_does_not_go_with_a_restart_policy() {
    let message = changed(|s| {
        s.auto_delete = true;
        s.restart_policy = Some(v1::RestartPolicy {
            condition: 2,
            ..Default::default()
        });
    });
    assert!(flaws_of(message).contains(&"spec.auto_delete CONFLICT".to_owned()));
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let message = changed(|s| {
        s.image.clear();
        s.stop_signal = "X".into();
        process(s).working_dir = "x".into();
        resources(s).pids_limit = Some(0);
        resources(s).cpu_weight = Some(0);
        s.mounts = vec![tmpfs("a"), bind("b")];
        s.hostname = "_".into();
        s.run_timeout = seconds(1, 0);
    });
    let mut found = flaws_of(message);
    found.sort();
    assert_eq!(
        found,
        [
            "spec.hostname MALFORMED",
            "spec.image REQUIRED",
            "spec.mounts[0].target MALFORMED",
            "spec.mounts[1].bind.path MALFORMED",
            "spec.process.working_dir MALFORMED",
            "spec.resources.cpu_weight OUT_OF_RANGE",
            "spec.resources.pids_limit OUT_OF_RANGE",
            "spec.run_timeout unsupported",
            "spec.stop_signal UNKNOWN_VALUE",
        ]
    );
}

#[test]
fn what_is_left_open_gets_the_servers_defaults() {
    let spec = parsed(changed(|_| {}));
    assert_eq!(spec.stop_grace_period, None);
    assert_eq!(spec.shm_size_bytes, limits::DEFAULT_SHM_BYTES);
    assert_eq!(spec.resources.pids_limit, Some(limits::DEFAULT_PIDS));
    assert_eq!(spec.network, Network::None);
    assert_eq!(spec.security.seccomp, Seccomp::Default);
    assert!(spec.security.no_new_privileges);
}

#[test]
fn paths_that_name_the_same_become_the_same() {
    let spec = parsed(changed(|s| {
        s.mounts = vec![tmpfs("//a/./b/"), bind("/host//x/")]
    }));
    assert_eq!(spec.mounts[0].target, "/a/b");
    assert_eq!(
        spec.mounts[1].source,
        MountSource::Bind {
            path: "/host/x".to_owned(),
            create: false,
            propagation: Propagation::Private,
        }
    );
}

fn check(bad: &[(Change, &str)]) {
    for (change, flaw) in bad {
        assert_eq!(flaws_of(changed(*change)), [*flaw]);
    }
}

#[test]
fn stdin_and_a_log_are_kept_as_asked_for() {
    let plain = parsed(changed(|_| ()));
    assert!(!plain.stdin_open);
    assert_eq!(plain.log, Log::default());
    let asked = parsed(changed(|s| {
        s.stdin_open = true;
        s.log = Some(v1::LogSpec {
            max_bytes: 64 << 10,
            max_files: 100,
            disabled: true,
        });
        process(s).terminal = Some(v1::TerminalSize {
            rows: 1,
            columns: 65_535,
        });
    }));
    assert!(asked.stdin_open);
    let log = Log {
        disabled: true,
        segment_bytes: 64 << 10,
        segments: 100,
    };
    assert_eq!(asked.log, log);
    let size = TerminalSize {
        rows: 1,
        columns: 65_535,
    };
    assert_eq!(asked.process.terminal, Some(size));
}

#[test]
fn sizes_of_logs_and_terminals_are_bounded() {
    fn log(spec: &mut v1::ContainerSpec) -> &mut v1::LogSpec {
        spec.log.get_or_insert_default()
    }
    check(&[
        (|s| log(s).max_bytes = -1, "spec.log.max_bytes OUT_OF_RANGE"),
        (
            |s| log(s).max_bytes = 65_535,
            "spec.log.max_bytes OUT_OF_RANGE",
        ),
        (
            |s| log(s).max_files = 101,
            "spec.log.max_files OUT_OF_RANGE",
        ),
        (
            |s| {
                process(s).terminal = Some(v1::TerminalSize {
                    rows: 0,
                    columns: 80,
                })
            },
            "spec.process.terminal.rows OUT_OF_RANGE",
        ),
        (
            |s| {
                process(s).terminal = Some(v1::TerminalSize {
                    rows: 24,
                    columns: 65_536,
                })
            },
            "spec.process.terminal.columns OUT_OF_RANGE",
        ),
    ]);
}
