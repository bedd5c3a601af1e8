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

mod input;
mod once;
mod output;
mod subject;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::container::start::keeper_unavailable;
use super::core::Core;
use super::leave::{LeashChange, tell};
use super::{Attach, Backpressure, Error, Follow, StartAt};
use crate::model::exec::Leash;
use crate::model::{
    Cause, ContainerId, ExecId, ExitStatus, OutputStream, Run, Signal, TerminalSize,
};
use crate::stdio::{Progress, Reader, Start, StdioError, Stream, Wanted};

pub use input::SessionInput;
pub(super) use once::{Begun, Once};
pub use output::SessionOutput;
pub(super) use subject::{Phase, Subject};

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

/// The caller, as its input and its output see it.
#[derive(Debug, Clone)]
struct Caller {
    core: Arc<Core>,
    cause: Option<Cause>,
    /// What its leaving does; none for who only reads, and once it is not to be done any more.
    leash: Arc<Mutex<Option<Leash>>>,
    /// Set when the caller detaches.
    detached: CancellationToken,
}

impl Session {
    /// What the caller's leaving does, to be noted with the process.
    pub(super) fn leash(&self) -> Option<Leash> {
        self.output.leash()
    }

    /// It ends, and by no doing of the caller.
    pub(super) fn let_go(&self) {
        self.output.let_go();
    }
}

impl Caller {
    /// The caller's streams end by no doing of its own: that is no leaving, and nothing is to be done. The
    /// server's end is none either, but then the next one gives the caller time to come back.
    fn let_go(&self, subject: &Subject) {
        if self.core.draining.is_cancelled() {
            return;
        }
        let Some(leash) = self.leash.lock().take() else {
            return;
        };
        let (core, attached) = (self.core.clone(), subject.attached());
        self.core.spawn(async move {
            let Attached {
                container, exec, ..
            } = attached;
            // If the process is over, there is nothing to note.
            drop(tell(&core, container, exec, LeashChange::Over(leash)).await);
        });
    }
}

/// Joins a process's streams; reads them only, if there is no `attach`.
pub(super) async fn open(
    core: &Arc<Core>,
    subject: Subject,
    follow: Follow,
    attach: Option<(Cause, &Attach)>,
) -> Result<Session, Error> {
    let stream = subject.stream(core);
    match subject.phase() {
        Phase::Ended { .. } => stream.recall().await,
        Phase::Running { .. } => take_up(&stream).await?,
        Phase::Waiting | Phase::Failed(_) | Phase::Gone => {}
    }
    check_input(&subject, &stream, attach.as_ref())?;
    let wanted = wanted(&subject, follow);
    check_positions(&subject, &stream, wanted)?;
    let attach = attach.as_ref();
    let blocks = attach.is_some_and(|(_, attach)| attach.backpressure == Backpressure::Block);
    let hold = blocks.then(|| {
        let seen = *stream.progress().borrow();
        stream.hold(seen.stdout + seen.stderr)
    });
    let mut reader = Reader::new(Arc::clone(&stream), wanted, hold);
    if !matches!(subject.phase(), Phase::Waiting) {
        reader.open().await.map_err(output::unreadable)?;
    }
    let leash = |(cause, attach): &(Cause, &Attach)| {
        subject.leash(core, cause.clone(), attach.on_disconnect)
    };
    let caller = Caller {
        core: core.clone(),
        cause: attach.map(|(cause, _)| cause.clone()),
        leash: Arc::new(Mutex::new(attach.map(leash))),
        detached: CancellationToken::new(),
    };
    let attached = subject.attached();
    let sends = attach.is_some_and(|(_, attach)| attach.stdin);
    Ok(Session {
        attached,
        input: SessionInput::new(caller.clone(), subject.clone(), stream, sends),
        output: SessionOutput::new(caller, subject, reader),
    })
}

/// After a restart of the server the streams of processes are taken up beside everything else.
async fn take_up(stream: &Stream) -> Result<(), Error> {
    match stream.known().await {
        Ok(()) => Ok(()),
        Err(StdioError::Unavailable { detail }) => Err(keeper_unavailable(detail).into()),
        Err(error) => {
            tracing::warn!(%error, "of a process's streams only what was recorded is left");
            Ok(())
        }
    }
}

/// The streams of a process that takes input.
pub(super) async fn open_input(core: &Arc<Core>, subject: &Subject) -> Result<Arc<Stream>, Error> {
    let stream = subject.stream(core);
    if let Phase::Running { .. } = subject.phase() {
        take_up(&stream).await?;
    }
    if stream.is_input_open() {
        Ok(stream)
    } else {
        Err(subject.stdin_not_open())
    }
}

/// Who wants to send must be able to.
fn check_input(
    subject: &Subject,
    stream: &Stream,
    attach: Option<&(Cause, &Attach)>,
) -> Result<(), Error> {
    let wants = attach.is_some_and(|(_, attach)| attach.stdin);
    let is_closed = matches!(subject.phase(), Phase::Running { .. }) && !stream.is_input_open();
    if wants && (!subject.has_stdin() || is_closed) {
        return Err(subject.stdin_not_open());
    }
    Ok(())
}

/// Before the start everything is new.
fn wanted(subject: &Subject, follow: Follow) -> Wanted {
    let is_new = matches!(subject.phase(), Phase::Waiting);
    let start = |at: StartAt| match at {
        StartAt::Recent(_) if is_new => Start::Offset(0),
        StartAt::Recent(bytes) => Start::Recent(bytes),
        StartAt::Offset(offset) => Start::Offset(offset),
    };
    Wanted {
        stdout: follow.stdout.map(start),
        stderr: follow.stderr.filter(|_| !subject.has_terminal()).map(start),
    }
}

/// A position past the end is of another stream.
fn check_positions(subject: &Subject, stream: &Stream, wanted: Wanted) -> Result<(), Error> {
    let Progress { stdout, stderr, .. } = match subject.phase() {
        Phase::Waiting | Phase::Failed(_) | Phase::Gone => Progress::default(),
        Phase::Running { .. } | Phase::Ended { .. } => *stream.progress().borrow(),
    };
    let past = |start: Option<Start>, end: u64| match start {
        Some(Start::Offset(offset)) => offset > end,
        Some(Start::Recent(_)) | None => false,
    };
    if past(wanted.stdout, stdout) || past(wanted.stderr, stderr) {
        return Err(Error::InvalidField {
            field: "resume".to_owned(),
            problem: "is past the end of the output".to_owned(),
        });
    }
    Ok(())
}

/// Writes to a process's stdin, and closes it if that is all.
pub(super) async fn write(
    core: &Core,
    subject: &Subject,
    stream: &Stream,
    data: Bytes,
    close: bool,
) -> Result<(), Error> {
    if !data.is_empty() {
        input::write(stream, &data, subject).await?;
    }
    if close {
        input::close(core, subject, stream).await?;
    }
    Ok(())
}
