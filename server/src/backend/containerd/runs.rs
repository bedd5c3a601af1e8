//! The runs whose end somebody waits for.
//!
//! ```text
//! expect(name) -> pid unknown --pid_is--> pid known --exited(pid)--> settled, forgotten
//!                  |  exits that come now are kept until the pid is known
//!                  +-- dropped without a pid: forgotten (the launch failed)
//! ```
//!
//! An exit belongs to a name (a container's, or an exec's) and a pid: those of earlier pids are ignored, and the first
//! result of a run wins. An exit of a run that nobody has asked for yet is kept for a while: it may
//! have been on its way when that run was looked up. Owns the state; asks nobody anything.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::error::BACKEND;
use crate::backend::{BackendError, Exit};
use crate::model::limits;

/// Exits kept while a pid is unknown. A container's init has one pid between two calls of ours; more
/// can only come from leftovers.
const MAX_EARLY_EXITS: usize = 8;
/// Exits kept of runs that nobody has asked for.
const MAX_UNCLAIMED: usize = limits::MAX_CONTAINERS;

/// One run's end, as its handles see it.
#[derive(Debug)]
pub(super) struct RunState {
    exit: watch::Sender<Option<Exit>>,
    oom_kills: watch::Sender<u64>,
}

impl RunState {
    fn new(oom_kills: u64) -> Arc<Self> {
        Arc::new(Self {
            exit: watch::Sender::new(None),
            oom_kills: watch::Sender::new(oom_kills),
        })
    }

    /// The run's end, once it is known.
    pub(super) fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.exit.subscribe()
    }

    /// How often the OOM killer has acted.
    pub(super) fn oom_kills(&self) -> watch::Receiver<u64> {
        self.oom_kills.subscribe()
    }

    /// Whether the run is over.
    pub(super) fn is_over(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// An error if the run is over: its name may be another run's by now.
    pub(super) fn alive(&self) -> Result<(), BackendError> {
        if self.is_over() {
            return Err(BackendError::NotFound {
                backend: BACKEND,
                what: "process",
            });
        }
        Ok(())
    }

    /// Settles the run's end; only the first time counts.
    fn settle(&self, exit: Exit) {
        self.exit.send_if_modified(|slot| {
            let first = slot.is_none();
            if first {
                *slot = Some(exit);
            }
            first
        });
    }
}

/// What names the processes that are watched.
pub(super) trait Key: Copy + Eq + Hash + Debug {}

impl<K: Copy + Eq + Hash + Debug> Key for K {}

/// The watched runs of main processes, or of execs. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Runs<K> {
    inner: Arc<Mutex<Inner<K>>>,
}

impl<K> Default for Runs<K> {
    fn default() -> Self {
        Self {
            inner: Arc::default(),
        }
    }
}

#[derive(Debug)]
struct Inner<K> {
    live: HashMap<K, Live>,
    unclaimed: Unclaimed<K>,
}

impl<K> Default for Inner<K> {
    fn default() -> Self {
        Self {
            live: HashMap::new(),
            unclaimed: Unclaimed::default(),
        }
    }
}

#[derive(Debug)]
struct Live {
    state: Arc<RunState>,
    /// Unknown until the task is created.
    pid: Option<u32>,
    /// What came before the pid was known.
    early: Vec<(u32, Exit)>,
}

impl<K: Key> Runs<K> {
    /// Watches a run that is about to be launched, from before its process exists.
    pub(super) fn expect(&self, name: K) -> Expected<K> {
        let state = RunState::new(0);
        let live = Live {
            state: Arc::clone(&state),
            pid: None,
            early: Vec::new(),
        };
        let mut inner = self.inner.lock();
        inner.unclaimed.take(name);
        inner.live.insert(name, live);
        Expected {
            runs: self.clone(),
            name,
            state,
            launched: false,
        }
    }

    /// Watches a run that was found, alive or with `exit` known. Its pid is 0 if whoever found it was not
    /// told: then it is the one that is watched already, if there is one.
    /// What the OOM killer has done before is taken as seen.
    pub(super) fn adopt(
        &self,
        name: K,
        pid: u32,
        exit: Option<Exit>,
        oom_kills: u64,
    ) -> Arc<RunState> {
        let mut inner = self.inner.lock();
        let is_meant = |live: &&Live| live.pid.is_some_and(|known| known == pid || pid == 0);
        if let Some(live) = inner.live.get(&name).filter(is_meant) {
            let state = Arc::clone(&live.state);
            if let Some(exit) = exit {
                inner.settle(name, exit);
            }
            return state;
        }
        let state = RunState::new(oom_kills);
        let missed = inner.unclaimed.take(name).filter(|(of, _)| *of == pid);
        if let Some(exit) = exit.or_else(|| missed.map(|(_, exit)| exit)) {
            state.settle(exit);
        } else {
            let live = Live {
                state: Arc::clone(&state),
                pid: Some(pid),
                early: Vec::new(),
            };
            inner.live.insert(name, live);
        }
        state
    }

