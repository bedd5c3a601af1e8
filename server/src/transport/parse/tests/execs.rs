//! The requests of `ExecService`.

use std::time::Duration;

use bytes::Bytes;
use wharf_api::v1;
use wharf_api::v1::write_stdin_request::Target;

use super::flaws;
use crate::engine::Backpressure;
use crate::model::{OnDisconnect, Signal, limits};
use crate::transport::Violations;
use crate::transport::parse::{container, exec};

fn spec() -> v1::ExecSpec {
    v1::ExecSpec {
        process: Some(v1::ProcessSpec {
            args: vec!["true".to_owned()],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

type Change = fn(&mut v1::ExecSpec);

fn process(spec: &mut v1::ExecSpec) -> &mut v1::ProcessSpec {
    spec.process.get_or_insert_default()
}

fn create(change: Change) -> v1::CreateExecRequest {
    let mut spec = spec();
    change(&mut spec);
    v1::CreateExecRequest {
        spec: Some(spec),
        ..Default::default()
    }
}

#[test]
fn what_to_run_is_all_in_the_arguments() {
    let cases: [(Change, &str); 8] = [
        (|s| s.process = None, "spec.process.args REQUIRED"),
        (|s| process(s).args.clear(), "spec.process.args REQUIRED"),
        (
            |s| process(s).args = vec![String::new()],
            "spec.process.args[0] REQUIRED",
        ),
        (
            |s| process(s).entrypoint = vec!["sh".to_owned()],
            "spec.process.entrypoint CONFLICT",
        ),
        (
            |s| process(s).working_dir = "relative".to_owned(),
            "spec.process.working_dir MALFORMED",
        ),
        (
            |s| {
                process(s).terminal = Some(v1::TerminalSize {
                    rows: 0,
                    columns: 1,
                })
            },
            "spec.process.terminal.rows OUT_OF_RANGE",
        ),
        (|s| s.timeout = seconds(-1), "spec.timeout MALFORMED"),
        (
            |s| s.timeout = seconds(7 * 24 * 3600 + 1),
            "spec.timeout OUT_OF_RANGE",
        ),
    ];
    for (change, flaw) in cases {
        assert_eq!(flaws(|out| exec::create(create(change), out)), [flaw]);
    }
    let nothing = v1::CreateExecRequest::default();
    assert_eq!(flaws(|out| exec::create(nothing, out)), ["spec REQUIRED"]);
}

#[test]
fn a_timeout_of_zero_is_none() {
    let mut out = Violations::new();
    let read = exec::create(create(|s| s.timeout = seconds(0)), &mut out).unwrap();
    assert_eq!(read.spec.timeout, None);
    let read = exec::create(create(|s| s.timeout = seconds(5)), &mut out).unwrap();
    assert_eq!(read.spec.timeout, Some(Duration::from_secs(5)));
    assert!(out.is_empty());
}

fn sync() -> v1::ExecSyncRequest {
    v1::ExecSyncRequest {
        spec: Some(v1::ExecSpec {
            timeout: seconds(1),
            ..spec()
        }),
        ..Default::default()
    }
}

#[test]
fn a_run_to_the_end_needs_a_timeout_and_no_terminal() {
    let read = exec::sync(sync(), &mut Violations::new()).unwrap();
    assert_eq!(read.max_output, limits::DEFAULT_SYNC_OUTPUT_BYTES);
    let all_wrong = v1::ExecSyncRequest {
        spec: Some(v1::ExecSpec {
            stdin_open: true,
            process: Some(v1::ProcessSpec {
                args: vec!["true".to_owned()],
                terminal: Some(v1::TerminalSize {
                    rows: 1,
                    columns: 1,
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        stdin: vec![0; (1 << 20) + 1].into(),
        max_output_bytes: (1 << 20) + 1,
        idempotency_key: "a b".to_owned(),
        ..Default::default()
    };
    let expected = [
        "idempotency_key MALFORMED",
        "stdin TOO_LONG",
        "max_output_bytes OUT_OF_RANGE",
        "spec.timeout REQUIRED",
        "spec.process.terminal CONFLICT",
        "spec.stdin_open CONFLICT",
    ];
    assert_eq!(flaws(|out| exec::sync(all_wrong, out)), expected);
    let negative = v1::ExecSyncRequest {
        max_output_bytes: -1,
        ..sync()
    };
    let flaw = ["max_output_bytes OUT_OF_RANGE"];
    assert_eq!(flaws(|out| exec::sync(negative, out)), flaw);
}

#[test]
fn a_write_names_its_target_and_is_bounded() {
    let write = |request: v1::WriteStdinRequest| flaws(|out| exec::write_stdin(&request, out));
    let to = |target| v1::WriteStdinRequest {
        target: Some(target),
        expected_run: Some(1),
        ..Default::default()
    };
    assert_eq!(write(v1::WriteStdinRequest::default()), ["target REQUIRED"]);
    assert!(write(to(Target::Container("web".to_owned()))).is_empty());
    assert_eq!(
        write(to(Target::ExecId("0".repeat(32)))),
        ["expected_run CONFLICT"]
    );
    let large = v1::WriteStdinRequest {
        data: Bytes::from(vec![0; (64 << 10) + 1]),
        ..to(Target::Container("web".to_owned()))
    };
    assert_eq!(write(large), ["data TOO_LONG"]);
}

#[test]
fn signals_and_sizes_must_be_there() {
    let signal = |signal: &str| v1::SignalExecRequest {
        signal: signal.to_owned(),
        ..Default::default()
    };
    let read = exec::signal(signal("HUP"), &mut Violations::new());
    assert_eq!(read, Signal::from_number(1));
    for (name, flaw) in [("", "signal REQUIRED"), ("NOPE", "signal UNKNOWN_VALUE")] {
        assert_eq!(flaws(|out| exec::signal(signal(name), out)), [flaw]);
    }
    let nothing = v1::ResizeExecRequest::default();
    assert_eq!(flaws(|out| exec::resize(nothing, out)), ["size REQUIRED"]);
    let nothing = v1::ResizeContainerRequest::default();
    assert_eq!(
        flaws(|out| container::resize(nothing, out)),
        ["size REQUIRED"]
    );
}

#[test]
fn each_method_has_defaults_of_its_own() {
    let out = &mut Violations::new();
    let run = v1::RunExecStart {
        spec: Some(spec()),
        ..Default::default()
    };
    let run_container = v1::RunContainerStart {
        spec: Some(v1::ContainerSpec {
            image: "alpine".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    for (attach, on_disconnect, backpressure) in [
        (
            exec::run(run, out).unwrap().attach,
            OnDisconnect::Kill,
            Backpressure::Block,
        ),
        (
            container::run(run_container, out).unwrap().attach,
            OnDisconnect::Stop,
            Backpressure::Block,
        ),
        (
            exec::attach(v1::AttachExecStart::default(), out),
            OnDisconnect::Detach,
            Backpressure::DropOldest,
        ),
        (
            container::attach(v1::AttachContainerStart::default(), out),
            OnDisconnect::Detach,
            Backpressure::DropOldest,
        ),
    ] {
        assert_eq!(attach.on_disconnect, on_disconnect);
        assert_eq!(attach.backpressure, backpressure);
        assert!(!attach.stdin);
    }
    assert!(out.is_empty(), "{out}");
}

#[test]
fn a_start_names_its_fields_by_their_path() {
    let wrong = || v1::AttachOptions {
        replay_bytes: 1,
        resume: vec![v1::StreamOffset::default()],
        on_disconnect: 9,
        ..Default::default()
    };
    let run = v1::RunExecStart {
        attach: Some(wrong()),
        idempotency_key: "a b".to_owned(),
        ..Default::default()
    };
    let expected = [
        "start.idempotency_key MALFORMED",
        "start.attach.replay_bytes CONFLICT",
        "start.attach.resume CONFLICT",
        "start.attach.on_disconnect UNKNOWN_VALUE",
        "start.spec REQUIRED",
    ];
    assert_eq!(flaws(|out| exec::run(run, out)), expected);
    let run = v1::RunContainerStart {
        attach: Some(wrong()),
        name: "A".to_owned(),
        ..Default::default()
    };
    let expected = [
        "start.name MALFORMED",
        "start.attach.replay_bytes CONFLICT",
        "start.attach.resume CONFLICT",
        "start.attach.on_disconnect UNKNOWN_VALUE",
        "start.spec REQUIRED",
    ];
    assert_eq!(flaws(|out| container::run(run, out)), expected);
}
