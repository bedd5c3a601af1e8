//! An archive while it is received: a file of our own, which is always removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::fs::{DirBuilder, File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use wharf_api::v1;

use crate::model::{Digest, limits};
use crate::oci::image::ImageError;
use crate::transport::CallError;

/// An archive that is being received.
#[derive(Debug)]
pub(super) struct Spool {
    out: File,
    file: SpoolFile,
    hash: Sha256,
    size: u64,
}

/// An archive that was received as a whole.
#[derive(Debug)]
pub(super) struct Spooled {
    pub(super) file: SpoolFile,
    pub(super) digest: Digest,
}

/// The file. Dropping it removes it: away from here, since removing a large file can take a while.
#[derive(Debug)]
pub(super) struct SpoolFile {
    path: PathBuf,
    tasks: TaskTracker,
}

impl SpoolFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        let path = std::mem::take(&mut self.path);
        let remove = move || match fs::remove_file(&path) {
            // The importer may have removed it.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "an archive cannot be removed");
            }
            Ok(()) | Err(_) => {}
        };
        match Handle::try_current() {
            Ok(runtime) => drop(self.tasks.spawn_blocking_on(remove, &runtime)),
            Err(_) => remove(),
        }
    }
}

/// Removes what a server that did not end well has left in `dir`: nobody goes on with half an archive.
pub(super) async fn clear(dir: &Path) {
    match tokio::fs::remove_dir_all(dir).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %dir.display(), %error, "left archives are not removed");
        }
        Ok(()) | Err(_) => {}
    }
}

impl Spool {
    /// Starts a new file in `dir`, which is made if missing. Only the server may read either.
    pub(super) async fn create(dir: &Path, tasks: &TaskTracker) -> Result<Self, CallError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .await
            .map_err(|error| failed(&error, dir))?;
        let path = dir.join(format!("import-{}.tar", Uuid::new_v4().simple()));
        let out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .await
            .map_err(|error| failed(&error, dir))?;
        Ok(Self {
            out,
            file: SpoolFile {
                path,
                tasks: tasks.clone(),
            },
            hash: Sha256::new(),
            size: 0,
        })
    }

    /// Takes in one piece.
    pub(super) async fn write(&mut self, data: &[u8]) -> Result<(), CallError> {
        self.size += data.len() as u64;
        if self.size > limits::MAX_ARCHIVE_BYTES {
            return Err(CallError::TooLarge {
                limit: limits::MAX_ARCHIVE_BYTES,
                actual: self.size,
            });
        }
        self.hash.update(data);
        let written = self.out.write_all(data).await;
        written.map_err(|error| failed(&error, self.file.path()))
    }

    /// Ends the archive, which must be what the client says it is.
    pub(super) async fn finish(mut self, end: &v1::TransferEnd) -> Result<Spooled, CallError> {
        // The last write's failure shows only here.
        let flushed = self.out.flush().await;
        flushed.map_err(|error| failed(&error, self.file.path()))?;
        let digest = Digest::from_hash(self.hash.finalize().into());
        if u64::try_from(end.size_bytes) != Ok(self.size) {
            return Err(CallError::TransferMismatch {
                expected: format!("{} bytes", end.size_bytes),
                actual: format!("{} bytes", self.size),
            });
        }
        if !end.digest.is_empty() && end.digest != digest.as_str() {
            return Err(CallError::TransferMismatch {
                expected: end.digest.clone(),
                actual: digest.to_string(),
            });
        }
        Ok(Spooled {
            file: self.file,
            digest,
        })
    }
}

fn failed(error: &io::Error, path: &Path) -> CallError {
    ImageError::of_disk(path, error).into()
}
