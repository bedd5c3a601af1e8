//! Names in archives, once they are known to be harmless.

use std::fmt;

use rustix::io::Errno;

use crate::files::error::{FileError, shown};
use crate::model::limits::MAX_PATH_BYTES;

/// A relative path without `.`, `..` and empty steps. Empty for the target itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name(Box<[u8]>);

impl Name {
    /// Reads a name of an archive.
    ///
    /// # Errors
    /// [`FileError::Archive`] for one that may lead out of the target, or that no path can be.
    pub(super) fn parse(text: &[u8]) -> Result<Self, FileError> {
        let refused = |why| Err(FileError::archive(format!("{:?} {why}", shown(text))));
        if text.starts_with(b"/") {
            return refused("is an absolute name");
        }
        if text.contains(&0) {
            return refused("has a zero byte");
        }
        let mut path: Vec<u8> = Vec::new();
        for step in text.split(|byte| *byte == b'/') {
            match step {
                b"" | b"." => continue,
                b".." => return refused("leads upwards"),
                _ if !path.is_empty() => path.push(b'/'),
                _ => {}
            }
            path.extend_from_slice(step);
        }
        if path.len() > MAX_PATH_BYTES {
            return Err(FileError::archive("a name is too long"));
        }
        // Exactly as long: there may be many.
        Ok(Self(path.into_boxed_slice()))
    }

    /// The whole path.
    pub(super) fn path(&self) -> &[u8] {
        &self.0
    }

    /// The directory it is in, and what it is called there; none for the target itself.
    pub(super) fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        let split = self.0.iter().rposition(|byte| *byte == b'/');
        Some(match split {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (b"", &self.0),
        })
    }

    /// What a failed system call on the entry means.
    pub(super) fn failed(&self, errno: Errno) -> FileError {
        match errno {
            Errno::LOOP | Errno::XDEV => {
                FileError::archive(format!("{self} runs through a link, or over mounts"))
            }
            Errno::NAMETOOLONG => FileError::archive(format!("{self} is too long a name")),
            errno => FileError::of(errno, &self.0),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            b"" => f.write_str("./"),
            path => f.write_str(&shown(path)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_cleaned_or_refused() {
        let clean = |text: &str| Name::parse(text.as_bytes()).map(|name| name.to_string());
        assert_eq!(clean("./a//b/./c/").unwrap(), "a/b/c");
        assert_eq!(clean("./").unwrap(), "./");
        assert_eq!(clean("..a/b..").unwrap(), "..a/b..");
        for hostile in ["/etc/passwd", "//x", "..", "a/../b", "a/..", "a\0b"] {
            assert!(clean(hostile).is_err(), "{hostile:?}");
        }
        assert!(clean(&"x/".repeat(3_000)).is_err());
    }

    proptest! {
        #[test]
        fn no_name_leads_out(text: Vec<u8>) {
            if let Ok(name) = Name::parse(&text) {
                let mut steps = name.path().split(|byte| *byte == b'/');
                prop_assert!(name.path().is_empty() || steps.all(|step| !matches!(step, b"" | b"." | b"..")));
            }
        }
    }
}
