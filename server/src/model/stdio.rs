//! Standard streams: their names, sizes and what is to become of a process whose caller leaves.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    /// Descriptor 1, or the terminal.
    Stdout,
    /// Descriptor 2; never with a terminal.
    Stderr,
}

/// A terminal's size in character cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TerminalSize {
    /// 1 to 65535.
    pub rows: u16,
    /// 1 to 65535.
    pub columns: u16,
}

impl fmt::Display for TerminalSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.columns, self.rows)
    }
}

/// What becomes of a process when its caller leaves before its end. The server's own end is no leaving.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// It goes on.
    Detach,
    /// It gets SIGHUP.
    HangUp,
    /// It gets the stop signal, and SIGKILL after the grace period.
    Stop,
    /// It gets SIGKILL.
    Kill,
}

/// Where a process's standard streams are: FIFOs that somebody reads already, or `/dev/null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StdioPaths {
    /// `None` for no input.
    pub stdin: Option<PathBuf>,
    /// Descriptor 1, or the terminal.
    pub stdout: PathBuf,
    /// Descriptor 2; `None` with a terminal.
    pub stderr: Option<PathBuf>,
}

impl StdioPaths {
    /// No input, and nobody wants the output.
    #[must_use]
    pub fn null() -> Self {
        let null = PathBuf::from("/dev/null");
        Self {
            stdin: None,
            stdout: null.clone(),
            stderr: Some(null),
        }
    }
}
