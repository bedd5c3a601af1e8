//! Pulls and pushes, as who follows them sees them: where they stand, at each one's pace, and how they end.

mod progress;

use std::time::Duration;

use tokio::sync::watch;

pub(super) use self::progress::Progress;
pub use self::progress::{LayerPhase, LayerProgress, TransferProgress};
use crate::engine::Error;

/// How a transfer ended; `None` until then.
pub(super) type Outcome<T> = watch::Receiver<Option<Result<T, Error>>>;

/// What a follower is told.
#[derive(Debug, Clone)]
pub enum News<T> {
    /// Where it stands.
    Progress(TransferProgress),
    /// It has ended well. Always last.
    Done(T),
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
    pub(super) async fn next<T: Clone>(
        &mut self,
        progress: &Progress,
        outcome: &Outcome<T>,
    ) -> Option<Result<News<T>, Error>> {
        if self.is_over {
            return None;
        }
        let mut ended = outcome.clone();
        let paced = async {
            tokio::time::sleep(self.interval).await;
            progress.newer_than(self.version).await;
        };
        tokio::select! {
            _ = ended.wait_for(Option::is_some) => {}
            () = paced => {}
        }
        if let Some((version, news)) = progress.since(self.version) {
            self.version = version;
            return Some(Ok(News::Progress(news)));
        }
        self.is_over = true;
        Some(end(outcome).await.map(News::Done))
    }
}

/// Waits for the end.
pub(super) async fn end<T: Clone>(outcome: &Outcome<T>) -> Result<T, Error> {
    let mut outcome = outcome.clone();
    let ended = outcome.wait_for(Option::is_some).await;
    let ended = ended.ok().and_then(|ended| ended.clone());
    // Who should have said so has been ended with the server.
    ended.unwrap_or(Err(Error::Draining))
}
