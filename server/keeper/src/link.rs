//! What the two threads say to each other.
//!
//! Neither waits for the other. The queues have no bound of their own because their contents do: the
//! control thread has at most one command of each kind under way for each of its streams, of which there are at
//! most 20,000; each is followed by at most one event. The list of streams that have
//! grown has each of them at most once.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use wharf_keeper::protocol::Refusal;
use wharf_keeper::segment::{End, Limits, Offsets, Positions, ProcessExit};

use crate::poller::Wake;

/// Names a stream between the threads. Never used twice in a process.
pub(crate) type Key = u64;

/// From control to drain.
#[derive(Debug)]
pub(crate) enum Command {
    Open(Box<Setup>),
    /// The reader that it waits for has got further, or there is none any more.
    Window(Key),
    Finish(Key, Instant),
    /// The process has been launched: it is recorded, and nothing else changes.
    Launched(Key, u32),
    /// The process has ended: it is recorded, and nothing else changes.
    Exited(Key, ProcessExit),
    /// The process turned out to have a terminal: its output is read here.
    Terminal(Key, OwnedFd),
    Close(Key),
    /// Ends the thread, after it has made a copy of this binary, or of the running one, to go on with.
    Stop(Option<OwnedFd>),
}

/// From drain to control.
#[derive(Debug)]
pub(crate) enum Event {
    Opened(Key, Positions),
    NotOpened(Key, Refusal, String),
    Finished(Key, Finished),
    Closed(Key),
    /// The thread can be joined.
    Stopped,
}

/// A process's outputs, and where they go.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) key: Key,
    pub(crate) progress: Arc<Progress>,
    pub(crate) directory: PathBuf,
    pub(crate) run: u64,
    pub(crate) limits: Limits,
    /// Standard output and standard error.
    pub(crate) outputs: [Option<OwnedFd>; 2],
    pub(crate) debts: Debts,
    /// Set if it must be taken over whatever happens: it was open in the process before this one.
    pub(crate) resumed: Option<Resumed>,
}

/// Where a stream was in the process before this one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resumed {
    pub(crate) finishing: Option<Instant>,
    pub(crate) finished: Option<Finished>,
}

/// What is to be recorded as soon as it can be.
#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Debts {
    /// Bytes that were read and could not be written.
    pub(crate) lost: Offsets,
    /// A loss that nobody can count.
    pub(crate) gap: bool,
    /// The process.
    #[serde(default)]
    pub(crate) pid: Option<u32>,
    /// The process's exit.
    #[serde(default)]
    pub(crate) exit: Option<ProcessExit>,
    /// The end.
    pub(crate) end: Option<End>,
}

/// How a stream was finished.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Finished {
    pub(crate) positions: Positions,
    pub(crate) truncated: bool,
    pub(crate) recorded: bool,
}

/// What both threads know of a stream: where it is (drain writes it), and how far it may go (control does).
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) key: Key,
    stdout: AtomicU64,
    stderr: AtomicU64,
    entries: AtomicU64,
    /// 0: not ended, 1: ended, 2: truncated.
    end: AtomicU8,
    outputs_open: AtomicU32,
    /// What the slowest reader that is waited for has taken; `u64::MAX`: there is none.
    taken: AtomicU64,
    /// Whether a `Window` is under way.
    window_moved: AtomicBool,
    /// Whether it is in the list of those that have grown.
    listed: AtomicBool,
}

impl Progress {
    pub(crate) fn new(key: Key, taken: Option<u64>) -> Self {
        Self {
            key,
            stdout: AtomicU64::new(0),
            stderr: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            end: AtomicU8::new(0),
            outputs_open: AtomicU32::new(0),
            taken: AtomicU64::new(taken.unwrap_or(u64::MAX)),
            window_moved: AtomicBool::new(false),
            listed: AtomicBool::new(false),
        }
    }

