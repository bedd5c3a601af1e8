//! The thread that speaks with daemons. It never touches a disk and never waits for anybody: not for a
//! daemon that does not read, not for the drain thread.

mod connection;
mod handover;
mod processes;
mod requests;
mod table;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::net::{SocketFlags, accept_with, sockopt};
use rustix::process::{Resource, getrlimit};
use wharf_keeper::protocol::{
    Answer, Growth, MAX_MESSAGE_BYTES, Message, Refusal, WireError, receive_bytes,
};

use self::connection::{Alive, Connection, Peer};
use self::processes::Helper;
pub(crate) use self::processes::{Launching, Process, Role};
use self::table::{ConnectionId, Entry, Finish, Phase, Table, Waiter};
use crate::args::Args;
use crate::drain::{Drain, Stopped};
use crate::link::{self, ControlEnd, DrainEnd, Event, Finished, Key, Progress};
use crate::poller::Poller;
use crate::start::StartError;
use crate::{log, sys};

/// At most so many streams are kept.
const MAX_STREAMS: usize = 20_000;

/// Descriptors of a stream: two outputs, the input, two files. All streams fit into the usual hard limit.
const STREAM_DESCRIPTORS: u64 = 5;

/// Descriptors for everything else: connections, what comes with a message, an upgrade.
const OTHER_DESCRIPTORS: u64 = 128;

/// Daemons connected at a time. There is one, or two while one takes over from another.
const MAX_CONNECTIONS: usize = 64;

/// Requests taken from a connection before the others have their turn.
const REQUESTS_A_TURN: usize = 32;

/// The rest of a page of streams is left for the next one.
const PAGE_BYTES: usize = MAX_MESSAGE_BYTES / 2;

/// The drain thread needs little: its buffer is on the heap.
const DRAIN_STACK_BYTES: usize = 256 * 1024;

const LISTENER: u64 = 0;
const WAKE: u64 = 1;
const SIGNALS: u64 = 2;
const FIRST_CONNECTION: ConnectionId = 16;

/// What makes a process the keeper of a directory.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) listener: OwnedFd,
    pub(crate) lock: OwnedFd,
    pub(crate) signals: OwnedFd,
}

/// The drain thread, which is elsewhere while it works.
#[derive(Debug)]
enum Draining {
    No,
    Waiting(DrainEnd),
    Yes(JoinHandle<Stopped>),
    /// It has been told to stop, for this upgrade.
    Stopping(JoinHandle<Stopped>, Waiter),
}

/// Whether the keeper goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Again,
    End,
}

/// The state of the control thread.
#[derive(Debug)]
pub(crate) struct Control {
    args: Args,
    owned: Owned,
    poller: Poller,
    link: ControlEnd,
    draining: Draining,
    table: Table,
    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: ConnectionId,
    next_key: Key,
    helpers: HashMap<Key, Helper>,
    /// Whether one has ended: only then there can be strays.
    has_helped: bool,
    /// Children on their way out that belong to no stream (any more).
    unclaimed: HashMap<Key, OwnedFd>,
    /// Since when there is neither a connection nor a stream; `None` while there is.
    idle_since: Option<Instant>,
    buffer: Vec<u8>,
}

impl Control {
    pub(crate) fn new(args: Args, owned: Owned) -> io::Result<Self> {
        let (link, drain) = link::pair()?;
        let poller = Poller::new()?;
        poller.add(&owned.listener, LISTENER, EventFlags::IN)?;
        poller.add(&*link.wake, WAKE, EventFlags::IN)?;
        poller.add(&owned.signals, SIGNALS, EventFlags::IN)?;
        Ok(Self {
            args,
            owned,
            poller,
            link,
            draining: Draining::Waiting(drain),
            table: Table::default(),
            connections: BTreeMap::new(),
            next_connection: FIRST_CONNECTION,
            next_key: 0,
            helpers: HashMap::new(),
            has_helped: false,
            unclaimed: HashMap::new(),
            idle_since: Some(Instant::now()),
            buffer: vec![0; MAX_MESSAGE_BYTES],
        })
    }

