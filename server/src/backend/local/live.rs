//! Processes that run, or whose end somebody still wants to know.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::failure;
use crate::backend::{BackendError, Exit, WaitStatus, proc};
use crate::cgroup::Cgroup;
use crate::model::Signal;
use crate::stdio::segment::{ProcessExit, ProcessStatus};
use crate::stdio::{ByName, OnExit, Process};

/// One process: the main one of a run, or an exec.
#[derive(Debug)]
pub(super) struct Live {
    process: OnceLock<Process>,
    exit: watch::Sender<Option<Exit>>,
    oom_kills: watch::Sender<u64>,
    pub(super) cgroup: Cgroup,
    kind: Kind,
}

/// Which of a container's processes it is, for what an OOM kill says of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The main one.
    Main,
    /// A further one beside this main process; what the OOM killer had done before is of no account.
    Exec {
        /// The main process.
        main: u32,
        /// How often the OOM killer had acted.
        before: u64,
    },
}

impl Live {
    pub(super) fn new(kind: Kind, cgroup: Cgroup, exit: Option<Exit>) -> Arc<Self> {
        Arc::new(Self {
            process: OnceLock::new(),
            exit: watch::Sender::new(exit),
            oom_kills: watch::Sender::new(0),
            cgroup,
            kind,
        })
    }

    /// What is to be done when it ends.
    pub(super) fn on_exit(self: &Arc<Self>) -> OnExit {
        let live = Arc::downgrade(self);
        Box::new(move |exit| {
            if let Some(live) = live.upgrade() {
                let exit = live.exit_of(exit);
                live.settle(exit);
            }
        })
    }

    /// It is there.
    pub(super) fn is(&self, process: Process) {
        // Whoever was first has the same one.
        let _ = self.process.set(process);
    }

    pub(super) fn process(&self) -> Result<&Process, BackendError> {
        self.process
            .get()
            .filter(|_| !self.is_over())
            .ok_or_else(failure::ended)
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.process.get().map(Process::pid)
    }

    pub(super) fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.subscribe()
    }

    pub(super) fn oom_kills(&self) -> watch::Receiver<u64> {
        self.oom_kills.subscribe()
    }

    pub(super) fn is_over(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// The OOM killer has acted so often.
    pub(super) fn oom(&self, total: u64) {
        self.oom_kills.send_if_modified(|seen| {
            let grew = total > *seen;
            *seen = total.max(*seen);
            grew
        });
    }

    /// Only the first end counts.
    pub(super) fn settle(&self, exit: Exit) {
        self.exit.send_if_modified(|slot| {
            let first = slot.is_none();
            if first {
                *slot = Some(exit);
            }
            first
        });
    }

    /// The kernel's word, and whether the OOM killer was behind it. Reads one small file of the kernel's.
    pub(super) fn exit_of(&self, exit: ProcessExit) -> Exit {
        let status = match exit.status {
            ProcessStatus::Exited(code) => WaitStatus::Exited(code),
            ProcessStatus::Signaled(signal) => {
                Signal::from_number(signal.into()).map_or(WaitStatus::Lost, WaitStatus::Signaled)
            }
            ProcessStatus::Lost => WaitStatus::Lost,
        };
        // Also if it tells of its program's end.
        let oom_killed =
            status.of_program() == WaitStatus::Signaled(Signal::KILL) && self.oom_killer_acted();
        Exit {
            status,
            time: time(exit.time),
            oom_killed,
        }
    }

    /// Of an exec only if the main process lives: what kills that one kills the execs, too.
    fn oom_killer_acted(&self) -> bool {
        let kills = self.cgroup.oom_kills().unwrap_or_default();
        match self.kind {
            Kind::Main => kills > 0,
            Kind::Exec { main, before } => kills > before && proc::is_alive(main),
        }
    }
}

fn time(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

/// The processes that somebody has a handle of, by the names of their streams.
#[derive(Debug, Default)]
pub(super) struct Lives {
    all: ByName<Live>,
    /// Those that were found, until somebody takes a handle.
    found: Mutex<HashMap<String, Arc<Live>>>,
}

impl Lives {
    pub(super) fn insert(&self, stream: &str, live: &Arc<Live>) {
        self.all.insert(stream, live);
    }

    pub(super) fn get(&self, stream: &str) -> Option<Arc<Live>> {
        self.all.get(stream)
    }

    /// One that was found: its end is watched from now on, and its handle comes later.
    pub(super) fn hold(&self, stream: &str, live: &Arc<Live>) {
        self.insert(stream, live);
        self.found
            .lock()
            .insert(stream.to_owned(), Arc::clone(live));
    }

    /// For a handle.
    pub(super) fn take(&self, stream: &str) -> Option<Arc<Live>> {
        let live = self.get(stream);
        self.found.lock().remove(stream);
        live
    }
}
