//! The way to the keeper: connects, starts it when it is missing, carries calls and their answers, and
//! hands on what the keeper says unasked.
//!
//! ```text
//! Down --connect, or start it and connect--> greeted --list what it keeps--> Up
//!   ^                                                                          |
//!   +------------------------- the connection breaks --------------------------+
//! ```
//!
//! One task owns the socket. Calls wait for Up, but not for ever; those under way when the connection
//! breaks are told so, and their callers decide.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio as ProcessStdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use wharf_keeper::protocol::{
    self, Answer, Call, MAX_MESSAGE_BYTES, Message, ProcessState, Request, StreamState, WireError,
};
use wharf_keeper::segment::ProcessExit;

use super::processes::{self, KnownProcesses};
use super::{Options, StdioError, Streams, blocking};

/// How long a call waits for the keeper to be there.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a keeper that was started may take to listen.
const START: Duration = Duration::from_secs(5);
const START_POLL: Duration = Duration::from_millis(5);
/// Pause between attempts: doubles up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Calls waiting to be sent: beyond it callers wait in line.
const QUEUE: usize = 256;

type Answered = (Answer, Vec<OwnedFd>);

/// A call on its way.
#[derive(Debug)]
struct Outgoing {
    call: Call,
    descriptors: Vec<OwnedFd>,
    reply: oneshot::Sender<Answered>,
}

/// What callers and the link share.
#[derive(Debug, Default)]
struct Shared {
    /// What the keeper kept when it was last connected to.
    kept: Mutex<HashMap<String, StreamState>>,
    /// Streams that it may have been given since.
    given: Mutex<HashSet<String>>,
    /// How far readers are that processes wait for, to be told: the latest of each stream.
    windows: Mutex<HashMap<String, Option<u64>>>,
    windows_changed: Notify,
    /// Processes whose end somebody waits for.
    known: KnownProcesses,
}

impl Shared {
    /// What it kept is still true of a process that has ended since.
    fn has_exited(&self, stream: &str, pid: u32, exit: ProcessExit) {
        let mut kept = self.kept.lock();
        let process = kept
            .get_mut(stream)
            .and_then(|state| state.process.as_mut());
        if let Some(process) = process.filter(|process| process.pid == pid) {
            process.exit = Some(exit);
        }
    }
}

/// The callers' end of the link. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    outgoing: mpsc::Sender<Outgoing>,
    is_up: watch::Receiver<bool>,
    shared: Arc<Shared>,
}