    /// Works until there is nothing to do any more.
    pub(crate) fn run(&mut self) -> Result<(), StartError> {
        if let Draining::Waiting(end) = std::mem::replace(&mut self.draining, Draining::No) {
            let drain = Drain::new(end).map_err(StartError::when("starting to drain"))?;
            self.start_draining(drain)?;
        }
        loop {
            let tokens = self
                .poller
                .wait(self.next_deadline())
                .map_err(StartError::when("waiting"))?;
            for token in tokens {
                if self.on_token(token) == Turn::End {
                    return Ok(());
                }
            }
            self.on_events()?;
            self.flush_all();
            if self.is_idle_for_long() {
                return Ok(());
            }
        }
    }

    fn start_draining(&mut self, drain: Drain) -> Result<(), StartError> {
        let thread = std::thread::Builder::new()
            .name("drain".to_owned())
            .stack_size(DRAIN_STACK_BYTES)
            .spawn(move || drain.run());
        self.draining = Draining::Yes(thread.map_err(StartError::when("starting to drain"))?);
        Ok(())
    }

    fn new_progress(&mut self, taken: Option<u64>) -> Arc<Progress> {
        let key = self.new_key();
        Arc::new(Progress::new(key, taken))
    }

    fn is_idle(&self) -> bool {
        self.table.is_empty() && self.connections.is_empty()
    }

    fn is_idle_for_long(&mut self) -> bool {
        if !self.is_idle() {
            self.idle_since = None;
            return false;
        }
        // It counts from this turn on, however long nothing has been said on the connection that was the last one.
        let since = self.idle_since.get_or_insert_with(Instant::now);
        since.elapsed() >= self.args.idle_exit
    }

    fn next_deadline(&self) -> Option<Instant> {
        let idle = self
            .idle_since
            .and_then(|since| since.checked_add(self.args.idle_exit));
        let due = self.connections.values().filter_map(Connection::due);
        due.chain(idle).min()
    }

    fn on_token(&mut self, token: u64) -> Turn {
        match token {
            LISTENER => self.accept_all(),
            WAKE => self.link.wake.clear(),
            SIGNALS => return self.on_signals(),
            process if self.on_process_token(process) => {}
            connection => self.on_connection(connection),
        }
        Turn::Again
    }

    fn on_signals(&mut self) -> Turn {
        while let Some(signal) = sys::next_signal(&self.owned.signals) {
            if !sys::is_terminate(signal) {
                continue;
            }
            if self.table.is_empty() {
                return Turn::End;
            }
            let kept = self.table.len();
            log::line(&format_args!("SIGTERM is ignored: {kept} streams are kept"));
        }
        Turn::Again
    }

    fn accept_all(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(socket) = accept_with(&self.owned.listener, flags) {
            let welcome = self.connections.len() < MAX_CONNECTIONS && is_ours(&socket);
            let id = self.next_connection;
            if welcome && self.poller.add(&socket, id, EventFlags::IN).is_ok() {
                self.next_connection += 1;
                self.connections.insert(id, Connection::new(socket));
            }
        }
    }

    fn on_connection(&mut self, id: ConnectionId) {
        for _ in 0..REQUESTS_A_TURN {
            let Some(connection) = self.connections.get(&id) else {
                return;
            };
            if !connection.listens() || self.is_upgrading() {
                return;
            }
            match receive_bytes(&connection.socket, &mut self.buffer) {
                Ok((length, descriptors)) => {
                    if self.on_packet(id, length, descriptors) == Alive::No {
                        self.drop_connection(id);
                    }
                }
                Err(WireError::NotReady) => return,
                Err(_) => self.drop_connection(id),
            }
        }
    }

    fn is_upgrading(&self) -> bool {
        matches!(self.draining, Draining::Stopping(..))
    }

    /// What was said on it about windows ends with it.
    fn drop_connection(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(&id) {
            self.poller.remove(&connection.socket);
        }
        for entry in self.table.iter_mut() {
            if let Finish::Asked(waiters) = &mut entry.finish {
                waiters.retain(|waiter| waiter.connection != id);
            }
            if entry.window == Some(id) {
                entry.window = None;
                self.link.move_window(&entry.progress, None);
            }
        }
    }

