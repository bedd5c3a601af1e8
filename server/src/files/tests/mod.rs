//! Real directories, real links, and somebody who swaps them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "tests fail by panicking, and join their threads"
)]

mod covered;
mod hostile;
mod races;
mod round_trip;
mod single;
mod turns;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use super::*;

/// A root with something beside it that nobody may see or touch.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::create_dir(directory.path().join("outside")).unwrap();
        fs::write(directory.path().join("outside/secret"), "secret").unwrap();
        Self { directory }
    }

    fn root(&self) -> Root {
        Root::of_directory(&self.inside("")).unwrap()
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.directory.path().join("root").join(path)
    }

    fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    fn assert_nothing_outside_changed(&self) {
        let names: Vec<_> = fs::read_dir(self.outside())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["secret"]);
        assert_eq!(fs::read(self.outside().join("secret")).unwrap(), b"secret");
        let beside = fs::read_dir(self.directory.path()).unwrap().count();
        assert_eq!(beside, 2);
    }
}

/// Whoever runs the tests.
fn me() -> Owner {
    let own = fs::metadata("/proc/self").unwrap();
    Owner {
        uid: own.uid(),
        gid: own.gid(),
    }
}

fn into(path: &str) -> Unpack {
    Unpack {
        path: path.to_owned(),
        allow_kind_change: false,
        preserve_owners: false,
        owner: me(),
    }
}

fn patience(stop: &CancellationToken) -> Patience {
    Turns::default().patience(stop.clone())
}

/// Archives a path.
async fn packed(root: Root, path: &str) -> Result<Vec<u8>, FileError> {
    let (outlet, mut chunks) = outlet(patience(&CancellationToken::new()));
    let path = path.to_owned();
    let work = spawn_blocking(move || {
        let (held, _) = open_any(&root, &path, LastLink::Itself)?;
        pack(held, path.rsplit('/').next().unwrap(), outlet)
    });
    let mut all = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        all.write_all(&chunk).unwrap();
    }
    work.await.unwrap().map(|()| all)
}

/// Unpacks an archive that arrives in small pieces, with its end.
async fn unpacked(root: Root, what: Unpack, archive: &[u8]) -> Result<Unpacked, Partial> {
    let (pieces, upload) = inlet();
    let stop = CancellationToken::new();
    let reader = Inlet::new(upload, patience(&stop));
    let work = spawn_blocking(move || unpack(&root, &what, reader, &stop));
    for piece in archive.chunks(1_000) {
        drop(
            pieces
                .send(Piece::Data(Bytes::copy_from_slice(piece)))
                .await,
        );
    }
    drop(pieces.send(Piece::End).await);
    work.await.unwrap()
}

/// An archive of entries whose names may be anything.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
}

impl Archive {
    fn add(mut self, path: &str, kind: tar::EntryType, link: &str, data: &[u8]) -> Self {
        self.header(path, kind, link, data.len() as u64);
        self.bytes.extend_from_slice(data);
        let padding = (512 - data.len() % 512) % 512;
        self.bytes.extend(std::iter::repeat_n(0, padding));
        self
    }

    fn file(self, path: &str, data: &str) -> Self {
        self.add(path, tar::EntryType::Regular, "", data.as_bytes())
    }

    /// A header that says how much follows; nothing does.
    fn claim(mut self, path: &str, size: u64) -> Self {
        self.header(path, tar::EntryType::Regular, "", size);
        self
    }

    fn header(&mut self, path: &str, kind: tar::EntryType, link: &str, size: u64) {
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
        self.bytes.extend_from_slice(header.as_bytes());
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }
}

/// The names below a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
