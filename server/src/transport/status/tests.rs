//! Every error, as clients see it: the documented code, details and metadata keys.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;
use tonic_types::StatusExt as _;
use wharf_api::ErrorReason as R;

use super::*;
use crate::engine::Error as E;
use crate::model::Run;
use crate::transport::details::MAX_STATUS_BYTES;

fn s(text: &str) -> String {
    text.to_owned()
}

fn of(error: impl Into<CallError>) -> CallError {
    error.into()
}

fn launch(failure: LaunchFailure) -> CallError {
    CallError::of("web")(BackendError::from(failure).into())
}

fn violations(unsupported: bool) -> CallError {
    let mut violations = Violations::new();
    violations.unsupported("spec.restart");
    if !unsupported {
        violations.add("name", "TOO_LONG", "longer than 128 bytes");
    }
    violations.check("containerd").unwrap_err()
}

/// An error, its reason, its metadata keys as documented.
type Row = (CallError, R, &'static [&'static str]);

fn of_files() -> Vec<Row> {
    use crate::files::FileError as F;
    let file = |error| {
        of(E::File {
            container: s("web"),
            error,
        })
    };
    let path = || s("/etc/app");
    vec![
        (
            file(F::NotFound { path: path() }),
            R::PathNotFound,
            &["path", "container"],
        ),
        (
            file(F::Kind {
                path: path(),
                want: "file",
                have: "directory",
            }),
            R::PathKindMismatch,
            &["path", "want", "have"],
        ),
        (
            file(F::Covered { path: path() }),
            R::ContainerNotRunning,
            &["container", "state"],
        ),
        (
            file(F::ReadOnly { path: path() }),
            R::RootReadOnly,
            &["path", "container"],
        ),
        (file(F::NoSpace { path: path() }), R::NoSpace, &["path"]),
        (
            file(F::TooDeep {
                path: path(),
                limit: 256,
            }),
            R::InvalidField,
            &["firstField"],
        ),
        (
            file(F::Attributes {
                path: path(),
                limit: 1 << 20,
            }),
            R::InvalidField,
            &["firstField"],
        ),
        (
            file(F::Host {
                resource: "disk",
                errno: s("EIO"),
            }),
            R::HostResources,
            &["resource", "errno"],
        ),
        (
            file(F::Mount {
                source_path: path(),
                errno: s("ENOENT"),
            }),
            R::MountFailed,
            &["container", "target", "source", "errno"],
        ),
        (
            file(F::KernelFeature { feature: "x" }),
            R::KernelFeatureMissing,
            &["feature"],
        ),
        (
            file(F::ProcessEnded),
            R::OperationInProgress,
            &["container", "operation", "requestId"],
        ),
        (file(F::Stalled), R::Overloaded, &[]),
        (file(F::Stopped), R::CallerCancelled, &["mutationApplied"]),
        (
            of(E::PartialWrite {
                entries: 3,
                error: Box::new(E::File {
                    container: s("web"),
                    error: F::Archive { problem: s("cut") },
                }),
            }),
            R::ArchiveInvalid,
            &["problem", "entries"],
        ),
        (
            CallError::StreamProtocol {
                expected: "data or end",
                got: "start",
            }
            .after_entries(3),
            R::StreamProtocol,
            &["expected", "got", "entries"],
        ),
    ]
}

