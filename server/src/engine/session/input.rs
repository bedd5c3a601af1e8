//! What a caller sends to a process.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Attached, Caller, Input, Phase, Subject};
use crate::backend::{SignalScope, proc};
use crate::engine::Error;
use crate::engine::container::command::{Early, Order, ResizeOrder, SignalOrder};
use crate::engine::container::execs::ExecOrder;
use crate::engine::leave::{LeashChange, tell};
use crate::model::{Signal, TerminalSize};
use crate::stdio::{StdioError, Stream};

/// What a caller sends.
#[derive(Debug)]
pub struct SessionInput {
    caller: Caller,
    subject: Subject,
    stream: Arc<Stream>,
    /// Whether this caller sends bytes at all.
    sends: bool,
    closed: AtomicBool,
}

/// Whether the process takes input.
enum Life {
    Runs,
    /// It has ended, or will never start: what was to be sent does not matter any more.
    Over,
}

impl SessionInput {
    pub(super) fn new(caller: Caller, subject: Subject, stream: Arc<Stream>, sends: bool) -> Self {
        Self {
            caller,
            subject,
            stream,
            sends,
            closed: AtomicBool::new(false),
        }
    }

    /// Takes one input; returns when it is written. Waits for the start of the process, but for sizes,
    /// which are kept for it. What comes too late for the process is left out.
    ///
    /// # Errors
    /// [`Error::StdinNotOpen`], [`Error::TerminalNotAllocated`], backend.
    pub async fn send(&self, input: Input) -> Result<(), Error> {
        let sent = match input {
            Input::Stdin(_) if !self.sends || self.is_closed() => {
                Err(self.subject.stdin_not_open())
            }
            Input::Stdin(data) => self.write(&data).await,
            Input::CloseStdin => self.close().await,
            Input::Resize(size) => self.resize(size).await,
            Input::Signal(signal) => self.signal(signal).await,
            Input::Detach => self.detach().await,
        };
        match sent {
            // It has ended meanwhile: its exit says so.
            Err(Error::NotRunning { .. } | Error::ExecNotRunning { .. }) => Ok(()),
            Err(Error::DeletedConcurrently { .. } | Error::ExecNotFound { .. }) => Ok(()),
            sent => sent.inspect_err(|error| {
                if !self.is_callers_fault(error) {
                    self.caller.let_go(&self.subject);
                }
            }),
        }
    }

    /// Whether the caller has sent what it must not: who makes its own call end leaves.
    fn is_callers_fault(&self, error: &Error) -> bool {
        match error {
            Error::TerminalNotAllocated { .. } => true,
            // Somebody else may have closed it.
            Error::StdinNotOpen { .. } => !self.sends || self.is_closed(),
            _ => false,
        }
    }

    /// The caller sends nothing more: as [`Input::CloseStdin`] if it sends input at all.
    ///
    /// # Errors
    /// As [`Self::send`]; what is closed already is no error.
    pub async fn end(&self) -> Result<(), Error> {
        if !self.sends || self.is_closed() {
            return Ok(());
        }
        self.send(Input::CloseStdin).await
    }

    async fn write(&self, data: &[u8]) -> Result<(), Error> {
        if let Life::Over = self.started().await {
            return Ok(());
        }
        write(&self.stream, data, &self.subject).await
    }

    async fn close(&self) -> Result<(), Error> {
        if !self.sends {
            return Err(self.subject.stdin_not_open());
        }
        if self.closed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        if let Life::Over = self.started().await {
            return Ok(());
        }
        close(&self.caller.core, &self.subject, &self.stream).await
    }

    async fn resize(&self, size: TerminalSize) -> Result<(), Error> {
        let attached = self.subject.attached();
        let key = attached.container.to_string();
        let order = |reply| match attached.exec {
            Some(id) => Order::Exec(ExecOrder::Resize { id, size, reply }),
            None => Order::Resize(ResizeOrder {
                size,
                early: Early::Keep,
                expected_run: None,
                reply,
            }),
        };
        self.caller.core.ask(&key, order).await
    }

