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
use futures_util::{Stream, stream};
use tokio::sync::{mpsc, oneshot, watch};
use wharf_api::v1::process_input::Kind;
use wharf_api::v1::{CloseStdin, Detach, ProcessInput, TerminalSize};

use super::InputFate;

/// The API's limit for the bytes of one message.
const CHUNK: usize = 64 << 10;
/// Messages that wait for the transport, which has a window of its own.
const QUEUE: usize = 2;

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
struct Marks {
    /// Bytes or their end may have been sent.
    touched: AtomicBool,
    /// The end of input was sent, on this connection or an earlier one.
    closed: AtomicBool,
    /// The session is to end by detaching.
    detaching: AtomicBool,
}

#[derive(Debug, Clone)]
struct State {
    phase: Phase,
    /// Interruptions that may have swallowed input.
    losses: u64,
}

#[derive(Debug, Clone)]
enum Phase {
    Away,
    Attached(Queue),
    Started(Queue),
    Ended,
}

/// The way to the transport, for one connection.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    ordered: mpsc::Sender<Kind>,
    urgent: mpsc::Sender<Kind>,
}

/// The transport's end of a [`Queue`].
pub(crate) struct Outbound {
    ordered: mpsc::Receiver<Kind>,
    urgent: mpsc::Receiver<Kind>,
    /// Resolves when the session is done with the connection.
    over: oneshot::Receiver<()>,
}

/// Ends the outbound half when dropped, whoever still holds a [`Queue`].
#[derive(Debug)]
pub(crate) struct Line {
    queue: Queue,
    _over: oneshot::Sender<()>,
}

/// A line for one connection.
pub(crate) fn line() -> (Line, Outbound) {
    let (ordered, ordered_end) = mpsc::channel(QUEUE);
    let (urgent, urgent_end) = mpsc::channel(QUEUE);
    let (over, over_end) = oneshot::channel();
    let line = Line {
        queue: Queue { ordered, urgent },
        _over: over,
    };
    let outbound = Outbound {
        ordered: ordered_end,
        urgent: urgent_end,
        over: over_end,
    };
    (line, outbound)
}

impl Outbound {
    pub(crate) fn into_stream(self) -> impl Stream<Item = ProcessInput> + Send {
        stream::unfold(self, |mut outbound| async move {
            let kind = outbound.next().await?;
            Some((ProcessInput { kind: Some(kind) }, outbound))
        })
    }

    async fn next(&mut self) -> Option<Kind> {
        tokio::select! {
            biased;
            _ = &mut self.over => None,
            Some(kind) = self.urgent.recv() => Some(kind),
            kind = self.ordered.recv() => kind,
        }
    }
}

/// The session's end of its [`Input`] handles.
#[derive(Debug)]
pub(crate) struct Port {
    state: watch::Sender<State>,
    marks: Arc<Marks>,
    line: Option<Line>,
}

/// A port, and the first handle to it.
pub(crate) fn port() -> (Port, Input) {
    let marks = Arc::<Marks>::default();
    let (state, handle) = watch::channel(State {
        phase: Phase::Away,
        losses: 0,
    });
    let input = Input {
        state: handle,
        marks: Arc::clone(&marks),
        told: 0,
    };
    let port = Port {
        state,
        marks,
        line: None,
    };
    (port, input)
}

impl Port {
    /// Keeps the line of a new connection, which is of no use before it is attached.
    pub(crate) fn connected(&mut self, line: Line) {
        self.line = Some(line);
    }

    pub(crate) fn attached(&self) {
        if let Some(line) = &self.line {
            self.enter(Phase::Attached(line.queue.clone()));
        }
    }

    pub(crate) fn started(&self) {
        if let Some(line) = &self.line {
            self.enter(Phase::Started(line.queue.clone()));
        }
    }

    /// The connection is lost.
    pub(crate) fn away(&mut self) {
        self.enter(Phase::Away);
        self.line = None;
    }

    /// Whether the end of input was sent.
    pub(crate) fn is_closed(&self) -> bool {
        self.marks.closed.load(Ordering::Acquire)
    }

    /// The input is closed at the server, whoever closed it.
    pub(crate) fn closed(&self) {
        self.marks.closed.store(true, Ordering::Release);
    }

    /// Settles what became of the input of the connections before; an unknown fate is told to every
    /// handle.
    pub(crate) fn settle(&self, delivered: Delivery) -> InputFate {
        let touched = self.marks.touched.swap(false, Ordering::AcqRel);
        match (touched, delivered) {
            (false, _) => InputFate::Untouched,
            (true, Delivery::Complete) => InputFate::Delivered,
            (true, Delivery::InDoubt) => {
                self.state.send_modify(|state| state.losses += 1);
                InputFate::Unknown
            }
        }
    }

    /// Says the end of input once more, on a connection whose server did not hear it.
    pub(crate) fn close_again(&self) {
        self.marks.touched.store(true, Ordering::Release);
        self.say_again(Kind::CloseStdin(CloseStdin {}));
    }

    /// Asks to detach once more, if that was asked for on a connection that was lost.
    pub(crate) fn detach_again(&self) {
        if self.marks.detaching.load(Ordering::Acquire) {
            self.say_again(Kind::Detach(Detach {}));
        }
    }

    fn say_again(&self, kind: Kind) {
        if let Some(line) = &self.line {
            // The queue of a new connection has room, unless a handle says the same already.
            let _ = line.queue.ordered.try_send(kind);
        }
    }

    pub(crate) fn end(&mut self) {
        self.enter(Phase::Ended);
        self.line = None;
    }

    fn enter(&self, phase: Phase) {
        self.state.send_modify(|state| state.phase = phase);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the server's answer says about input that was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// It had been closed, and so everything before the end had arrived.
    Complete,
    /// It is open, so nothing is known.
    InDoubt,
}