fn of_the_engine() -> Vec<Row> {
    let container = || s("web");
    vec![
        (
            of(E::ContainerNotFound {
                container: container(),
            }),
            R::ContainerNotFound,
            &["container"],
        ),
        (
            of(E::NameInUse {
                name: s("a"),
                existing: s("b"),
            }),
            R::ContainerNameInUse,
            &["name", "existingId"],
        ),
        (
            of(E::NotRunning {
                container: container(),
                state: State::Exited,
            }),
            R::ContainerNotRunning,
            &["container", "state"],
        ),
        (
            of(E::StillRunning {
                container: container(),
                state: State::Running,
            }),
            R::ContainerRunning,
            &["container", "state"],
        ),
        (
            of(E::Paused {
                container: container(),
            }),
            R::ContainerPaused,
            &["container", "state"],
        ),
        (
            of(E::ControlLost {
                container: container(),
            }),
            R::ContainerFailed,
            &["container", "state"],
        ),
        (
            of(E::ConditionUnreachable {
                container: container(),
                run: Run(1),
                state: State::Exited,
                conditions: s("HEALTHY"),
            }),
            R::ConditionUnreachable,
            &["container", "run", "state", "conditions"],
        ),
        (
            of(E::RunChanged {
                container: container(),
                expected: Run(1),
                run: Run(2),
            }),
            R::RunChanged,
            &["container", "expectedRun", "run"],
        ),
        (
            of(E::EtagMismatch {
                container: container(),
                etag: s("7"),
            }),
            R::EtagMismatch,
            &["container", "etag"],
        ),
        (
            of(E::OperationInProgress {
                container: container(),
                operation: "stop",
                request_id: s("id"),
            }),
            R::OperationInProgress,
            &["container", "operation", "requestId"],
        ),
        (
            of(E::DeletedConcurrently {
                container: container(),
            }),
            R::DeletedConcurrently,
            &["container"],
        ),
        (
            of(E::StopTimedOut {
                container: container(),
                phase: s("kill"),
            }),
            R::StopTimedOut,
            &["container", "phase"],
        ),
        (
            of(E::TooManyContainers { limit: 3 }),
            R::TooManyContainers,
            &["limit"],
        ),
        (
            of(E::IdempotencyKeyMismatch {
                key: s("k"),
                first_request_id: s("id"),
            }),
            R::IdempotencyKeyMismatch,
            &["idempotencyKey", "firstRequestId"],
        ),
        (
            of(E::ImageNotFound { image: s("i") }),
            R::ImageNotFound,
            &["image"],
        ),
        (
            of(E::PlatformNotFound {
                image: s("i"),
                platform: s("p"),
                available: s("q"),
            }),
            R::PlatformNotFound,
            &["image", "platform", "available"],
        ),
        (
            of(E::ReferenceInUse {
                reference: s("r"),
                existing: s("e"),
            }),
            R::ImageReferenceInUse,
            &["reference", "existingId"],
        ),
        (
            of(E::ImageInUse {
                image: s("i"),
                containers: s("a,b"),
            }),
            R::ImageInUse,
            &["image", "containers"],
        ),
        (
            of(E::InvalidField {
                field: "name".to_owned(),
                problem: s("is no name"),
            }),
            R::InvalidField,
            &["firstField"],
        ),
        (
            of(E::OptionNotSupported {
                field: s("spec.restart"),
                backend: "fake",
            }),
            R::OptionNotSupported,
            &["field", "backend"],
        ),
        (
            of(E::Starting {
                phase: "recovering",
            }),
            R::ServerStarting,
            &["phase"],
        ),
        (of(E::Draining), R::ServerDraining, &[]),
        (
            of(E::EpochChanged {
                epoch: s("e"),
                oldest: s("o"),
                newest: s("n"),
            }),
            R::CursorEpochChanged,
            &["oldestCursor", "newestCursor", "epoch"],
        ),
        (of(E::ForeignCursor), R::CursorInvalid, &["field"]),
        (
            of(E::LogCursorInvalid { container: s("c") }),
            R::CursorInvalid,
            &["field"],
        ),
        (
            of(E::LogUnreadable {
                container: s("c"),
                detail: s("d"),
            }),
            R::HostResources,
            &["resource", "errno"],
        ),
        (of(E::Bug { what: "w" }), R::InternalBug, &[]),
    ]
}