    /// The init process `pid` of a container ended.
    pub(super) fn exited(&self, name: K, pid: u32, exit: Exit) {
        let mut inner = self.inner.lock();
        match inner.live.get_mut(&name) {
            Some(live) => match live.pid {
                Some(known) if known == pid => inner.settle(name, exit),
                Some(_) => {}
                None if live.early.len() < MAX_EARLY_EXITS => live.early.push((pid, exit)),
                None => {}
            },
            None => inner.unclaimed.put(name, pid, exit),
        }
    }

    /// The OOM killer has acted `total` times in a container's run.
    pub(super) fn oom(&self, name: K, total: u64) {
        let inner = self.inner.lock();
        let Some(live) = inner.live.get(&name) else {
            return;
        };
        live.state.oom_kills.send_if_modified(|seen| {
            let grew = total > *seen;
            *seen = total.max(*seen);
            grew
        });
    }

    /// How often the OOM killer is known to have acted in a live run.
    pub(super) fn oom_kills(&self, name: K) -> Option<u64> {
        let inner = self.inner.lock();
        let live = inner.live.get(&name)?;
        Some(*live.state.oom_kills.borrow())
    }

    /// The process of a live run, once it is known.
    pub(super) fn pid(&self, name: K) -> Option<u32> {
        self.inner.lock().live.get(&name)?.pid
    }

    /// Runs whose process exists and whose end is not known.
    pub(super) fn unsettled(&self) -> Vec<(K, u32)> {
        let inner = self.inner.lock();
        let pids = inner.live.iter();
        pids.filter_map(|(name, live)| Some((*name, live.pid?)))
            .collect()
    }

    /// Whether a run other than `state` is being watched for the container.
    pub(super) fn is_superseded(&self, name: K, state: &Arc<RunState>) -> bool {
        let inner = self.inner.lock();
        inner
            .live
            .get(&name)
            .is_some_and(|live| !Arc::ptr_eq(&live.state, state))
    }
}

impl<K: Key> Inner<K> {
    fn settle(&mut self, name: K, exit: Exit) {
        if let Some(live) = self.live.remove(&name) {
            live.state.settle(exit);
        }
    }
}

/// A run that is being launched. Dropped before [`Self::launched`], it is forgotten.
#[derive(Debug)]
pub(super) struct Expected<K: Key> {
    runs: Runs<K>,
    name: K,
    state: Arc<RunState>,
    launched: bool,
}

impl<K: Key> Expected<K> {
    /// The process exists: what has come and what will come of it counts.
    pub(super) fn pid_is(&self, pid: u32) {
        let mut inner = self.runs.inner.lock();
        let Some(live) = inner.live.get_mut(&self.name) else {
            return;
        };
        live.pid = Some(pid);
        let early = std::mem::take(&mut live.early);
        if let Some((_, exit)) = early.into_iter().find(|(of, _)| *of == pid) {
            inner.settle(self.name, exit);
        }
    }

    /// The process was started: it is watched from now on whatever happens to this value.
    pub(super) fn launched(mut self) -> Arc<RunState> {
        self.launched = true;
        Arc::clone(&self.state)
    }
}

impl<K: Key> Drop for Expected<K> {
    fn drop(&mut self) {
        if self.launched {
            return;
        }
        let mut inner = self.runs.inner.lock();
        let ours = inner.live.get(&self.name);
        if ours.is_some_and(|live| Arc::ptr_eq(&live.state, &self.state)) {
            inner.live.remove(&self.name);
        }
    }
}

/// The latest exits of runs that nobody has asked for, oldest first.
#[derive(Debug)]
struct Unclaimed<K> {
    exits: HashMap<K, (u32, Exit)>,
    order: VecDeque<K>,
}

