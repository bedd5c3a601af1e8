//! The processes of streams: launched, watched, ended.
//!
//! ```text
//! Launch --> Launching --exec--> Running --end--> Ended
//!                |                  ^
//!                +-- failed: none   +-- Watch: of another keeper
//! ```

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};
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
            Self::Ended { pid, exit } => (*pid, true, Some(*exit)),
        };
        ProcessState {
            pid,
            launched,
            exit,
        }
    }

    /// For the process that continues this one.
    pub(crate) fn saved(&self) -> SavedProcess {
        match self {
            Self::Launching(Launching { child, ready, .. }) => SavedProcess::Launching {
                pid: child.pid,
                pidfd: child.pidfd.as_raw_fd(),
                reports: child.reports.as_raw_fd(),
                ready: *ready,
            },
            Self::Running { pid, pidfd } => SavedProcess::Running {
                pid: *pid,
                pidfd: pidfd.as_raw_fd(),
            },
            Self::Ended { pid, exit } => SavedProcess::Ended {
                pid: *pid,
                exit: *exit,
            },
        }
    }

    /// Those in it.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = &OwnedFd> {
        let reports = match self {
            Self::Launching(launching) => Some(&launching.child.reports),
            Self::Running { .. } | Self::Ended { .. } => None,
        };
        self.pidfd().into_iter().chain(reports)
    }

    fn pidfd(&self) -> Option<&OwnedFd> {
        match self {
            Self::Launching(launching) => Some(&launching.child.pidfd),
            Self::Running { pidfd, .. } => Some(pidfd),
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
        if entry.process.is_some() {
            return Err(Refused::told(Refusal::Process, ""));
        }
        let key = entry.progress.key;
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
        let launching = Launching {
            child,
            waiter: Some(waiter),
            ready: false,
        };
        self.expect_reports(key, launching);
        Ok(Outcome::Later)
    }

    /// A child is on its way: what it reports is listened to.
    pub(super) fn expect_reports(&mut self, key: Key, launching: Launching) {
        let watched = self
            .poller
            .add(&launching.child.reports, REPORTS | key, EventFlags::IN);
        if let Some(entry) = self.table.get_mut(key) {
            entry.process = Some(Process::Launching(launching));
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
            let Some(entry) = self.table.get_mut(key) else {
                return;
            };
            let Some(Process::Launching(launching)) = &mut entry.process else {
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

    /// It is not, and nothing may be left of it.
    fn launch_failed(&mut self, key: Key, step: LaunchStep, index: u32, errno: i32) {
        let Some(launching) = self.take_launching(key) else {
            return;
        };
        // It is on its way out, if it is not stuck; it was never more than a copy of this process.
        let _ = pidfd_send_signal(&launching.child.pidfd, Signal::KILL);
        self.reap_later(launching.child.pidfd);
        if let Some(waiter) = launching.waiter {
            let answer = Answer::NotLaunched { step, index, errno };
            self.tell(waiter, answer);
        }
    }

    fn take_launching(&mut self, key: Key) -> Option<Launching> {
        let entry = self.table.get_mut(key)?;
        match entry.process.take() {
            Some(Process::Launching(launching)) => {
                self.poller.remove(&launching.child.reports);
                Some(launching)
            }
            other => {
                entry.process = other;
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
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        let Some(Process::Running { pid, pidfd }) = &entry.process else {
            return;
        };
        let pid = *pid;
        let Some(status) = reap(pidfd) else {
            return;
        };
        self.poller.remove(pidfd);
        let exit = ProcessExit {
            time: now(),
            status,
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
            Process::Ended { .. } => {}
        }
    }

    /// A child that is on its way out and that nobody asks for any more.
    fn reap_later(&mut self, pidfd: OwnedFd) {
        if reap(&pidfd).is_some() {
            return;
        }
        let key = self.next_key;
        self.next_key += 1;
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
    let declared = [true, launch.seccomp, launch.cgroup, launch.join];
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
    };
    Ok((plan, extras))
}

/// Takes a process away that has ended; `None` if it has not.
fn reap(pidfd: &OwnedFd) -> Option<ProcessStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
        Ok(status) => {
            let status = status?;
            let signal = status
                .terminating_signal()
                .and_then(|signal| u8::try_from(signal).ok());
            let code = status.exit_status().map(|code| code & 0xff);
            let code = code.and_then(|code| u8::try_from(code).ok());
            Some(match (signal, code) {
                (Some(signal), _) => ProcessStatus::Signaled(signal),
                (None, Some(code)) => ProcessStatus::Exited(code),
                (None, None) => ProcessStatus::Lost,
            })
        }
        // The child of a keeper that has died: somebody else has taken it away.
        Err(Errno::CHILD) => {
            Some(sys::child::told_wait_status(pidfd).map_or(ProcessStatus::Lost, status_of))
        }
        Err(_) => None,
    }
}

/// wait(2), "wstatus".
fn status_of(wait_status: i32) -> ProcessStatus {
    let [low, high, ..] = wait_status.to_le_bytes();
    match low & 0x7f {
        0 => ProcessStatus::Exited(high),
        signal => ProcessStatus::Signaled(signal),
    }
}
