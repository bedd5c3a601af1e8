//! The processes of streams: launched, watched, ended.
//!
//! ```text
//! Launch --> Launching --exec--> Running --end--> Ended
//!               | |                 ^
//!               | +-- failed: none  +-- Watch: of another keeper, or made by a helper
//!               +-- helper: Helping --end--> none
//! ```

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus, pidfd_send_signal, waitid};
use rustix::termios::Winsize;
use wharf_keeper::protocol::launch::LaunchStep;
use wharf_keeper::protocol::{Answer, Launch, ProcessState, Refusal};
use wharf_keeper::segment::{ProcessExit, ProcessStatus, now};

use super::requests::{Handled, Outcome, Refused, unknown};
use super::{Control, Waiter};
use crate::launch::{self, Child, Extras, LaunchError, Report};
use crate::link::{Command, Key};
use crate::sys;
use crate::upgrade::SavedProcess;

/// Marks a token as that of a process's descriptor.
const PROCESS: u64 = 1 << 63;
/// Marks a token as that of what a child reports.
const REPORTS: u64 = 1 << 62;

/// The process of a stream.
#[derive(Debug)]
pub(crate) enum Process {
    /// It is on its way to its program.
    Launching(Launching),
    /// It runs.
    Running { pid: u32, pidfd: OwnedFd },
    /// It makes the stream's process, and is not it.
    Helping {
        pid: u32,
        pidfd: OwnedFd,
        waiter: Option<Waiter>,
    },
    /// It is over.
    Ended { pid: u32, exit: ProcessExit },
}

/// A child that has not become its program yet.
#[derive(Debug)]
pub(crate) struct Launching {
    pub(crate) child: Child,
    /// None if whoever asked has gone, with the process before this one.
    pub(crate) waiter: Option<Waiter>,
    /// Whether all that is left is the exec.
    pub(crate) ready: bool,
    pub(crate) role: Role,
}

/// What a child is to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its process.
    Process,
    /// What makes its process.
    Helper,
}

/// What makes the process of a stream, and ends with that.
#[derive(Debug)]
pub(super) struct Helper {
    stream: Key,
    process: Option<Process>,
}

/// How a launch has ended.
enum Outcomes {
    NotYet,
    Launched,
    Failed {
        step: LaunchStep,
        index: u32,
        errno: i32,
    },
}

impl Process {
    pub(crate) fn state(&self) -> ProcessState {
        let (pid, launched, exit) = match self {
            Self::Launching(launching) => (launching.child.pid, false, None),
            Self::Running { pid, .. } => (*pid, true, None),
            Self::Helping { pid, .. } => (*pid, false, None),
            Self::Ended { pid, exit } => (*pid, true, Some(*exit)),
        };
        ProcessState {
            pid,
            launched,
            exit,
        }
    }

    /// For the process that continues this one. Helpers do not live to see it.
    pub(crate) fn saved(&self) -> Option<SavedProcess> {
        match self {
            Self::Launching(Launching { child, ready, .. }) => Some(SavedProcess::Launching {
                pid: child.pid,
                pidfd: child.pidfd.as_raw_fd(),
                reports: child.reports.as_raw_fd(),
                ready: *ready,
            }),
            Self::Running { pid, pidfd } => Some(SavedProcess::Running {
                pid: *pid,
                pidfd: pidfd.as_raw_fd(),
            }),
            Self::Ended { pid, exit } => Some(SavedProcess::Ended {
                pid: *pid,
                exit: *exit,
            }),
            Self::Helping { .. } => None,
        }
    }

    /// Those in it.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = &OwnedFd> {
        let reports = match self {
            Self::Launching(launching) => Some(&launching.child.reports),
            Self::Running { .. } | Self::Helping { .. } | Self::Ended { .. } => None,
        };
        self.pidfd().into_iter().chain(reports)
    }

    fn pidfd(&self) -> Option<&OwnedFd> {
        match self {
            Self::Launching(launching) => Some(&launching.child.pidfd),
            Self::Running { pidfd, .. } | Self::Helping { pidfd, .. } => Some(pidfd),
            Self::Ended { .. } => None,
        }
    }

    /// Sends SIGKILL, if it has not ended.
    pub(crate) fn kill(&self) {
        if let Some(pidfd) = self.pidfd() {
            // It fails only if it has just ended.
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
    }
}

