//! Removing what others have made.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Dir, OFlags, unlinkat};
use rustix::io::Errno;

use super::open;

/// Removes a directory with all that is in it, so many levels deep. Links in it are removed, never followed.
///
/// # Errors
/// What stands in the way; what came before it is gone.
pub fn remove_tree(parent: impl AsFd, name: &[u8], depth: usize) -> Result<(), Errno> {
    if depth == 0 {
        return Err(Errno::NAMETOOLONG);
    }
    let directory = open::beneath(&parent, name, OFlags::RDONLY | OFlags::DIRECTORY)?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => remove_tree(&directory, name.to_bytes(), depth - 1)?,
            Err(errno) => return Err(errno),
        }
    }
    unlinkat(&parent, name, AtFlags::REMOVEDIR)
}
