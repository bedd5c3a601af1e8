//! Names of all kinds: of containers, images, signals, hosts, runtimes; etags and idempotency keys.

use wharf_api::token;

use super::{Field, reason, text};
use crate::model::{ContainerId, Signal, limits};
use crate::oci::reference::{ImageKey, InvalidReference, Reference};
use crate::transport::Violations;

/// Checks what should name a container, by id or name. Whether there is such a container is the
/// engine's to say, so any text that could be one will do.
pub(crate) fn container(key: &str, field: &Field<'_>, out: &mut Violations) -> bool {
    text::required(key, limits::MAX_NAME_BYTES, field, out)
}

/// Checks what should name an exec. As with containers, any text will do.
pub(crate) fn exec(id: &str, field: &Field<'_>, out: &mut Violations) -> bool {
    text::required(id, limits::MAX_NAME_BYTES, field, out)
}

/// Reads a new name: `[a-z0-9]([a-z0-9_.-]{0,126}[a-z0-9])?`, and not 32 hex digits, which only ids
/// are. `None` if it is empty.
pub(super) fn new_container(
    name: String,
    field: &Field<'_>,
    out: &mut Violations,
) -> Option<String> {
    let name = text::non_empty(name)?;
    if name.len() > limits::MAX_NAME_BYTES {
        text::too_long(name.len(), limits::MAX_NAME_BYTES, field, out);
        return None;
    }
    let outer = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inner = |b: u8| outer(b) || b"_.-".contains(&b);
    let bytes = name.as_bytes();
    let well_formed = bytes.iter().all(|b| inner(*b))
        && bytes.first().is_some_and(|b| outer(*b))
        && bytes.last().is_some_and(|b| outer(*b));
    if !well_formed || name.parse::<ContainerId>().is_ok() {
        field.reject(
            reason::MALFORMED,
            "must match [a-z0-9]([a-z0-9_.-]{0,126}[a-z0-9])? and not be 32 hex digits",
            out,
        );
        return None;
    }
    Some(name)
}

/// Reads an image reference, digest or id.
pub(super) fn image(image: &str, field: &Field<'_>, out: &mut Violations) -> Option<ImageKey> {
    if image.is_empty() {
        field.missing(out);
        return None;
    }
    let key = ImageKey::parse(image).map_err(|error| invalid_reference(&error, field, out));
    key.ok()
}

/// Reads a reference as registries know them, by tag or digest: an id is in none.
pub(super) fn reference(text: &str, field: &Field<'_>, out: &mut Violations) -> Option<Reference> {
    if text.is_empty() {
        field.missing(out);
        return None;
    }
    let reference = Reference::parse(text);
    reference
        .map_err(|error| invalid_reference(&error, field, out))
        .ok()
}

/// Reads a reference that an image is to get, and normalises it. A digest names content for good, so
/// nothing can be given one.
pub(super) fn new_reference(text: &str, field: &Field<'_>, out: &mut Violations) -> Option<String> {
    if text.is_empty() {
        field.missing(out);
        return None;
    }
    match ImageKey::parse(text) {
        Ok(ImageKey::Reference(reference)) if !reference.contains('@') => Some(reference),
        Ok(ImageKey::Reference(_) | ImageKey::Id(_)) => {
            field.reject(reason::MALFORMED, "must be a name, without a digest", out);
            None
        }
        Err(error) => {
            invalid_reference(&error, field, out);
            None
        }
    }
}

fn invalid_reference(error: &InvalidReference, field: &Field<'_>, out: &mut Violations) {
    let reason = match error {
        InvalidReference::Empty => reason::REQUIRED,
        InvalidReference::TooLong { .. } => reason::TOO_LONG,
        InvalidReference::Domain
        | InvalidReference::UpperCase
        | InvalidReference::Path
        | InvalidReference::Tag
        | InvalidReference::Digest
        | InvalidReference::Id => reason::MALFORMED,
    };
    field.reject(reason, error.to_string(), out);
}

/// Reads a signal; `None` if it is empty.
pub(super) fn signal(name: &str, field: &Field<'_>, out: &mut Violations) -> Option<Signal> {
    if name.is_empty() {
        return None;
    }
    let signal = name.parse().ok();
    if signal.is_none() {
        field.reject(
            reason::UNKNOWN_VALUE,
            "is no signal, such as \"SIGHUP\", \"HUP\" or \"SIGRTMIN+3\"",
            out,
        );
    }
    signal
}

/// Reads an etag; `None` if it is empty. One that was never given out is no violation: it only does
/// not match.
pub(super) fn etag(etag: String, field: &Field<'_>, out: &mut Violations) -> Option<String> {
    text::check(&etag, limits::MAX_NAME_BYTES, field, out);
    text::non_empty(etag)
}

/// Checks a request's idempotency key; an empty one is none.
pub(super) fn idempotency_key(key: &str, out: &mut Violations) {
    idempotency_key_of(key, &Field::new("idempotency_key"), out);
}

/// Checks an idempotency key that is not at the request's top; an empty one is none.
pub(super) fn idempotency_key_of(key: &str, field: &Field<'_>, out: &mut Violations) {
    if !key.is_empty() && !token::is_valid(key) {
        field.reject(
            reason::MALFORMED,
            "must be 1 to 128 of [A-Za-z0-9._:@/+=-]",
            out,
        );
    }
}

/// Reads a host name (RFC 1123): labels of letters, digits and inner hyphens, of at most 63 each.
/// `None` if it is empty.
pub(super) fn host(name: String, field: &Field<'_>, out: &mut Violations) -> Option<String> {
    let name = text::non_empty(name)?;
    if name.len() > limits::MAX_HOSTNAME_BYTES {
        text::too_long(name.len(), limits::MAX_HOSTNAME_BYTES, field, out);
        return None;
    }
    if !name.split('.').all(is_host_label) {
        field.reject(reason::MALFORMED, "is no host name (RFC 1123)", out);
        return None;
    }
    Some(name)
}

fn is_host_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Reads the name of a runtime; `None` if it is empty.
pub(super) fn runtime(name: String, field: &Field<'_>, out: &mut Violations) -> Option<String> {
    let name = text::non_empty(name)?;
    text::check(&name, limits::MAX_NAME_BYTES, field, out);
    // The name becomes part of a program's: nothing in it may lead to another directory.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if !name.bytes().all(is_plain) || name.starts_with('.') {
        field.reject(reason::MALFORMED, "is no runtime's name", out);
    }
    Some(name)
}