    async fn signal(&self, signal: Signal) -> Result<(), Error> {
        if let Life::Over = self.started().await {
            return Ok(());
        }
        let Some(cause) = self.caller.cause.clone() else {
            return Ok(());
        };
        let attached = self.subject.attached();
        let key = attached.container.to_string();
        let expected_run = self.subject.run();
        let order = |reply| match attached.exec {
            Some(id) => Order::Exec(ExecOrder::Signal {
                cause,
                id,
                signal,
                claim: None,
                reply,
            }),
            None => Order::Signal(SignalOrder {
                cause,
                signal,
                scope: SignalScope::Main,
                expected_run,
                claim: None,
                reply,
            }),
        };
        match self.caller.core.ask(&key, order).await {
            // Another run: this one is over.
            Err(Error::RunChanged { .. }) => Ok(()),
            sent => sent,
        }
    }

    /// What was to be done without this caller is not to be done any more.
    async fn detach(&self) -> Result<(), Error> {
        let leash = self.caller.leash.lock().clone();
        let done = match leash {
            Some(leash) => {
                let Attached {
                    container, exec, ..
                } = self.subject.attached();
                tell(&self.caller.core, container, exec, LeashChange::Over(leash)).await
            }
            None => Ok(()),
        };
        *self.caller.leash.lock() = None;
        self.caller.detached.cancel();
        done
    }

    /// Waits until the process runs, or never will.
    async fn started(&self) -> Life {
        let mut subject = self.subject.clone();
        loop {
            subject.mark_seen();
            match subject.phase() {
                Phase::Running { .. } => return Life::Runs,
                Phase::Ended { .. } | Phase::Failed(_) | Phase::Gone => return Life::Over,
                Phase::Waiting => subject.changed().await,
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Writes to a process's stdin; returns when all of it is written.
pub(in crate::engine) async fn write(
    stream: &Stream,
    data: &[u8],
    subject: &Subject,
) -> Result<(), Error> {
    match stream.write(data).await {
        Ok(()) => Ok(()),
        // The process has closed its end, or has ended: what it does not want is dropped.
        Err(StdioError::Input { source }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(_) if !matches!(subject.phase(), Phase::Running { .. }) => Ok(()),
        Err(_) => Err(subject.stdin_not_open()),
    }
}

/// Lets a process see the end of its input: for a terminal, as its line discipline knows it.
pub(in crate::engine) async fn close(
    core: &crate::engine::core::Core,
    subject: &Subject,
    stream: &Stream,
) -> Result<(), Error> {
    if subject.has_terminal() {
        return end_line(subject, stream).await;
    }
    let attached = subject.attached();
    let key = attached.container.to_string();
    let order = |reply| match attached.exec {
        Some(id) => Order::Exec(ExecOrder::CloseStdin { id, reply }),
        None => Order::CloseStdin {
            expected_run: subject.run(),
            reply,
        },
    };
    match core.ask(&key, order).await {
        Err(Error::RunChanged { .. }) => Ok(()),
        closed => closed,
    }
}

/// A terminal has no end of file. The character that stands for it is sent, twice in the middle of a
/// line: the first one only ends the line.
async fn end_line(subject: &Subject, stream: &Stream) -> Result<(), Error> {
    let Phase::Running { pid, .. } = subject.phase() else {
        return Ok(());
    };
    let read = tokio::task::spawn_blocking(move || proc::end_of_file_character(pid));
    let Ok(Some(character)) = read.await else {
        // It reads characters, not lines.
        return Ok(());
    };
    let times = if stream.is_mid_line() { 2 } else { 1 };
    write(stream, &[character].repeat(times), subject).await
}

impl Subject {
    /// The run, of a main process.
    pub(super) fn run(&self) -> Option<crate::model::Run> {
        match self {
            Self::Exec(_) => None,
            Self::Run { run, .. } => Some(*run),
        }
    }
}
