//! What can go wrong with standard streams.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use wharf_keeper::protocol::Refusal;
use wharf_keeper::segment::SegmentError;

/// What can go wrong with standard streams.
#[derive(Debug, Error)]
pub enum StdioError {
    /// The keeper cannot be reached, or does not answer.
    #[error("the keeper cannot be reached: {detail}")]
    Unavailable {
        /// What was tried and met.
        detail: String,
    },
    /// The keeper does not do it.
    #[error("the keeper refuses: {reason:?}: {detail}")]
    Refused {
        /// Why.
        reason: Refusal,
        /// For the log.
        detail: String,
    },
    /// The keeper answers something else than what it was asked.
    #[error("the keeper answers something else")]
    Confused,
    /// The FIFOs cannot be made.
    #[error("{}: {source}", path.display())]
    Fifo {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Standard input is closed, or was never open.
    #[error("standard input is not open")]
    InputClosed,
    /// The process does not read its input any more.
    #[error("standard input cannot be written: {source}")]
    Input {
        /// Why.
        source: io::Error,
    },
    /// The recording cannot be read.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The thread that reads was ended.
    #[error("reading was interrupted")]
    Interrupted,
}

impl StdioError {
    pub(super) fn fifo(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Fifo { path, source }
    }

    pub(super) fn unavailable(error: &impl ToString) -> Self {
        Self::Unavailable {
            detail: error.to_string(),
        }
    }

    /// Whether the disk is full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        let error = match self {
            Self::Fifo { source, .. } | Self::Segment(SegmentError::Io { source, .. }) => source,
            _ => return false,
        };
        error.kind() == io::ErrorKind::StorageFull
    }
}