impl Control {
    pub(super) fn launch(
        &mut self,
        waiter: Waiter,
        launch: &Launch,
        descriptors: Vec<OwnedFd>,
    ) -> Handled {
        let entry = self.table.open(&launch.stream).ok_or(unknown())?;
        if entry.process.is_some() && !launch.helper {
            return Err(Refused::told(Refusal::Process, ""));
        }
        let mut key = entry.progress.key;
        let (plan, extras) = sort(launch, descriptors)?;
        let child = match launch::launch(plan, extras) {
            Ok(child) => child,
            Err(LaunchError::System { step, source }) => {
                let answer = Answer::NotLaunched {
                    step,
                    index: 0,
                    errno: source.raw_os_error().unwrap_or_default(),
                };
                return Ok(Outcome::Answer(answer));
            }
            Err(error @ (LaunchError::Plan(_) | LaunchError::Invalid(_))) => {
                return Err(Refused::told(Refusal::Invalid, error.to_string()));
            }
        };
        if launch.helper {
            let helper = Helper {
                stream: key,
                process: None,
            };
            key = self.new_key();
            self.helpers.insert(key, helper);
        }
        let launching = Launching {
            child,
            waiter: Some(waiter),
            ready: false,
            role: if launch.helper {
                Role::Helper
            } else {
                Role::Process
            },
        };
        self.expect_reports(key, launching);
        Ok(Outcome::Later)
    }

    /// A child is on its way: what it reports is listened to.
    pub(super) fn expect_reports(&mut self, key: Key, launching: Launching) {
        let watched = self
            .poller
            .add(&launching.child.reports, REPORTS | key, EventFlags::IN);
        if let Some(process) = self.process_of(key) {
            *process = Some(Process::Launching(launching));
        }
        if let Err(error) = watched {
            let errno = error.raw_os_error().unwrap_or_default();
            let step = LaunchStep::Clone;
            self.launch_failed(key, step, 0, errno);
        }
    }

    pub(super) fn watch(
        &mut self,
        stream: &str,
        pid: u32,
        mut descriptors: Vec<OwnedFd>,
    ) -> Handled {
        let entry = self.table.open(stream).ok_or(unknown())?;
        match &entry.process {
            Some(process) if process.state().pid == pid => {
                return Ok(Outcome::Answer(Answer::Done {}));
            }
            Some(_) => return Err(Refused::told(Refusal::Process, "")),
            None => {}
        }
        let pidfd = descriptors
            .pop()
            .ok_or(Refused::told(Refusal::System, "no descriptor came"))?;
        let key = entry.progress.key;
        self.watch_end(key, pid, pidfd)
            .map_err(|_| Refused::told(Refusal::System, "it cannot be watched"))?;
        // The keeper after this one, and the daemon, find it by this.
        self.link.send(Command::Launched(key, pid));
        self.reap_strays();
        Ok(Outcome::Answer(Answer::Done {}))
    }

    /// It runs: its end is watched.
    pub(super) fn watch_end(&mut self, key: Key, pid: u32, pidfd: OwnedFd) -> std::io::Result<()> {
        self.poller.add(&pidfd, PROCESS | key, EventFlags::IN)?;
        if let Some(entry) = self.table.get_mut(key) {
            entry.process = Some(Process::Running { pid, pidfd });
        }
        Ok(())
    }

    pub(super) fn take_terminal(&mut self, stream: &str, mut descriptors: Vec<OwnedFd>) -> Handled {
        let entry = self.table.open(stream).ok_or(unknown())?;
        let key = entry.progress.key;
        let terminal = descriptors
            .pop()
            .ok_or(Refused::told(Refusal::System, "no descriptor came"))?;
        self.give_terminal(key, terminal);
        Ok(Outcome::Answer(Answer::Done {}))
    }

    pub(super) fn signal(&mut self, stream: &str, number: u8) -> Handled {
        let entry = self.table.open(stream).ok_or(unknown())?;
        let pidfd = entry.process.as_ref().and_then(Process::pidfd);
        let pidfd = pidfd.ok_or(Refused::told(Refusal::Process, "it has none"))?;
        sys::child::send_signal(pidfd, number)
            .map_err(|_| Refused::told(Refusal::Process, "it has ended"))?;
        Ok(Outcome::Answer(Answer::Done {}))
    }