fn of_what_is_below() -> Vec<Row> {
    let unavailable = BackendError::Unavailable {
        backend: "containerd",
        detail: s("refused"),
        applied: Applied::Unknown,
    };
    let resources = BackendError::HostResources {
        resource: "memory",
        errno: "ENOMEM",
    };
    let mismatch = BackendError::DigestMismatch {
        expected: s("a"),
        actual: s("b"),
    };
    let layer = BackendError::LayerInvalid {
        layer: s("l"),
        problem: s("p"),
    };
    let unsupported = BackendError::NotSupported {
        backend: "containerd",
        field: "spec.x",
    };
    let protocol = BackendError::Protocol {
        backend: "containerd",
        code: s("UNKNOWN"),
        message: s("m"),
    };
    let missing = BackendError::ImageContentMissing { chain_id: s("c") };
    let blob = BackendError::BlobMissing { digest: s("d") };
    let full = || StoreError::NoSpace { path: s("p") };
    let corrupt = StoreError::Corrupt {
        path: s("p"),
        detail: s("d"),
    };
    let io = StoreError::Io {
        path: s("p"),
        detail: s("d"),
    };
    let unreadable = JournalError::Unreadable { detail: s("d") };
    vec![
        (
            of(E::from(unavailable)),
            R::BackendUnavailable,
            &["backend", "mutationApplied"],
        ),
        (
            of(E::from(resources)),
            R::HostResources,
            &["resource", "errno"],
        ),
        (
            of(E::from(mismatch)),
            R::DigestMismatch,
            &["expected", "actual"],
        ),
        (of(E::from(layer)), R::ImageInvalid, &["problem"]),
        (
            of(E::from(unsupported)),
            R::OptionNotSupported,
            &["field", "backend"],
        ),
        (
            of(E::from(protocol)),
            R::BackendProtocol,
            &["backend", "backendCode", "backendMessage"],
        ),
        (of(E::from(missing)), R::ImageNotFound, &["image"]),
        (of(E::from(blob)), R::ImageNotFound, &["image"]),
        // The container that it names is another than the one to be launched.
        (
            launch(LaunchFailure::NetworkContainerNotRunning {
                container: s("db"),
                state: s("EXITED"),
            }),
            R::ContainerNotRunning,
            &["container", "state"],
        ),
        (
            of(E::from(BackendError::NotFound {
                backend: "containerd",
                what: "snapshot",
            })),
            R::BackendProtocol,
            &["backend", "backendCode", "backendMessage"],
        ),
        (of(E::from(full())), R::NoSpace, &["path"]),
        (of(E::from(corrupt)), R::StateCorrupt, &["path"]),
        (of(E::from(io)), R::HostResources, &["resource", "errno"]),
        (of(E::from(StoreError::Closed)), R::ServerDraining, &[]),
        (of(E::from(unreadable)), R::StateCorrupt, &["path"]),
        (
            of(ImageError::Invalid {
                problem: s("no index"),
            }),
            R::ImageInvalid,
            &["problem"],
        ),
        (
            of(ImageError::Io { detail: s("d") }),
            R::HostResources,
            &["resource", "errno"],
        ),
    ]
}

fn of_a_launch() -> Vec<Row> {
    use LaunchFailure as F;
    let path = || s("/bin/x");
    vec![
        (
            launch(F::ExecutableNotFound { path: path() }),
            R::ExecutableNotFound,
            &["container", "path", "exitCode"],
        ),
        (
            launch(F::ExecutableNotPermitted { path: path() }),
            R::ExecutableNotPermitted,
            &["container", "path", "exitCode"],
        ),
        (
            launch(F::ExecutableFormat {
                path: path(),
                platform: s("linux/amd64"),
            }),
            R::ExecutableFormat,
            &["container", "path", "platform"],
        ),
        (
            launch(F::UserNotFound { user: s("u") }),
            R::UserNotFound,
            &["container", "user"],
        ),
        (
            launch(F::WorkingDirInvalid { path: path() }),
            R::WorkingDirInvalid,
            &["container", "path"],
        ),
        (
            launch(F::DeviceNotFound { path: path() }),
            R::DeviceNotFound,
            &["container", "path"],
        ),
        (
            launch(F::MountFailed {
                target: s("/t"),
                source_path: s("/s"),
                errno: s("ENOENT"),
            }),
            R::MountFailed,
            &["container", "target", "source", "errno"],
        ),
        (
            launch(F::SecurityProfileInvalid {
                profile_kind: s("seccomp"),
                profile: s("json"),
            }),
            R::SecurityProfileInvalid,
            &["container", "kind", "profile"],
        ),
        (
            launch(F::RuntimeNotFound {
                runtime: s("r"),
                available: s("runc"),
            }),
            R::RuntimeNotFound,
            &["runtime", "available"],
        ),
        (
            launch(F::KernelFeatureMissing {
                feature: s("cgroup2"),
            }),
            R::KernelFeatureMissing,
            &["feature"],
        ),
        (
            launch(F::Refused { message: s("no") }),
            R::RuntimeStartFailed,
            &["container", "runtimeMessage"],
        ),
    ]
}

