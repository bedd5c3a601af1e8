//! Pulls and pushes, as who follows them sees them: where they stand, at each one's pace, and how they end.

mod progress;

use std::future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument as _;

pub(super) use self::progress::Progress;
pub use self::progress::{LayerPhase, LayerProgress, TransferProgress};
use crate::engine::Error;
use crate::engine::core::Core;
use crate::model::limits::REGISTRY_TRANSFERS;

/// What a follower is told.
#[derive(Debug, Clone)]
pub enum News<T> {
    /// Where it stands.
    Progress(TransferProgress),
    /// It has ended well. Always last.
    Done(T),
}

/// A transfer. Dropping it is to end it.
#[derive(Debug)]
pub(super) struct Transfer<T> {
    progress: Arc<Progress>,
    /// `None` as long as it goes on.
    outcome: watch::Receiver<Option<Result<T, Error>>>,
    _ends: DropGuard,
}

impl<T: Clone + Send + Sync + 'static> Transfer<T> {
    /// Begins one, as a task of the engine. `work` gets where to tell how far it is, and what is cancelled when it is to
    /// end.
    pub(super) fn begin<F>(
        core: &Arc<Core>,
        work: impl FnOnce(Arc<Progress>, CancellationToken) -> F,
    ) -> Self
    where
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let (ended, outcome) = watch::channel(None);
        let progress = Arc::new(Progress::default());
        let end = core.shutdown.child_token();
        let work = work(Arc::clone(&progress), end.clone());
        let task = async move {
            ended.send_replace(Some(work.await));
        };
        core.spawn(task.in_current_span());
        Self {
            progress,
            outcome,
            _ends: end.drop_guard(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    /// Waits for the end.
    pub(super) async fn end(&self) -> Result<T, Error> {
        let mut outcome = self.outcome.clone();
        let ended = outcome.wait_for(Option::is_some).await;
        let ended = ended.ok().and_then(|ended| ended.clone());
        // Who should have said so has been ended with the server.
        ended.unwrap_or(Err(Error::Draining))
    }
}

/// What one follower has been told.
#[derive(Debug)]
pub(super) struct Following {
    interval: Duration,
    /// Of the progress that was told last.
    version: u64,
    is_over: bool,
}

impl Following {
    /// News come no more often than `interval` says.
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            version: 0,
            is_over: false,
        }
    }

    /// What comes next; `None` after the end. The last state of each layer is told before the end.
    pub(super) async fn next<T: Clone + Send + Sync + 'static>(
        &mut self,
        transfer: &Transfer<T>,
    ) -> Option<Result<News<T>, Error>> {
        if self.is_over {
            return None;
        }
        let progress = &transfer.progress;
        let paced = async {
            tokio::time::sleep(self.interval).await;
            progress.newer_than(self.version).await;
        };
        tokio::select! {
            _ = transfer.end() => {}
            () = paced => {}
        }
        if let Some((version, news)) = progress.since(self.version) {
            self.version = version;
            return Some(Ok(News::Progress(news)));
        }
        self.is_over = true;
        Some(transfer.end().await.map(News::Done))
    }
}

/// Moves blobs, some at a time, in this order.
pub(super) async fn move_all<F>(moves: Vec<F>) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    let moves = stream::iter(moves).buffer_unordered(REGISTRY_TRANSFERS);
    moves.try_for_each(|()| future::ready(Ok(()))).await
}
