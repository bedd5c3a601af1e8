//! The terminal that this process was started at.

use std::io;

use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{
    LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr,
};
use wharf_client::v1::TerminalSize;

use super::{Keyboard, Screen, Stdin, Wiring};

/// Of a terminal that nobody looks at.
const UNSEEN: TerminalSize = TerminalSize {
    rows: 24,
    columns: 80,
};

/// Whether input comes from a terminal.
pub(crate) fn is_stdin() -> bool {
    isatty(stdin())
}

/// Whether output goes to a terminal.
pub(crate) fn is_stdout() -> bool {
    isatty(stdout())
}

/// Whether remarks go to a terminal.
pub(crate) fn is_stderr() -> bool {
    isatty(stderr())
}

/// The terminal's size, if there is one that has a size.
pub(super) fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(stdout())
        .or_else(|_| tcgetwinsize(stdin()))
        .ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some(TerminalSize {
        rows: size.ws_row.into(),
        columns: size.ws_col.into(),
    })
}

/// The terminal's size, or the usual one.
pub(crate) fn size_or_default() -> TerminalSize {
    size().unwrap_or(UNSEEN)
}

/// A terminal in raw mode, or none; as it was before when this is dropped, in a panic too.
#[derive(Debug)]
pub(super) struct Raw {
    before: Option<Termios>,
}

impl Raw {
    /// Raw if keys are for the process: it has a terminal, gets this input, and the input is typed.
    pub(super) fn enter(wiring: &Wiring) -> io::Result<Self> {
        let typed = wiring.screen != Screen::Pipes && wiring.stdin == Stdin::Forward && is_stdin();
        if !typed {
            return Ok(Self { before: None });
        }
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self {
            before: Some(before),
        })
    }

    pub(super) fn keyboard(&self) -> Keyboard {
        match self.before {
            Some(_) => Keyboard::Raw,
            None => Keyboard::None,
        }
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // A terminal that is gone needs no restoring.
            let _ = tcsetattr(stdin(), OptionalActions::Drain, before);
        }
    }
}

/// A terminal that does not show what is typed; as it was before when this is dropped.
#[derive(Debug)]
pub(crate) struct Echoless {
    before: Termios,
}

impl Echoless {
    pub(crate) fn enter() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // The end of the line is seen, so that what follows stands on the next one.
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self { before })
    }
}

impl Drop for Echoless {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &self.before);
    }
}
