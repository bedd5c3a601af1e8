//! The session's end of its input handles: tells them where the session stands, and settles what became
//! of the input of a connection that was lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;
use wharf_api::v1::process_input::Kind;
use wharf_api::v1::{CloseStdin, Detach};

use super::InputFate;
use super::input::{Input, Marks, Phase, State};
use super::line::Line;

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
    let input = Input::new(handle, Arc::clone(&marks));
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