fn of_the_transport() -> Vec<Row> {
    vec![
        (violations(false), R::InvalidField, &["firstField"]),
        (
            violations(true),
            R::OptionNotSupported,
            &["field", "backend"],
        ),
        (CallError::PageTokenInvalid, R::PageTokenInvalid, &["field"]),
        (
            CallError::CursorInvalid {
                field: "cursor".to_owned(),
            },
            R::CursorInvalid,
            &["field"],
        ),
        (
            CallError::CursorExpired {
                oldest: s("o"),
                newest: s("n"),
            },
            R::CursorExpired,
            &["oldestCursor", "newestCursor"],
        ),
        (
            CallError::StreamProtocol {
                expected: "start",
                got: "chunk",
            },
            R::StreamProtocol,
            &["expected", "got"],
        ),
        (
            CallError::MethodNotSupported {
                method: "/m",
                backend: "fake",
            },
            R::MethodNotSupported,
            &["method", "backend"],
        ),
        (
            CallError::TransferMismatch {
                expected: s("a"),
                actual: s("b"),
            },
            R::DigestMismatch,
            &["expected", "actual"],
        ),
        (
            CallError::TooLarge {
                limit: 1,
                actual: 2,
            },
            R::RequestTooLarge,
            &["limitBytes", "actualBytes"],
        ),
        (
            CallError::Deadline {
                phase: "handler",
                applied: Applied::No,
            },
            R::Deadline,
            &["phase", "mutationApplied"],
        ),
        (
            CallError::Cancelled {
                applied: Applied::Unknown,
            },
            R::CallerCancelled,
            &["mutationApplied"],
        ),
        (CallError::Bug { what: "w" }, R::InternalBug, &[]),
        (
            CallError::Inbound(Box::new(Status::internal("protocol"))),
            R::InvalidField,
            &["firstField"],
        ),
        (
            CallError::Inbound(Box::new(Status::out_of_range("too large"))),
            R::RequestTooLarge,
            &["limitBytes", "actualBytes"],
        ),
        (
            CallError::Inbound(Box::new(Status::unknown("broken pipe"))),
            R::CallerCancelled,
            &["mutationApplied"],
        ),
    ]
}

fn rows() -> impl Iterator<Item = Row> {
    [
        of_the_engine(),
        of_files(),
        of_what_is_below(),
        of_a_launch(),
        of_the_transport(),
    ]
    .into_iter()
    .flatten()
}

/// The metadata keys of a reason in the documentation.
fn documented_keys(reason: R) -> BTreeSet<&'static str> {
    let table = include_str!("../../../../docs/errors.md");
    let row = table
        .lines()
        .find(|row| row.starts_with(&format!("| {reason} |")))
        .unwrap_or_else(|| panic!("{reason} is not documented"));
    // What is in brackets only some answers have.
    let cell = row.split(" | ").nth(4).unwrap();
    let keys = cell.split(" (").next().unwrap();
    let names = keys.split(',').map(|key| key.split('=').next().unwrap());
    names.filter(|name| *name != "-").collect()
}

#[test]
fn every_error_has_its_reason_code_and_metadata_keys() {
    for (error, reason, keys) in rows() {
        let status = Status::from(error.clone());
        assert_eq!(status.code(), code(reason), "{error:?}");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(
            (&*info.reason, &*info.domain),
            (reason.as_str_name(), "wharf")
        );
        let found: BTreeSet<&str> = info.metadata.keys().map(String::as_str).collect();
        assert_eq!(found, keys.iter().copied().collect(), "{error:?}");
        let always = found.iter().copied().filter(|key| *key != "entries");
        assert_eq!(
            always.collect::<BTreeSet<_>>(),
            documented_keys(reason),
            "{error:?}"
        );
    }
}

/// As errors.md has it, independent of the table that is tested.
fn documented_detail(code: Code, reason: R) -> &'static str {
    match (code, reason) {
        (
            _,
            R::StreamProtocol
            | R::ImageInvalid
            | R::ArchiveInvalid
            | R::MethodNotSupported
            | R::Deadline,
        ) => "",
        (_, R::HostResources | R::Overloaded) | (Code::OutOfRange | Code::Unavailable, _) => "",
        (Code::Internal | Code::Cancelled, _) => "",
        (Code::InvalidArgument | Code::Unimplemented, _) => "BadRequest",
        (Code::FailedPrecondition, _) => "PreconditionFailure",
        (Code::ResourceExhausted, _) => "QuotaFailure",
        _ => "ResourceInfo",
    }
}

