//! Lines for whoever reads standard error. There are few: what someone must look at.

use std::fmt::Display;
use std::io::Write;

/// Writes one line. If it cannot be written, it is nobody's loss.
pub(crate) fn line(message: &impl Display) {
    let _ = writeln!(std::io::stderr(), "wharf-keeper: {message}");
}
