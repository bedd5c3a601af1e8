//! What a caller that is joined to a process's streams gets.

use wharf_api::v1;
use wharf_api::v1::process_output::Kind;

use super::{signed, status};
use crate::engine::session::{Attached, Output};
use crate::model::{OutputStream, TerminalSize};

/// Whose streams are joined.
pub(in crate::transport) fn attached(attached: &Attached) -> v1::Attached {
    v1::Attached {
        container_id: attached.container.to_string(),
        exec_id: attached.exec.map(|id| id.to_string()).unwrap_or_default(),
        terminal: attached.terminal,
    }
}

/// One thing that happened to the process or came from it.
pub(in crate::transport) fn output(output: Output) -> v1::ProcessOutput {
    let kind = match output {
        Output::Started { run, pid, time } => Kind::Started(v1::ProcessStarted {
            run: run.0,
            pid,
            start_time: Some(time.into()),
        }),
        Output::Chunk {
            stream,
            offset,
            data,
        } => Kind::Output(v1::OutputChunk {
            stream: self::stream(stream).into(),
            data,
            offset,
        }),
        Output::Gap { stream, dropped } => Kind::Gap(v1::OutputGap {
            stream: self::stream(stream).into(),
            dropped_bytes: signed(dropped),
        }),
        Output::Exited(exit) => Kind::Exited(status::exit_status(&exit)),
        Output::Detached => Kind::Detached(v1::Detached {}),
    };
    v1::ProcessOutput { kind: Some(kind) }
}

/// Where output came from.
pub(super) fn stream(stream: OutputStream) -> v1::OutputStream {
    match stream {
        OutputStream::Stdout => v1::OutputStream::Stdout,
        OutputStream::Stderr => v1::OutputStream::Stderr,
    }
}

/// A terminal's size.
pub(super) fn terminal_size(size: TerminalSize) -> v1::TerminalSize {
    v1::TerminalSize {
        rows: size.rows.into(),
        columns: size.columns.into(),
    }
}
