//! Texts: length, emptiness, NUL.

use super::{Field, reason};
use crate::transport::Violations;

/// Checks a text that may be empty: at most `max` bytes, no NUL.
pub(super) fn check(text: &str, max: usize, field: &Field<'_>, out: &mut Violations) -> bool {
    if text.len() > max {
        too_long(text.len(), max, field, out);
        return false;
    }
    no_nul(text, field, out)
}

/// Checks a text that must not be empty.
pub(super) fn required(text: &str, max: usize, field: &Field<'_>, out: &mut Violations) -> bool {
    if text.is_empty() {
        field.missing(out);
        return false;
    }
    check(text, max, field, out)
}

/// Checks that there is no NUL, which would end the text early where the kernel reads it.
pub(super) fn no_nul(text: &str, field: &Field<'_>, out: &mut Violations) -> bool {
    let clean = !text.contains('\0');
    if !clean {
        field.reject(reason::MALFORMED, "must not contain NUL", out);
    }
    clean
}

/// Notes that something has more bytes than it may.
pub(super) fn too_long(length: usize, max: usize, field: &Field<'_>, out: &mut Violations) {
    field.reject(
        reason::TOO_LONG,
        format!("{length} bytes; at most {max} are allowed"),
        out,
    );
}

/// An empty text as none.
pub(super) fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
