//! The writer's thread and the way to it.

use std::thread::{self, JoinHandle};

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::StoreError;
use super::error::Classify as _;
use super::writer::{Job, Writer};

/// The thread, ended and waited for when this is dropped.
#[derive(Debug)]
pub(super) struct WriterThread {
    /// Unbounded, so that handing over cannot be interrupted: a caller that goes away while it waits
    /// for room would take its commit with it. It is bounded by those who commit: each waits for its
    /// answer, and there are a few for each container.
    jobs: Option<UnboundedSender<Job>>,
    handle: Option<JoinHandle<()>>,
}

impl WriterThread {
    /// Starts it. `jobs` is the way to the writer.
    pub(super) fn start(writer: Writer, jobs: UnboundedSender<Job>) -> Result<Self, StoreError> {
        let path = writer.path.clone();
        let notice = PanicNotice(writer.health.clone());
        let handle = thread::Builder::new()
            .name("wharf-store".to_owned())
            .spawn(move || {
                let _notice = notice;
                writer.run();
            })
            .in_database(&path)?;
        Ok(Self {
            jobs: Some(jobs),
            handle: Some(handle),
        })
    }

    /// Hands a job over, if the writer is there.
    pub(super) fn ask(&self, job: Job) -> Result<(), StoreError> {
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.send(job).map_err(|_| StoreError::Closed)
    }
}

/// Tells the health if the thread panics: it could not tell itself, and nothing is written any more.
struct PanicNotice(watch::Sender<Option<StoreError>>);

impl Drop for PanicNotice {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.send_replace(Some(StoreError::Closed));
        }
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.jobs = None;
        let Some(handle) = self.handle.take() else {
            return;
        };
        // The last handle may go with an `on_commit`, on the thread itself.
        if handle.thread().id() != thread::current().id() && handle.join().is_err() {
            tracing::error!("the store's writer panicked");
        }
    }
}
