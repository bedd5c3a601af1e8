//! The command line's streams: `run`, `exec`, `attach` and `logs` without a terminal, in pipes as
//! scripts have them. What terminals add is in `terminal`.

mod execs;
mod logs;
mod run;

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::harness::wharf::Wharf;

/// Nothing that a program is to do takes longer.
const LATE: Duration = Duration::from_secs(120);

/// Says so when it is ready, and ends with code 9 on SIGTERM.
const READY: &str =
    "sleep 3600 & trap 'echo got; kill $!; exit 9' TERM; echo ready; while :; do wait $!; done";

/// A `wharf` in the middle of its work. Killed when dropped.
struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    out: Vec<u8>,
    err: JoinHandle<String>,
}

/// What a program left.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    /// `None` if a signal ended it.
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

impl Program {
    fn start(wharf: &Wharf, words: &[&str]) -> Self {
        let mut command = Command::from(wharf.command(words));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let err = tokio::spawn(async move {
            let mut text = String::new();
            stderr.read_to_string(&mut text).await.unwrap();
            text
        });
        Self {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().unwrap(),
            out: Vec::new(),
            err,
            child,
        }
    }

    async fn write(&mut self, data: &[u8]) {
        let writing = self.stdin.as_mut().unwrap().write_all(data);
        timeout(LATE, writing).await.expect("it is read").unwrap();
    }

    fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Reads on until the output ends with `text`.
    async fn shows(&mut self, text: &str) {
        let ends = timeout(LATE, self.reads_to(text)).await;
        let so_far = String::from_utf8_lossy(&self.out);
        match ends {
            Ok(true) => {}
            Ok(false) => panic!("it ended after {so_far:?}: {:?}", (&mut self.err).await),
            Err(_) => panic!("no {text:?}, only {so_far:?}"),
        }
    }

    /// False if it ends before that.
    async fn reads_to(&mut self, text: &str) -> bool {
        while !self.out.ends_with(text.as_bytes()) {
            if self.stdout.read_buf(&mut self.out).await.unwrap() == 0 {
                return false;
            }
        }
        true
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// Waits for its end; its input stays as it is.
    async fn ends(mut self) -> Ended {
        let ending = async {
            self.stdout.read_to_end(&mut self.out).await.unwrap();
            self.child.wait().await.unwrap()
        };
        let status = timeout(LATE, ending).await.expect("it ends");
        Ended {
            code: status.code(),
            out: self.out,
            err: timeout(LATE, self.err).await.expect("it ends").unwrap(),
        }
    }
}

/// Runs a program that gets this input, and then no more.
async fn fed(wharf: &Wharf, words: &[&str], input: &[u8]) -> Ended {
    let mut program = Program::start(wharf, words);
    let mut stdin = program.stdin.take().unwrap();
    // A program that ends early reads no more.
    let feed = async { stdin.write_all(input).await.map(|()| drop(stdin)).ok() };
    tokio::join!(program.ends(), feed).0
}

/// Runs a program without any input.
async fn ended(wharf: &Wharf, words: &[&str]) -> Ended {
    fed(wharf, words, b"").await
}

fn good(code: i32, out: &str, err: &str) -> Ended {
    Ended {
        code: Some(code),
        out: out.into(),
        err: err.to_owned(),
    }
}
