//! One container's log as a stream: reads on a thread that may wait for the disk, and waits for what is
//! not there yet.

use std::fmt;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::cursor::Position;
use super::scan::{Scan, Step};
use super::view::{self, View};
use super::{LogCursor, LogEnd, LogItem, LogMessage, LogQuery, LogStart, nanos, unreadable};
use crate::engine::Error;
use crate::engine::core::Core;
use crate::engine::registry::Snapshot;
use crate::model::limits::LOG_IDLE_INTERVAL;
use crate::model::{Container, ContainerId, Run};
use crate::stdio::segment::SegmentError;
use crate::stdio::{Background, Outcome, Progress, Stream};

/// Where a log is, and what tells that it grows.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) container: ContainerId,
    pub(super) directory: PathBuf,
    pub(super) keeps_log: bool,
    pub(super) snapshot: watch::Receiver<Snapshot>,
    pub(super) growing: Box<dyn Growing>,
}

/// What tells that the recording of a container's current run grows.
pub(super) trait Growing: fmt::Debug + Send {
    /// Changes from now on, of the latest run that has begun.
    fn watch<'a>(
        &'a mut self,
        container: &'a Container,
    ) -> BoxFuture<'a, watch::Receiver<Progress>>;
}

/// The standard streams that the keeper records.
#[derive(Debug)]
pub(super) struct Streams {
    core: Arc<Core>,
    /// Held, so that it stays the one that the keeper's news go to.
    current: Option<(Run, Arc<Stream>)>,
}

impl Streams {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            current: None,
        }
    }
}

impl Growing for Streams {
    fn watch<'a>(
        &'a mut self,
        container: &'a Container,
    ) -> BoxFuture<'a, watch::Receiver<Progress>> {
        let run = Run(view::latest(container));
        let held = self.current.take().filter(|(of, _)| *of == run);
        let new = || (run, self.core.run_stream(container, run));
        let (_, stream) = self.current.insert(held.unwrap_or_else(new));
        Box::pin(async move {
            if container.exit_of(run).is_some() {
                stream.recall().await;
            }
            stream.progress()
        })
    }
}

/// A reader of one container's log. Pull from it with [`LogStream::next`].
#[derive(Debug)]
pub struct LogStream {
    container: ContainerId,
    scan: Background<Scan, Result<Step, SegmentError>>,
    snapshot: watch::Receiver<Snapshot>,
    growing: Box<dyn Growing>,
    /// What grows meanwhile, since just before the last look.
    growth: Option<watch::Receiver<Progress>>,
    query: LogQuery,
    until: Option<Instant>,
    silence: Instant,
}

/// Whether files stay open between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenFiles {
    Keep,
    Close,
}

/// What a look gives, now.
#[derive(Debug)]
pub(super) enum Read {
    Message(LogMessage),
    /// There will be more.
    Nothing(LogCursor),
    /// There will be nothing more.
    Over(LogCursor),
}

impl LogStream {
    /// A reader that is not in its place yet.
    pub(super) fn new(source: Source, query: LogQuery) -> Result<Self, Error> {
        let container = source.container;
        if !source.keeps_log {
            let container = container.to_string();
            return Err(Error::LogNotFound { container });
        }
        let latest = source.snapshot.borrow().container.run;
        let position = match query.start {
            LogStart::Cursor(cursor) => resume(container, latest, cursor)?,
            LogStart::Beginning | LogStart::Since(_) => Position::default(),
        };
        let mut scan = Scan::new(container, source.directory, query.only, position);
        scan.until = query.until.map(nanos);
        scan.last_run = (query.end == LogEnd::Exit).then_some(latest.0.max(1));
        Ok(Self {
            container,
            scan: Background::new(scan),
            snapshot: source.snapshot,
            growing: source.growing,
            growth: None,
            query,
            until: query.until.and_then(instant),
            silence: Instant::now() + LOG_IDLE_INTERVAL,
        })
    }

    /// Finds its place: what is written from now on counts as new. May be cancelled and repeated.
    pub(super) async fn place(&mut self) -> Result<(), Error> {
        let (query, view) = (self.query, self.look_at().await);
        let place = move |scan: &mut Scan| {
            place(scan, query, &view)?;
            Ok(Step::Nothing(scan.cursor()))
        };
        self.scan(place).await.map(drop)
    }

