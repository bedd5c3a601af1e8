//! The tar format, and what it comes compressed with: what archives of images and of files share.
//!
//! Reads what may be hostile within bounds, and writes what common tools read. Knows no paths: what a
//! name in an archive may lead to is for its users to say.

mod compression;
mod reader;
mod writer;

pub(crate) use compression::{Compression, decompress};
pub(crate) use reader::{Entry, Kind, Metadata, TarReader, Timestamp};
pub(crate) use writer::{BLOCK, TarWriter, WriteEntry, heading, padding};
