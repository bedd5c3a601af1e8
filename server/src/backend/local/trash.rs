//! What is deleted, until its files are gone.
//!
//! Putting something here is one rename, so it is there whole or not there at all. Removing its files may take minutes,
//! and nothing waits for that, not even the server's end: the next one goes on with it. Blocking.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Directories within each other that are removed file by file; what is deeper goes at one go.
const DEPTH: usize = 64;

/// The trash of one state directory.
#[derive(Debug)]
pub(super) struct Trash {
    directory: PathBuf,
    /// Who empties it.
    emptying: Mutex<()>,
    /// Somebody has put something here since it was looked at last.
    is_full: AtomicBool,
    /// Nobody is to empty it any more.
    stop: CancellationToken,
}

/// Whether files are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removed {
    All,
    /// The rest stays for the next server.
    Some,
}

impl Trash {
    pub(super) fn open(directory: PathBuf, stop: CancellationToken) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&directory)?;
        Ok(Self {
            directory,
            emptying: Mutex::new(()),
            is_full: AtomicBool::new(false),
            stop,
        })
    }

    /// Takes what is at `path`. OK if nothing is.
    pub(super) fn take(&self, path: &Path) -> io::Result<()> {
        let name = uuid::Uuid::new_v4().simple().to_string();
        match fs::rename(path, self.directory.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Removes the files, until it is to stop. One at a time does it; the others need not wait: who does looks again
    /// when it has let go.
    pub(super) fn empty(&self) {
        self.is_full.store(true, Ordering::SeqCst);
        while self.is_full.load(Ordering::SeqCst) {
            let Some(_alone) = self.emptying.try_lock() else {
                return;
            };
            self.is_full.store(false, Ordering::SeqCst);
            let entries = fs::read_dir(&self.directory)
                .into_iter()
                .flatten()
                .flatten();
            let taken: Vec<_> = entries.map(|entry| entry.path()).collect();
            for path in taken {
                match self.remove(&path, DEPTH) {
                    Ok(Removed::All) => {}
                    Ok(Removed::Some) => return,
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "what is deleted is left for now");
                        return;
                    }
                }
            }
        }
    }

    /// Links are removed, never followed.
    fn remove(&self, path: &Path, depth: usize) -> io::Result<Removed> {
        if self.stop.is_cancelled() {
            return Ok(Removed::Some);
        }
        if !fs::symlink_metadata(path)?.is_dir() {
            return fs::remove_file(path).map(|()| Removed::All);
        }
        if depth == 0 {
            return fs::remove_dir_all(path).map(|()| Removed::All);
        }
        for entry in fs::read_dir(path)? {
            if self.remove(&entry?.path(), depth - 1)? == Removed::Some {
                return Ok(Removed::Some);
            }
        }
        fs::remove_dir(path).map(|()| Removed::All)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn trash(place: &Path) -> (Trash, CancellationToken) {
        let stop = CancellationToken::new();
        let trash = Trash::open(place.join("trash"), stop.clone()).unwrap();
        (trash, stop)
    }

    fn is_empty(place: &Path) -> bool {
        fs::read_dir(place.join("trash")).unwrap().next().is_none()
    }

    #[test]
    fn what_is_taken_is_removed_with_all_that_is_in_it_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        fs::write(&outside, "kept").unwrap();
        let deep = place.path().join("root").join("d/".repeat(2 * DEPTH));
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "").unwrap();
        symlink(&outside, place.path().join("root/link")).unwrap();
        symlink(place.path(), place.path().join("root/directory")).unwrap();

        let (trash, _) = trash(place.path());
        trash.take(&place.path().join("root")).unwrap();
        trash.take(&place.path().join("nothing")).unwrap();
        assert!(!is_empty(place.path()));
        trash.empty();
        assert!(is_empty(place.path()));
        assert_eq!(fs::read_to_string(outside).unwrap(), "kept");
    }

    #[test]
    fn a_server_that_ends_leaves_the_rest_to_the_next_one() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        fs::create_dir(&root).unwrap();
        for number in 0..100 {
            fs::write(root.join(number.to_string()), "").unwrap();
        }
        let (ending, stop) = trash(place.path());
        ending.take(&root).unwrap();
        stop.cancel();
        ending.empty();
        let left = fs::read_dir(place.path().join("trash")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().path()).collect();
        assert_eq!(fs::read_dir(&left[0]).unwrap().count(), 100);

        let (next, _) = trash(place.path());
        next.empty();
        assert!(is_empty(place.path()));
    }
}
