//! Extended attributes: which of them travel, and how they are read and set.
//!
//! What belongs to a file's content or rights inside goes along: `user.*`, access lists, file
//! capabilities. What the host keeps there for itself (`trusted.*`, overlay's among them, and security
//! labels) is neither shown nor set.

use std::os::fd::AsFd;

use rustix::fs::{XattrFlags, getxattr, listxattr, listxattr_query, setxattr};
use rustix::io::Errno;

use super::open::own_path;

/// The kernel's limits: of all names together, and of one value.
const MAX_LIST: usize = 64 << 10;
const MAX_VALUE: usize = 64 << 10;

type Attributes = Vec<(Vec<u8>, Vec<u8>)>;

/// Whether an attribute goes along.
fn travels(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || matches!(
            name,
            b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default"
        )
}

/// The attributes of what is held.
pub(super) fn read(held: impl AsFd) -> Result<Attributes, Errno> {
    let path = own_path(held);
    let mut list = Vec::new();
    match names(&path, &mut list) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        other => other?,
    }
    let mut found = Vec::new();
    for name in list.split(|byte| *byte == 0).filter(|name| travels(name)) {
        match value(&path, name) {
            Ok(value) => found.push((name.to_vec(), value)),
            // It was removed meanwhile.
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(found)
}

fn names(path: &str, list: &mut Vec<u8>) -> Result<(), Errno> {
    // Most files have none, and need no buffer to say so.
    if listxattr_query(path)? == 0 {
        return Ok(());
    }
    list.resize(MAX_LIST, 0);
    let length = listxattr(path, list.as_mut_slice())?;
    list.truncate(length);
    Ok(())
}

fn value(path: &str, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; MAX_VALUE];
    let length = getxattr(path, name, value.as_mut_slice())?;
    value.truncate(length);
    Ok(value)
}

/// Sets those that go along. What the file system cannot keep is left out, as with every copy.
pub(super) fn write(held: impl AsFd, attributes: &Attributes) -> Result<(), Errno> {
    if attributes.is_empty() {
        return Ok(());
    }
    let path = own_path(held);
    for (name, value) in attributes.iter().filter(|(name, _)| travels(name)) {
        match setxattr(&path, name.as_slice(), value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_keeps_for_itself_does_not_travel() {
        for name in [
            &b"trusted.overlay.opaque"[..],
            b"security.selinux",
            b"system.other",
            b"security.capability.x",
        ] {
            assert!(!travels(name));
        }
        assert!(travels(b"user.anything"));
        assert!(travels(b"security.capability"));
    }
}
