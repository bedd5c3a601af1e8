//! Blobs on their way in: each is downloaded once, whoever wants it, and what is there is gone on with.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::download::{self, Observer, Partial};
use super::{Credentials, RegistryError, Repository};
use crate::model::image::Descriptor;
use crate::model::limits::STAGED_BLOB_AGE;

/// The directory of blobs that come in.
///
/// A file is one blob of one size, whichever registry or repository it comes from: who has a manifest that names it gets
/// it, as from the backend, if it is there. Once it is whole, nothing is ever written to it: who says that the blob has
/// another size gets another file.
#[derive(Debug)]
pub struct Staging {
    directory: PathBuf,
    active: Active,
    tasks: TaskTracker,
}

/// Those who ask another registry, or as somebody else, wait until the file is theirs.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    file: String,
    registry: String,
    credentials: Option<Credentials>,
}

type Active = Arc<Mutex<HashMap<Key, Weak<Download>>>>;

/// One blob that is being downloaded, or was. The download ends with its last holder.
#[derive(Debug)]
pub struct Download {
    path: PathBuf,
    state: watch::Receiver<DownloadState>,
    begun: CancellationToken,
    is_discarded: AtomicBool,
    active: Active,
    runtime: Handle,
    _ends: DropGuard,
}

/// Whose download it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// Begun for who asked.
    Own,
    /// Begun for somebody else: it may fail for reasons that are theirs.
    Others,
}

/// How far it is.
#[derive(Debug, Clone)]
pub struct DownloadState {
    /// Bytes in the file.
    pub bytes: u64,
    /// Nothing before this place was ever anything else.
    pub kept: u64,
    /// The last attempt has failed.
    pub is_retrying: bool,
    /// How it has ended: the blob is whole and what its digest says, or why not.
    pub result: Option<Result<(), RegistryError>>,
}

impl Default for DownloadState {
    fn default() -> Self {
        Self {
            bytes: 0,
            kept: u64::MAX,
            is_retrying: false,
            result: None,
        }
    }
}

impl Staging {
    /// Blobs come into `directory`, which is made with the first; `tasks` owns the downloads.
    #[must_use]
    pub fn new(directory: PathBuf, tasks: TaskTracker) -> Self {
        Self {
            directory,
            active: Active::default(),
            tasks,
        }
    }

    /// The download of a blob, to be begun, or one that somebody else has; whether it is that.
    pub fn download(
        &self,
        repository: &Arc<Repository>,
        blob: &Descriptor,
    ) -> (Arc<Download>, Joined) {
        let key = Key {
            file: format!("{}-{}", blob.digest.hex(), blob.size_bytes),
            registry: repository.registry.clone(),
            credentials: repository.credentials.clone(),
        };
        let mut active = self.active.lock();
        active.retain(|_, download| download.strong_count() > 0);
        if let Some(download) = active.get(&key).and_then(Weak::upgrade) {
            let has_failed = matches!(download.state.borrow().result, Some(Err(_)));
            if !has_failed {
                return (download, Joined::Others);
            }
        }
        let path = self.directory.join(&key.file);
        let download = Arc::new(self.begin(path, repository, blob));
        active.insert(key, Arc::downgrade(&download));
        (download, Joined::Own)
    }

    fn begin(&self, path: PathBuf, repository: &Arc<Repository>, blob: &Descriptor) -> Download {
        let (state, receiver) = watch::channel(DownloadState::default());
        let (begun, ended) = (CancellationToken::new(), CancellationToken::new());
        let work = Work {
            path: path.clone(),
            directory: self.directory.clone(),
            repository: Arc::clone(repository),
            blob: blob.clone(),
            state: Arc::new(state),
        };
        let (begins, ends) = (begun.clone(), ended.clone());
        self.tasks.spawn(async move {
            let state = Arc::clone(&work.state);
            let run = async {
                begins.cancelled().await;
                work.run().await
            };
            let result = ends.run_until_cancelled(run).await;
            let result = result.unwrap_or(Err(RegistryError::Abandoned));
            state.send_modify(|state| state.result = Some(result));
        });
        Download {
            path,
            state: receiver,
            begun,
            is_discarded: AtomicBool::new(false),
            active: Arc::clone(&self.active),
            runtime: Handle::current(),
            _ends: ended.drop_guard(),
        }
    }

    /// Removes what nobody has gone on with, or needs, for [`STAGED_BLOB_AGE`]. Blocking.
    pub fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return;
        };
        for entry in entries.flatten() {
            let age = entry.metadata().and_then(|metadata| metadata.modified());
            let age = age.ok().and_then(|modified| modified.elapsed().ok());
            if age.is_some_and(|age| age > STAGED_BLOB_AGE) {
                remove_unused(&entry.path(), &self.active);
            }
        }
    }
}

/// One that is written to is locked; a whole one has holders that read it.
fn remove_unused(path: &Path, active: &Active) {
    let Ok(file) = File::open(path) else { return };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        remove_unwanted(path, active);
    }
}

/// Waits for its writer, and removes it unless somebody else has come for it.
fn remove_discarded(path: &Path, active: &Active) {
    let Ok(file) = File::open(path) else { return };
    if flock(&file, FlockOperation::LockExclusive).is_ok() {
        remove_unwanted(path, active);
    }
}

