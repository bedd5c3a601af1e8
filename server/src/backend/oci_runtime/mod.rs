//! OCI runtimes, for whoever launches by one: which there are, and what their words mean.
//!
//! A runtime refuses in text only, whether containerd passes it on or its own log has it. This is the one place
//! that reads error text.

mod errno;
mod name;
mod words;

pub(super) use name::{RuntimeName, installed};
pub(super) use words::{LaunchContext, blames_layer, classify, exhausted, refused};

/// A message is passed on so far.
const MAX_MESSAGE_BYTES: usize = 1 << 10;

/// At most 1 KiB of it.
pub(super) fn shortened(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_MESSAGE_BYTES);
    text[..end].to_owned()
}