#[test]
fn every_error_has_the_details_of_its_reason() {
    for (error, reason, _) in rows() {
        let status = Status::from(error.clone());
        let details = status.check_error_details().unwrap();
        let wanted = documented_detail(status.code(), reason);
        let found = [
            ("BadRequest", details.bad_request().is_some()),
            (
                "PreconditionFailure",
                details.precondition_failure().is_some(),
            ),
            ("QuotaFailure", details.quota_failure().is_some()),
            ("ResourceInfo", details.resource_info().is_some()),
        ];
        for (name, there) in found {
            assert_eq!(there, name == wanted, "{name} of {error:?}");
        }
        let delay = details.retry_info().and_then(|retry| retry.retry_delay);
        assert_eq!(delay, retry_delay(reason), "{error:?}");
    }
}

#[test]
fn all_violations_are_listed_with_their_reasons() {
    let status = Status::from(violations(false));
    let found = status.get_details_bad_request().unwrap().field_violations;
    let found: Vec<_> = found.iter().map(|v| (&*v.field, &*v.reason)).collect();
    let wanted = [
        ("spec.restart", "OPTION_NOT_SUPPORTED"),
        ("name", "TOO_LONG"),
    ];
    assert_eq!(found, wanted);
}

#[test]
fn a_precondition_names_its_subject() {
    let status = Status::from(CallError::from(E::Paused {
        container: s("web"),
    }));
    let failure = status.get_details_precondition_failure().unwrap();
    let violation = &failure.violations[0];
    assert_eq!(
        (&*violation.r#type, &*violation.subject),
        ("CONTAINER_PAUSED", "web")
    );
}

#[test]
fn the_request_bodys_own_refusal_passes_through_unchanged() {
    let refusal = Status::from(CallError::TooLarge {
        limit: 1,
        actual: 2,
    });
    let passed = Status::from(CallError::from(refusal.clone()));
    assert_eq!(passed.details(), refusal.details());
    assert_eq!(passed.code(), Code::ResourceExhausted);
}

#[test]
fn a_failure_kept_as_data_has_the_reason_it_has_as_a_status() {
    for (error, reason, keys) in of_a_launch() {
        let CallError::Container {
            error: E::Backend(BackendError::Launch(failure)),
            ..
        } = error
        else {
            panic!("not a launch failure")
        };
        let (found, metadata) = failure_reason(&failure.into());
        let keys: HashSet<&str> = keys
            .iter()
            .copied()
            .filter(|key| *key != "container")
            .collect();
        assert_eq!(found, reason);
        assert_eq!(
            metadata.keys().map(String::as_str).collect::<HashSet<_>>(),
            keys
        );
    }
    let lost = Failure::ControlLost { detail: s("d") };
    assert_eq!(failure_reason(&lost).0, R::ContainerFailed);
    assert_eq!(
        failure_reason(&Failure::StartInterrupted).0,
        R::BackendUnavailable
    );
}

/// What a client gets, with a request id of full length, as the layers add it.
fn wire_bytes(status: &Status) -> usize {
    let mut headers = http::HeaderMap::new();
    status.add_header(&mut headers).unwrap();
    let request_info = (128_usize + 64) * 4 / 3;
    headers.values().map(http::HeaderValue::len).sum::<usize>() + request_info
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_status_is_larger_than_four_kib(
        // Every character of the first costs three bytes in a message, and some have four of their own.
        text in "[%\u{1F980}é\"a]{0,3000}",
        fields in prop::collection::vec("[a-z\u{e9}.]{1,300}", 1..100),
    ) {
        let mut violations = Violations::new();
        for field in &fields {
            violations.add(field.clone(), "TOO_LONG", text.clone());
        }
        let all = [
            violations.check("fake").unwrap_err(),
            CallError::from(E::ContainerNotFound { container: text.clone() }),
            CallError::from(E::ConditionUnreachable {
                container: text.clone(), run: Run(1), state: State::Exited, conditions: text.clone(),
            }),
            CallError::from(E::PlatformNotFound {
                image: text.clone(), platform: text.clone(), available: text.clone(),
            }),
        ];
        for error in all {
            let status = Status::from(error);
            prop_assert!(wire_bytes(&status) <= MAX_STATUS_BYTES);
            prop_assert!(status.get_details_error_info().is_some());
        }
    }
}
