//! Files of containers: each call borrows the root from the container's actor and, when it is its turn, works
//! on it in a thread where that may block. A caller that leaves ends its call's work; the root's being called
//! back, too.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::container::command::Order;
use super::container::lend::Loan;
use super::idempotency::Claim;
use super::{Answer, Call, Engine, Error};
use crate::files::{
    self, FileError, Inlet, LastLink, Outlet, Partial, PathStat, Piece, Root, Unpack, Unpacked,
    WriteFile,
};
use crate::model::{Container, State};
use crate::store::{Durability, Transaction};

/// What is read of a container's files, as it comes. Dropping it ends the reading.
#[derive(Debug)]
pub struct Download {
    /// What is read.
    pub stat: PathStat,
    chunks: mpsc::Receiver<Bytes>,
    work: Option<Work<()>>,
    _stop: DropGuard,
}

impl Download {
    /// The next bytes, at most [`MAX_ARCHIVE_CHUNK`](crate::model::limits::MAX_ARCHIVE_CHUNK); `None`
    /// after the last.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::OperationInProgress`] and [`Error::DeletedConcurrently`] if the root was
    /// called back.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(chunk) = self.chunks.recv().await {
            return Ok(Some(chunk));
        }
        match self.work.take() {
            Some(work) => work.done().await.map(|()| None),
            None => Ok(None),
        }
    }
}

/// What is sent to be written, as it comes: [`Piece::End`] last, or nothing is believed to be whole.
pub type FileUpload = mpsc::Receiver<Piece>;

impl Engine {
    /// Describes a path, not following a link in its last part.
    ///
    /// # Errors
    /// [`Error::File`], state.
    pub async fn stat_path(&self, key: &str, path: &str) -> Result<PathStat, Error> {
        let loan = self.borrow_root(key).await?;
        let path = path.to_owned();
        let work = self.work(loan, move |root| files::stat(root, &path));
        work.await?.done().await
    }

    /// Reads one regular file.
    ///
    /// # Errors
    /// [`Error::File`], state.
    pub async fn read_file(&self, key: &str, path: &str) -> Result<Download, Error> {
        let file = path.to_owned();
        self.download(key, move |root, head, to| {
            let (content, stat) = files::open_file(root, &file)?;
            drop(head.send(stat));
            files::copy(content, &file, to)
        })
        .await
    }

    /// Reads a path, with all below it, as tar. A link is read as such, or followed.
    ///
    /// # Errors
    /// [`Error::File`], state.
    pub async fn read_archive(
        &self,
        key: &str,
        path: &str,
        last_link: LastLink,
    ) -> Result<Download, Error> {
        let top = path.to_owned();
        self.download(key, move |root, head, to| {
            let (held, stat) = files::open_any(root, &top, last_link)?;
            let name = top.rsplit('/').next().unwrap_or_default();
            drop(head.send(stat));
            files::pack(held, name, to)
        })
        .await
    }

    /// Writes one regular file: whole, or not at all. Owner and mode it leaves open are the container's
    /// user's, as [`WriteFile`] says; `what.owner` is filled in here.
    ///
    /// # Errors
    /// [`Error::File`], state.
    pub async fn write_file(
        &self,
        call: Call,
        key: &str,
        what: WriteFile,
        upload: FileUpload,
    ) -> Result<Answer<PathStat>, Error> {
        self.upload(call, key, upload, move |root, container, pieces, _| {
            let owner = owner(container);
            let stat = files::write(root, &WriteFile { owner, ..what }, pieces);
            stat.map_err(|error| Partial { entries: 0, error })
        })
        .await
    }

    /// Unpacks a tar into a directory. `what.owner` is filled in here.
    ///
    /// # Errors
    /// [`Error::File`], state; inside [`Error::PartialWrite`] once something was written.
    pub async fn write_archive(
        &self,
        call: Call,
        key: &str,
        what: Unpack,
        upload: FileUpload,
    ) -> Result<Answer<Unpacked>, Error> {
        self.upload(call, key, upload, move |root, container, pieces, stop| {
            let owner = owner(container);
            files::unpack(root, &Unpack { owner, ..what }, pieces, stop)
        })
        .await
    }

    async fn borrow_root(&self, key: &str) -> Result<Loan, Error> {
        self.core.ask(key, |reply| Order::LendRoot { reply }).await
    }

    /// Begins to read, and returns once it is known what.
    async fn download(
        &self,
        key: &str,
        read: impl FnOnce(&Root, oneshot::Sender<PathStat>, Outlet) -> Result<(), FileError>
        + Send
        + 'static,
    ) -> Result<Download, Error> {
        let loan = self.borrow_root(key).await?;
        let stop = loan.called_back.child_token();
        let (outlet, chunks) = files::outlet(self.core.file_turns.patience(stop.clone()));
        let (head, stat) = oneshot::channel();
        let work = self.work(loan, move |root| read(root, head, outlet));
        let work = work.await?;
        match stat.await {
            Ok(stat) => Ok(Download {
                stat,
                chunks,
                work: Some(work),
                _stop: stop.drop_guard(),
            }),
            Err(_) => match work.done().await {
                Err(error) => Err(error),
                Ok(()) => Err(Error::Bug {
                    what: "a file was read before it was described",
                }),
            },
        }
    }