    pub(super) fn resize(&mut self, stream: &str, rows: u16, columns: u16) -> Handled {
        let entry = self.table.open(stream).ok_or(unknown())?;
        let terminal = entry
            .terminal
            .as_ref()
            .ok_or(Refused::told(Refusal::NoTerminal, ""))?;
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(terminal, size)
            .map_err(|_| Refused::told(Refusal::System, "the terminal refuses"))?;
        Ok(Outcome::Answer(Answer::Done {}))
    }

    /// True if the token was one of a process.
    pub(super) fn on_process_token(&mut self, token: u64) -> bool {
        let key = token & !(PROCESS | REPORTS);
        if token & PROCESS != 0 {
            self.on_end(key);
        } else if token & REPORTS != 0 {
            self.on_reports(key);
        } else {
            return false;
        }
        true
    }

    fn on_reports(&mut self, key: Key) {
        loop {
            let Some(Some(Process::Launching(launching))) = self.process_of(key) else {
                return;
            };
            let outcome = match launch::receive(&launching.child.reports) {
                None => return,
                Some(Report::Terminal(terminal)) => {
                    self.give_terminal(key, terminal);
                    Outcomes::NotYet
                }
                Some(Report::Ready) => {
                    launching.ready = true;
                    Outcomes::NotYet
                }
                Some(Report::Failed(failure)) => Outcomes::Failed {
                    step: failure.step,
                    index: failure.index.into(),
                    errno: failure.errno.raw_os_error(),
                },
                Some(Report::Over) if launching.ready => Outcomes::Launched,
                Some(Report::Over) => Outcomes::Failed {
                    step: LaunchStep::Killed,
                    index: 0,
                    errno: 0,
                },
            };
            match outcome {
                Outcomes::NotYet => {}
                Outcomes::Launched => return self.launched(key),
                Outcomes::Failed { step, index, errno } => {
                    return self.launch_failed(key, step, index, errno);
                }
            }
        }
    }

    /// The process's output is what the terminal says, and its input what it is told.
    fn give_terminal(&mut self, key: Key, terminal: OwnedFd) {
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        if let Ok(flags) = rustix::fs::fcntl_getfl(&terminal) {
            // Reading and writing must never wait; the process's side is another open file.
            let _ = rustix::fs::fcntl_setfl(&terminal, flags | rustix::fs::OFlags::NONBLOCK);
        }
        if let Ok(output) = terminal.try_clone() {
            self.link.send(Command::Terminal(key, output));
        }
        if entry.stdin.is_some() {
            entry.stdin = terminal.try_clone().ok();
        }
        entry.terminal = Some(terminal);
    }

    fn launched(&mut self, key: Key) {
        let Some(launching) = self.take_launching(key) else {
            return;
        };
        if launching.role == Role::Helper {
            return self.helping(key, launching);
        }
        let Child { pid, pidfd, .. } = launching.child;
        let mut descriptors: Vec<OwnedFd> = pidfd.try_clone().into_iter().collect();
        if let Err(error) = self.watch_end(key, pid, pidfd) {
            let errno = error.raw_os_error().unwrap_or_default();
            let step = LaunchStep::Clone;
            if let Some(waiter) = launching.waiter {
                self.tell(
                    waiter,
                    Answer::NotLaunched {
                        step,
                        index: 0,
                        errno,
                    },
                );
            }
            return;
        }
        self.link.send(Command::Launched(key, pid));
        let terminal = self
            .table
            .get(key)
            .and_then(|entry| entry.terminal.as_ref());
        descriptors.extend(terminal.and_then(|terminal| terminal.try_clone().ok()));
        if let Some(waiter) = launching.waiter {
            self.tell_with(waiter, Answer::Launched { pid }, descriptors);
        }
    }

    fn helping(&mut self, key: Key, launching: Launching) {
        let Child { pid, pidfd, .. } = launching.child;
        let waiter = launching.waiter;
        let watched = self.poller.add(&pidfd, PROCESS | key, EventFlags::IN);
        if let Some(process) = self.process_of(key) {
            *process = Some(Process::Helping { pid, pidfd, waiter });
        }
        if watched.is_err() {
            self.on_end(key);
        }
    }

