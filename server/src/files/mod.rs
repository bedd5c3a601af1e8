//! Files of containers: described, read and written below the root of one, and never outside of it.
//!
//! ```text
//! Root (a directory descriptor) --openat2, in the root--> descriptors --> stat, read, pack | write, unpack
//! ```
//!
//! Whatever is inside may be hostile, and may change while it is looked at. So a caller's path is resolved
//! by the kernel alone, with the root as its limit; what it led to is held by a descriptor, and everything
//! after that is done to the descriptor. No path of a container is ever put together into one of the host.
//!
//! All of it blocks, and is run where that may be, in turn (`turns`). Bytes come and go through `pipe`'s
//! bounded channels, whose other end, when dropped, ends the work soon. Knows no containers, no engine and no
//! API.

pub(crate) mod attributes;
mod content;
mod cover;
mod error;
mod mount;
pub(crate) mod open;
mod pack;
mod pipe;
mod read;
mod remove;
mod room;
mod root;
mod size;
mod turns;
mod unpack;
mod write;

#[cfg(test)]
mod tests;

pub use error::FileError;
pub use pack::pack;
pub use pipe::{Inlet, Outlet, Piece, inlet, outlet};
pub use read::{LastLink, PathKind, PathStat, copy, open_any, open_file, stat};
pub use remove::remove_tree;
pub use root::{Root, Writable};
pub use size::bytes_below;
pub use turns::{Patience, Turn, Turns};
pub use unpack::{Partial, Unpack, Unpacked, unpack};
pub use write::{WriteFile, write};

/// Who files belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
}