    /// The next message as soon as there is one; `None` at the end. May be cancelled.
    ///
    /// # Errors
    /// [`Error::LogUnreadable`]; [`Error::Draining`] if the server ends.
    pub async fn next(&mut self) -> Result<Option<LogMessage>, Error> {
        let message = loop {
            match self.read(OpenFiles::Keep).await? {
                Read::Message(message) => break message,
                Read::Over(_) => return Ok(None),
                Read::Nothing(cursor) => match timeout_at(self.silence, self.wait()).await {
                    Ok(waited) => waited?,
                    Err(_) => break idle(cursor),
                },
            }
        };
        self.silence = Instant::now() + LOG_IDLE_INTERVAL;
        Ok(Some(message))
    }

    /// What there is now. May be cancelled.
    pub(super) async fn read(&mut self, open_files: OpenFiles) -> Result<Read, Error> {
        loop {
            let view = self.look_at().await;
            let is_draining = view.is_draining();
            let look = move |scan: &mut Scan| {
                let step = scan.next(&view);
                if open_files == OpenFiles::Close {
                    scan.rest();
                }
                step
            };
            match self.scan(look).await? {
                Outcome::Earlier(Step::Nothing(_)) => {}
                Outcome::Earlier(step) | Outcome::Now(step) => {
                    return Ok(self.judge(step, is_draining));
                }
            }
        }
    }

    /// The container before a look: what changes after this ends the next wait.
    async fn look_at(&mut self) -> View {
        let snapshot = self.snapshot.borrow_and_update().clone();
        let growth = self.growing.watch(&snapshot.container).await;
        let drained = growth.borrow().ended.is_some();
        self.growth = Some(growth);
        View::new(snapshot, drained)
    }

    /// Waits until there may be more, or the time to end has come. May be cancelled.
    pub(super) async fn wait(&mut self) -> Result<(), Error> {
        tokio::select! {
            changed = self.snapshot.changed() => changed.map_err(|_| Error::Draining),
            () = grown(self.growth.as_mut()) => Ok(()),
            () = passed(self.until) => Ok(()),
        }
    }

    /// Its container now.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// Of a run that has ended, the rest is waited for also by those who do not follow.
    fn judge(&self, step: Step, is_draining: bool) -> Read {
        let has_passed = self.until.is_some_and(|until| until <= Instant::now());
        let ends_now = self.query.end == LogEnd::Now && !is_draining;
        match step {
            Step::Message(message) => Read::Message(message),
            Step::Nothing(cursor) if ends_now || has_passed => Read::Over(cursor),
            Step::Nothing(cursor) => Read::Nothing(cursor),
            Step::Over(cursor) => Read::Over(cursor),
        }
    }

    async fn scan(
        &mut self,
        work: impl FnOnce(&mut Scan) -> Result<Step, SegmentError> + Send + 'static,
    ) -> Result<Outcome<Step>, Error> {
        let failed = unreadable(self.container);
        let outcome = self.scan.run(work).await.map_err(|error| failed(&error))?;
        Ok(match outcome {
            Outcome::Earlier(step) => Outcome::Earlier(step.map_err(|error| failed(&error))?),
            Outcome::Now(step) => Outcome::Now(step.map_err(|error| failed(&error))?),
        })
    }
}

/// The position of a cursor, which must be one that this container's log gave out.
fn resume(container: ContainerId, latest: Run, cursor: LogCursor) -> Result<Position, Error> {
    if cursor.container != container || cursor.run() > latest {
        let container = container.to_string();
        return Err(Error::LogCursorInvalid { container });
    }
    Ok(cursor.position)
}

fn idle(cursor: LogCursor) -> LogMessage {
    LogMessage {
        cursor,
        run: cursor.run(),
        item: LogItem::Idle,
    }
}

fn place(scan: &mut Scan, query: LogQuery, view: &View) -> Result<(), SegmentError> {
    if query.end == LogEnd::Now {
        scan.last_run = Some(view.latest());
        if !view.is_draining() {
            scan.limit = scan.end_of_now(view)?;
        }
    }
    if let LogStart::Since(time) = query.start {
        let since = nanos(time);
        scan.since = Some(since);
        scan.position = scan.around(since)?;
    }
    if let Some(count) = query.tail {
        scan.position = scan.before_end(view, count)?.later(scan.position);
    }
    Ok(())
}

/// The same moment by the clock of timers; `None` if it is too far to be counted.
fn instant(time: SystemTime) -> Option<Instant> {
    let left = time.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now().checked_add(left)
}

/// A stream that was let go of grows no more.
async fn grown(growth: Option<&mut watch::Receiver<Progress>>) {
    let grew = match growth {
        Some(growth) => growth.changed().await.is_ok(),
        None => false,
    };
    if !grew {
        pending().await
    }
}

async fn passed(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}
