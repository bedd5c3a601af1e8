//! The input half of a session: what goes to a process, and in which order.
//!
//! ```text
//!   Away ---- attached ----> Attached ---- started ----> Started ---- exited, dropped ----> Ended
//!     ^                          |                          |
//!     +------------------ interruption ---------------------+
//! ```
//!
//! Bytes wait for `Started`: until then a repeated opening cannot lose any. Signals and sizes overtake
//! bytes that the process does not read. Queues are short, so a writer waits for the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use wharf_api::v1::process_input::Kind;
use wharf_api::v1::{CloseStdin, Detach, TerminalSize};

use super::line::Queue;

/// The API's limit for the bytes of one message.
const CHUNK: usize = 64 << 10;

/// Why input was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The process has ended, or the session was dropped.
    #[error("the session has ended")]
    Ended,
    /// The process's input is closed.
    #[error("the input is closed")]
    Closed,
    /// The connection was lost after input had been sent, and how much of it arrived is not known.
    /// Told once; the next call sends on the new connection.
    #[error("the connection was lost, and part of the input may be lost with it")]
    Unconfirmed,
}
/// Sends input to the process of a [`Session`](super::Session). Clones send to the same process.
#[derive(Debug, Clone)]
pub struct Input {
    state: watch::Receiver<State>,
    marks: Arc<Marks>,
    /// Losses that this handle has told.
    told: u64,
}

impl Input {
    pub(crate) fn new(state: watch::Receiver<State>, marks: Arc<Marks>) -> Self {
        Self {
            state,
            marks,
            told: 0,
        }
    }

    /// Sends `data` in pieces of at most 64 KiB, waiting for the process to start and, when it falls
    /// behind, to read. Dropping the future may leave a part of `data` sent.
    ///
    /// # Errors
    /// Any [`InputError`].
    pub async fn write(&mut self, data: impl Into<Bytes>) -> Result<(), InputError> {
        let mut data = data.into();
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(CHUNK));
            self.feed(Kind::Stdin(piece)).await?;
        }
        Ok(())
    }

    /// Ends the input: the process sees end of file after what was written before.
    ///
    /// # Errors
    /// Any [`InputError`].
    pub async fn close_stdin(&mut self) -> Result<(), InputError> {
        self.feed(Kind::CloseStdin(CloseStdin {})).await?;
        self.marks.closed.store(true, Ordering::Release);
        Ok(())
    }

    /// Ends the session and leaves the process running; answered with
    /// [`Output::Detached`](super::Output::Detached).
    ///
    /// # Errors
    /// [`InputError::Ended`].
    pub async fn detach(&mut self) -> Result<(), InputError> {
        self.marks.detaching.store(true, Ordering::Release);
        self.send(attached, ordered, Kind::Detach(Detach {})).await
    }

    /// Sets the size of the terminal; before the start, for the start. It overtakes written bytes.
    ///
    /// # Errors
    /// [`InputError::Ended`].
    pub async fn resize(&mut self, size: TerminalSize) -> Result<(), InputError> {
        self.send(attached, urgent, Kind::Resize(size)).await
    }

    /// Sends a signal by name, such as "SIGHUP", "HUP" or "SIGRTMIN+3". It overtakes written bytes. An
    /// interruption can swallow it; `SignalExec` and `SignalContainer` answer.
    ///
    /// # Errors
    /// [`InputError::Ended`].
    pub async fn signal(&mut self, signal: impl Into<String>) -> Result<(), InputError> {
        let kind = Kind::Signal(signal.into());
        self.send(attached, urgent, kind).await
    }

    /// Sends what must not be lost unnoticed.
    async fn feed(&mut self, kind: Kind) -> Result<(), InputError> {
        let (told, marks) = (self.told, Arc::clone(&self.marks));
        let fed = self
            .send(|state| started(state, told, &marks), ordered, kind)
            .await;
        if fed == Err(InputError::Unconfirmed) {
            self.told = self.state.borrow().losses;
        }
        fed
    }

    /// Waits for a queue and puts `kind` into it. One that nobody reads any more lost its connection.
    async fn send(
        &mut self,
        usable: impl Fn(&State) -> Result<Option<Queue>, InputError>,
        lane: impl Fn(&Queue) -> &mpsc::Sender<Kind>,
        kind: Kind,
    ) -> Result<(), InputError> {
        loop {
            let queue = usable(&self.state.borrow_and_update())?;
            if let Some(queue) = queue
                && lane(&queue).send(kind.clone()).await.is_ok()
            {
                return Ok(());
            }
            self.state.changed().await.map_err(|_| InputError::Ended)?;
        }
    }

    /// This handle, as one that has sent nothing yet.
    pub(crate) fn fresh(&self) -> Self {
        Self {
            told: self.state.borrow().losses,
            ..self.clone()
        }
    }
}

fn ordered(queue: &Queue) -> &mpsc::Sender<Kind> {
    &queue.ordered
}

fn urgent(queue: &Queue) -> &mpsc::Sender<Kind> {
    &queue.urgent
}

/// The queue of a process that may not run yet.
fn attached(state: &State) -> Result<Option<Queue>, InputError> {
    match &state.phase {
        Phase::Attached(queue) | Phase::Started(queue) => Ok(Some(queue.clone())),
        Phase::Away => Ok(None),
        Phase::Ended => Err(InputError::Ended),
    }
}

/// The queue of a process that runs, for a handle that has told `told` losses. Marked as used before
/// it is: an interruption right after must know.
fn started(state: &State, told: u64, marks: &Marks) -> Result<Option<Queue>, InputError> {
    match &state.phase {
        Phase::Started(_) if state.losses != told => Err(InputError::Unconfirmed),
        Phase::Started(_) if marks.closed.load(Ordering::Acquire) => Err(InputError::Closed),
        Phase::Started(queue) => {
            marks.touched.store(true, Ordering::Release);
            Ok(Some(queue.clone()))
        }
        Phase::Away | Phase::Attached(_) => Ok(None),
        Phase::Ended => Err(InputError::Ended),
    }
}
/// What the handles did on the present connection.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// Bytes or their end may have been sent.
    pub(crate) touched: AtomicBool,
    /// The end of input was sent, on this connection or an earlier one.
    pub(crate) closed: AtomicBool,
    /// The session is to end by detaching.
    pub(crate) detaching: AtomicBool,
}

/// What handles see of the session.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// Interruptions that may have swallowed input.
    pub(crate) losses: u64,
}

/// Where the session stands.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    Away,
    Attached(Queue),
    Started(Queue),
    Ended,
}
