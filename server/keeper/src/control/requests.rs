//! What the daemon asks, one request at a time.

use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::Deserialize;
use wharf_keeper::protocol::{
    Answer, Call, MAX_STREAM_ID_BYTES, Open, Refusal, Request, StreamState, VERSION,
};

use super::{
    Alive, ConnectionId, Control, Draining, Entry, Finish, PAGE_BYTES, Peer, Phase, Waiter,
    most_streams,
};
use crate::link::{Command, Debts, Setup};
use crate::upgrade;

/// What becomes of a request.
pub(super) enum Outcome {
    Answer(Answer),
    /// With a descriptor.
    Descriptor(OwnedFd),
    /// The answer comes later.
    Later,
    /// There is no answer.
    Silence,
}

pub(super) type Handled = Result<Outcome, Refused>;

/// A refusal, with a word for the log.
pub(super) struct Refused(pub(super) Refusal, pub(super) Cow<'static, str>);

impl Refused {
    pub(super) fn told(reason: Refusal, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(reason, detail.into())
    }
}

/// What is left of a request that is not understood.
#[derive(Deserialize)]
struct OnlyId {
    id: u64,
}

impl Control {
    /// Deals with one packet, which is in the buffer. What is no request at all ends the connection.
    pub(super) fn on_packet(
        &mut self,
        connection: ConnectionId,
        length: usize,
        descriptors: Vec<OwnedFd>,
    ) -> Alive {
        let packet = &self.buffer[..length];
        let (request, handled) = match serde_json::from_slice::<Request>(packet) {
            Ok(Request { id, call }) => {
                let waiter = Waiter {
                    connection,
                    request: id,
                };
                (id, self.handle(waiter, call, descriptors))
            }
            Err(_) => match serde_json::from_slice::<OnlyId>(packet) {
                Ok(OnlyId { id }) => (id, Err(Refused::told(Refusal::Unintelligible, ""))),
                Err(_) => return Alive::No,
            },
        };
        let Some(connection) = self.connections.get_mut(&connection) else {
            return Alive::Yes;
        };
        match handled {
            Ok(Outcome::Answer(answer)) => connection.answer(request, answer, Vec::new()),
            Ok(Outcome::Descriptor(fd)) => connection.answer(request, Answer::Stdin {}, vec![fd]),
            Ok(Outcome::Later) => return connection.promise(),
            Ok(Outcome::Silence) => {}
            Err(Refused(reason, detail)) => {
                let detail = detail.into_owned();
                connection.answer(request, Answer::Refused { reason, detail }, Vec::new());
            }
        }
        Alive::Yes
    }

    fn handle(&mut self, waiter: Waiter, call: Call, mut descriptors: Vec<OwnedFd>) -> Handled {
        self.admit(waiter.connection, &call)?;
        match call {
            Call::Hello { version } => Ok(self.hello(waiter.connection, version)),
            Call::Open(open) => self.open(waiter, open, descriptors),
            Call::Window { stream, taken } => Ok(self.window(waiter.connection, &stream, taken)),
            Call::Finish { stream, within_ms } => self.finish(waiter, &stream, within_ms),
            Call::Launch(launch) => self.launch(waiter, &launch, descriptors),
            Call::Watch { stream, pid } => self.watch(&stream, pid, descriptors),
            Call::Resize {
                stream,
                rows,
                columns,
            } => self.resize(&stream, rows, columns),
            Call::Terminal { stream } => self.take_terminal(&stream, descriptors),
            Call::Signal { stream, number } => self.signal(&stream, number),
            Call::TakeStdin { stream } => self.take_stdin(&stream),
            Call::CloseStdin { stream } => self.close_stdin(&stream),
            Call::Close { stream } => self.close(waiter, &stream),
            Call::List { after } => Ok(self.list(after.as_deref())),
            Call::Get { stream } => Ok(self.get(&stream)),
            Call::Upgrade {} => self.begin_upgrade(waiter, descriptors.pop()),
        }
    }

    fn admit(&self, connection: ConnectionId, call: &Call) -> Result<(), Refused> {
        let peer = self
            .connections
            .get(&connection)
            .map_or(Peer::Stranger, |connection| connection.peer);
        match (peer, call) {
            (_, Call::Hello { .. }) | (Peer::Foreign, Call::Upgrade {}) | (Peer::Daemon, _) => {
                Ok(())
            }
            (Peer::Stranger, _) => Err(Refused::told(Refusal::HelloFirst, "")),
            (Peer::Foreign, _) => Err(Refused::told(Refusal::Version, "")),
        }
    }

    fn hello(&mut self, connection: ConnectionId, version: u32) -> Outcome {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.peer = match version {
                VERSION => Peer::Daemon,
                _ => Peer::Foreign,
            };
        }
        Outcome::Answer(Answer::Hello {
            version: VERSION,
            pid: std::process::id(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }

    fn open(&mut self, waiter: Waiter, open: Open, descriptors: Vec<OwnedFd>) -> Handled {
        let count = open.descriptors.count();
        if open.stream.is_empty() || open.stream.len() > MAX_STREAM_ID_BYTES {
            return Err(Refused::told(Refusal::Invalid, "stream"));
        }
        if !open.directory.is_absolute() {
            return Err(Refused::told(Refusal::Invalid, "directory"));
        }
        if descriptors.len() < count {
            return Err(Refused::told(Refusal::System, "not all descriptors came"));
        }
        if descriptors.len() > count {
            return Err(Refused::told(Refusal::Invalid, "descriptors"));
        }
        if self.table.named(&open.stream).is_some() {
            return Err(Refused::told(Refusal::Exists, ""));
        }
        if self.table.len() >= most_streams() {
            return Err(Refused::told(Refusal::TooMany, ""));
        }
        self.begin_open(waiter, open, descriptors);
        Ok(Outcome::Later)
    }

    fn begin_open(&mut self, waiter: Waiter, open: Open, descriptors: Vec<OwnedFd>) {
        let mut descriptors = descriptors.into_iter();
        let mut take = |declared: bool| if declared { descriptors.next() } else { None };
        let stdout = take(open.descriptors.stdout);
        let stderr = take(open.descriptors.stderr);
        let stdin = take(open.descriptors.stdin);
        let progress = self.new_progress(open.taken);
        let setup = Setup {
            key: progress.key,
            progress: Arc::clone(&progress),
            directory: open.directory.clone(),
            run: open.run,
            limits: open.limits,
            outputs: [stdout, stderr],
            debts: Debts {
                gap: open.continues,
                ..Debts::default()
            },
            resumed: None,
        };
        self.table.insert(Entry {
            stream: open.stream,
            directory: open.directory,
            run: open.run,
            limits: open.limits,
            progress,
            stdin,
            terminal: None,
            process: None,
            phase: Phase::Opening(waiter),
            finish: Finish::NotAsked,
            window: open.taken.map(|_| waiter.connection),
        });
        self.link.send(Command::Open(Box::new(setup)));
    }

    fn window(&mut self, connection: ConnectionId, stream: &str, taken: Option<u64>) -> Outcome {
        if let Some(entry) = self.table.named(stream) {
            entry.window = taken.map(|_| connection);
            self.link.move_window(&entry.progress, taken);
        }
        Outcome::Silence
    }

    fn finish(&mut self, waiter: Waiter, stream: &str, within_ms: u64) -> Handled {
        let entry = self.table.open(stream).ok_or(unknown())?;
        match &mut entry.finish {
            Finish::Done(finished) => {
                let finished = *finished;
                Ok(Outcome::Answer(entry.finished(&finished)))
            }
            Finish::Asked(waiters) => {
                waiters.push(waiter);
                Ok(Outcome::Later)
            }
            Finish::NotAsked => {
                entry.finish = Finish::Asked(vec![waiter]);
                let deadline = upgrade::deadline(within_ms);
                let command = Command::Finish(entry.progress.key, deadline);
                self.link.send(command);
                Ok(Outcome::Later)
            }
        }
    }

    fn take_stdin(&mut self, stream: &str) -> Handled {
        let entry = self.table.open(stream).ok_or(unknown())?;
        let stdin = entry
            .stdin
            .as_ref()
            .ok_or(Refused::told(Refusal::StdinClosed, ""))?;
        let copy = stdin.try_clone();
        copy.map(Outcome::Descriptor)
            .map_err(|_| Refused::told(Refusal::System, "no descriptor left"))
    }

    fn close_stdin(&mut self, stream: &str) -> Handled {
        let entry = self.table.open(stream).ok_or(unknown())?;
        entry.stdin = None;
        Ok(Outcome::Answer(Answer::Done {}))
    }

    fn close(&mut self, waiter: Waiter, stream: &str) -> Handled {
        let Some(entry) = self.table.named(stream) else {
            return Ok(Outcome::Answer(Answer::Done {}));
        };
        match &mut entry.phase {
            Phase::Opening(_) => Err(Refused::told(Refusal::Exists, "it is being opened")),
            Phase::Closing(waiters) => {
                waiters.push(waiter);
                Ok(Outcome::Later)
            }
            Phase::Open => {
                entry.phase = Phase::Closing(vec![waiter]);
                entry.stdin = None;
                let key = entry.progress.key;
                self.end_helpers(Some(key));
                self.link.send(Command::Close(key));
                Ok(Outcome::Later)
            }
        }
    }

    fn list(&self, after: Option<&str>) -> Outcome {
        let mut streams: Vec<StreamState> = Vec::new();
        let mut bytes = 0;
        let mut rest = self.table.after(after).peekable();
        while let Some(entry) = rest.peek() {
            let state = entry.state();
            bytes += serde_json::to_vec(&state).map_or(0, |text| text.len() + 1);
            if bytes > PAGE_BYTES && !streams.is_empty() {
                break;
            }
            streams.push(state);
            rest.next();
        }
        let more = rest.peek().is_some();
        Outcome::Answer(Answer::Streams { streams, more })
    }

    fn get(&mut self, stream: &str) -> Outcome {
        let streams = self.table.open(stream).map(|entry| entry.state());
        Outcome::Answer(Answer::Streams {
            streams: streams.into_iter().collect(),
            more: false,
        })
    }

    fn begin_upgrade(&mut self, waiter: Waiter, binary: Option<OwnedFd>) -> Handled {
        match std::mem::replace(&mut self.draining, Draining::No) {
            Draining::Yes(thread) => {
                self.draining = Draining::Stopping(thread, waiter);
                self.link.send(Command::Stop(binary));
                Ok(Outcome::Later)
            }
            other => {
                self.draining = other;
                Err(Refused::told(Refusal::Upgrading, ""))
            }
        }
    }
}

pub(super) fn unknown() -> Refused {
    Refused::told(Refusal::Unknown, "")
}