    /// A helper is over.
    fn helped(&mut self, key: Key, status: ProcessStatus) {
        let helper = self.helpers.remove(&key);
        let Some(Process::Helping { pidfd, waiter, .. }) = helper.and_then(|helper| helper.process)
        else {
            return;
        };
        self.poller.remove(&pidfd);
        let exit = ProcessExit {
            time: now(),
            status,
        };
        if let Some(waiter) = waiter {
            self.tell(waiter, Answer::Helped { exit });
        }
        self.has_helped = true;
        self.reap_strays();
    }

    /// What helpers have left behind and nobody watches. While a stream has no process, one of them may be
    /// its: the daemon asks for it to be watched after the helper's end, and it must be there to be asked for.
    pub(super) fn reap_strays(&mut self) {
        if !self.has_helped || self.table.iter().any(|entry| entry.process.is_none()) {
            return;
        }
        while let Some(pid) = sys::child::first_zombie() {
            let streams = self.table.iter().filter_map(|entry| entry.process.as_ref());
            let helpers = self.helpers.values();
            let helpers = helpers.filter_map(|helper| helper.process.as_ref());
            let mut known = streams.chain(helpers).map(|process| process.state().pid);
            // One that is watched is told of by its descriptor, and so are those on their way out.
            if known.any(|known| known == pid) || !self.unclaimed.is_empty() {
                return;
            }
            sys::child::reap(pid);
        }
    }

    /// Ends what makes the process of a stream; of all of them, without one.
    pub(super) fn end_helpers(&self, of: Option<Key>) {
        let helpers = self.helpers.values();
        let of_stream = helpers.filter(|helper| of.is_none_or(|stream| stream == helper.stream));
        for process in of_stream.filter_map(|helper| helper.process.as_ref()) {
            process.kill();
        }
    }

    /// Where the process of a stream, or a helper, is.
    fn process_of(&mut self, key: Key) -> Option<&mut Option<Process>> {
        match self.table.get_mut(key) {
            Some(entry) => Some(&mut entry.process),
            None => self.helpers.get_mut(&key).map(|helper| &mut helper.process),
        }
    }

    pub(super) fn new_key(&mut self) -> Key {
        let key = self.next_key;
        self.next_key += 1;
        key
    }

    /// It is not, and nothing may be left of it.
    fn launch_failed(&mut self, key: Key, step: LaunchStep, index: u32, errno: i32) {
        let Some(launching) = self.take_launching(key) else {
            return;
        };
        self.helpers.remove(&key);
        // It is on its way out, if it is not stuck; it was never more than a copy of this process.
        let _ = pidfd_send_signal(&launching.child.pidfd, Signal::KILL);
        self.reap_later(launching.child.pidfd);
        if let Some(waiter) = launching.waiter {
            let answer = Answer::NotLaunched { step, index, errno };
            self.tell(waiter, answer);
        }
    }

    fn take_launching(&mut self, key: Key) -> Option<Launching> {
        let process = self.process_of(key)?;
        match process.take() {
            Some(Process::Launching(launching)) => {
                self.poller.remove(&launching.child.reports);
                Some(launching)
            }
            other => {
                *process = other;
                None
            }
        }
    }

    fn on_end(&mut self, key: Key) {
        // One that nobody asks for any more.
        if let Some(pidfd) = self.unclaimed.remove(&key) {
            self.poller.remove(&pidfd);
            let _ = reap(&pidfd);
            return;
        }
        let process = match self.table.get(key) {
            Some(entry) => entry.process.as_ref(),
            None => self
                .helpers
                .get(&key)
                .and_then(|helper| helper.process.as_ref()),
        };
        let (pid, pidfd, role) = match process {
            Some(Process::Running { pid, pidfd }) => (*pid, pidfd, Role::Process),
            Some(Process::Helping { pid, pidfd, .. }) => (*pid, pidfd, Role::Helper),
            Some(Process::Launching(_) | Process::Ended { .. }) | None => return,
        };
        let status = match reap(pidfd) {
            Reaped::Ended(status) => status,
            Reaped::Running => return,
            Reaped::NotByUs => {
                // It is a zombie of somebody else's. The descriptor says so all the time, and hangs up once
                // that one has taken it away; only then the kernel tells how it ended.
                let only_the_end = EventFlags::empty();
                let _ = self.poller.modify(pidfd, PROCESS | key, only_the_end);
                return;
            }
        };
        if role == Role::Helper {
            return self.helped(key, status);
        }
        self.poller.remove(pidfd);
        let exit = ProcessExit {
            time: now(),
            status,
        };
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        entry.process = Some(Process::Ended { pid, exit });
        let stream = entry.stream.clone();
        self.link.send(Command::Exited(key, exit));
        for connection in self.connections.values_mut() {
            connection.exited(&stream, pid, exit);
        }
    }