/// What it takes is freed when it is closed: nobody who begins a download waits for that.
fn remove_unwanted(path: &Path, active: &Active) {
    let active = active.lock();
    let is_wanted = active
        .iter()
        .any(|(key, download)| path.ends_with(&key.file) && download.strong_count() > 0);
    if !is_wanted {
        remove(path);
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a download is not removed");
    }
}

struct Work {
    path: PathBuf,
    directory: PathBuf,
    repository: Arc<Repository>,
    blob: Descriptor,
    state: Arc<watch::Sender<DownloadState>>,
}

impl Work {
    async fn run(self) -> Result<(), RegistryError> {
        let (path, directory) = (self.path.clone(), self.directory.clone());
        let open = move || locked(&path).and_then(Partial::of);
        let opened = tokio::task::spawn_blocking(open).await;
        let partial = opened
            .map_err(|_| RegistryError::Abandoned)?
            .map_err(|error| download::unwritten(&directory, &error))?;
        let observer = Sender(self.state);
        observer.has(partial.bytes());
        download::download(
            &self.repository,
            &self.blob,
            partial,
            &self.directory,
            observer,
        )
        .await
    }
}

#[derive(Clone)]
struct Sender(Arc<watch::Sender<DownloadState>>);

impl Observer for Sender {
    fn has(&self, bytes: u64) {
        self.0.send_modify(|state| {
            state.bytes = bytes;
            state.is_retrying = false;
        });
    }

    fn cut(&self, at: u64) {
        self.0.send_modify(|state| state.kept = state.kept.min(at));
    }

    fn retries(&self) {
        self.0.send_modify(|state| state.is_retrying = true);
    }
}

/// The file, for one writer at a time: who was abandoned may still be writing.
fn locked(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory)?;
    }
    loop {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.mode(0o600).open(path)?;
        flock(&file, FlockOperation::LockExclusive)?;
        // Unless it was removed meanwhile.
        match fs::metadata(path) {
            Ok(there) if there.ino() == file.metadata()?.ino() => return Ok(file),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
}

impl Download {
    /// Begins it, unless somebody has. How far it is.
    pub fn begin(&self) -> watch::Receiver<DownloadState> {
        self.begun.cancel();
        self.state.clone()
    }

    /// Nobody will need it any more: its file goes with its last holder. Otherwise it stays for a while, for who goes
    /// on with it.
    pub fn discard(&self) {
        self.is_discarded.store(true, Ordering::Release);
    }

    /// Reads it while it comes in, until it is given up. Blocking, as are reads.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn reader(&self, given_up: CancellationToken) -> io::Result<impl Read + Send + use<>> {
        let mut state = self.state.clone();
        let has_begun = state.wait_for(|state| state.bytes > 0 || state.result.is_some());
        let has_begun = given_up.run_until_cancelled(has_begun);
        match self.runtime.block_on(has_begun) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Err(abandoned()),
        }
        Ok(Reader {
            file: File::open(&self.path)?,
            at: 0,
            state: self.state.clone(),
            given_up,
            runtime: self.runtime.clone(),
        })
    }

    /// Whether what was read of it may have been something else.
    pub fn has_changed(&self) -> bool {
        self.state.borrow().kept < u64::MAX
    }

    /// The file, once it is whole. Blocking.
    ///
    /// # Errors
    /// If the download fails, or is given up.
    pub fn file(&self, given_up: &CancellationToken) -> io::Result<PathBuf> {
        let mut state = self.state.clone();
        let ended = state.wait_for(|state| state.result.is_some());
        let ended = self.runtime.block_on(given_up.run_until_cancelled(ended));
        match ended.and_then(Result::ok).map(|state| state.result.clone()) {
            Some(Some(Ok(()))) => Ok(self.path.clone()),
            Some(Some(Err(error))) => Err(io::Error::other(error)),
            Some(None) | None => Err(abandoned()),
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if self.is_discarded.load(Ordering::Acquire) {
            let path = std::mem::take(&mut self.path);
            let active = Arc::clone(&self.active);
            // Its writer, which ends only now, and freeing a large file take a while.
            let remove = move || remove_discarded(&path, &active);
            drop(self.runtime.spawn_blocking(remove));
        }
    }
}

fn abandoned() -> io::Error {
    io::Error::other(RegistryError::Abandoned)
}

/// Follows a file that grows.
struct Reader {
    file: File,
    at: u64,
    state: watch::Receiver<DownloadState>,
    given_up: CancellationToken,
    runtime: Handle,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let (bytes, kept, result) = {
                let state = self.state.borrow_and_update();
                (state.bytes, state.kept, state.result.clone())
            };
            if self.at > kept {
                return Err(io::Error::other(RegistryError::Changed));
            }
            if let Some(Err(error)) = result {
                return Err(io::Error::other(error));
            }
            let ready = bytes.saturating_sub(self.at);
            let wanted = buffer
                .len()
                .min(usize::try_from(ready).unwrap_or(usize::MAX));
            if wanted > 0 {
                let read = self.file.read(&mut buffer[..wanted])?;
                self.at += read as u64;
                if read > 0 {
                    return Ok(read);
                }
            } else if result.is_some() {
                return Ok(0);
            }
            let changed = self.given_up.run_until_cancelled(self.state.changed());
            match self.runtime.block_on(changed) {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return Err(abandoned()),
            }
        }
    }
}
