//! What is to go wrong, and when; and how often each operation was called.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::backend::BackendError;

/// A method of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `ContainerBackend::create`.
    Create,
    /// `ContainerBackend::update`.
    Update,
    /// `ContainerBackend::start`.
    Start,
    /// `ContainerBackend::delete`.
    Delete,
    /// `ContainerBackend::forget_start`.
    ForgetStart,
    /// `ContainerBackend::discard_task`.
    DiscardTask,
    /// `ContainerBackend::find`.
    Find,
    /// `ContainerBackend::inventory`.
    Inventory,
    /// `ContainerBackend::usage`.
    Usage,
    /// `ContainerBackend::ingest`.
    Ingest,
    /// `ContainerBackend::tag`.
    Tag,
    /// `ContainerBackend::untag`.
    Untag,
    /// `ContainerBackend::names`.
    Names,
    /// `ContainerBackend::layer_bytes`.
    LayerBytes,
    /// `ContainerBackend::open_blob`.
    OpenBlob,
    /// A further chunk of an opened blob.
    ReadBlob,
    /// `Task::kill`.
    Kill,
    /// `Task::pause`.
    Pause,
    /// `Task::resume`.
    Resume,
    /// `Task::update`.
    UpdateTask,
    /// `Task::pids`.
    Pids,
    /// `Task::delete`.
    DeleteTask,
    /// `Task::resize`.
    Resize,
    /// `close_stdin` of a task or an exec.
    CloseStdin,
    /// `Task::exec`.
    StartExec,
    /// `Task::find_exec`.
    FindExec,
    /// `Task::discard_exec`.
    DiscardExec,
    /// `Process::kill`.
    KillExec,
    /// `Process::resize`.
    ResizeExec,
    /// `Process::delete`.
    DeleteExec,
}

/// Which calls a fault is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The next one.
    Next,
    /// The nth from now; 1 is the next.
    Nth(u64),
    /// All from now on.
    Always,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The call fails and does nothing.
    Fail(BackendError),
    /// The call acts, and then fails: its answer was lost.
    ActThenFail(BackendError),
    /// The call acts after a time, by tokio's clock.
    Delay(Duration),
    /// The call acts when it is released.
    Hang(Hold),
    /// The call acts, and answers when it is released.
    ActThenHang(Hold),
}

/// What is left of a fault once the call has acted.
#[derive(Debug)]
pub(super) enum After {
    Nothing,
    Fail(BackendError),
    Hang(Hold),
}

impl Fault {
    /// Strikes a call: it may fail, take its time, or be told what is to come after it has acted.
    pub(super) async fn strike(self) -> Result<After, BackendError> {
        match self {
            Self::Fail(error) => return Err(error),
            Self::ActThenFail(error) => return Ok(After::Fail(error)),
            Self::ActThenHang(hold) => return Ok(After::Hang(hold)),
            Self::Delay(time) => sleep(time).await,
            Self::Hang(hold) => hold.wait().await,
        }
        Ok(After::Nothing)
    }
}

/// Holds calls back. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Hold {
    inner: Arc<HoldInner>,
}

#[derive(Debug)]
struct HoldInner {
    reached: watch::Sender<u64>,
    released: watch::Sender<bool>,
}

impl Default for HoldInner {
    fn default() -> Self {
        Self {
            reached: watch::Sender::new(0),
            released: watch::Sender::new(false),
        }
    }
}

impl Hold {
    /// Waits until a call has come here, now or before.
    pub async fn reached(&self) {
        let mut reached = self.inner.reached.subscribe();
        // The sender lives as long as `self`.
        let _ = reached.wait_for(|calls| *calls > 0).await;
    }

    /// Lets all calls go on, those that come later, too.
    pub fn release(&self) {
        self.inner.released.send_replace(true);
    }

    pub(super) async fn wait(&self) {
        self.inner.reached.send_modify(|calls| *calls += 1);
        let mut released = self.inner.released.subscribe();
        let _ = released.wait_for(|released| *released).await;
    }
}

/// Planned faults and counted calls.
#[derive(Debug, Default)]
pub(super) struct Faults {
    planned: Vec<(Operation, When, Fault)>,
    calls: HashMap<Operation, u64>,
}

impl Faults {
    pub(super) fn plan(&mut self, operation: Operation, when: When, fault: Fault) {
        self.planned.push((operation, when, fault));
    }

    pub(super) fn clear(&mut self) {
        self.planned.clear();
    }

    pub(super) fn calls(&self, operation: Operation) -> u64 {
        self.calls.get(&operation).copied().unwrap_or(0)
    }

    /// Counts a call and takes its fault: of those whose turn it is, the one planned first.
    pub(super) fn next(&mut self, operation: Operation) -> Option<Fault> {
        *self.calls.entry(operation).or_default() += 1;
        let mut struck = None;
        self.planned.retain_mut(|(planned, when, fault)| {
            if *planned != operation {
                return true;
            }
            let due = when.tick();
            if due && struck.is_none() {
                struck = Some(fault.clone());
            }
            !due || *when == When::Always
        });
        struck
    }
}

impl When {
    /// A call goes by: whether it is meant.
    fn tick(&mut self) -> bool {
        match self {
            Self::Next | Self::Always | Self::Nth(0 | 1) => true,
            Self::Nth(n) => {
                *n -= 1;
                false
            }
        }
    }
}
