//! What files take on disk.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// stat(2), whatever the file system's own blocks are.
const BLOCK: u64 = 512;

/// What a directory and all below it take on disk, as du(1) counts: whole blocks, and a file with several names once.
/// What goes meanwhile does not count, nor does what is not there. Blocking.
///
/// # Errors
/// What the file system refuses to tell.
pub fn bytes_below(directory: PathBuf) -> io::Result<u64> {
    let mut bytes = 0;
    let mut counted = HashSet::new();
    let mut left = vec![directory];
    while let Some(path) = left.pop() {
        let metadata = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found?,
        };
        if metadata.nlink() > 1 && !metadata.is_dir() && !counted.insert(metadata.ino()) {
            continue;
        }
        bytes += metadata.blocks() * BLOCK;
        if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                left.push(entry?.path());
            }
        }
    }
    Ok(bytes)
}
