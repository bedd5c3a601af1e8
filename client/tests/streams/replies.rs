//! What a scripted server says, and how to read what it was told.

use wharf_client::v1::process_input::Kind as In;
use wharf_client::v1::process_output::Kind as Out;
use wharf_client::v1::*;

use crate::testing::{Call, Step, ok, send};

/// The answers of all sessions look the same on the wire.
pub(crate) fn attached(terminal: bool) -> Step {
    let attached = Attached {
        container_id: "c1".into(),
        exec_id: "e1".into(),
        terminal,
    };
    send(&RunExecResponse {
        response: Some(run_exec_response::Response::Attached(attached)),
    })
}

pub(crate) fn output(kind: Out) -> Step {
    let output = ProcessOutput { kind: Some(kind) };
    send(&RunExecResponse {
        response: Some(run_exec_response::Response::Output(output)),
    })
}

pub(crate) fn started() -> Step {
    output(Out::Started(ProcessStarted {
        run: 1,
        ..Default::default()
    }))
}

pub(crate) fn chunk(stream: OutputStream, offset: u64, data: impl Into<bytes::Bytes>) -> Step {
    output(Out::Output(OutputChunk {
        stream: stream.into(),
        data: data.into(),
        offset,
    }))
}

pub(crate) fn stdout(offset: u64, data: impl Into<bytes::Bytes>) -> Step {
    chunk(OutputStream::Stdout, offset, data)
}

pub(crate) fn exited(code: i32) -> Step {
    output(Out::Exited(ExitStatus {
        code,
        ..Default::default()
    }))
}

/// Attached, started, `steps`, exited.
pub(crate) fn session(terminal: bool, steps: Vec<Step>, code: i32) -> Vec<Step> {
    let mut script = vec![attached(terminal), started()];
    script.extend(steps);
    script.extend([exited(code), ok()]);
    script
}

/// One answer, as unary calls have it.
pub(crate) fn answer(message: &impl prost::Message) -> Vec<Step> {
    vec![send(message), ok()]
}

/// What came after the first message of a session.
pub(crate) fn inputs(call: &Call) -> Vec<In> {
    let kind = |message: RunExecRequest| match message.request {
        Some(run_exec_request::Request::Input(input)) => input.kind.unwrap(),
        other => panic!("{other:?}"),
    };
    call.rest().into_iter().map(kind).collect()
}

/// The bytes of the inputs, and whether their end was said.
pub(crate) fn stdin(call: &Call) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let mut closed = false;
    for input in inputs(call) {
        match input {
            In::Stdin(data) => bytes.extend_from_slice(&data),
            In::CloseStdin(_) => closed = true,
            In::Resize(_) | In::Signal(_) | In::Detach(_) => {}
        }
    }
    (bytes, closed)
}

pub(crate) fn run_exec(call: &Call) -> RunExecStart {
    match call.message::<RunExecRequest>().request {
        Some(run_exec_request::Request::Start(start)) => *start,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn run_container(call: &Call) -> RunContainerStart {
    match call.message::<RunContainerRequest>().request {
        Some(run_container_request::Request::Start(start)) => *start,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn attach_container(call: &Call) -> AttachContainerStart {
    match call.message::<AttachContainerRequest>().request {
        Some(attach_container_request::Request::Start(start)) => start,
        other => panic!("{other:?}"),
    }
}
