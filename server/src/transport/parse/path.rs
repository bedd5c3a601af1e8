//! Absolute paths.

use super::{Field, reason, text};
use crate::model::limits;
use crate::transport::Violations;

/// Reads an absolute path without `..`. Repeated slashes, `.` and a slash at the end are dropped, so
/// that paths that name the same are the same text.
pub(super) fn absolute(path: &str, field: &Field<'_>, out: &mut Violations) -> Option<String> {
    if !text::required(path, limits::MAX_PATH_BYTES, field, out) {
        return None;
    }
    if !path.starts_with('/') {
        field.reject(reason::MALFORMED, "must be an absolute path", out);
        return None;
    }
    if path.split('/').any(|step| step == "..") {
        field.reject(reason::MALFORMED, "must not contain \"..\"", out);
        return None;
    }
    Some(normal(path))
}

fn normal(path: &str) -> String {
    let mut clean = String::with_capacity(path.len());
    for step in path
        .split('/')
        .filter(|step| !step.is_empty() && *step != ".")
    {
        clean.push('/');
        clean.push_str(step);
    }
    if clean.is_empty() {
        clean.push('/');
    }
    clean
}
