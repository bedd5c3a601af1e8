//! Child processes with a log, that never outlive their owner.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait::until;

/// A running program. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    name: &'static str,
    child: Child,
}

impl Daemon {
    /// Starts `command` with all its output appended to `log`.
    pub fn spawn(name: &'static str, mut command: Command, log: &Path) -> Self {
        let output = append_to(log);
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { name, child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; a process that has ended already is fine.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).ok();
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub async fn end(&mut self, within: Duration) -> ExitStatus {
        let name = self.name;
        until(&format!("{name} has ended"), within, async || {
            self.ended().ok_or_else(|| "it runs".to_owned())
        })
        .await
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

fn append_to(log: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .unwrap()
}

/// Runs a program to its end without any input, off the runtime's threads.
///
/// # Panics
/// If it takes longer than `within`.
pub async fn run(mut command: Command, within: Duration) -> Output {
    command.stdin(Stdio::null());
    run_with_input(command, within).await
}

/// The same with the standard input that the command has been given.
pub async fn run_with_input(mut command: Command, within: Duration) -> Output {
    let what = format!("{command:?}");
    let finished = tokio::task::spawn_blocking(move || command.output());
    tokio::time::timeout(within, finished)
        .await
        .unwrap_or_else(|_| panic!("{what} runs longer than {within:?}"))
        .unwrap()
        .unwrap_or_else(|error| panic!("{what}: {error}"))
}
