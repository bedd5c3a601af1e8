//! One daemon's connection: what it is to be told, in order, without ever waiting for it.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use wharf_keeper::protocol::{Answer, Message, WireError, send_bytes};
use wharf_keeper::segment::ProcessExit;

use crate::link::Key;
use crate::log;

/// Growth is told at most so often: a stream that never rests costs few messages.
const GROWTH_INTERVAL: Duration = Duration::from_millis(1);

/// Requests whose answers take their time, on one connection. One for each stream and kind is plenty.
const MAX_PENDING: usize = 65_536;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// It has not said hello.
    Stranger,
    /// It speaks another version.
    Foreign,
    /// It speaks ours.
    Daemon,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alive {
    Yes,
    No,
}

/// A message on its way out.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// A connection. Bounded: nothing more is read from it while an answer waits, and of a stream's growth
/// it is only known that there is some.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: Peer,
    outbox: VecDeque<Outgoing>,
    grown: BTreeSet<Key>,
    growth_at: Instant,
    pending: usize,
    /// The socket had no room.
    blocked: bool,
    watched: EventFlags,
}

impl Connection {
    /// Watched for `IN` from the start.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            peer: Peer::Stranger,
            outbox: VecDeque::new(),
            grown: BTreeSet::new(),
            growth_at: Instant::now(),
            pending: 0,
            blocked: false,
            watched: EventFlags::IN,
        }
    }

    pub(crate) fn answer(&mut self, id: u64, answer: Answer, descriptors: Vec<OwnedFd>) {
        self.enqueue(&Message::Reply { id, answer }, descriptors);
    }

    /// A process has ended. Once for each, so there are at most as many such messages as streams.
    pub(crate) fn exited(&mut self, stream: &str, pid: u32, exit: ProcessExit) {
        if self.peer == Peer::Daemon {
            let stream = stream.to_owned();
            self.enqueue(&Message::Exited { stream, pid, exit }, Vec::new());
        }
    }

    fn enqueue(&mut self, message: &Message, descriptors: Vec<OwnedFd>) {
        match serde_json::to_vec(message) {
            Ok(bytes) => self.outbox.push_back(Outgoing { bytes, descriptors }),
            Err(error) => log::line(&format_args!("a message cannot be encoded: {error}")),
        }
    }

    /// An answer will come later.
    pub(crate) fn promise(&mut self) -> Alive {
        self.pending += 1;
        if self.pending > MAX_PENDING {
            return Alive::No;
        }
        Alive::Yes
    }

    /// The answer that was promised.
    pub(crate) fn keep_promise(&mut self, id: u64, answer: Answer, descriptors: Vec<OwnedFd>) {
        self.pending = self.pending.saturating_sub(1);
        self.answer(id, answer, descriptors);
    }

    pub(crate) fn grew(&mut self, key: Key) {
        if self.peer == Peer::Daemon {
            self.grown.insert(key);
        }
    }

    /// Whether requests are read from it.
    pub(crate) fn listens(&self) -> bool {
        self.outbox.is_empty()
    }

    /// When it is to be told of growth, if it must be waited for.
    pub(crate) fn due(&self) -> Option<Instant> {
        (!self.grown.is_empty() && !self.blocked).then_some(self.growth_at)
    }

    /// Sends what the socket takes. `describe` makes a message of some of the streams that have grown and
    /// says up to which it has come.
    pub(crate) fn flush(
        &mut self,
        describe: impl Fn(&BTreeSet<Key>) -> Option<(Vec<u8>, Key)>,
    ) -> Alive {
        self.blocked = false;
        while let Some(next) = self.outbox.front() {
            let descriptors: Vec<_> = next.descriptors.iter().map(AsFd::as_fd).collect();
            match send_bytes(&self.socket, &next.bytes, &descriptors) {
                Ok(()) => drop(self.outbox.pop_front()),
                Err(error) => return self.on_error(&error),
            }
        }
        self.flush_growth(describe)
    }

    /// The events that matter now, if they are others than before.
    pub(crate) fn rewatch(&mut self, requests: bool) -> Option<EventFlags> {
        let mut wanted = EventFlags::empty();
        wanted.set(EventFlags::IN, requests && self.listens());
        wanted.set(EventFlags::OUT, self.blocked);
        let changed = wanted != self.watched;
        self.watched = wanted;
        changed.then_some(wanted)
    }

    fn flush_growth(
        &mut self,
        describe: impl Fn(&BTreeSet<Key>) -> Option<(Vec<u8>, Key)>,
    ) -> Alive {
        let now = Instant::now();
        if self.grown.is_empty() || now < self.growth_at {
            return Alive::Yes;
        }
        while let Some((bytes, last)) = describe(&self.grown) {
            match send_bytes(&self.socket, &bytes, &[]) {
                Ok(()) => self.grown = self.grown.split_off(&(last + 1)),
                Err(error) => return self.on_error(&error),
            }
        }
        self.grown.clear();
        self.growth_at = now + GROWTH_INTERVAL;
        Alive::Yes
    }

    fn on_error(&mut self, error: &WireError) -> Alive {
        self.blocked = matches!(error, WireError::NotReady);
        if self.blocked { Alive::Yes } else { Alive::No }
    }
}
