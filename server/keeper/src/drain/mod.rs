//! The thread that reads outputs and writes recordings. It is the only one that touches a disk; if the
//! disk is frozen, so is this thread, and the other one is not.

mod backlog;
mod buffer;
mod recorder;
mod stream;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::thread::Timespec;
use wharf_keeper::protocol::Refusal;
use wharf_keeper::segment::ProcessExit;

use self::buffer::Buffer;
pub(crate) use self::stream::Stream;
use self::stream::parse_token;
use crate::link::{Command, DrainEnd, Event, Key, Setup};
use crate::log;
use crate::poller::Poller;
use crate::upgrade;

/// What could not be written is tried again so often.
const RETRY: Duration = Duration::from_secs(1);

/// Who has written so much since the last look goes on writing.
const BULK_BYTES: u64 = 4096;

/// How long such output may gather before it is read: far less than a pipe takes to fill. Each read costs
/// a wake-up, an entry and a message to the client.
const GATHER: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 250_000,
};

/// Never a stream's token.
const WAKE: u64 = u64::MAX;

/// The streams, and when which of them is due.
#[derive(Debug)]
pub(crate) struct Drain {
    link: DrainEnd,
    poller: Poller,
    streams: HashMap<Key, Stream>,
    /// Streams that are to be complete by a time.
    deadlines: BTreeSet<(Instant, Key)>,
    /// Streams whose recordings owe something.
    owing: BTreeSet<Key>,
    retry_at: Instant,
    /// One for all.
    buffer: Buffer,
}

/// What is left when the thread ends.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// To go on with, if nothing comes of the upgrade.
    pub(crate) drain: Drain,
    /// What to go on as.
    pub(crate) binary: io::Result<OwnedFd>,
}