impl Calls {
    /// Returns once the keeper is there.
    ///
    /// # Errors
    /// [`StdioError::Unavailable`] after a while.
    pub(super) async fn ready(&self) -> Result<(), StdioError> {
        let mut is_up = self.is_up.clone();
        let detail = match timeout(PATIENCE, is_up.wait_for(|up| *up)).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(_)) => "the server is stopping",
            Err(_) => "it does not come up",
        };
        Err(StdioError::unavailable(&detail))
    }

    /// Whether the keeper is there; changes are seen.
    pub(super) fn is_up(&self) -> watch::Receiver<bool> {
        self.is_up.clone()
    }

    pub(super) async fn call(&self, call: Call) -> Result<Answered, StdioError> {
        self.call_with(call, Vec::new()).await
    }

    /// One call, with descriptors.
    ///
    /// # Errors
    /// [`StdioError::Unavailable`]; a refusal is an answer.
    pub(super) async fn call_with(
        &self,
        call: Call,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Answered, StdioError> {
        self.call_within(ANSWER, call, descriptors).await
    }

    /// One call that may take so long.
    pub(super) async fn call_within(
        &self,
        limit: Duration,
        call: Call,
        descriptors: Vec<OwnedFd>,
    ) -> Result<Answered, StdioError> {
        match timeout(limit, self.send(call, descriptors)).await {
            Ok(answered) => answered,
            Err(_) => Err(StdioError::unavailable(&"it does not answer")),
        }
    }

    /// One call that takes as long as it takes.
    pub(super) async fn call_slowly(&self, call: Call) -> Result<Answered, StdioError> {
        self.send(call, Vec::new()).await
    }

    async fn send(&self, call: Call, descriptors: Vec<OwnedFd>) -> Result<Answered, StdioError> {
        self.ready().await?;
        let (reply, answer) = oneshot::channel();
        let outgoing = Outgoing {
            call,
            descriptors,
            reply,
        };
        let gone = |_| StdioError::unavailable(&"the connection broke");
        self.outgoing.send(outgoing).await.map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))
    }

    /// Tells how far the readers of a stream are, as soon as that is possible; only the latest counts.
    pub(super) fn tell_window(&self, stream: &str, taken: Option<u64>) {
        let mut windows = self.shared.windows.lock();
        windows.insert(stream.to_owned(), taken);
        drop(windows);
        self.shared.windows_changed.notify_one();
    }

    /// What the keeper kept of a stream when it was last connected to.
    pub(super) fn kept_state(&self, stream: &str) -> Option<StreamState> {
        self.shared.kept.lock().get(stream).cloned()
    }

    /// The processes whose end somebody waits for.
    pub(super) fn known(&self) -> &KnownProcesses {
        &self.shared.known
    }

    /// The process of a stream that it kept when it was last connected to, if its program ran then.
    pub(super) fn kept_process(&self, stream: &str) -> Option<ProcessState> {
        let kept = self.shared.kept.lock();
        let process = kept.get(stream)?.process;
        process.filter(|process| process.launched)
    }

    /// The processes of what it kept when it was last connected to.
    pub(super) fn kept_processes(&self) -> HashMap<String, ProcessState> {
        let kept = self.shared.kept.lock();
        let processes = kept.values().filter_map(|state| {
            let process = state.process?;
            Some((state.stream.clone(), process))
        });
        processes.collect()
    }

    /// It is about to be given a stream, whatever it has kept of that name.
    pub(super) fn gives(&self, stream: &str) {
        self.shared.given.lock().insert(stream.to_owned());
    }

    /// It has taken a stream: what it kept of that name is another one's.
    pub(super) fn has_given(&self, stream: &str) {
        self.shared.kept.lock().remove(stream);
    }

    /// It keeps it no longer.
    pub(super) fn forget(&self, stream: &str) {
        self.shared.kept.lock().remove(stream);
        self.shared.given.lock().remove(stream);
    }

    /// Whether it may keep a stream. Also if it is not there to be known.
    pub(super) fn may_keep(&self, stream: &str) -> bool {
        !*self.is_up.borrow()
            || self.shared.kept.lock().contains_key(stream)
            || self.shared.given.lock().contains(stream)
    }

    /// The names of what it kept.
    pub(super) fn kept(&self) -> Vec<String> {
        self.shared.kept.lock().keys().cloned().collect()
    }
}

/// The link's task.
pub(super) struct Link {
    options: Options,
    streams: Streams,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Outgoing>,
    is_up: watch::Sender<bool>,
    calls: Calls,
    /// Streams that are being opened again.
    reopening: JoinSet<()>,
    /// The program of a keeper that it was tried to replace: once is enough.
    irreplaceable: Option<String>,
}

/// One connection's state.
struct Connection {
    socket: UnixStream,
    next_id: u64,
    waiting: HashMap<u64, oneshot::Sender<Answered>>,
    unsent: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    buffer: Vec<u8>,
}

impl Link {
    pub(super) fn new(options: Options, streams: Streams) -> (Self, Calls) {
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let (is_up, up) = watch::channel(false);
        let shared = Arc::<Shared>::default();
        let calls = Calls {
            outgoing,
            is_up: up,
            shared: shared.clone(),
        };
        let link = Self {
            options,
            streams,
            shared,
            queue,
            is_up,
            calls: calls.clone(),
            reopening: JoinSet::new(),
            irreplaceable: None,
        };
        (link, calls)
    }