    pub(crate) fn positions(&self) -> Positions {
        let ended = match self.end.load(Ordering::Acquire) {
            0 => None,
            code => Some(End {
                truncated: code == 2,
            }),
        };
        Positions {
            stdout: self.stdout.load(Ordering::Acquire),
            stderr: self.stderr.load(Ordering::Acquire),
            ended,
        }
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Acquire)
    }

    pub(crate) fn outputs_open(&self) -> u32 {
        self.outputs_open.load(Ordering::Acquire)
    }

    pub(crate) fn taken(&self) -> Option<u64> {
        let taken = self.taken.load(Ordering::Acquire);
        (taken != u64::MAX).then_some(taken)
    }

    /// Waits for no reader any more.
    pub(crate) fn lift_window(&self) {
        self.taken.store(u64::MAX, Ordering::Release);
    }

    /// True if there is something new to read.
    fn store(&self, positions: Positions, entries: u64) -> bool {
        let end = match positions.ended {
            None => 0,
            Some(End { truncated: false }) => 1,
            Some(End { truncated: true }) => 2,
        };
        self.stdout.store(positions.stdout, Ordering::Release);
        self.stderr.store(positions.stderr, Ordering::Release);
        self.end.store(end, Ordering::Release);
        self.entries.swap(entries, Ordering::AcqRel) != entries
    }

    /// As the process before this one had it, until the drain thread says more.
    pub(crate) fn restore(&self, positions: Positions, outputs_open: u32) {
        self.store(positions, 0);
        self.set_outputs_open(outputs_open);
    }

    pub(crate) fn set_outputs_open(&self, count: u32) {
        self.outputs_open.store(count, Ordering::Release);
    }

    /// To be called before the window is looked at on account of a `Window`.
    pub(crate) fn window_seen(&self) {
        self.window_moved.swap(false, Ordering::SeqCst);
    }
}

/// The control thread's end.
#[derive(Debug)]
pub(crate) struct ControlEnd {
    commands: Sender<Command>,
    drain: Arc<Wake>,
    pub(crate) events: Receiver<Event>,
    pub(crate) wake: Arc<Wake>,
    grown: Arc<Mutex<Vec<Arc<Progress>>>>,
}

/// The drain thread's end.
#[derive(Debug)]
pub(crate) struct DrainEnd {
    pub(crate) commands: Receiver<Command>,
    pub(crate) wake: Arc<Wake>,
    events: Sender<Event>,
    control: Arc<Wake>,
    grown: Arc<Mutex<Vec<Arc<Progress>>>>,
}

/// Both ends.
pub(crate) fn pair() -> io::Result<(ControlEnd, DrainEnd)> {
    let (control, drain) = (Arc::new(Wake::new()?), Arc::new(Wake::new()?));
    let (commands, taken) = mpsc::channel();
    let (told, events) = mpsc::channel();
    let grown = Arc::default();
    let control_end = ControlEnd {
        commands,
        drain: Arc::clone(&drain),
        events,
        wake: Arc::clone(&control),
        grown: Arc::clone(&grown),
    };
    let drain_end = DrainEnd {
        commands: taken,
        wake: drain,
        events: told,
        control,
        grown,
    };
    Ok((control_end, drain_end))
}

impl ControlEnd {
    pub(crate) fn send(&self, command: Command) {
        // The other end lives as long as this one, but for the moment of an upgrade.
        let _ = self.commands.send(command);
        self.drain.wake();
    }

    pub(crate) fn move_window(&self, progress: &Progress, taken: Option<u64>) {
        progress
            .taken
            .store(taken.unwrap_or(u64::MAX), Ordering::SeqCst);
        if !progress.window_moved.swap(true, Ordering::SeqCst) {
            self.send(Command::Window(progress.key));
        }
    }

    /// The streams that have grown since this was asked last.
    pub(crate) fn take_grown(&self) -> Vec<Key> {
        let taken = std::mem::take(&mut *lock(&self.grown));
        let keys = taken.iter().map(|progress| {
            // A swap, so that what was stored before it was set is seen after it.
            progress.listed.swap(false, Ordering::SeqCst);
            progress.key
        });
        keys.collect()
    }
}

impl DrainEnd {
    pub(crate) fn tell(&self, event: Event) {
        let _ = self.events.send(event);
        self.control.wake();
    }

    /// Makes known how far a stream is.
    pub(crate) fn publish(&self, progress: &Arc<Progress>, positions: Positions, entries: u64) {
        if !progress.store(positions, entries) || progress.listed.swap(true, Ordering::SeqCst) {
            return;
        }
        lock(&self.grown).push(Arc::clone(progress));
        self.control.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