impl Drain {
    pub(crate) fn new(link: DrainEnd) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(&*link.wake, WAKE, EventFlags::IN)?;
        Ok(Self {
            link,
            poller,
            streams: HashMap::new(),
            deadlines: BTreeSet::new(),
            owing: BTreeSet::new(),
            retry_at: Instant::now(),
            buffer: Buffer::new(),
        })
    }

    /// Works until it is told to stop.
    pub(crate) fn run(mut self) -> Stopped {
        // If this goes on after an upgrade that failed, commands may have come meanwhile.
        self.link.wake.wake();
        loop {
            let tokens = match self.poller.wait(self.next_deadline()) {
                Ok(tokens) => tokens,
                Err(error) => {
                    log::line(&format_args!("cannot wait for output: {error}"));
                    Vec::new()
                }
            };
            let outputs = tokens.into_iter().filter(|token| *token != WAKE);
            let drained: u64 = outputs.map(|token| self.on_output(token)).sum();
            if let Some(binary) = self.on_commands() {
                let binary = upgrade::sealed_copy(binary);
                self.link.tell(Event::Stopped);
                return Stopped {
                    drain: self,
                    binary,
                };
            }
            self.on_time();
            if drained >= BULK_BYTES {
                // Cut short is as good.
                let _ = rustix::thread::nanosleep(&GATHER);
            }
        }
    }

    pub(crate) fn stream(&self, key: Key) -> Option<&Stream> {
        self.streams.get(&key)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let due = self.deadlines.first().map(|(at, _)| *at);
        let retry = (!self.owing.is_empty()).then_some(self.retry_at);
        [due, retry].into_iter().flatten().min()
    }

    /// Reads once; returns how much.
    fn on_output(&mut self, token: u64) -> u64 {
        let (key, output) = parse_token(token);
        let Some(stream) = self.streams.get_mut(&key) else {
            return 0;
        };
        let before = stream.recorder.drained();
        stream.read(output, &self.poller, self.buffer.bytes());
        let drained = stream.recorder.drained().saturating_sub(before);
        self.after_reading(key);
        drained
    }

    /// Takes all commands there are; returns the binary to go on with if it is to stop.
    fn on_commands(&mut self) -> Option<Option<OwnedFd>> {
        self.link.wake.clear();
        while let Ok(command) = self.link.commands.try_recv() {
            match command {
                Command::Open(setup) => self.open(*setup),
                Command::Window(key) => self.on_window(key),
                Command::Finish(key, deadline) => self.finish(key, deadline),
                Command::Launched(key, pid) => self.launched(key, pid),
                Command::Exited(key, exit) => self.exited(key, exit),
                Command::Terminal(key, terminal) => self.terminal(key, terminal),
                Command::Close(key) => self.close(key),
                Command::Stop(binary) => return Some(binary),
            }
        }
        None
    }

    fn open(&mut self, setup: Setup) {
        let (key, must) = (setup.key, setup.resumed.is_some());
        let mut stream = Stream::new(setup);
        if let Err(error) = stream.recorder.open()
            && !must
        {
            let event = Event::NotOpened(key, Refusal::Storage, error.to_string());
            return self.link.tell(event);
        }
        if let Err(error) = stream.prepare(&self.poller)
            && !must
        {
            stream.release(&self.poller);
            let event = Event::NotOpened(key, Refusal::Invalid, error.to_string());
            return self.link.tell(event);
        }
        self.keep(stream);
    }

    fn keep(&mut self, mut stream: Stream) {
        let key = stream.key();
        let before = stream.recorder.positions();
        stream.recorder.settle();
        if let Some(deadline) = stream.finishing {
            self.deadlines.insert((deadline, key));
            stream.read_all(&self.poller, self.buffer.bytes());
        }
        let found = before.ended.filter(|_| stream.finished.is_none());
        if let Some(end) = found {
            stream.found_ended(&self.poller, end);
        }
        let finished = stream.finished.filter(|_| found.is_some());
        self.streams.insert(key, stream);
        self.publish(key);
        self.link.tell(Event::Opened(key, before));
        if let Some(finished) = finished {
            self.link.tell(Event::Finished(key, finished));
        }
        self.after_reading(key);
    }

    fn on_window(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        stream.progress.window_seen();
        self.after_reading(key);
    }

    fn finish(&mut self, key: Key, deadline: Instant) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        if stream.finished.is_some() || stream.finishing.is_some() {
            return;
        }
        stream.finishing = Some(deadline);
        self.deadlines.insert((deadline, key));
        stream.read_all(&self.poller, self.buffer.bytes());
        self.after_reading(key);
    }

    fn launched(&mut self, key: Key, pid: u32) {
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.recorder.launched(pid);
            self.publish(key);
        }
    }

    fn exited(&mut self, key: Key, exit: ProcessExit) {
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.recorder.exited(exit);
            self.publish(key);
        }
    }

    fn terminal(&mut self, key: Key, terminal: OwnedFd) {
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.read_from(terminal, &self.poller);
            self.after_reading(key);
        }
    }

    fn close(&mut self, key: Key) {
        if let Some(mut stream) = self.streams.remove(&key) {
            stream.release(&self.poller);
            self.forget_deadline(&stream);
        }
        self.owing.remove(&key);
        self.link.tell(Event::Closed(key));
    }

    /// What follows from a stream's having been read, or its window's having moved.
    fn after_reading(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        if stream.finishing.is_some() && stream.outputs_open() == 0 {
            if stream.end(&self.poller) {
                self.complete(key);
            }
        } else if let Err(error) = stream.watch(&self.poller) {
            log::line(&format_args!("an output cannot be watched: {error}"));
        }
        self.publish(key);
    }

    /// Tells that a stream is finished: its recording is complete, or cannot be completed in time.
    fn complete(&mut self, key: Key) {
        let Some(stream) = self.streams.get_mut(&key) else {
            return;
        };
        if let Some(deadline) = stream.finishing {
            self.deadlines.remove(&(deadline, key));
        }
        let finished = stream.complete();
        self.publish(key);
        self.link.tell(Event::Finished(key, finished));
    }

    fn publish(&mut self, key: Key) {
        let Some(stream) = self.streams.get(&key) else {
            return;
        };
        let recorder = &stream.recorder;
        if !recorder.owes() {
            self.owing.remove(&key);
        } else if self.owing.insert(key) && self.owing.len() == 1 {
            self.retry_at = Instant::now() + RETRY;
        }
        stream.progress.set_outputs_open(stream.outputs_open());
        self.link
            .publish(&stream.progress, recorder.positions(), recorder.entries());
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        while let Some((deadline, key)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.remove(&(deadline, key));
            if let Some(stream) = self.streams.get_mut(&key) {
                // Whoever has not read by now does not hold up the end.
                stream.progress.lift_window();
                stream.read_all(&self.poller, self.buffer.bytes());
                stream.end(&self.poller);
                self.complete(key);
            }
        }
        if !self.owing.is_empty() && self.retry_at <= now {
            self.settle_all();
            self.retry_at = now + RETRY;
        }
    }

    fn settle_all(&mut self) {
        for key in self.owing.clone() {
            if let Some(stream) = self.streams.get_mut(&key) {
                stream.recorder.settle();
            }
            self.after_reading(key);
        }
    }

    fn forget_deadline(&mut self, stream: &Stream) {
        if let Some(deadline) = stream.finishing {
            self.deadlines.remove(&(deadline, stream.key()));
        }
    }
}
