//! What mounts cover while a container runs, and nobody is to touch while it does not: something else would
//! be read than is there then, or written to where nobody ever sees it.
//!
//! That is asked of a path as it is named, which need not exist yet, and of where it leads by links.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, readlinkat};
use rustix::io::Errno;

use super::open::{self, HOLD, own_path};

/// The places that mounts cover.
#[derive(Debug, Default)]
pub(super) struct Cover {
    /// The path of the root itself: empty if that is a mount of its own.
    root: Vec<u8>,
    /// Absolute inside, without a slash at the end: as they are named, and where that leads.
    targets: Vec<Vec<u8>>,
}

impl Cover {
    pub(super) fn of(root: &OwnedFd, targets: &[&str]) -> Result<Self, Errno> {
        if targets.is_empty() {
            return Ok(Self::default());
        }
        let mut cover = Self {
            root: path_of(root)?,
            targets: Vec::new(),
        };
        for target in targets.iter().map(|target| trimmed(target.as_bytes())) {
            let place = cover.place_of(root, target)?;
            cover.targets.extend([target.to_vec(), place]);
        }
        Ok(cover)
    }

    /// Where a target is: as far as it exists, the runtime follows links.
    fn place_of(&self, root: &OwnedFd, target: &[u8]) -> Result<Vec<u8>, Errno> {
        let slashes = (0..target.len()).rev().filter(|at| target[*at] == b'/');
        for end in std::iter::once(target.len()).chain(slashes) {
            let (there, rest) = target.split_at(end);
            match open::in_root(root, [b"/", there].concat(), HOLD) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                held => return Ok([&self.inside(&held?)?, rest].concat()),
            }
        }
        Ok(target.to_vec())
    }

    /// Whether a path, as it is named, is covered.
    pub(super) fn has(&self, path: &[u8]) -> bool {
        let below = |target: &Vec<u8>| {
            let rest = path.strip_prefix(target.as_slice());
            rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
        };
        self.targets.iter().any(below)
    }

    /// Whether what is held is covered, or an entry of it: `name` is relative, and empty for itself.
    pub(super) fn has_held(&self, held: impl AsFd, name: &[u8]) -> Result<bool, Errno> {
        if self.targets.is_empty() {
            return Ok(false);
        }
        let path = self.inside(&held)?;
        Ok(self.has(trimmed(&[&path, &b"/"[..], name].concat())))
    }

    /// The path that a descriptor has inside.
    fn inside(&self, held: &impl AsFd) -> Result<Vec<u8>, Errno> {
        let path = path_of(held)?;
        let inside = path.strip_prefix(self.root.as_slice());
        Ok(inside.unwrap_or(&path).to_vec())
    }
}

/// The path that the kernel knows a descriptor by, from the root of its mount if nobody else sees that.
fn path_of(held: &impl AsFd) -> Result<Vec<u8>, Errno> {
    let path = readlinkat(CWD, own_path(held), Vec::new())?;
    Ok(trimmed(path.as_bytes()).to_vec())
}

fn trimmed(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}
