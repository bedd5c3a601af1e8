//! The logs of many containers on one stream.
//!
//! A watch tells which containers there are. Each has a reader of its own that is read only when the
//! client takes something, in turn; those that have nothing new wait. So what is held for a slow client
//! is one message, however many containers write.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use super::stream::{OpenFiles, Read};
use super::{LogCursor, LogEnd, LogMessage, LogQuery, LogStart, LogStream};
use crate::engine::query::ContainerFilter;
use crate::engine::watch::{
    EventWatch, Execs, GapPolicy, StateFilter, WatchItem, WatchOptions, WatchStart,
};
use crate::engine::{Engine, Error};
use crate::journal::{Cursor, Filter};
use crate::model::event::EventType;
use crate::model::limits::{LOG_IDLE_INTERVAL, MAX_OPEN_LOGS};
use crate::model::{ContainerId, Event, OutputStream};

/// Longer than anybody follows: nothing is to be said about the journal.
const NO_PROGRESS: Duration = Duration::from_secs(u32::MAX as u64);

/// What somebody wants of many logs.
#[derive(Debug, Clone, Default)]
pub struct FollowQuery {
    /// Which containers; those that keep no log are left out.
    pub filter: ContainerFilter,
    /// Where to go on.
    pub positions: HashMap<ContainerId, LogCursor>,
    /// For those without a position: with the first entry at or after this time.
    pub since: Option<SystemTime>,
    /// For those without a position that are there already: at most so many of the entries before now.
    pub tail: Option<u64>,
    /// One stream only.
    pub only: Option<OutputStream>,
}

/// A reader of many logs. Pull from it with [`LogsStream::next`]; it never ends by itself.
pub struct LogsStream {
    engine: Engine,
    query: FollowQuery,
    /// What happens to containers; the watch is within.
    news: News,
    known: HashMap<ContainerId, Known>,
    /// The one that the watch told of last, until it has been looked up.
    arriving: Option<ContainerId>,
    /// Those that are not in their place yet.
    joining: VecDeque<LogStream>,
    /// Those that may have something.
    ready: VecDeque<LogStream>,
    /// Those that have nothing now.
    waiting: FuturesUnordered<BoxFuture<'static, (LogStream, Result<(), Error>)>>,
    /// Until the containers there are have been listed, all that come were there before.
    listed: bool,
    silence: Instant,
}

type Told = Result<Option<(Option<Cursor>, WatchItem)>, Error>;
type News = Pin<Box<dyn Future<Output = (EventWatch, Told)> + Send>>;

/// What is known of a container.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// It is followed.
    Here,
    /// It is followed to its end, and the journal has told that it is deleted.
    Departing,
    /// It stopped matching here.
    Left(LogCursor),
    /// It is deleted, and there is nothing to be read of it any more; the journal has not told that yet.
    Over,
}

impl std::fmt::Debug for LogsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogsStream")
            .field("query", &self.query)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

impl LogsStream {
    pub(super) async fn open(engine: &Engine, query: FollowQuery) -> Result<Self, Error> {
        let state = StateFilter {
            containers: query.filter.clone(),
            execs: Execs::Omit,
        };
        let options = WatchOptions {
            start: WatchStart::State(state.clone()),
            until: None,
            filter: Filter::default(),
            progress_interval: NO_PROGRESS,
            gap_policy: GapPolicy::Resync(state),
        };
        let watch = EventWatch::open(engine, options).await?;
        Ok(Self {
            engine: engine.clone(),
            query,
            news: next_of(watch),
            known: HashMap::new(),
            arriving: None,
            joining: VecDeque::new(),
            ready: VecDeque::new(),
            waiting: FuturesUnordered::new(),
            listed: false,
            silence: Instant::now() + LOG_IDLE_INTERVAL,
        })
    }

    /// The next message, of any of the containers; `None` after a silence. May be cancelled.
    ///
    /// # Errors
    /// As [`LogStream::next`]; [`Error::LogCursorInvalid`] if a position is not of its container.
    pub async fn next(&mut self) -> Result<Option<LogMessage>, Error> {
        loop {
            if let Some(container) = self.arriving {
                self.join(container).await?;
                self.arriving = None;
            }
            let has_work = !self.joining.is_empty() || !self.ready.is_empty();
            let (silence, open_files) = (self.silence, self.open_files());
            let found = tokio::select! {
                biased;
                (watch, told) = &mut self.news => {
                    self.news = next_of(watch);
                    self.take_note(told?);
                    None
                }
                Some((log, waited)) = self.waiting.next() => {
                    waited?;
                    self.ready.push_back(log);
                    None
                }
                served = serve(&mut self.joining, &mut self.ready, open_files), if has_work => {
                    self.take_turn(served?)
                }
                () = sleep_until(silence), if !has_work => {
                    self.silence = Instant::now() + LOG_IDLE_INTERVAL;
                    return Ok(None);
                }
            };
            if let Some(message) = found {
                self.silence = Instant::now() + LOG_IDLE_INTERVAL;
                return Ok(Some(message));
            }
        }
    }