impl<K> Default for Unclaimed<K> {
    fn default() -> Self {
        Self {
            exits: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Key> Unclaimed<K> {
    fn put(&mut self, name: K, pid: u32, exit: Exit) {
        if self.exits.insert(name, (pid, exit)).is_none() {
            self.order.push_back(name);
        }
        while self.order.len() > MAX_UNCLAIMED {
            if let Some(oldest) = self.order.pop_front() {
                self.exits.remove(&oldest);
            }
        }
    }

    fn take(&mut self, name: K) -> Option<(u32, Exit)> {
        let exit = self.exits.remove(&name)?;
        self.order.retain(|kept| *kept != name);
        Some(exit)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use std::time::SystemTime;

    use super::super::name::Name;
    use super::*;
    use crate::backend::WaitStatus;
    use crate::model::ContainerId;

    fn some_name() -> Name {
        Name::first(ContainerId::generate())
    }

    fn exit(code: u8) -> Exit {
        Exit {
            status: WaitStatus::Exited(code),
            time: SystemTime::UNIX_EPOCH,
            oom_killed: false,
        }
    }

    #[test]
    fn an_exit_that_comes_before_the_pid_is_known_is_not_lost() {
        let (runs, name) = (Runs::default(), some_name());
        let expected = runs.expect(name);
        runs.exited(name, 7, exit(3));
        expected.pid_is(7);
        assert_eq!(*expected.launched().exit().borrow(), Some(exit(3)));
        assert!(runs.unsettled().is_empty());
    }

    #[test]
    fn an_exit_of_an_earlier_pid_is_ignored() {
        let (runs, name) = (Runs::default(), some_name());
        let expected = runs.expect(name);
        runs.exited(name, 6, exit(1));
        expected.pid_is(7);
        runs.exited(name, 6, exit(1));
        let state = expected.launched();
        assert!(!state.is_over());
        assert_eq!(runs.unsettled(), [(name, 7)]);
    }

    #[test]
    fn the_first_result_of_a_run_wins() {
        let (runs, name) = (Runs::default(), some_name());
        let state = runs.adopt(name, 7, None, 0);
        runs.exited(name, 7, exit(0));
        runs.exited(name, 7, exit(137));
        assert_eq!(*state.exit().borrow(), Some(exit(0)));
    }

    #[test]
    fn a_launch_that_fails_leaves_nothing() {
        let (runs, name) = (Runs::default(), some_name());
        let expected = runs.expect(name);
        expected.pid_is(7);
        drop(expected);
        assert!(runs.unsettled().is_empty());
    }

    #[test]
    fn a_failed_launch_does_not_forget_its_successor() {
        let (runs, name) = (Runs::default(), some_name());
        let first = runs.expect(name);
        let second = runs.expect(name);
        drop(first);
        second.pid_is(8);
        assert_eq!(runs.unsettled(), [(name, 8)]);
    }

    #[test]
    fn an_exit_between_finding_a_run_and_watching_it_is_not_lost() {
        let (runs, name) = (Runs::default(), some_name());
        runs.exited(name, 7, exit(3));
        assert_eq!(*runs.adopt(name, 7, None, 0).exit().borrow(), Some(exit(3)));
        runs.exited(name, 7, exit(3));
        assert!(!runs.adopt(name, 8, None, 0).is_over());
    }

    #[test]
    fn two_handles_of_one_run_see_the_same_end() {
        let (runs, name) = (Runs::default(), some_name());
        let first = runs.adopt(name, 7, None, 0);
        let second = runs.adopt(name, 7, Some(exit(2)), 0);
        assert_eq!(*first.exit().borrow(), Some(exit(2)));
        assert_eq!(*second.exit().borrow(), Some(exit(2)));
    }

    #[test]
    fn a_run_found_without_its_pid_is_the_one_that_is_watched() {
        let (runs, name) = (Runs::default(), some_name());
        let first = runs.adopt(name, 7, None, 0);
        let second = runs.adopt(name, 0, None, 0);
        runs.exited(name, 7, exit(3));
        assert_eq!(*first.exit().borrow(), Some(exit(3)));
        assert_eq!(*second.exit().borrow(), Some(exit(3)));
    }

    #[test]
    fn exits_nobody_asks_for_are_bounded() {
        let runs = Runs::default();
        for _ in 0..MAX_UNCLAIMED + 10 {
            runs.exited(some_name(), 1, exit(0));
        }
        let inner = runs.inner.lock();
        assert_eq!(inner.unclaimed.exits.len(), MAX_UNCLAIMED);
        assert_eq!(inner.unclaimed.order.len(), MAX_UNCLAIMED);
    }

    #[test]
    fn oom_kills_before_a_run_was_found_are_taken_as_seen_and_later_ones_are_not() {
        let (runs, name) = (Runs::default(), some_name());
        assert_eq!(runs.oom_kills(name), None);
        runs.adopt(name, 7, None, 3);
        runs.adopt(name, 7, None, 4);
        assert_eq!(runs.oom_kills(name), Some(3));
    }

    #[test]
    fn oom_kills_never_go_back() {
        let (runs, name) = (Runs::default(), some_name());
        let state = runs.adopt(name, 7, None, 0);
        runs.oom(name, 3);
        runs.oom(name, 2);
        assert_eq!(*state.oom_kills().borrow(), 3);
        assert_eq!(runs.oom_kills(name), Some(3));
    }
}
