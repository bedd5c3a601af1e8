//! From what containerd reports of a process to what the run's handles see.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::cgroup::Cgroups;
use super::exit::Ended;
use super::name::{ExecName, Name};
use super::runs::{RunState, Runs};
use crate::backend::{Exit, WaitStatus, proc};
use crate::model::Signal;

/// How often, and how long apart, to look for a kill in the kernel's count.
const OOM_LOOKS: u32 = 50;
const OOM_PAUSE: Duration = Duration::from_millis(10);

/// Completes reports with what the kernel says, and hands them to the runs they are about.
#[derive(Debug, Clone)]
pub(super) struct Observer {
    runs: Runs<Name>,
    execs: Runs<ExecName>,
    cgroups: Cgroups,
}

impl Observer {
    pub(super) fn new(cgroups: Cgroups) -> Self {
        Self {
            runs: Runs::default(),
            execs: Runs::default(),
            cgroups,
        }
    }

    /// The runs that are watched.
    pub(super) fn runs(&self) -> &Runs<Name> {
        &self.runs
    }

    /// The execs that are watched.
    pub(super) fn execs(&self) -> &Runs<ExecName> {
        &self.execs
    }

    /// The init process of a container ended.
    pub(super) fn ended(&self, name: Name, ended: &Ended) {
        let exit = self.exit(name, ended);
        self.runs.exited(name, ended.pid(), exit);
    }

    /// An exec ended.
    pub(super) fn exec_ended(&self, name: ExecName, ended: &Ended) {
        let exit = self.exec_exit(name, ended);
        self.execs.exited(name, ended.pid(), exit);
    }

    /// How an exec ended. It was the OOM killer if that has acted since the exec began, or was found, and
    /// has left the main process alone: with that one the kernel kills the execs, too.
    pub(super) fn exec_exit(&self, name: ExecName, ended: &Ended) -> Exit {
        let status = ended.wait_status();
        let acted = |before| self.oom_kills_of(name.container) > before;
        let main = self.runs.pid(name.container);
        let oom_killed = status == WaitStatus::Signaled(Signal::KILL)
            && main.is_some_and(proc::is_alive)
            && self.execs.oom_kills(name).is_some_and(acted);
        Exit {
            status,
            time: ended.time(),
            oom_killed,
        }
    }

    /// An exec is about to start: what the OOM killer did before has nothing to do with it.
    pub(super) fn exec_begins(&self, name: ExecName) {
        let before = self.oom_kills_of(name.container);
        self.execs.oom(name, before);
    }

    /// An exec was found, alive or with `exit` known. Of what the OOM killer did before nobody can tell
    /// whether it had to do with it.
    pub(super) fn exec_found(&self, name: ExecName, pid: u32, exit: Option<Exit>) -> Arc<RunState> {
        let before = self.oom_kills_of(name.container);
        self.execs.adopt(name, pid, exit, before)
    }

    fn oom_kills_of(&self, name: Name) -> u64 {
        self.cgroups.oom_kills(name).unwrap_or_default()
    }

    /// The OOM killer acts in a container: waits until the kernel has counted it. On cgroup v1 the
    /// notice comes before the kill.
    pub(super) async fn oom(&self, name: Name) {
        let seen = self.runs.oom_kills(name).unwrap_or_default();
        for _ in 0..OOM_LOOKS {
            match self.cgroups.oom_kills(name) {
                Some(total) if total > seen => return self.runs.oom(name, total),
                Some(_) => sleep(OOM_PAUSE).await,
                // The kernel does not count: the notice does.
                None => return self.runs.oom(name, seen + 1),
            }
        }
        // Nothing was killed, or an earlier look has seen it already.
    }

    /// How the init process of a container ended. To be asked before its task is deleted: the cgroup,
    /// which knows of the OOM killer, goes with it.
    pub(super) fn exit(&self, name: Name, ended: &Ended) -> Exit {
        let status = ended.wait_status();
        let oom_killed =
            status == WaitStatus::Signaled(Signal::KILL) && self.oom_killer_acted(name);
        Exit {
            status,
            time: ended.time(),
            oom_killed,
        }
    }

    fn oom_killer_acted(&self, name: Name) -> bool {
        let is_some = |kills: Option<u64>| kills.is_some_and(|kills| kills > 0);
        is_some(self.runs.oom_kills(name)) || is_some(self.cgroups.oom_kills(name))
    }
}