    /// The stream is closed: its process ends with it.
    pub(super) fn let_go_of(&mut self, process: Process) {
        process.kill();
        match process {
            Process::Launching(launching) => {
                self.poller.remove(&launching.child.reports);
                if let Some(waiter) = launching.waiter {
                    let step = LaunchStep::Killed;
                    let (index, errno) = (0, 0);
                    self.tell(waiter, Answer::NotLaunched { step, index, errno });
                }
                self.reap_later(launching.child.pidfd);
            }
            Process::Running { pidfd, .. } => {
                self.poller.remove(&pidfd);
                self.reap_later(pidfd);
            }
            Process::Helping { pidfd, waiter, .. } => {
                self.poller.remove(&pidfd);
                if let Some(waiter) = waiter {
                    let step = LaunchStep::Killed;
                    let (index, errno) = (0, 0);
                    self.tell(waiter, Answer::NotLaunched { step, index, errno });
                }
                self.reap_later(pidfd);
            }
            Process::Ended { .. } => {}
        }
    }

    /// A child that is on its way out and that nobody asks for any more.
    fn reap_later(&mut self, pidfd: OwnedFd) {
        if reap(&pidfd) != Reaped::Running {
            return;
        }
        let key = self.new_key();
        // If it cannot be watched it stays a zombie until the keeper ends.
        if self
            .poller
            .add(&pidfd, PROCESS | key, EventFlags::IN)
            .is_ok()
        {
            self.unclaimed.insert(key, pidfd);
        }
    }
}

/// Which descriptor is what.
fn sort(launch: &Launch, descriptors: Vec<OwnedFd>) -> Result<(OwnedFd, Extras), Refused> {
    let declared = [
        true,
        launch.seccomp,
        launch.cgroup,
        launch.join,
        launch.reports,
    ];
    let count = declared.iter().filter(|declared| **declared).count();
    if descriptors.len() < count {
        return Err(Refused::told(Refusal::System, "not all descriptors came"));
    }
    if descriptors.len() > count {
        return Err(Refused::told(Refusal::Invalid, "descriptors"));
    }
    let mut descriptors = descriptors.into_iter();
    let mut take = |declared: bool| if declared { descriptors.next() } else { None };
    let plan = take(true).ok_or(Refused::told(Refusal::Invalid, "descriptors"))?;
    let extras = Extras {
        filter: take(launch.seccomp),
        cgroup: take(launch.cgroup),
        join: take(launch.join),
        reports: take(launch.reports),
    };
    Ok((plan, extras))
}

/// What comes of taking a process away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaped {
    Ended(ProcessStatus),
    Running,
    /// It has ended, and its parent has not taken it away.
    NotByUs,
}

/// Takes a process away, if it has ended. The child of a keeper that has died is somebody else's by now.
fn reap(pidfd: &OwnedFd) -> Reaped {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
        Ok(None) => Reaped::Running,
        Ok(Some(status)) => Reaped::Ended(status_of(&status)),
        Err(Errno::CHILD) => match sys::child::told_wait_status(pidfd) {
            sys::child::Told::Status(status) => Reaped::Ended(status_of_raw(status)),
            sys::child::Told::NotYet => Reaped::NotByUs,
            sys::child::Told::Never => Reaped::Ended(ProcessStatus::Lost),
        },
        Err(_) => Reaped::Running,
    }
}

fn status_of(status: &WaitIdStatus) -> ProcessStatus {
    let byte = |number: i32| u8::try_from(number & 0xff).ok();
    match (
        status.terminating_signal().and_then(byte),
        status.exit_status().and_then(byte),
    ) {
        (Some(signal), _) => ProcessStatus::Signaled(signal),
        (None, Some(code)) => ProcessStatus::Exited(code),
        (None, None) => ProcessStatus::Lost,
    }
}

/// wait(2), "wstatus".
fn status_of_raw(wait_status: i32) -> ProcessStatus {
    let [low, high, ..] = wait_status.to_le_bytes();
    match low & 0x7f {
        0 => ProcessStatus::Exited(high),
        signal => ProcessStatus::Signaled(signal),
    }
}
