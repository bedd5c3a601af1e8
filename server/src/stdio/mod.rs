//! Standard streams of processes, on the daemon's side: what the keeper holds and records, and how it is
//! read and written.
//!
//! ```text
//!  process ──FIFO──► keeper ──► segments on disk ──► Reader (one for each caller)
//!     ▲                 └─ how far it is ─► link ─► Stream.progress ──► wakes readers
//!     └────FIFO──────────────── Input ◄── callers
//! ```
//!
//! [`Stdio`] is the keeper as the daemon sees it; a [`Stream`] is all that belongs to one process. The
//! keeper records whether or not anybody reads, so a caller that comes late, goes or stands still
//! changes nothing; only one that asked for it makes the process wait (`window`). Nothing here knows
//! what a container is or decides when a process starts or ends.

mod background;
mod by_name;
mod error;
mod fifo;
mod input;
mod link;
mod place;
mod processes;
mod reader;
mod stream;
mod window;

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use background::{Background, Outcome};
pub use by_name::ByName;
pub use error::StdioError;
pub use place::{Directories, Place};
pub use processes::{LaunchError, OnExit, Order, Process, Processes, memfd};
pub use reader::{Item, Reader, Start, Wanted};
pub use stream::{Ended, Progress, Stream};
pub use wharf_keeper::protocol::launch;
pub use wharf_keeper::segment;
pub use window::Hold;

use link::{Calls, Link};

/// The keeper. Clones are the same.
#[derive(Debug, Clone)]
pub struct Stdio {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The way to the keeper; none if output goes nowhere.
    calls: Option<Calls>,
    streams: Streams,
    stop: CancellationToken,
    tasks: Mutex<JoinSet<()>>,
}

/// The streams that somebody holds.
type Streams = Arc<ByName<Stream>>;

/// Where the keeper is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its directory: made if missing, for the daemon's user alone.
    pub directory: PathBuf,
    /// Its program, started when none is running.
    pub program: PathBuf,
}

impl Stdio {
    /// Connects to the keeper, starts it if there is none, and does so again whenever it is gone, until
    /// [`Self::shutdown`]. To be called within a Tokio runtime.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let streams = Streams::default();
        let stop = CancellationToken::new();
        let (link, calls) = Link::new(options, streams.clone());
        let mut tasks = JoinSet::new();
        let until = stop.clone();
        tasks.spawn(async move {
            until.run_until_cancelled(link.run()).await;
        });
        Self {
            inner: Arc::new(Inner {
                calls: Some(calls),
                streams,
                stop,
                tasks: Mutex::new(tasks),
            }),
        }
    }

    /// One without a keeper: processes get no input, and their output goes nowhere.
    #[must_use]
    pub fn none() -> Self {
        Self {
            inner: Arc::new(Inner {
                calls: None,
                streams: Streams::default(),
                stop: CancellationToken::new(),
                tasks: Mutex::new(JoinSet::new()),
            }),
        }
    }

    /// The stream of this name, which is made known if it is not: nothing is opened before
    /// [`Stream::open`] or [`Stream::adopt`].
    #[must_use]
    pub fn stream(&self, name: &str, place: impl FnOnce() -> Place) -> Arc<Stream> {
        let calls = self.inner.calls.clone();
        let make = || Stream::new(name.to_owned(), place(), calls);
        self.inner.streams.get_or_insert(name, make)
    }

    /// The way to launch processes; `None` without a keeper.
    #[must_use]
    pub fn processes(&self) -> Option<Processes> {
        let calls = self.inner.calls.clone()?;
        Some(Processes::new(calls, self.inner.streams.clone()))
    }

    /// Lets the keeper forget what nobody here holds: streams of processes that are over and whose end
    /// the last server did not come to tell it.
    pub async fn forget_strays(&self) {
        let Some(calls) = &self.inner.calls else {
            return;
        };
        for name in calls.kept() {
            if self.inner.streams.get(&name).is_none() {
                tracing::info!(stream = name, "a stream without a process is closed");
                stream::close(calls, &name).await;
            }
        }
    }

    /// Ends the link. The keeper goes on.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        let mut tasks = std::mem::take(&mut *self.inner.tasks.lock());
        while tasks.join_next().await.is_some() {}
    }
}

/// Runs what may wait for the disk on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StdioError> + Send + 'static,
) -> Result<T, StdioError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or(Err(StdioError::Interrupted))
}
