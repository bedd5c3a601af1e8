//! A caller that is joined to a process's streams.
//!
//! ```text
//! Session ── attached: whose streams, known at once
//!         ├─ output: Started, then chunks and gaps, then Exited or Detached
//!         └─ input:  stdin, its end, sizes, signals, detach
//! ```
//!
//! Output and input are independent: a blocked input does not hold back the output. Dropping the output
//! before its end is the caller's leaving, and does what the caller asked for in that case; the server's
//! own end is none.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::{Engine, Error};
use crate::model::{ContainerId, ExecId, ExitStatus, OutputStream, Run, Signal, TerminalSize};

/// A caller's end of a process's streams.
#[derive(Debug)]
pub struct Session {
    /// Whose they are.
    pub attached: Attached,
    /// What the caller sends.
    pub input: SessionInput,
    /// What the caller gets.
    pub output: SessionOutput,
}

/// Whose streams are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// The container.
    pub container: ContainerId,
    /// The exec, if it is one's.
    pub exec: Option<ExecId>,
    /// Whether all output is a terminal's.
    pub terminal: bool,
}

/// What a caller gets, in order.
#[derive(Debug, Clone)]
pub enum Output {
    /// The process runs. Before any output.
    Started {
        /// The container's run.
        run: Run,
        /// On the host; 0 if it is over.
        pid: u32,
        /// When.
        time: SystemTime,
    },
    /// Output.
    Chunk {
        /// From where.
        stream: OutputStream,
        /// Position of the first byte in its stream.
        offset: u64,
        /// At most [`MAX_STDIO_CHUNK`](crate::model::limits::MAX_STDIO_CHUNK) bytes.
        data: Bytes,
    },
    /// Output that this caller does not get any more.
    Gap {
        /// Of which stream.
        stream: OutputStream,
        /// How many bytes; 0 if that is not known.
        dropped: u64,
    },
    /// The process ended. Always last.
    Exited(Arc<ExitStatus>),
    /// The caller detached. Always last.
    Detached,
}

/// One thing that a caller sends.
#[derive(Debug, Clone)]
pub enum Input {
    /// Bytes for stdin.
    Stdin(Bytes),
    /// No more of them.
    CloseStdin,
    /// The terminal has another size.
    Resize(TerminalSize),
    /// A signal.
    Signal(Signal),
    /// Leave the process running.
    Detach,
}

/// What a caller sends.
#[derive(Debug)]
pub struct SessionInput {
    engine: Engine,
}

/// What a caller gets.
#[derive(Debug)]
pub struct SessionOutput {
    engine: Engine,
}

impl SessionInput {
    /// Takes one input; returns when it is written. Waits for the start of the process.
    ///
    /// # Errors
    /// [`Error::StdinNotOpen`], [`Error::TerminalNotAllocated`], [`Error::ExecNotRunning`], backend.
    pub async fn send(&mut self, _input: Input) -> Result<(), Error> {
        let _ = &self.engine;
        Err(Error::Bug { what: "not built" })
    }

    /// The caller sends nothing more: as [`Input::CloseStdin`] if it sends input at all.
    ///
    /// # Errors
    /// As [`Self::send`]; what is closed already, or has ended, is no error.
    pub async fn end(&mut self) -> Result<(), Error> {
        Err(Error::Bug { what: "not built" })
    }
}

impl SessionOutput {
    /// The next thing; `None` after the last.
    ///
    /// # Errors
    /// Why the process could not be started, or its output cannot be read.
    pub async fn next(&mut self) -> Result<Option<Output>, Error> {
        let _ = &self.engine;
        Err(Error::Bug { what: "not built" })
    }
}
