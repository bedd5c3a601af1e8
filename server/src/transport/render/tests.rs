#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use wharf_api::v1;
use wharf_api::v1::ContainerView;

use super::{container, exec, image, spec, status};
use crate::model::container::ImageUse;
use crate::model::image::{AccountFiles, Descriptor, ImageConfig, Platform};
use crate::model::spec::{
    ContainerSpec, Log, Mount, MountSource, Network, Process, ProcessSpec, Propagation, Resources,
    Rlimit, Seccomp, Security,
};
use crate::model::{
    Cause, Container, ContainerId, Digest, ExitReason, ExitStatus, Failure, Image, LaunchFailure,
    Principal, RequestId, Run, Sequence, Signal, State, TerminalSize,
};
use crate::transport::Violations;
use crate::transport::parse::{self, Field};

fn mount() -> impl Strategy<Value = Mount> {
    let propagation = prop_oneof![
        Just(Propagation::Private),
        Just(Propagation::Slave),
        Just(Propagation::Shared),
    ];
    let bind = ("(/[a-z]{1,5}){1,3}", any::<bool>(), propagation).prop_map(
        |(path, create, propagation)| MountSource::Bind {
            path,
            create,
            propagation,
        },
    );
    let tmpfs = (option::of(1..1_000_000_u64), 0..=0o7777_u32)
        .prop_map(|(size_bytes, mode)| MountSource::Tmpfs { size_bytes, mode });
    (
        "(/[a-z]{1,5}){1,3}",
        prop_oneof![bind, tmpfs],
        any::<bool>(),
    )
        .prop_map(|(target, source, read_only)| Mount {
            target,
            source,
            read_only,
        })
}

fn resources() -> impl Strategy<Value = Resources> {
    (
        option::of(10..100_000_u64),
        option::of(1..=10_000_u32),
        option::of(Just("0-3,7".to_owned())),
        option::of(6_u64 << 20..1 << 40),
        option::of(0..1_u64 << 40),
        1..1_000_000_u64,
        option::of(1..=10_000_u32),
    )
        .prop_map(|(cpu, weight, cpus, memory, swap, pids, io)| Resources {
            cpu_limit_millicores: cpu,
            cpu_weight: weight,
            cpuset_cpus: cpus,
            memory_limit_bytes: memory,
            memory_reservation_bytes: memory.map(|bytes| bytes / 2),
            swap_limit_bytes: memory.and(swap),
            pids_limit: Some(pids),
            io_weight: io,
        })
}

fn security() -> impl Strategy<Value = Security> {
    let seccomp = prop_oneof![
        Just(Seccomp::Default),
        Just(Seccomp::Unconfined),
        Just(Seccomp::Json {
            json: "{}".to_owned()
        }),
    ];
    let capabilities = || {
        prop_oneof![
            Just(vec![]),
            Just(vec!["ALL".to_owned(), "CAP_KILL".to_owned()])
        ]
    };
    (capabilities(), capabilities(), any::<bool>(), seccomp).prop_map(
        |(add, drop, no_new_privileges, seccomp)| Security {
            capabilities_add: add,
            capabilities_drop: drop,
            no_new_privileges,
            seccomp,
        },
    )
}

fn process() -> impl Strategy<Value = ProcessSpec> {
    (
        vec("[a-z]{1,5}", 0..3),
        vec("\\PC{0,5}", 0..3),
        btree_map("[A-Z]{1,5}", "\\PC{0,5}", 0..3),
        option::of("(/[a-z]{1,5}){1,3}"),
        option::of("[a-z]{1,5}(:[0-9]{1,5})?"),
        vec("[a-z]{1,5}", 0..3),
        option::of((1..=u16::MAX, 1..=u16::MAX)),
    )
        .prop_map(
            |(entrypoint, args, env, working_dir, user, groups, size)| ProcessSpec {
                entrypoint,
                args,
                env,
                working_dir,
                user,
                supplemental_groups: groups,
                terminal: size.map(|(rows, columns)| TerminalSize { rows, columns }),
            },
        )
}

fn log() -> impl Strategy<Value = Log> {
    (any::<bool>(), 65_536..1_u64 << 40, 1..=100_u32).prop_map(
        |(disabled, segment_bytes, segments)| Log {
            disabled,
            segment_bytes,
            segments,
        },
    )
}

