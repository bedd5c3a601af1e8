//! A real keeper in a directory of its own, daemons that speak with it, and FIFOs for children to write to.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use wharf_keeper::protocol::{
    self, Answer, Call, Descriptors, Growth, MAX_MESSAGE_BYTES, Message, Open, Request,
    StreamState, WireError,
};
use wharf_keeper::segment::{From, Limits, Next, Output, Positions, ProcessExit, Reader, Start};

/// Nothing that should happen takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const LIMITS: Limits = Limits {
    segment_bytes: 8 << 20,
    total_bytes: 256 << 20,
};

/// A keeper; killed when dropped.
pub(crate) struct Keeper {
    pub(crate) directory: TempDir,
    pub(crate) process: Child,
}

impl Keeper {
    pub(crate) fn start() -> Self {
        Self::start_in(TempDir::new().unwrap(), 60)
    }

    pub(crate) fn start_in(directory: TempDir, idle_exit_seconds: u64) -> Self {
        let process = spawn(directory.path(), idle_exit_seconds);
        Self { directory, process }
    }

    /// As after a crash: the next keeper in the same directory.
    pub(crate) fn killed_and_started_again(mut self) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(self.directory.path(), 60);
        self
    }

    pub(crate) fn connect(&self) -> Daemon {
        let mut daemon = self.connect_silently();
        let (answer, _) = daemon.call(
            Call::Hello {
                version: protocol::VERSION,
            },
            &[],
        );
        assert!(matches!(answer, Answer::Hello { pid, .. } if pid == self.pid()));
        daemon
    }

    pub(crate) fn connect_silently(&self) -> Daemon {
        let socket = protocol::connect(self.directory.path()).unwrap();
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).unwrap();
        Daemon {
            socket,
            next_id: 1,
            grew: Vec::new(),
            exited: Vec::new(),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        until(|| self.process.try_wait().unwrap())
    }

    /// Where a stream's recordings are.
    pub(crate) fn recordings(&self, stream: &str) -> PathBuf {
        self.directory.path().join("recordings").join(stream)
    }

    pub(crate) fn fifo(&self, name: &str) -> Fifo {
        Fifo::new(self.directory.path().join(name))
    }

    /// `Open` with the usual limits.
    pub(crate) fn open(&self, stream: &str, descriptors: Descriptors) -> Open {
        Open {
            stream: stream.to_owned(),
            directory: self.recordings(stream),
            run: 1,
            limits: LIMITS,
            descriptors,
            taken: None,
            continues: false,
        }
    }

    /// All bytes of one stream that are recorded, and how many are said to be missing.
    pub(crate) fn recorded(&self, stream: &str, output: Output) -> Recorded {
        recorded(&self.recordings(stream), output)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts one, and waits until it listens or has failed.
fn spawn(directory: &Path, idle_exit_seconds: u64) -> Child {
    let mut process = command(directory)
        .args(["--idle-exit-seconds", &idle_exit_seconds.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    let mut stdout = process.stdout.take().unwrap();
    stdout.read_to_string(&mut text).unwrap();
    process
}

pub(crate) fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf-keeper"));
    command.arg("--directory").arg(directory);
    command
}

/// What a reader finds in a recording.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) bytes: Vec<u8>,
    /// Where each chunk begins in its stream, and in `bytes`.
    pub(crate) places: Vec<(u64, usize)>,
    pub(crate) dropped: u64,
    pub(crate) unknown_gaps: usize,
    pub(crate) truncated: Option<bool>,
}

pub(crate) fn recorded(directory: &Path, wanted: Output) -> Recorded {
    let mut reader = Reader::open(directory, 1, Some(wanted), Start::Beginning).unwrap();
    let mut found = Recorded::default();
    loop {
        match reader.next(MAX_MESSAGE_BYTES).unwrap() {
            Next::Chunk { offset, data, .. } => {
                assert_eq!(offset, found.bytes.len() as u64 + found.dropped);
                found.places.push((offset, found.bytes.len()));
                found.bytes.extend_from_slice(&data);
            }
            Next::Gap {
                output: Some(_),
                dropped_bytes,
            } => found.dropped += dropped_bytes,
            Next::Gap { output: None, .. } => found.unknown_gaps += 1,
            Next::End(end) => {
                found.truncated = Some(end.truncated);
                return found;
            }
            Next::Pending => return found,
        }
    }
}

/// A connection to the keeper.
pub(crate) struct Daemon {
    pub(crate) socket: OwnedFd,
    next_id: u64,
    grew: Vec<Growth>,
    pub(crate) exited: Vec<(String, u32, ProcessExit)>,
}

impl Daemon {
    /// Asks and waits for the answer; keeps what is told in between.
    pub(crate) fn call(
        &mut self,
        call: Call,
        descriptors: &[BorrowedFd<'_>],
    ) -> (Answer, Vec<OwnedFd>) {
        let id = self.ask(call, descriptors);
        self.answer(id)
    }

    pub(crate) fn ask(&mut self, call: Call, descriptors: &[BorrowedFd<'_>]) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        protocol::send(&self.socket, &Request { id, call }, descriptors).unwrap();
        id
    }

    pub(crate) fn answer(&mut self, wanted: u64) -> (Answer, Vec<OwnedFd>) {
        loop {
            match self.receive().unwrap() {
                (Message::Reply { id, answer }, descriptors) if id == wanted => {
                    return (answer, descriptors);
                }
                (Message::Reply { id, answer }, _) => panic!("{id} is answered {answer:?}"),
                (Message::Grew { streams }, _) => self.grew.extend(streams),
                (Message::Exited { stream, pid, exit }, _) => self.exited.push((stream, pid, exit)),
            }
        }
    }

    pub(crate) fn receive(&mut self) -> Result<(Message, Vec<OwnedFd>), WireError> {
        protocol::receive(&self.socket, &mut vec![0; MAX_MESSAGE_BYTES])
    }

    pub(crate) fn opens(&mut self, open: Open, descriptors: &[BorrowedFd<'_>]) -> Positions {
        match self.call(Call::Open(open), descriptors).0 {
            Answer::Opened { positions } => positions,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn finish(&mut self, stream: &str, within: Duration) -> (Positions, bool) {
        let call = Call::Finish {
            stream: stream.to_owned(),
            within_ms: u64::try_from(within.as_millis()).unwrap(),
        };
        match self.call(call, &[]).0 {
            Answer::Finished {
                positions,
                truncated,
                recorded: true,
            } => (positions, truncated),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn window(&mut self, stream: &str, taken: Option<u64>) {
        let stream = stream.to_owned();
        self.ask(Call::Window { stream, taken }, &[]);
    }

    pub(crate) fn list(&mut self) -> Vec<StreamState> {
        let mut all: Vec<StreamState> = Vec::new();
        loop {
            let after = all.last().map(|state| state.stream.clone());
            match self.call(Call::List { after }, &[]).0 {
                Answer::Streams { streams, more } => {
                    all.extend(streams);
                    if !more {
                        return all;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn state(&mut self, stream: &str) -> StreamState {
        let mut all = self.list().into_iter();
        all.find(|state| state.stream == stream).unwrap()
    }

    /// Waits until it is told that a stream has come so far.
    pub(crate) fn is_told(&mut self, stream: &str, far_enough: impl Fn(&Growth) -> bool) -> Growth {
        let begun = Instant::now();
        loop {
            let told = self.grew.drain(..);
            let found = told
                .into_iter()
                .find(|growth| growth.stream == stream && far_enough(growth));
            if let Some(growth) = found {
                return growth;
            }
            assert!(begun.elapsed() < PATIENCE, "{stream} does not get there");
            match self.receive().unwrap() {
                (Message::Grew { streams }, _) => self.grew.extend(streams),
                (Message::Exited { stream, pid, exit }, _) => self.exited.push((stream, pid, exit)),
                (other, _) => panic!("{other:?}"),
            }
        }
    }

    /// Waits until the keeper has closed this connection.
    pub(crate) fn is_dropped(&mut self) {
        loop {
            match self.receive() {
                Err(WireError::Closed) => return,
                Ok((Message::Grew { .. }, _)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A FIFO with its read end open, as the daemon makes it before it starts a process.
pub(crate) struct Fifo {
    path: PathBuf,
    pub(crate) reader: OwnedFd,
}

impl Fifo {
    pub(crate) fn new(path: PathBuf) -> Self {
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let reader = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
        Self { path, reader }
    }

    pub(crate) fn writer(&self) -> File {
        OpenOptions::new().write(true).open(&self.path).unwrap()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

pub(crate) const STDOUT: Descriptors = Descriptors {
    stdout: true,
    stderr: false,
    stdin: false,
};

pub(crate) const BOTH: Descriptors = Descriptors {
    stderr: true,
    ..STDOUT
};

/// Waits for a condition.
pub(crate) fn until<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not come about");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Bytes that tell where they belong.
pub(crate) fn pattern(from: u64, length: usize) -> Vec<u8> {
    (from..).take(length).map(byte_at).collect()
}

pub(crate) fn byte_at(offset: u64) -> u8 {
    (offset.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]
}

/// A reader's start at an offset of standard output.
pub(crate) fn from_offset(stdout: u64) -> Start {
    Start::Streams {
        stdout: From::Offset(stdout),
        stderr: From::Offset(0),
    }
}
