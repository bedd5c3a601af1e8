//! How callers join a process's streams, and what they send into them.

use wharf_api::v1;
use wharf_api::v1::process_input::Kind;

use super::{Field, filter, name, reason, text};
use crate::engine::session::Input;
use crate::engine::{Attach, Backpressure, Follow, StartAt};
use crate::model::{OnDisconnect, OutputStream, Signal, TerminalSize, limits};
use crate::transport::Violations;

/// What a method does if the options do not say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    on_disconnect: OnDisconnect,
    backpressure: Backpressure,
}

/// Of `RunContainer`.
pub(super) const RUN_CONTAINER: Defaults = Defaults {
    on_disconnect: OnDisconnect::Stop,
    backpressure: Backpressure::Block,
};
/// Of `RunExec`.
pub(super) const RUN_EXEC: Defaults = Defaults {
    on_disconnect: OnDisconnect::Kill,
    backpressure: Backpressure::Block,
};
/// Of `AttachContainer` and `AttachExec`.
const ATTACH: Defaults = Defaults {
    on_disconnect: OnDisconnect::Detach,
    backpressure: Backpressure::DropOldest,
};

/// Reads how to join a process that is there.
pub(super) fn attach(
    options: Option<v1::AttachOptions>,
    field: &Field<'_>,
    out: &mut Violations,
) -> Attach {
    joined(options.unwrap_or_default(), ATTACH, field, out)
}

/// Reads how to join a process that the same call starts: there is no output of it yet to replay.
pub(super) fn attach_to_new(
    options: Option<v1::AttachOptions>,
    defaults: Defaults,
    field: &Field<'_>,
    out: &mut Violations,
) -> Attach {
    let options = options.unwrap_or_default();
    for (asked, name) in [
        (options.replay_bytes != 0, "replay_bytes"),
        (!options.resume.is_empty(), "resume"),
    ] {
        if asked {
            let description = "must be empty: the process is about to start";
            field.child(name).reject(reason::CONFLICT, description, out);
        }
    }
    let options = v1::AttachOptions {
        replay_bytes: 0,
        resume: Vec::new(),
        ..options
    };
    joined(options, defaults, field, out)
}

fn joined(
    options: v1::AttachOptions,
    defaults: Defaults,
    field: &Field<'_>,
    out: &mut Violations,
) -> Attach {
    let (action, policy) = (field.child("on_disconnect"), field.child("backpressure"));
    let output = Wanted {
        streams: options.streams,
        replay_bytes: options.replay_bytes,
        resume: options.resume,
    };
    Attach {
        stdin: options.stdin,
        output: output.read(Some(field), out),
        on_disconnect: on_disconnect(options.on_disconnect, &action, out)
            .unwrap_or(defaults.on_disconnect),
        backpressure: backpressure(options.backpressure, &policy, out)
            .unwrap_or(defaults.backpressure),
    }
}

fn on_disconnect(number: i32, field: &Field<'_>, out: &mut Violations) -> Option<OnDisconnect> {
    use v1::DisconnectAction as Asked;
    match field.enumeration(number, out)? {
        Asked::Unspecified => None,
        Asked::Detach => Some(OnDisconnect::Detach),
        Asked::Hangup => Some(OnDisconnect::HangUp),
        Asked::Stop => Some(OnDisconnect::Stop),
        Asked::Kill => Some(OnDisconnect::Kill),
    }
}

fn backpressure(number: i32, field: &Field<'_>, out: &mut Violations) -> Option<Backpressure> {
    use v1::BackpressurePolicy as Asked;
    match field.enumeration(number, out)? {
        Asked::Unspecified => None,
        Asked::Block => Some(Backpressure::Block),
        Asked::DropOldest => Some(Backpressure::DropOldest),
    }
}

/// Which output is asked for, and from where.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) streams: Vec<i32>,
    pub(super) replay_bytes: i64,
    pub(super) resume: Vec<v1::StreamOffset>,
}

impl Wanted {
    /// Reads it; `parent` is the message that the fields are in, unless that is the request itself.
    pub(super) fn read(self, parent: Option<&Field<'_>>, out: &mut Violations) -> Follow {
        let field = |name| parent.map_or(Field::new(name), |parent| parent.child(name));
        let streams = streams(self.streams, &field("streams"), out);
        let recent = StartAt::Recent(replay_bytes(self.replay_bytes, &field("replay_bytes"), out));
        let resume = resume(self.resume, &streams, &field("resume"), out);
        let start = |stream| {
            let resumed = resume.iter().find(|(named, _)| *named == stream);
            let start = resumed.map_or(recent, |(_, offset)| StartAt::Offset(*offset));
            streams.contains(&stream).then_some(start)
        };
        Follow {
            stdout: start(OutputStream::Stdout),
            stderr: start(OutputStream::Stderr),
        }
    }
}

