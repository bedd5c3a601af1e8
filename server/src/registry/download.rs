//! One blob into one file: resumed after breaks, verified at the end.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use reqwest::header::CONTENT_RANGE;
use reqwest::{Response, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::hosts::{Capability, Host};
use super::pace::Pace;
use super::{Patience, RegistryError, Repository, header};
use crate::model::image::Descriptor;
use crate::model::{Digest, errno};

const BUFFER: usize = 128 << 10;
/// Chunks between the network and the disk: up to some hundred KiB each.
const CHUNKS_AHEAD: usize = 8;
/// An attempt that has come so much further does not count as failed.
const PROGRESS_BYTES: u64 = 64 << 10;

/// A file that is being written, and what is in it.
///
/// Somebody may have read all that is there. So when a registry begins again, what comes is compared with it, and only
/// what differs is written anew.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    bytes: u64,
    /// Up to here it is what has come in this turn.
    at: u64,
    /// Of that.
    hash: Sha256,
}

impl Partial {
    /// Goes on with what is there. Blocking.
    pub(super) fn of(mut file: File) -> io::Result<Self> {
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        let mut buffer = vec![0; BUFFER];
        file.seek(SeekFrom::Start(0))?;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => {
                    hash.update(&buffer[..read]);
                    bytes += read as u64;
                }
            }
        }
        Ok(Self {
            file,
            bytes,
            at: bytes,
            hash,
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn begin_again(&mut self) {
        (self.hash, self.at) = (Sha256::new(), 0);
    }

    /// Takes in what comes next. Returns where the file was cut, if what was there is something else.
    fn take(&mut self, data: &[u8]) -> io::Result<Option<u64>> {
        let known = usize::try_from(self.bytes - self.at).unwrap_or(usize::MAX);
        let known = known.min(data.len());
        let mut there = vec![0; known];
        self.file.read_exact_at(&mut there, self.at)?;
        let same = data.iter().zip(&there).take_while(|(new, old)| new == old);
        let same = same.count();
        let cut = (same < known).then_some(self.at + same as u64);
        if let Some(cut) = cut {
            self.file.set_len(cut)?;
            self.bytes = cut;
        }
        self.file
            .write_all_at(&data[same..], self.at + same as u64)?;
        self.hash.update(data);
        self.at += data.len() as u64;
        self.bytes = self.bytes.max(self.at);
        Ok(cut)
    }

    fn digest(&self) -> Digest {
        Digest::from_hash(self.hash.clone().finalize().into())
    }
}

/// Who wants to know how far a download is.
pub(super) trait Observer: Send + Sync + 'static {
    /// So many bytes are in the file.
    fn has(&self, bytes: u64);
    /// What was in the file from here on was something else.
    fn cut(&self, at: u64);
    /// An attempt has failed, and another one follows.
    fn retries(&self);
}

/// Downloads what is missing of `blob`.
pub(super) async fn download<O: Observer + Clone>(
    repository: &Repository,
    blob: &Descriptor,
    mut partial: Partial,
    directory: &Path,
    observer: O,
) -> Result<(), RegistryError> {
    let mut patience = Patience::default();
    let hosts = repository.able(Capability::Pull)?;
    let (mut turn, mut furthest) = (0, partial.at);
    loop {
        if partial.at >= blob.size_bytes {
            let actual = partial.digest();
            if partial.at == blob.size_bytes && actual == blob.digest {
                return Ok(());
            }
            partial.begin_again();
            let mismatch = RegistryError::mismatch(&blob.digest, &actual);
            patience.spend(mismatch).await?;
            turn += 1;
        }
        let attempt = Attempt {
            repository,
            host: hosts[turn % hosts.len()],
            blob,
            directory,
        };
        let (after, result) = attempt.run(partial, observer.clone()).await?;
        partial = after;
        let Err(error) = result else { continue };
        // What comes again is no progress.
        if partial.at >= furthest.saturating_add(PROGRESS_BYTES) {
            furthest = partial.at;
            patience.renew();
        }
        turn += 1;
        // A mirror that does not have it is no reason to give up.
        let is_last = turn % hosts.len() == 0;
        if is_last || error.is_transient() {
            observer.retries();
            patience.spend(error).await?;
        }
    }
}

/// One request, and what comes of it.
struct Attempt<'a> {
    repository: &'a Repository,
    host: &'a Host,
    blob: &'a Descriptor,
    directory: &'a Path,
}

