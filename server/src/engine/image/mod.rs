//! Images: looked up in memory, so that creating a container asks nobody; changed one at a time.

mod import;
mod index;
mod references;

pub(crate) use import::clear_scratch;
pub(crate) use index::{Images, normalized};