    pub(super) async fn run(mut self) {
        let (mut pause, longest) = RETRY;
        loop {
            let since = Instant::now();
            match self.connect().await {
                Ok(connection) => {
                    let error = self.serve(connection).await;
                    tracing::warn!(%error, "the keeper is lost");
                }
                Err(error) => tracing::warn!(%error, "the keeper cannot be reached"),
            }
            self.is_up.send_replace(false);
            if since.elapsed() > longest {
                pause = RETRY.0;
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn connect(&mut self) -> Result<Connection, StdioError> {
        let mut connection = Connection::new(self.socket().await?)?;
        let greeting = Call::Hello {
            version: protocol::VERSION,
        };
        let Answer::Hello {
            version, program, ..
        } = connection.ask(greeting, Vec::new()).await?
        else {
            return Err(StdioError::Confused);
        };
        if program != env!("CARGO_PKG_VERSION") && self.irreplaceable.as_ref() != Some(&program) {
            self.irreplaceable = Some(program.clone());
            match self.upgrade(&mut connection).await {
                Ok(()) => return Err(StdioError::unavailable(&"it is being upgraded")),
                Err(error) => tracing::error!(%error, program, "the keeper cannot be upgraded"),
            }
        }
        if version != protocol::VERSION {
            let detail = format!("it is {program} and speaks another version of the protocol");
            return Err(StdioError::unavailable(&detail));
        }
        self.learn(&mut connection).await?;
        Ok(connection)
    }

    /// Replaces the keeper's program by ours, in place.
    async fn upgrade(&self, connection: &mut Connection) -> Result<(), StdioError> {
        tracing::info!("the keeper is upgraded");
        let program = self.options.program.clone();
        let open = move || std::fs::File::open(&program).map_err(StdioError::fifo(&program));
        let program = blocking(open).await?;
        match connection.ask(Call::Upgrade {}, vec![program.into()]).await {
            Ok(Answer::Refused { reason, detail }) => Err(StdioError::Refused { reason, detail }),
            Ok(_) => Err(StdioError::Confused),
            // The connection ends: that is the answer.
            Err(_) => Ok(()),
        }
    }

    /// Learns what the keeper keeps.
    async fn learn(&self, connection: &mut Connection) -> Result<(), StdioError> {
        let mut kept = HashMap::new();
        let mut after = None;
        loop {
            let list = Call::List {
                after: after.take(),
            };
            let Answer::Streams { streams, more } = connection.ask(list, Vec::new()).await? else {
                return Err(StdioError::Confused);
            };
            after = streams.last().map(|state| state.stream.clone());
            kept.extend(
                streams
                    .into_iter()
                    .map(|state| (state.stream.clone(), state)),
            );
            if !more || after.is_none() {
                break;
            }
        }
        for state in kept.values() {
            if let Some(exit) = state.process.and_then(|process| process.exit) {
                self.shared.known.exited(&state.stream, exit);
            }
        }
        *self.shared.kept.lock() = kept;
        Ok(())
    }

    async fn socket(&self) -> Result<OwnedFd, StdioError> {
        match self.try_connect().await {
            Ok(socket) => Ok(socket),
            Err(error) if is_absent(&error) => self.start().await,
            Err(error) => Err(StdioError::unavailable(&error)),
        }
    }

    async fn try_connect(&self) -> io::Result<OwnedFd> {
        let directory = self.options.directory.clone();
        let connect = tokio::task::spawn_blocking(move || protocol::connect(&directory));
        connect
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()))
    }

    /// Starts a keeper, and connects once it listens. It is nobody's child for long: it outlives us.
    async fn start(&self) -> Result<OwnedFd, StdioError> {
        let options = self.options.clone();
        let directory = &self.options.directory;
        let made = tokio::fs::create_dir_all(directory).await;
        made.map_err(StdioError::fifo(directory))?;
        let log = blocking(move || {
            let path = options.directory.join("keeper.log");
            let mut how = std::fs::OpenOptions::new();
            let opened = how.create(true).append(true).open(&path);
            opened.map_err(StdioError::fifo(path))
        });
        let program = &self.options.program;
        let keeper = tokio::process::Command::new(program)
            .arg("--directory")
            .arg(directory)
            .stdin(ProcessStdio::null())
            .stdout(ProcessStdio::null())
            .stderr(log.await?)
            .current_dir("/")
            .spawn();
        let detail = |error| format!("{} cannot be started: {error}", program.display());
        drop(keeper.map_err(|error| StdioError::unavailable(&detail(error)))?);
        let deadline = Instant::now() + START;
        loop {
            match self.try_connect().await {
                Ok(socket) => return Ok(socket),
                Err(error) if is_absent(&error) && Instant::now() < deadline => {
                    sleep(START_POLL).await;
                }
                Err(error) => return Err(StdioError::unavailable(&error)),
            }
        }
    }

    /// Carries calls until the connection breaks; returns why.
    async fn serve(&mut self, mut connection: Connection) -> StdioError {
        self.renew_windows();
        self.is_up.send_replace(true);
        self.reopen_lost();
        let shared = self.shared.clone();
        loop {
            let sending = !connection.unsent.is_empty();
            let step = tokio::select! {
                received = receive(&connection.socket, &mut connection.buffer) => match received {
                    Ok((message, descriptors)) => {
                        self.take(&mut connection, message, descriptors);
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                sent = flush(&connection.socket, &mut connection.unsent), if sending => sent,
                Some(outgoing) = self.queue.recv(), if !sending => {
                    connection.enqueue(outgoing.call, outgoing.descriptors, Some(outgoing.reply))
                }
                () = shared.windows_changed.notified(), if !sending => self.send_windows(&mut connection),
                Some(_) = self.reopening.join_next() => Ok(()),
            };
            if let Err(error) = step {
                return error;
            }
        }
    }

    fn take(&self, connection: &mut Connection, message: Message, descriptors: Vec<OwnedFd>) {
        match message {
            Message::Reply { id, answer } => {
                if let Some(reply) = connection.waiting.remove(&id) {
                    // Whoever asked may have left.
                    drop(reply.send((answer, descriptors)));
                }
            }
            Message::Grew { streams } => {
                for growth in streams {
                    if let Some(stream) = self.streams.get(&growth.stream) {
                        stream.grew(&growth);
                    }
                }
            }
            Message::Exited { stream, pid, exit } => {
                // First: who makes a process known looks here afterwards.
                self.shared.has_exited(&stream, pid, exit);
                self.shared.known.exited(&stream, exit);
            }
        }
    }

    /// A new connection knows of no readers.
    fn renew_windows(&self) {
        let windows = self.streams.all().into_iter();
        let windows = windows.map(|(name, stream)| (name, stream.window.taken()));
        let held = windows.filter(|(_, taken)| taken.is_some());
        self.shared.windows.lock().extend(held);
        self.shared.windows_changed.notify_one();
    }

    fn send_windows(&self, connection: &mut Connection) -> Result<(), StdioError> {
        let windows = std::mem::take(&mut *self.shared.windows.lock());
        windows.into_iter().try_for_each(|(stream, taken)| {
            connection.enqueue(Call::Window { stream, taken }, Vec::new(), None)
        })
    }

    /// What the keeper should keep and does not, because it is another one, is opened again. What it has
    /// may have grown meanwhile.
    fn reopen_lost(&mut self) {
        let kept: HashSet<String> = self.calls.kept().into_iter().collect();
        let watched = self.calls.kept_processes();
        let mut unwatched: HashMap<_, _> = self
            .shared
            .known
            .unsettled()
            .into_iter()
            .filter(|(stream, ..)| !watched.contains_key(stream))
            .map(|(stream, pid, pidfd)| (stream, (pid, pidfd)))
            .collect();
        for (_, stream) in self.streams.all() {
            if !stream.is_to_be_kept() {
                continue;
            }
            let calls = self.calls.clone();
            let is_kept = kept.contains(stream.name());
            let unwatched = unwatched.remove(stream.name());
            self.reopening.spawn(async move {
                let done = if is_kept {
                    stream.adopt().await
                } else {
                    stream.reopen(&calls).await
                };
                if let Err(error) = done {
                    tracing::error!(stream = stream.name(), %error, "its output is not recorded");
                }
                if let Some((pid, pidfd)) = unwatched
                    && let Err(error) = processes::watch(&calls, stream.name(), pid, pidfd).await
                {
                    tracing::error!(stream = stream.name(), %error, "its end is not watched");
                }
            });
        }
    }
}

/// Whether nobody listens.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

impl Connection {
    fn new(socket: OwnedFd) -> Result<Self, StdioError> {
        // A socket that keeps messages apart; Tokio waits for it as for any other.
        let socket = std::os::unix::net::UnixStream::from(socket);
        let socket = socket
            .set_nonblocking(true)
            .and_then(|()| UnixStream::from_std(socket))
            .map_err(|error| StdioError::unavailable(&error))?;
        Ok(Self {
            socket,
            next_id: 0,
            waiting: HashMap::new(),
            unsent: VecDeque::new(),
            buffer: vec![0; MAX_MESSAGE_BYTES],
        })
    }

    /// One call while nothing else is carried.
    async fn ask(&mut self, call: Call, descriptors: Vec<OwnedFd>) -> Result<Answer, StdioError> {
        let asking = async {
            let (reply, mut answer) = oneshot::channel();
            self.enqueue(call, descriptors, Some(reply))?;
            flush(&self.socket, &mut self.unsent).await?;
            loop {
                let (message, descriptors) = receive(&self.socket, &mut self.buffer).await?;
                if let Message::Reply { id, answer } = message
                    && let Some(reply) = self.waiting.remove(&id)
                {
                    drop(reply.send((answer, descriptors)));
                }
                if let Ok((answer, _)) = answer.try_recv() {
                    return Ok(answer);
                }
            }
        };
        let answered = timeout(ANSWER, asking).await;
        answered.unwrap_or_else(|_| Err(StdioError::unavailable(&"it does not answer")))
    }

    fn enqueue(
        &mut self,
        call: Call,
        descriptors: Vec<OwnedFd>,
        reply: Option<oneshot::Sender<Answered>>,
    ) -> Result<(), StdioError> {
        self.next_id += 1;
        let id = self.next_id;
        let request = Request { id, call };
        let bytes = serde_json::to_vec(&request).map_err(|e| StdioError::unavailable(&e))?;
        if let Some(reply) = reply {
            self.waiting.insert(id, reply);
        }
        self.unsent.push_back((bytes, descriptors));
        Ok(())
    }
}

/// Sends what is to be sent. May be cancelled between two messages.
async fn flush(
    socket: &UnixStream,
    unsent: &mut VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
) -> Result<(), StdioError> {
    while let Some((bytes, descriptors)) = unsent.front() {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let sent = socket.async_io(Interest::WRITABLE, || {
            protocol::send_bytes(socket, bytes, &borrowed).map_err(would_block)
        });
        sent.await
            .map_err(|error| StdioError::unavailable(&error))?;
        unsent.pop_front();
    }
    Ok(())
}

async fn receive(
    socket: &UnixStream,
    buffer: &mut [u8],
) -> Result<(Message, Vec<OwnedFd>), StdioError> {
    let received = socket.async_io(Interest::READABLE, || {
        protocol::receive(socket, buffer).map_err(would_block)
    });
    received
        .await
        .map_err(|error| StdioError::unavailable(&error))
}

fn would_block(error: WireError) -> io::Error {
    match error {
        WireError::NotReady => io::ErrorKind::WouldBlock.into(),
        error => io::Error::other(error),
    }
}