impl Attempt<'_> {
    /// Gives back the file with what it has then; an error outside is the disk's.
    async fn run<O: Observer>(
        &self,
        mut partial: Partial,
        observer: O,
    ) -> Result<(Partial, Result<(), RegistryError>), RegistryError> {
        let response = match self.ask(partial.at).await {
            Ok(response) => response,
            Err(error) => return Ok((partial, Err(error))),
        };
        let continues = response.status() == StatusCode::PARTIAL_CONTENT
            && starts_at(&response) == Some(partial.at);
        if partial.at > 0 && !continues {
            partial.begin_again();
            if response.status() != StatusCode::OK {
                let error = self
                    .repository
                    .unavailable("it does not go on where it broke off");
                return Ok((partial, Err(error)));
            }
        }
        let room = self.blob.size_bytes - partial.at;
        let (chunks, queue) = mpsc::channel(CHUNKS_AHEAD);
        let write = move || write(partial, queue, &observer);
        let writing = tokio::task::spawn_blocking(write);
        let moved = self.receive(response, room, &chunks).await;
        drop(chunks);
        let written = writing.await.map_err(|_| RegistryError::Abandoned)?;
        let partial = written.map_err(|error| unwritten(self.directory, &error))?;
        Ok((partial, moved))
    }

    async fn ask(&self, offset: u64) -> Result<Response, RegistryError> {
        let digest = &self.blob.digest;
        let response = self.repository.blob_at(self.host, digest, offset).await?;
        if offset > 0 && response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        self.repository.must_succeed(response, "a blob")
    }

    async fn receive(
        &self,
        mut response: Response,
        mut room: u64,
        chunks: &mpsc::Sender<Bytes>,
    ) -> Result<(), RegistryError> {
        let mut pace = Pace::new(self.repository.stall_timeout);
        while room > 0 {
            let chunk = timeout(pace.left(), response.chunk()).await;
            let chunk = chunk.map_err(|_| self.repository.unavailable("it stalls"))?;
            let chunk = chunk.map_err(|error| self.repository.broke_off(&error))?;
            let Some(mut chunk) = chunk else {
                return Err(self.repository.unavailable("it breaks off"));
            };
            // What is beyond the end is not looked at.
            chunk.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            room -= chunk.len() as u64;
            pace.moved(chunk.len() as u64);
            if chunks.send(chunk).await.is_err() {
                // The writer says why.
                return Ok(());
            }
        }
        Ok(())
    }
}

fn starts_at(response: &Response) -> Option<u64> {
    let range = header(response, CONTENT_RANGE)?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.parse().ok()
}

fn write(
    mut partial: Partial,
    mut queue: mpsc::Receiver<Bytes>,
    observer: &impl Observer,
) -> io::Result<Partial> {
    while let Some(chunk) = queue.blocking_recv() {
        if let Some(cut) = partial.take(&chunk)? {
            observer.cut(cut);
        }
        observer.has(partial.bytes());
    }
    Ok(partial)
}

pub(super) fn unwritten(directory: &Path, error: &io::Error) -> RegistryError {
    if errno::is_full(error) {
        return RegistryError::NoSpace {
            path: directory.display().to_string(),
        };
    }
    RegistryError::Io {
        detail: error.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn partial(text: &[u8]) -> Partial {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        Partial::of(file).unwrap()
    }

    #[test]
    fn what_is_there_is_gone_on_with() {
        let mut partial = partial(b"abc");
        assert_eq!(partial.take(b"def").unwrap(), None);
        assert_eq!(partial.digest(), Digest::of(b"abcdef"));
    }

    #[test]
    fn what_comes_again_is_only_compared() {
        let mut partial = partial(b"abcdef");
        partial.begin_again();
        assert_eq!(partial.take(b"abcd").unwrap(), None);
        assert_eq!((partial.at, partial.bytes), (4, 6));
        assert_eq!(partial.take(b"efgh").unwrap(), None);
        assert_eq!((partial.at, partial.bytes), (8, 8));
        assert_eq!(partial.digest(), Digest::of(b"abcdefgh"));
    }

    #[test]
    fn what_comes_differently_is_cut_off_where_it_differs() {
        let mut partial = partial(b"abXdef");
        partial.begin_again();
        assert_eq!(partial.take(b"abcd").unwrap(), Some(2));
        assert_eq!((partial.at, partial.bytes), (4, 4));
        assert_eq!(partial.take(b"ef").unwrap(), None);
        assert_eq!(partial.digest(), Digest::of(b"abcdef"));
        assert_eq!(
            Partial::of(partial.file).unwrap().digest(),
            Digest::of(b"abcdef")
        );
    }
}