    /// Takes in what is to be written. The answer is stored for the call's idempotency key afterwards:
    /// a write that the server's death cut off is simply done again by who repeats it.
    async fn upload<T: Serialize + DeserializeOwned + Send + 'static>(
        &self,
        call: Call,
        key: &str,
        upload: FileUpload,
        write: impl FnOnce(&Root, &Container, Inlet, &CancellationToken) -> Result<T, Partial>
        + Send
        + 'static,
    ) -> Result<Answer<T>, Error> {
        self.once(call, async |_, claim| {
            let loan = self.borrow_root(key).await?;
            let stop = loan.called_back.child_token();
            let _caller_is_there = stop.clone().drop_guard();
            let container = Arc::clone(&loan.container);
            let pieces = Inlet::new(upload, self.core.file_turns.patience(stop.clone()));
            let work = self.work(loan, move |root| write(root, &container, pieces, &stop));
            let work = work.await?;
            let (reply, answer) = oneshot::channel();
            let engine = self.clone();
            self.core.spawn(async move {
                let written = work.done().await;
                drop(reply.send(engine.settle(claim, written).await));
            });
            answer.await.unwrap_or(Err(Error::Draining))
        })
        .await
    }

    /// Stores the answer of a write. Without success the key is given back.
    async fn settle<T: Serialize>(
        &self,
        claim: Option<Claim>,
        written: Result<T, Error>,
    ) -> Result<T, Error> {
        let value = written?;
        if let Some(mut claim) = claim {
            let transaction = Transaction {
                changes: vec![claim.answered(&value)?],
                events: Vec::new(),
                durability: Durability::Synced,
                on_commit: None,
            };
            self.core.store.commit(transaction).await?;
            claim.complete();
        }
        Ok(value)
    }

    /// Begins `work` on the root that was lent, when it is its turn; the root is given back when that is over.
    async fn work<T, E>(
        &self,
        loan: Loan,
        work: impl FnOnce(&Root) -> Result<T, E> + Send + 'static,
    ) -> Result<Work<T>, Error>
    where
        T: Send + 'static,
        E: Into<Partial> + Send + 'static,
    {
        let lent = Lent {
            engine: self.clone(),
            container: Arc::clone(&loan.container),
            called_back: loan.called_back.clone(),
        };
        let turn = self.core.file_turns.next(&lent.called_back).await;
        let turn = turn.map_err(|error| lent.failure(error))?;
        let task = self.core.tasks.spawn_blocking(move || {
            let result = work(loan.root());
            drop((loan, turn));
            result.map_err(Into::into)
        });
        Ok(Work { lent, task })
    }
}

impl From<FileError> for Partial {
    fn from(error: FileError) -> Self {
        Self { entries: 0, error }
    }
}

/// Who what is made belongs to, unless somebody says otherwise.
fn owner(container: &Container) -> files::Owner {
    files::Owner {
        uid: container.process.uid,
        gid: container.process.gid,
    }
}

/// Work on a root, in a thread of its own.
#[derive(Debug)]
struct Work<T> {
    lent: Lent,
    task: JoinHandle<Result<T, Partial>>,
}

/// Whose root it is.
#[derive(Debug)]
struct Lent {
    engine: Engine,
    container: Arc<Container>,
    called_back: CancellationToken,
}

impl<T> Work<T> {
    /// Waits for its end.
    async fn done(mut self) -> Result<T, Error> {
        let ended = (&mut self.task).await.map_err(|_| Error::Bug {
            what: "work on files was interrupted",
        })?;
        ended.map_err(|Partial { entries, error }| match entries {
            0 => self.lent.failure(error),
            entries => Error::PartialWrite {
                entries,
                error: Box::new(self.lent.failure(error)),
            },
        })
    }
}

impl Lent {
    /// Work that was stopped says what for.
    fn failure(&self, error: FileError) -> Error {
        if error != FileError::Stopped || !self.called_back.is_cancelled() {
            return Error::file(&self.container, error);
        }
        let id = self.container.id.to_string();
        match self.engine.get(&id) {
            _ if self.engine.core.shutdown.is_cancelled() => Error::Draining,
            Ok(now) if now.state != State::Deleting => Error::OperationInProgress {
                container: id,
                operation: "start",
                request_id: now
                    .cause()
                    .map_or_else(String::new, |cause| cause.request_id.to_string()),
            },
            Ok(_) | Err(_) => Error::DeletedConcurrently { container: id },
        }
    }
}
