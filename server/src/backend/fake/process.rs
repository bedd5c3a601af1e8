//! A process that does nothing.

use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::backend::{BackendError, Exit, FoundState, WaitStatus};
use crate::model::spec::Resources;
use crate::model::{Signal, TerminalSize};

/// The processes of one run.
#[derive(Debug)]
pub(super) struct Process {
    pid: u32,
    inner: Mutex<Inner>,
    exit: watch::Sender<Option<Exit>>,
    oom_kills: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    state: FoundState,
    ignores_term: bool,
    signals: Vec<Signal>,
    /// Signals that came while it was frozen.
    pending: Vec<Signal>,
    limits: Option<Resources>,
    sizes: Vec<TerminalSize>,
    oom_kills: u64,
}

impl Process {
    pub(super) fn new(pid: u32, state: FoundState) -> Self {
        let process = Self {
            pid,
            inner: Mutex::new(Inner {
                state,
                ignores_term: false,
                signals: Vec::new(),
                pending: Vec::new(),
                limits: None,
                sizes: Vec::new(),
                oom_kills: 0,
            }),
            exit: watch::Sender::new(None),
            oom_kills: watch::Sender::new(0),
        };
        process.publish();
        process
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn state(&self) -> FoundState {
        self.inner.lock().state.clone()
    }

    pub(super) fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.subscribe()
    }

    pub(super) fn oom_kills(&self) -> watch::Receiver<u64> {
        self.oom_kills.subscribe()
    }

    pub(super) fn signals(&self) -> Vec<Signal> {
        self.inner.lock().signals.clone()
    }

    pub(super) fn sizes(&self) -> Vec<TerminalSize> {
        self.inner.lock().sizes.clone()
    }

    pub(super) fn limits(&self) -> Option<Resources> {
        self.inner.lock().limits.clone()
    }

    pub(super) fn ignore_term(&self) {
        self.inner.lock().ignores_term = true;
    }

    /// Ends it; the first end counts. Handles see it at [`Self::publish`].
    pub(super) fn end(&self, status: WaitStatus) {
        self.inner.lock().end(status);
    }

    /// The OOM killer acts inside. Handles see it at [`Self::publish`].
    pub(super) fn oom(&self) {
        self.inner.lock().oom_kills += 1;
    }

    /// Shows the handles what has happened.
    pub(super) fn publish(&self) {
        let inner = self.inner.lock();
        self.oom_kills.send_if_modified(|seen| {
            let grew = inner.oom_kills > *seen;
            *seen = inner.oom_kills;
            grew
        });
        if let FoundState::Stopped(exit) = &inner.state {
            self.exit.send_if_modified(|seen| {
                let first = seen.is_none();
                if first {
                    *seen = Some(exit.clone());
                }
                first
            });
        }
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), BackendError> {
        let mut inner = self.alive()?;
        inner.signals.push(signal);
        if inner.state == FoundState::Paused {
            inner.pending.push(signal);
        } else {
            inner.take(signal);
        }
        drop(inner);
        self.publish();
        Ok(())
    }

    pub(super) fn pause(&self) -> Result<(), BackendError> {
        self.alive()?.state = FoundState::Paused;
        Ok(())
    }

    /// Signals that came meanwhile act now.
    pub(super) fn resume(&self) -> Result<(), BackendError> {
        let mut inner = self.alive()?;
        inner.state = FoundState::Running;
        for signal in std::mem::take(&mut inner.pending) {
            inner.take(signal);
        }
        drop(inner);
        self.publish();
        Ok(())
    }

    pub(super) fn limit(&self, resources: &Resources) -> Result<(), BackendError> {
        self.alive()?.limits = Some(resources.clone());
        Ok(())
    }

    pub(super) fn resize(&self, size: TerminalSize) -> Result<(), BackendError> {
        self.alive()?.sizes.push(size);
        Ok(())
    }

    pub(super) fn close_stdin(&self) -> Result<(), BackendError> {
        self.alive().map(drop)
    }

    pub(super) fn pids(&self) -> Result<Vec<u32>, BackendError> {
        self.alive().map(|_| vec![self.pid])
    }

    fn alive(&self) -> Result<parking_lot::MutexGuard<'_, Inner>, BackendError> {
        let inner = self.inner.lock();
        match inner.state {
            FoundState::Stopped(_) => Err(BackendError::NotFound {
                backend: "fake",
                what: "process",
            }),
            FoundState::Created | FoundState::Running | FoundState::Paused => Ok(inner),
        }
    }
}

impl Inner {
    fn take(&mut self, signal: Signal) {
        let ends = signal == Signal::KILL || (signal == Signal::TERM && !self.ignores_term);
        if ends {
            self.end(WaitStatus::Signaled(signal));
        }
    }

    fn end(&mut self, status: WaitStatus) {
        if matches!(self.state, FoundState::Stopped(_)) {
            return;
        }
        self.state = FoundState::Stopped(Exit {
            status,
            time: SystemTime::now(),
            oom_killed: self.oom_kills > 0,
        });
    }
}