    fn on_events(&mut self) -> Result<(), StartError> {
        while let Ok(event) = self.link.events.try_recv() {
            match event {
                Event::Opened(key, positions) => {
                    self.opened(key, Answer::Opened { positions });
                }
                Event::NotOpened(key, reason, detail) => self.not_opened(key, reason, detail),
                Event::Finished(key, finished) => self.finished(key, finished),
                Event::Closed(key) => self.closed(key),
                Event::Stopped => self.upgrade()?,
            }
        }
        for key in self.link.take_grown() {
            for connection in self.connections.values_mut() {
                connection.grew(key);
            }
        }
        Ok(())
    }

    fn opened(&mut self, key: Key, answer: Answer) {
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        if let Phase::Opening(waiter) = std::mem::replace(&mut entry.phase, Phase::Open) {
            self.tell(waiter, answer);
        }
    }

    fn not_opened(&mut self, key: Key, reason: Refusal, detail: String) {
        let entry = self.table.remove(key);
        if let Some(Phase::Opening(waiter)) = entry.map(|entry| entry.phase) {
            self.tell(waiter, Answer::Refused { reason, detail });
        }
    }

    fn finished(&mut self, key: Key, finished: Finished) {
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        let answer = entry.finished(&finished);
        let before = std::mem::replace(&mut entry.finish, Finish::Done(finished));
        if let Finish::Asked(waiters) = before {
            for waiter in waiters {
                self.tell(waiter, answer.clone());
            }
        }
    }

    fn closed(&mut self, key: Key) {
        let Some(entry) = self.table.remove(key) else {
            return;
        };
        if let Some(process) = entry.process {
            self.let_go_of(process);
        }
        if let Finish::Asked(waiters) = entry.finish {
            for waiter in waiters {
                let reason = Refusal::Unknown;
                let detail = "closed".to_owned();
                self.tell(waiter, Answer::Refused { reason, detail });
            }
        }
        if let Phase::Closing(waiters) = entry.phase {
            for waiter in waiters {
                self.tell(waiter, Answer::Done {});
            }
        }
        self.reap_strays();
    }

    fn tell(&mut self, waiter: Waiter, answer: Answer) {
        self.tell_with(waiter, answer, Vec::new());
    }

    fn tell_with(&mut self, waiter: Waiter, answer: Answer, descriptors: Vec<OwnedFd>) {
        if let Some(connection) = self.connections.get_mut(&waiter.connection) {
            connection.keep_promise(waiter.request, answer, descriptors);
        }
    }

    fn flush_all(&mut self) {
        let requests = !self.is_upgrading();
        let mut gone = Vec::new();
        for (id, connection) in &mut self.connections {
            let describe = |keys: &BTreeSet<Key>| describe(&self.table, keys);
            let alive = connection.flush(describe);
            let watched = match connection.rewatch(requests) {
                Some(flags) => self.poller.modify(&connection.socket, *id, flags).is_ok(),
                None => true,
            };
            if alive == Alive::No || !watched {
                gone.push(*id);
            }
        }
        for id in gone {
            self.drop_connection(id);
        }
    }
}

/// How many streams there are descriptors for.
fn most_streams() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let streams = descriptors.saturating_sub(OTHER_DESCRIPTORS) / STREAM_DESCRIPTORS;
    usize::try_from(streams).map_or(MAX_STREAMS, |streams| streams.min(MAX_STREAMS))
}

/// Root may speak for anybody; else only who started us.
fn is_ours(socket: &OwnedFd) -> bool {
    let own = rustix::process::geteuid();
    sockopt::socket_peercred(socket).is_ok_and(|peer| peer.uid.is_root() || peer.uid == own)
}

/// A message about as many of these streams as fit; `None` if none of them is there (any more).
fn describe(table: &Table, keys: &BTreeSet<Key>) -> Option<(Vec<u8>, Key)> {
    const MOST: usize = 128;
    let mut last = None;
    let mut streams: Vec<Growth> = Vec::new();
    for key in keys {
        if streams.len() == MOST {
            break;
        }
        last = Some(*key);
        streams.extend(table.get(*key).map(Entry::growth));
    }
    if streams.is_empty() {
        return None;
    }
    let bytes = serde_json::to_vec(&Message::Grew { streams }).ok()?;
    Some((bytes, last?))
}
