//! Extended attributes: which of them travel, and how they are read and set.
//!
//! What belongs to a file's content or rights inside goes along: `user.*`, access lists, file
//! capabilities. What the host keeps there for itself (`trusted.*`, overlay's among them, and security
//! labels) is neither shown nor set.
//!
//! How many a file has is for its file system to say, so what is read of one has a limit.

use std::os::fd::AsFd;

use rustix::fs::{XattrFlags, getxattr, listxattr, listxattr_query, setxattr};
use rustix::io::Errno;

use super::open::own_path;
use crate::model::limits::{ARCHIVE_NAME_OVERHEAD_BYTES, MAX_ATTRIBUTES_BYTES};

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

/// The attributes of what is held; `TOOBIG` if they are too many.
pub(super) fn read(held: impl AsFd) -> Result<Attributes, Errno> {
    let path = own_path(held);
    let mut list = Vec::new();
    match names(&path, &mut list) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        other => other?,
    }
    if list.is_empty() {
        return Ok(Vec::new());
    }
    let mut buffer = vec![0; MAX_VALUE];
    gather(&list, |name| {
        let length = getxattr(&path, name, buffer.as_mut_slice())?;
        Ok(buffer[..length].to_vec())
    })
}

/// Those of a list that go along, with their values.
fn gather(
    list: &[u8],
    mut value: impl FnMut(&[u8]) -> Result<Vec<u8>, Errno>,
) -> Result<Attributes, Errno> {
    let mut found = Vec::new();
    let mut room = MAX_ATTRIBUTES_BYTES;
    for name in list.split(|byte| *byte == 0).filter(|name| travels(name)) {
        let value = match value(name) {
            // It was removed meanwhile.
            Err(Errno::NODATA) => continue,
            value => value?,
        };
        let taken = name.len() + value.len() + ARCHIVE_NAME_OVERHEAD_BYTES;
        room = room.checked_sub(taken).ok_or(Errno::TOOBIG)?;
        found.push((name.to_vec(), value));
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

/// Sets those that go along. What the file system cannot keep is left out, as with every copy.
pub(crate) fn write(held: impl AsFd, attributes: &Attributes) -> Result<(), Errno> {
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

    #[test]
    fn a_file_has_only_so_many_attributes() {
        let list = |count| {
            let names = (0..count).map(|number| format!("user.{number}\0"));
            names.collect::<String>().into_bytes()
        };
        let all = gather(&list(10), |_| Ok(vec![7; MAX_VALUE]));
        assert_eq!(all.map(|all| all.len()), Ok(10));
        let many = gather(&list(1_000), |_| Ok(vec![7; MAX_VALUE]));
        assert_eq!(many, Err(Errno::TOOBIG));
        let removed = gather(&list(1_000), |_| Err(Errno::NODATA));
        assert_eq!(removed, Ok(Vec::new()));
    }
}