fn network() -> impl Strategy<Value = Network> {
    prop_oneof![
        Just(Network::None),
        Just(Network::Host),
        "[a-z]{1,9}".prop_map(|container| Network::Container { container }),
        "(/[a-z]{1,5}){1,3}".prop_map(|path| Network::Path { path }),
    ]
}

/// Any spec that a request can lead to, except that mounts may share a target.
fn any_spec() -> impl Strategy<Value = ContainerSpec> {
    let flags = (
        any::<bool>(),
        any::<bool>(),
        option::of(1..=64_u32),
        0..86_400_000_u64,
    );
    let places = (
        vec(mount(), 0..3),
        1..1_u64 << 40,
        network(),
        option::of("[a-z]{1,9}"),
    );
    let rest = (
        option::of("[a-z]{1,9}"),
        btree_map("[a-z]{1,5}", ".{0,5}", 0..3),
        [any::<bool>(), any::<bool>()],
        log(),
    );
    (process(), resources(), security(), flags, places, rest).prop_map(
        |(
            process,
            resources,
            security,
            flags,
            places,
            (runtime, annotations, [stdin_open, with_init], log),
        )| {
            let own_hostname = matches!(places.2, Network::None | Network::Path { .. });
            ContainerSpec {
                image: "alpine".to_owned(),
                process,
                stop_signal: flags.2.and_then(Signal::from_number),
                stop_grace_period: Some(Duration::from_millis(flags.3)),
                auto_delete: flags.0,
                stdin_open,
                init: with_init && !places.0.iter().any(|mount| mount.target == "/dev"),
                log,
                mounts: places.0,
                read_only_root: flags.1,
                shm_size_bytes: places.1,
                resources,
                rlimits: vec![Rlimit {
                    name: "RLIMIT_CORE".to_owned(),
                    soft: 0,
                    hard: u64::MAX,
                }],
                security,
                hostname: places.3.filter(|_| own_hostname),
                network: places.2,
                runtime,
                annotations: annotations
                    .into_iter()
                    .map(|(key, value)| (key, value.replace('\0', "")))
                    .collect(),
            }
        },
    )
}

proptest! {
    #[test]
    fn a_spec_that_is_shown_can_be_asked_for_again(kept in any_spec()) {
        let mut targets = std::collections::HashSet::new();
        let mut kept = kept;
        kept.mounts.retain(|mount| targets.insert(mount.target.clone()));
        let mut out = Violations::new();
        let again = parse::spec::spec(spec::spec(&kept), &Field::new("spec"), &mut out);
        prop_assert!(out.is_empty(), "{}", out);
        prop_assert_eq!(again, kept);
    }
}

fn parsed_spec() -> ContainerSpec {
    let message = v1::ContainerSpec {
        image: "alpine".to_owned(),
        ..Default::default()
    };
    parse::spec::spec(message, &Field::new("spec"), &mut Violations::new())
}

fn exit() -> ExitStatus {
    ExitStatus {
        reason: ExitReason::Signaled,
        code: 137,
        signal: Some(Signal::KILL),
        exit_time: SystemTime::UNIX_EPOCH + Duration::new(5, 6),
        cause: Some(Cause {
            request_id: RequestId::parse("req-1").unwrap(),
            trace_id: None,
            method: "/wharf.v1.ContainerService/StopContainer".into(),
            principal: Principal::user(1000),
        }),
        run: Run(2),
        output_truncated: true,
    }
}

fn exited_container() -> Container {
    Container {
        id: ContainerId::generate(),
        name: "web".into(),
        labels: Arc::new([("app".to_owned(), "web".to_owned())].into()),
        spec: Arc::new(parsed_spec()),
        process: Arc::new(Process {
            args: vec!["sh".to_owned()],
            env: vec![],
            working_dir: "/".to_owned(),
            uid: 0,
            gid: 0,
            additional_gids: vec![],
        }),
        image: Arc::new(ImageUse {
            reference: "docker.io/library/alpine:latest".to_owned(),
            id: Digest::of(b"config"),
            chain_id: Digest::of(b"layer"),
            stop_signal: Signal::from_number(3),
        }),
        root: Arc::default(),
        state: State::Exited,
        run: Run(2),
        pid: None,
        exit_status: Some(exit()),
        failure: Some(Failure::Launch {
            source: LaunchFailure::ExecutableNotFound {
                path: "nope".to_owned(),
            },
        }),
        stop: None,
        intent: None,
        signaled: None,
        terminal_size: None,
        leash: None,
        create_time: SystemTime::UNIX_EPOCH,
        start_time: None,
        update_time: SystemTime::UNIX_EPOCH,
        generation: 255,
        last_event: Sequence(9),
        runs: Arc::new(VecDeque::new()),
    }
}

