//! Labels and annotations.

use super::{Field, reason, text};
use crate::model::limits;
use crate::model::spec::TextMap;
use crate::transport::Violations;

/// Labels whose keys start so are the server's own; none are in use yet.
const RESERVED_PREFIX: &str = "wharf.dev/";

/// Reads the labels of an object.
pub(super) fn labels(labels: TextMap, field: &Field<'_>, out: &mut Violations) -> TextMap {
    if !field.count(labels.len(), limits::MAX_LABELS, out) {
        return labels;
    }
    for (key, value) in &labels {
        let entry = field.key(key);
        if check_key(key, &entry, out) && key.starts_with(RESERVED_PREFIX) {
            entry.reject(
                reason::RESERVED,
                format!("keys that start with {RESERVED_PREFIX} are the server's own"),
                out,
            );
        }
        text::check(value, limits::MAX_LABEL_VALUE_BYTES, &entry, out);
    }
    check_size(&labels, field, out);
    labels
}

/// Checks a label's key.
pub(super) fn check_key(key: &str, field: &Field<'_>, out: &mut Violations) -> bool {
    text::required(key, limits::MAX_LABEL_KEY_BYTES, field, out)
}

/// Reads labels that something is to be selected by.
pub(super) fn wanted(labels: TextMap, field: &Field<'_>, out: &mut Violations) -> TextMap {
    if field.count(labels.len(), limits::MAX_FILTER_VALUES, out) {
        for (key, value) in &labels {
            let entry = field.key(key);
            check_key(key, &entry, out);
            text::check(value, limits::MAX_LABEL_VALUE_BYTES, &entry, out);
        }
    }
    labels
}

/// Reads OCI annotations.
pub(super) fn annotations(
    annotations: TextMap,
    field: &Field<'_>,
    out: &mut Violations,
) -> TextMap {
    if !check_size(&annotations, field, out) {
        return annotations;
    }
    for (key, value) in &annotations {
        let entry = field.key(key);
        text::required(key, limits::MAX_LABELS_BYTES, &entry, out);
        text::no_nul(value, &entry, out);
    }
    annotations
}

/// Checks that keys and values together are not too large.
fn check_size(map: &TextMap, field: &Field<'_>, out: &mut Violations) -> bool {
    let bytes = map
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum::<usize>();
    if bytes > limits::MAX_LABELS_BYTES {
        text::too_long(bytes, limits::MAX_LABELS_BYTES, field, out);
    }
    bytes <= limits::MAX_LABELS_BYTES
}
