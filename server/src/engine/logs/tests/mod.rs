//! Logs of containers that a test makes up, over real segments.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod following;
mod reading;
mod resuming;
mod seeking;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::watch;

use super::scan::{Scan, Step};
use super::stream::Growing;
use super::view::View;
use super::*;
use crate::engine::registry::Snapshot;
use crate::model::{Container, ExitReason, State};
use crate::stdio::segment::{Limits, Output, Writer};
use crate::stdio::{Ended, Progress};
use crate::store::tests::container;

/// Rotates soon, and keeps everything.
const SMALL: Limits = Limits {
    segment_bytes: 400,
    total_bytes: 1 << 24,
};
/// Keeps little.
const TINY: Limits = Limits {
    segment_bytes: 400,
    total_bytes: 1_600,
};
/// A long line goes over some segments.
const MIDDLE: Limits = Limits {
    segment_bytes: 4_000,
    total_bytes: 1 << 24,
};
/// A long line goes over more than is kept.
const SCANT: Limits = Limits {
    segment_bytes: 4_000,
    total_bytes: 12_000,
};
const LARGE: Limits = Limits {
    segment_bytes: 1 << 20,
    total_bytes: 1 << 26,
};

/// A container and its log.
struct Log {
    dir: TempDir,
    limits: Limits,
    snapshot: watch::Sender<Snapshot>,
    growth: watch::Sender<Progress>,
    writer: Option<Writer>,
    /// Of what is written next.
    time: u64,
}

/// What tells of growth in place of the keeper.
#[derive(Debug)]
struct Grown(watch::Receiver<Progress>);

impl Growing for Grown {
    fn watch<'a>(&'a mut self, _: &'a Container) -> BoxFuture<'a, watch::Receiver<Progress>> {
        let mut receiver = self.0.clone();
        receiver.mark_unchanged();
        Box::pin(std::future::ready(receiver))
    }
}

impl Log {
    /// One whose container was not started yet.
    fn new(limits: Limits) -> Self {
        let container = Arc::new(container("logged"));
        let gone = false;
        Self {
            dir: tempfile::tempdir().unwrap(),
            limits,
            snapshot: watch::Sender::new(Snapshot { container, gone }),
            growth: watch::Sender::default(),
            writer: None,
            time: 1_000,
        }
    }

    /// One whose first run is on.
    fn started(limits: Limits) -> Self {
        let mut log = Self::new(limits);
        log.start();
        log
    }