#[test]
fn a_validated_container_has_no_identity() {
    let shown = container::validated(&exited_container());
    assert_eq!((shown.id, shown.etag, shown.cursor), Default::default());
    assert_eq!(shown.name, "web");
    assert!(shown.spec.is_some());
}

#[test]
fn a_spec_shows_the_signal_that_a_stop_will_send() {
    let shown = container::validated(&exited_container());
    assert_eq!(shown.spec.unwrap().stop_signal, "SIGQUIT");
}

#[test]
fn only_the_full_view_has_the_spec() {
    let view = |view| container::unidentified(&exited_container(), view);
    assert!(view(ContainerView::Full).spec.is_some());
    assert!(view(ContainerView::Basic).spec.is_none());
    assert_eq!(view(ContainerView::Basic).image, "alpine");
}

#[test]
fn an_exit_says_how_when_and_through_whom() {
    let shown = status::exit_status(&exit());
    assert_eq!(shown.reason(), v1::exit_status::Reason::Signaled);
    assert_eq!(
        (shown.code, shown.signal.as_str(), shown.run),
        (137, "SIGKILL", 2)
    );
    let time = shown.exit_time.unwrap();
    assert_eq!((time.seconds, time.nanos), (5, 6));
    let cause = shown.cause.unwrap();
    assert_eq!(cause.request_id, "req-1");
    assert_eq!(cause.principal, "uid:1000");
}

#[test]
fn a_failure_has_a_reason_of_the_api() {
    let shown = container::validated(&exited_container()).failure.unwrap();
    assert_eq!(shown.reason, "EXECUTABLE_NOT_FOUND");
    assert_eq!(shown.metadata["path"], "nope");
}

#[test]
fn the_message_of_a_failure_is_bounded() {
    let failure = Failure::ControlLost {
        detail: "ä".repeat(10_000),
    };
    assert!(status::failure(&failure).message.len() <= 2_048);
}

#[test]
fn every_state_has_one_of_its_own() {
    let shown: std::collections::HashSet<_> =
        State::ALL.into_iter().map(container::state).collect();
    assert_eq!(shown.len(), State::ALL.len());
    for state in State::ALL {
        assert_eq!(
            container::state(state).as_str_name(),
            format!("STATE_{state}")
        );
    }
}

#[test]
fn an_image_is_shown_with_its_users() {
    let stored = Image {
        id: Digest::of(b"config"),
        references: ["docker.io/library/alpine:latest".to_owned()].into(),
        target: Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            digest: Digest::of(b"manifest"),
            size_bytes: 8,
        },
        platform: Platform::host(),
        content_bytes: u64::MAX,
        unpacked_bytes: 2,
        layers: Vec::new(),
        chain_id: Digest::of(b"layer"),
        create_time: SystemTime::UNIX_EPOCH,
        config: Arc::new(ImageConfig::default()),
        accounts: Arc::new(AccountFiles::default()),
        config_json: "{}".into(),
    };
    let shown = image::image(&stored, 3);
    assert_eq!(shown.containers, 3);
    assert_eq!(shown.content_bytes, i64::MAX);
    assert_eq!(shown.target.unwrap().size_bytes, 8);
}

#[test]
fn an_exec_has_not_started_until_its_process_runs() {
    use crate::model::{ExecState, samples};
    use wharf_api::v1::exec::State as Shown;
    let container = samples::container(samples::spec());
    for (state, shown) in [
        (ExecState::Created, Shown::Created),
        (ExecState::Starting, Shown::Created),
        (ExecState::Running, Shown::Running),
        (ExecState::Exited, Shown::Exited),
        (ExecState::Failed, Shown::Failed),
    ] {
        let exec = crate::model::Exec {
            state,
            ..samples::exec(&container)
        };
        let message = exec::exec(&exec);
        assert_eq!(message.state(), shown);
        assert_eq!(message.container_id, container.id.to_string());
        assert_eq!(message.spec.unwrap().process.unwrap().args, ["/bin/true"]);
    }
}