/// Reads which streams are wanted: none means all. Saying one twice says no more than saying it once.
pub(super) fn streams(
    numbers: Vec<i32>,
    field: &Field<'_>,
    out: &mut Violations,
) -> Vec<OutputStream> {
    let streams: Vec<_> = filter::values(numbers, field, out, stream);
    if streams.is_empty() {
        return vec![OutputStream::Stdout, OutputStream::Stderr];
    }
    streams
}

fn stream(number: i32, field: &Field<'_>, out: &mut Violations) -> Option<OutputStream> {
    match field.enumeration(number, out)? {
        v1::OutputStream::Unspecified => {
            field.missing(out);
            None
        }
        v1::OutputStream::Stdout => Some(OutputStream::Stdout),
        v1::OutputStream::Stderr => Some(OutputStream::Stderr),
    }
}

fn replay_bytes(bytes: i64, field: &Field<'_>, out: &mut Violations) -> u64 {
    let read = u64::try_from(bytes).ok();
    let read = read.filter(|bytes| *bytes <= limits::MAX_REPLAY_BYTES);
    read.unwrap_or_else(|| {
        let description = format!("must be from 0 to {}", limits::MAX_REPLAY_BYTES);
        field.reject(reason::OUT_OF_RANGE, description, out);
        0
    })
}

fn resume(
    offsets: Vec<v1::StreamOffset>,
    streams: &[OutputStream],
    field: &Field<'_>,
    out: &mut Violations,
) -> Vec<(OutputStream, u64)> {
    let mut read: Vec<(OutputStream, u64)> = Vec::new();
    // As many as there are streams: more cannot be right, and need no further look.
    if !field.count(offsets.len(), 2, out) {
        return read;
    }
    for (n, offset) in offsets.into_iter().enumerate() {
        let entry = field.at(n);
        let named = entry.child("stream");
        let Some(stream) = stream(offset.stream, &named, out) else {
            continue;
        };
        if read.iter().any(|(known, _)| *known == stream) {
            named.reject(reason::DUPLICATE, "an earlier entry names it", out);
        } else if !streams.contains(&stream) {
            named.reject(reason::CONFLICT, "streams does not name it", out);
        }
        read.push((stream, offset.offset));
    }
    read
}

/// Reads one message of a caller to a process.
pub(crate) fn input(input: v1::ProcessInput, out: &mut Violations) -> Option<Input> {
    let field = Field::new("input");
    match input.kind {
        None => {
            field.missing(out);
            None
        }
        Some(Kind::Stdin(data)) => {
            let field = field.child("stdin");
            if data.is_empty() {
                field.missing(out);
            }
            chunk(&data, &field, out);
            Some(Input::Stdin(data))
        }
        Some(Kind::CloseStdin(_)) => Some(Input::CloseStdin),
        Some(Kind::Resize(size)) => {
            terminal_size(size, &field.child("resize"), out).map(Input::Resize)
        }
        Some(Kind::Signal(signal)) => {
            required_signal(&signal, &field.child("signal"), out).map(Input::Signal)
        }
        Some(Kind::Detach(_)) => Some(Input::Detach),
    }
}

/// Checks that input is not too large for one message.
pub(super) fn chunk(data: &[u8], field: &Field<'_>, out: &mut Violations) {
    if data.len() > limits::MAX_STDIO_CHUNK {
        text::too_long(data.len(), limits::MAX_STDIO_CHUNK, field, out);
    }
}

/// Reads a signal that must be there.
pub(super) fn required_signal(
    signal: &str,
    field: &Field<'_>,
    out: &mut Violations,
) -> Option<Signal> {
    if signal.is_empty() {
        field.missing(out);
    }
    name::signal(signal, field, out)
}

/// Reads the size that a terminal is to have; it must be there.
pub(super) fn new_size(
    size: Option<v1::TerminalSize>,
    field: &Field<'_>,
    out: &mut Violations,
) -> Option<TerminalSize> {
    if size.is_none() {
        field.missing(out);
    }
    terminal_size(size?, field, out)
}

/// Reads a terminal's size.
pub(super) fn terminal_size(
    size: v1::TerminalSize,
    field: &Field<'_>,
    out: &mut Violations,
) -> Option<TerminalSize> {
    let rows = cells(size.rows, &field.child("rows"), out);
    let columns = cells(size.columns, &field.child("columns"), out);
    Some(TerminalSize {
        rows: rows?,
        columns: columns?,
    })
}

fn cells(number: u32, field: &Field<'_>, out: &mut Violations) -> Option<u16> {
    let cells = u16::try_from(number).ok().filter(|cells| *cells > 0);
    if cells.is_none() {
        field.reject(reason::OUT_OF_RANGE, "must be from 1 to 65535", out);
    }
    cells
}
