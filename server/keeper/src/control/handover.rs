//! From one process to the next, and what the next one makes of it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use wharf_keeper::protocol::{Answer, Refusal};

use super::{Control, Draining, Entry, Finish, Launching, Phase, Process, Role};
use crate::drain::{Drain, Stopped};
use crate::launch::Child;
use crate::link::{Command, Key, Resumed, Setup};
use crate::start::StartError;
use crate::sys;
use crate::upgrade::{self, Saved, SavedProcess, State};

impl Control {
    /// Takes over a stream of the process before this one.
    pub(crate) fn take_over(&mut self, saved: Saved) -> io::Result<()> {
        // The process before this one may have had some, and did not wait for their ends.
        self.has_helped = true;
        let outputs_open = saved.outputs.iter().flatten().map(|_| 1).sum();
        let [stdout, stderr] = saved.outputs.map(|fd| fd.map(sys::adopt).transpose());
        let progress = self.new_progress(None);
        progress.restore(saved.positions, outputs_open);
        let key = progress.key;
        let setup = Setup {
            key,
            progress: Arc::clone(&progress),
            directory: saved.directory.clone(),
            run: saved.run,
            limits: saved.limits,
            outputs: [stdout?, stderr?],
            debts: saved.debts,
            resumed: Some(Resumed {
                finishing: saved.finishing_ms.map(upgrade::deadline),
                finished: saved.finished,
            }),
        };
        let finish = match (saved.finished, saved.finishing_ms) {
            (Some(finished), _) => Finish::Done(finished),
            (None, Some(_)) => Finish::Asked(Vec::new()),
            (None, None) => Finish::NotAsked,
        };
        self.table.insert(Entry {
            stream: saved.stream,
            directory: saved.directory,
            run: saved.run,
            limits: saved.limits,
            progress,
            stdin: saved.stdin.map(sys::adopt).transpose()?,
            terminal: saved.terminal.map(sys::adopt).transpose()?,
            process: None,
            // The drain thread takes it over whatever happens, before anything else it is told.
            phase: Phase::Open,
            finish,
            window: None,
        });
        self.link.send(Command::Open(Box::new(setup)));
        saved
            .process
            .map_or(Ok(()), |process| self.take_over_process(key, process))
    }

    fn take_over_process(&mut self, key: Key, saved: SavedProcess) -> io::Result<()> {
        match saved {
            SavedProcess::Launching {
                pid,
                pidfd,
                reports,
                ready,
            } => {
                let child = Child {
                    pid,
                    pidfd: sys::adopt(pidfd)?,
                    reports: sys::adopt(reports)?,
                };
                let launching = Launching {
                    child,
                    waiter: None,
                    ready,
                    role: Role::Process,
                };
                self.expect_reports(key, launching);
                Ok(())
            }
            SavedProcess::Running { pid, pidfd } => self.watch_end(key, pid, sys::adopt(pidfd)?),
            SavedProcess::Ended { pid, exit } => {
                if let Some(entry) = self.table.get_mut(key) {
                    entry.process = Some(Process::Ended { pid, exit });
                }
                Ok(())
            }
        }
    }

    /// The drain thread has stopped. Returns only if the upgrade does not work.
    pub(super) fn upgrade(&mut self) -> Result<(), StartError> {
        let Draining::Stopping(thread, waiter) =
            std::mem::replace(&mut self.draining, Draining::No)
        else {
            return Ok(());
        };
        let Ok(Stopped { drain, binary }) = thread.join() else {
            let source = io::Error::other("the drain thread panicked");
            return Err(StartError::when("stopping to drain")(source));
        };
        let error = match binary {
            Ok(binary) => self.become_next(&binary, &drain),
            Err(error) => error,
        };
        self.start_draining(drain)?;
        let reason = Refusal::UpgradeFailed;
        let detail = error.to_string();
        self.tell(waiter, Answer::Refused { reason, detail });
        Ok(())
    }

    fn become_next(&self, binary: &OwnedFd, drain: &Drain) -> io::Error {
        // Nobody would be told what comes of them.
        self.end_helpers(None);
        let mut descriptors = vec![&self.owned.listener, &self.owned.lock];
        let mut streams = Vec::new();
        for entry in self.table.iter() {
            // One that is not with the drain thread was never opened, or is closed.
            let Some(stream) = drain.stream(entry.progress.key) else {
                continue;
            };
            let outputs = stream.descriptors();
            descriptors.extend(outputs.into_iter().flatten());
            descriptors.extend(&entry.stdin);
            descriptors.extend(&entry.terminal);
            descriptors.extend(entry.process.iter().flat_map(Process::descriptors));
            streams.push(Saved {
                stream: entry.stream.clone(),
                directory: entry.directory.clone(),
                run: entry.run,
                limits: entry.limits,
                outputs: outputs.map(|fd| fd.map(AsRawFd::as_raw_fd)),
                stdin: entry.stdin.as_ref().map(AsRawFd::as_raw_fd),
                terminal: entry.terminal.as_ref().map(AsRawFd::as_raw_fd),
                process: entry.process.as_ref().and_then(Process::saved),
                positions: stream.recorder.positions(),
                debts: stream.recorder.debts(),
                finishing_ms: stream.finishing.map(upgrade::left_ms),
                finished: stream.finished,
            });
        }
        let state = State {
            listener: self.owned.listener.as_raw_fd(),
            lock: self.owned.lock.as_raw_fd(),
            streams,
        };
        let args = |state| self.args.resuming(state);
        upgrade::become_next(binary, &state, &descriptors, args)
    }
}