    fn directory(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn change(&self, change: impl FnOnce(&mut Container)) {
        self.snapshot.send_modify(|snapshot| {
            change(Arc::make_mut(&mut snapshot.container));
        });
    }

    fn start(&mut self) {
        let run = self.snapshot.borrow().container.run.next();
        let time = self.tick();
        self.growth.send_replace(Progress::default());
        self.writer = Some(Writer::open(&self.directory(), run.0, self.limits, time).unwrap());
        self.change(|container| {
            container.run = run;
            container.state = State::Running;
            container.start_time = Some(time_of(time + 1));
        });
    }

    /// The run ends.
    fn exit(&mut self, code: u8) {
        self.process_exits(code);
        self.end_recording();
    }

    /// The process ends, and the rest of its output is on its way.
    fn process_exits(&mut self, code: u8) {
        let time = self.tick();
        self.change(|container| {
            let exit = exit(container.run, code, time);
            Arc::make_mut(&mut container.runs).push_back(Arc::new(exit));
            container.state = State::Exited;
        });
    }

    fn end_recording(&mut self) {
        let time = self.tick();
        let mut writer = self.writer.take().unwrap();
        let end = crate::stdio::segment::End { truncated: false };
        writer.end(time, end).unwrap();
        self.growth
            .send_modify(|progress| progress.ended = Some(Ended::Whole));
    }

    /// There will be no more of it, and nobody could write so.
    fn lose_the_end(&mut self) {
        self.writer = None;
        self.growth
            .send_modify(|progress| progress.ended = Some(Ended::Truncated));
    }

    fn delete(&self) {
        self.snapshot.send_modify(|snapshot| snapshot.gone = true);
    }

    fn write(&mut self, output: Output, bytes: impl AsRef<[u8]>) {
        let time = self.tick();
        let writer = self.writer.as_mut().unwrap();
        writer.append(time, output, bytes.as_ref()).unwrap();
        self.grew();
    }

    fn out(&mut self, bytes: impl AsRef<[u8]>) {
        self.write(Output::Stdout, bytes);
    }

    fn err(&mut self, bytes: impl AsRef<[u8]>) {
        self.write(Output::Stderr, bytes);
    }

    fn gap(&mut self, output: Option<Output>, bytes: u64) {
        let time = self.tick();
        let writer = self.writer.as_mut().unwrap();
        writer.gap(time, output, bytes).unwrap();
        self.grew();
    }

    fn tick(&mut self) -> u64 {
        self.time += 10;
        self.time
    }

    fn grew(&self) {
        self.growth.send_modify(|progress| progress.entries += 1);
    }

    fn view(&self) -> View {
        let drained = self.growth.borrow().ended.is_some();
        View::new(self.snapshot.borrow().clone(), drained)
    }

    fn id(&self) -> ContainerId {
        self.view().container.id
    }

    fn source(&self) -> Source {
        let container = self.view().container;
        Source {
            container: container.id,
            directory: self.directory(),
            keeps_log: !container.spec.log.disabled,
            snapshot: self.snapshot.subscribe(),
            growing: Box::new(Grown(self.growth.subscribe())),
        }
    }

    async fn open(&self, query: LogQuery) -> LogStream {
        let mut log = LogStream::new(self.source(), query).unwrap();
        log.place().await.unwrap();
        log
    }

    /// Everything that a query gives, as text.
    async fn read(&self, query: LogQuery) -> Vec<String> {
        let mut log = self.open(query).await;
        let mut told = Vec::new();
        while let Some(message) = next(&mut log).await {
            told.extend(words(&message));
        }
        told
    }

    async fn all(&self) -> Vec<String> {
        self.read(LogQuery::default()).await
    }

    /// A reader of everything whose messages have one entry.
    fn scan(&self, position: cursor::Position) -> Scan {
        let mut scan = Scan::new(self.id(), self.directory(), None, position);
        scan.batch_bytes = 1;
        scan
    }

    /// What a scan tells until there is nothing now.
    fn told(&self, scan: &mut Scan) -> Vec<LogMessage> {
        let mut told = Vec::new();
        while let Step::Message(message) = scan.next(&self.view()).unwrap() {
            told.push(message);
        }
        told
    }
}

fn exit(run: Run, code: u8, time: u64) -> ExitStatus {
    ExitStatus {
        reason: ExitReason::Exited,
        code,
        signal: None,
        exit_time: time_of(time),
        cause: None,
        run,
        output_truncated: false,
    }
}

/// The next message, which must come.
async fn next(log: &mut LogStream) -> Option<LogMessage> {
    let next = tokio::time::timeout(Duration::from_secs(3600), log.next());
    next.await.expect("it comes").unwrap()
}

/// A message in words: `started 1`, `1 out "text\n"`, `gap 5`, `exited 1 0`.
fn words(message: &LogMessage) -> Vec<String> {
    let run = message.run;
    match &message.item {
        LogItem::Entries(entries) => entries
            .iter()
            .map(|entry| entry_words(run, entry))
            .collect(),
        LogItem::Gap { missed } => vec![format!("{run} gap {missed}")],
        LogItem::RunStarted { .. } => vec![format!("{run} started")],
        LogItem::RunExited(exit) => vec![format!("{run} exited {}", exit.code)],
        LogItem::Idle => vec![format!("{run} idle")],
    }
}

fn entry_words(run: Run, entry: &LogEntry) -> String {
    let stream = match entry.stream {
        OutputStream::Stdout => "out",
        OutputStream::Stderr => "err",
    };
    let partial = if entry.partial { "..." } else { "" };
    format!("{run} {stream} {:?}{partial}", entry.data)
}

fn tail(count: u64) -> LogQuery {
    LogQuery {
        tail: Some(count),
        ..LogQuery::default()
    }
}

fn follow() -> LogQuery {
    LogQuery {
        end: LogEnd::Deletion,
        ..LogQuery::default()
    }
}

fn since(time: u64) -> LogQuery {
    LogQuery {
        start: LogStart::Since(time_of(time)),
        ..LogQuery::default()
    }
}

fn after(cursor: LogCursor) -> LogQuery {
    LogQuery {
        start: LogStart::Cursor(cursor),
        ..LogQuery::default()
    }
}
