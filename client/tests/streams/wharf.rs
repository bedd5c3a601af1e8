//! The program under test, as a child that never outlives its test.

use std::io::Write as _;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::testing::Server;

pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// `wharf` with these arguments, for this server.
pub(crate) fn command(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    command
        .env("WHARF_HOST", server.address().to_string())
        // Who runs the tests may have logged in somewhere.
        .env("DOCKER_CONFIG", "/nonexistent")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub(crate) async fn run(server: &Server, args: &[&str]) -> Ran {
    let child = Wharf::start(&mut command(server, args));
    child.output().await
}

/// What a run left.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A child, killed when dropped.
pub(crate) struct Wharf(Option<Child>);

impl Wharf {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        let pid = Pid::from_child(self.child());
        kill_process(pid, signal).unwrap();
    }

    /// Writes all of it, on a thread of its own, and leaves the pipe open.
    pub(crate) async fn type_in(&mut self, data: Vec<u8>) {
        let mut stdin = self.child().stdin.take().unwrap();
        let write = spawn_blocking(move || {
            stdin.write_all(&data).unwrap();
            stdin
        });
        let stdin = timeout(LIMIT, write).await.unwrap().unwrap();
        self.child().stdin = Some(stdin);
    }

    pub(crate) fn close_stdin(&mut self) {
        drop(self.child().stdin.take());
    }

    /// Waits for the end, without closing its input.
    pub(crate) async fn output(mut self) -> Ran {
        let mut child = self.0.take().unwrap();
        let pid = Pid::from_child(&child);
        let stdin = child.stdin.take();
        let wait = spawn_blocking(move || child.wait_with_output().unwrap());
        let Ok(ended) = timeout(LIMIT, wait).await else {
            let _ = kill_process(pid, Signal::KILL);
            panic!("it does not end");
        };
        drop(stdin);
        let Output {
            status,
            stdout,
            stderr,
        } = ended.unwrap();
        Ran {
            code: code(status),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }
}

impl Drop for Wharf {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The exit code; a death by signal fails the test.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| panic!("{status}"))
}
