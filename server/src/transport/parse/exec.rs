//! The requests of `ExecService`. Each parser leaves the field that says which container or exec is
//! meant to [`super::name`].

use std::time::Duration;

use wharf_api::v1;

use super::{Field, labels, name, process, reason, stdio, text, time};
use crate::engine::{Attach, CreateExec, ExecSync, Follow};
use crate::model::spec::{ProcessSpec, TextMap};
use crate::model::{ExecSpec, Signal, TerminalSize, limits};
use crate::transport::Violations;

pub(crate) fn create(request: v1::CreateExecRequest, out: &mut Violations) -> Option<CreateExec> {
    name::idempotency_key(&request.idempotency_key, out);
    new(
        request.spec,
        request.labels,
        &Field::new("spec"),
        &Field::new("labels"),
        out,
    )
}

/// An exec to be made, and how its caller joins it.
#[derive(Debug)]
pub(crate) struct RunExec {
    pub(crate) create: CreateExec,
    pub(crate) attach: Attach,
}

pub(crate) fn run(start: v1::RunExecStart, out: &mut Violations) -> Option<RunExec> {
    let field = Field::new("start");
    name::idempotency_key_of(&start.idempotency_key, &field.child("idempotency_key"), out);
    let options = field.child("attach");
    let attach = stdio::attach_to_new(start.attach, stdio::RUN_EXEC, &options, out);
    let (spec, labels) = (field.child("spec"), field.child("labels"));
    Some(RunExec {
        create: new(start.spec, start.labels, &spec, &labels, out)?,
        attach,
    })
}

pub(crate) fn attach(start: v1::AttachExecStart, out: &mut Violations) -> Attach {
    stdio::attach(start.options, &Field::new("start").child("options"), out)
}

pub(crate) fn follow(request: v1::FollowExecRequest, out: &mut Violations) -> Follow {
    let wanted = stdio::Wanted {
        streams: request.streams,
        replay_bytes: request.replay_bytes,
        resume: request.resume,
    };
    wanted.read(None, out)
}

pub(crate) fn sync(request: v1::ExecSyncRequest, out: &mut Violations) -> Option<ExecSync> {
    name::idempotency_key(&request.idempotency_key, out);
    let field = Field::new("spec");
    let stdin = Field::new("stdin");
    if request.stdin.len() > limits::MAX_SYNC_STDIN_BYTES {
        let (length, max) = (request.stdin.len(), limits::MAX_SYNC_STDIN_BYTES);
        text::too_long(length, max, &stdin, out);
    }
    let max_output = max_output(request.max_output_bytes, out);
    let create = new(
        request.spec,
        request.labels,
        &field,
        &Field::new("labels"),
        out,
    )?;
    check_sync(&create.spec, &field, out);
    Some(ExecSync {
        create,
        stdin: request.stdin,
        max_output,
    })
}

fn check_sync(spec: &ExecSpec, field: &Field<'_>, out: &mut Violations) {
    if spec.timeout.is_none() {
        field.child("timeout").missing(out);
    }
    let process = field.child("process");
    for (asked, field) in [
        (spec.process.terminal.is_some(), process.child("terminal")),
        (spec.stdin_open, field.child("stdin_open")),
    ] {
        if asked {
            field.reject(reason::CONFLICT, "must be unset", out);
        }
    }
}

fn max_output(bytes: i64, out: &mut Violations) -> u64 {
    match u64::try_from(bytes) {
        Ok(0) => limits::DEFAULT_SYNC_OUTPUT_BYTES,
        Ok(bytes) if bytes <= limits::MAX_SYNC_OUTPUT_BYTES => bytes,
        Ok(_) | Err(_) => {
            let description = format!("must be from 0 to {}", limits::MAX_SYNC_OUTPUT_BYTES);
            Field::new("max_output_bytes").reject(reason::OUT_OF_RANGE, description, out);
            limits::DEFAULT_SYNC_OUTPUT_BYTES
        }
    }
}

pub(crate) fn write_stdin(request: &v1::WriteStdinRequest, out: &mut Violations) {
    use v1::write_stdin_request::Target;
    name::idempotency_key(&request.idempotency_key, out);
    stdio::chunk(&request.data, &Field::new("data"), out);
    match &request.target {
        None => Field::new("target").missing(out),
        Some(Target::Container(_)) => {}
        Some(Target::ExecId(_)) => {
            if request.expected_run.is_some() {
                let field = Field::new("expected_run");
                field.reject(reason::CONFLICT, "is for container only", out);
            }
        }
    }
}

pub(crate) fn signal(request: v1::SignalExecRequest, out: &mut Violations) -> Option<Signal> {
    name::idempotency_key(&request.idempotency_key, out);
    stdio::required_signal(&request.signal, &Field::new("signal"), out)
}

pub(crate) fn resize(request: v1::ResizeExecRequest, out: &mut Violations) -> Option<TerminalSize> {
    stdio::new_size(request.size, &Field::new("size"), out)
}

fn new(
    spec: Option<v1::ExecSpec>,
    labels: TextMap,
    spec_field: &Field<'_>,
    labels_field: &Field<'_>,
    out: &mut Violations,
) -> Option<CreateExec> {
    let labels = labels::labels(labels, labels_field, out);
    if spec.is_none() {
        spec_field.missing(out);
    }
    Some(CreateExec {
        spec: self::spec(spec?, spec_field, out),
        labels,
    })
}

fn spec(spec: v1::ExecSpec, field: &Field<'_>, out: &mut Violations) -> ExecSpec {
    let (process, timeout) = (field.child("process"), field.child("timeout"));
    ExecSpec {
        process: command(spec.process.unwrap_or_default(), &process, out),
        stdin_open: spec.stdin_open,
        timeout: self::timeout(spec.timeout, &timeout, out),
        privileged: spec.privileged,
    }
}

/// Reads a process whose program and arguments are all in `args`.
fn command(process: v1::ProcessSpec, field: &Field<'_>, out: &mut Violations) -> ProcessSpec {
    let args = field.child("args");
    match process.args.first() {
        None => args.missing(out),
        Some(program) if program.is_empty() => args.at(0).missing(out),
        Some(_) => {}
    }
    if !process.entrypoint.is_empty() {
        let description = "must be empty: args has the program";
        field
            .child("entrypoint")
            .reject(reason::CONFLICT, description, out);
    }
    process::process(process, field, out)
}

fn timeout(
    timeout: Option<prost_types::Duration>,
    field: &Field<'_>,
    out: &mut Violations,
) -> Option<Duration> {
    let range = (Duration::ZERO, limits::MAX_EXEC_TIMEOUT);
    time::duration(timeout, range, field, out).filter(|timeout| !timeout.is_zero())
}
