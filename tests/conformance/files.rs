//! Files in and out of containers, running or not: whole and exact, and never outside of the root.

mod copies;
mod hostile;
mod lent;
mod mounts;
mod stalled;

use wharf_api::v1;

/// Runs until it is killed, with a directory to play in.
const BUSY: &[&str] = &["sh", "-c", "mkdir /work && sleep 3600"];

fn into(container: &str, path: &str) -> v1::WriteArchiveStart {
    v1::WriteArchiveStart {
        container: container.to_owned(),
        path: path.to_owned(),
        ..Default::default()
    }
}

/// An archive of entries whose names may be anything.
#[derive(Default)]
struct Archive(Vec<u8>);

impl Archive {
    fn add(mut self, path: &str, kind: tar::EntryType, link: &str, data: &[u8]) -> Self {
        self = self.claim(path, kind, link, data.len() as u64);
        self.0.extend_from_slice(data);
        let padded = self.0.len().next_multiple_of(512);
        self.0.resize(padded, 0);
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        self.add(path, tar::EntryType::Regular, "", content.as_bytes())
    }

    /// Only a header: how much is to follow, and nothing does.
    fn claim(mut self, path: &str, kind: tar::EntryType, link: &str, size: u64) -> Self {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(size);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1_024]);
        self.0
    }
}