    /// What the one whose turn it was has.
    fn take_turn(&mut self, served: Served) -> Option<LogMessage> {
        let read = match served {
            Served::Placed => {
                self.ready.extend(self.joining.pop_front());
                return None;
            }
            Served::Read(read) => read,
        };
        let mut log = self.ready.pop_front()?;
        match read {
            Read::Message(message) => {
                self.ready.push_back(log);
                Some(message)
            }
            Read::Nothing(_) if self.is_followed(&log) => {
                self.waiting.push(Box::pin(async move {
                    let waited = log.wait().await;
                    (log, waited)
                }));
                None
            }
            Read::Nothing(cursor) | Read::Over(cursor) => {
                self.leave(cursor, &log);
                None
            }
        }
    }

    fn is_followed(&self, log: &LogStream) -> bool {
        self.query.filter.matches(&log.snapshot().container)
    }

    /// All that it had has been read.
    fn leave(&mut self, cursor: LogCursor, log: &LogStream) {
        let container = cursor.container();
        let departed = matches!(self.known.get(&container), Some(Known::Departing));
        if departed {
            self.known.remove(&container);
        } else if log.snapshot().gone {
            self.known.insert(container, Known::Over);
        } else {
            self.known.insert(container, Known::Left(cursor));
        }
    }

    /// What the watch tells.
    fn take_note(&mut self, told: Option<(Option<Cursor>, WatchItem)>) {
        match told.map(|(_, item)| item) {
            Some(WatchItem::Container(container)) => self.arriving = Some(container.id),
            Some(WatchItem::Event(event)) => self.take_event(&event),
            Some(WatchItem::Synced { .. }) => self.listed = true,
            // What was to tell that they are deleted may be among what is missing.
            Some(WatchItem::Gap { .. }) => {
                self.known.retain(|_, known| !matches!(known, Known::Over));
            }
            Some(WatchItem::Started { .. } | WatchItem::Exec(_) | WatchItem::Progress) | None => {}
        }
    }

    fn take_event(&mut self, event: &Event) {
        let Some(about) = &event.body.container else {
            return;
        };
        if event.body.kind.event_type() != EventType::ContainerDeleted {
            self.arriving = Some(about.id);
            return;
        }
        match self.known.get_mut(&about.id) {
            Some(known @ Known::Here) => *known = Known::Departing,
            Some(Known::Left(_) | Known::Over) => _ = self.known.remove(&about.id),
            Some(Known::Departing) | None => {}
        }
    }

    /// Begins to follow a container, unless it is followed already, does not match or keeps no log.
    async fn join(&mut self, container: ContainerId) -> Result<(), Error> {
        let left = match self.known.get(&container) {
            Some(Known::Here | Known::Departing | Known::Over) => return Ok(()),
            Some(Known::Left(cursor)) => Some(*cursor),
            None => None,
        };
        let core = &self.engine.core;
        let snapshots = match core.snapshots(&container.to_string()).await {
            Ok(snapshots) => snapshots,
            Err(Error::ContainerNotFound { .. }) => {
                self.known.insert(container, Known::Over);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let source = core.log_source(snapshots);
        let newest = source.snapshot.borrow().clone();
        if !source.keeps_log || !self.query.filter.matches(&newest.container) {
            // Its other events need not be looked at.
            if newest.gone {
                self.known.insert(container, Known::Over);
            }
            return Ok(());
        }
        let log = LogStream::new(source, self.query_of(container, left))?;
        self.known.insert(container, Known::Here);
        self.joining.push_back(log);
        Ok(())
    }

    fn query_of(&self, container: ContainerId, left: Option<LogCursor>) -> LogQuery {
        let resumed = left.or_else(|| self.query.positions.get(&container).copied());
        let since = self
            .query
            .since
            .map_or(LogStart::Beginning, LogStart::Since);
        LogQuery {
            start: resumed.map_or(since, LogStart::Cursor),
            tail: self
                .query
                .tail
                .filter(|_| resumed.is_none() && !self.listed),
            until: None,
            only: self.query.only,
            end: LogEnd::Deletion,
        }
    }

    /// Of so many, files are open only while they are read.
    fn open_files(&self) -> OpenFiles {
        if self.known.len() > MAX_OPEN_LOGS {
            OpenFiles::Close
        } else {
            OpenFiles::Keep
        }
    }
}

/// What the one whose turn it is did.
enum Served {
    /// It found its place.
    Placed,
    Read(Read),
}

/// Lets the next one do something; it stays where it is, so that nothing is lost with this future.
async fn serve(
    joining: &mut VecDeque<LogStream>,
    ready: &mut VecDeque<LogStream>,
    open_files: OpenFiles,
) -> Result<Served, Error> {
    if let Some(log) = joining.front_mut() {
        return log.place().await.map(|()| Served::Placed);
    }
    match ready.front_mut() {
        Some(log) => log.read(open_files).await.map(Served::Read),
        None => std::future::pending().await,
    }
}

/// The watch goes with it: dropped in the midst of reading the journal, it would begin anew each time.
fn next_of(mut watch: EventWatch) -> News {
    Box::pin(async move {
        let told = watch.next().await;
        (watch, told)
    })
}
