//! `wharfd`'s own command line: what it is told, what it refuses, how it ends.

mod configuration;
mod lives;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::client::Client;
use crate::harness::process::{self, Daemon};
use crate::harness::{World, binaries, until};

const LONGEST: Duration = Duration::from_secs(30);

/// `wharfd` with nothing in its environment but what it needs to find runtimes.
fn wharfd<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(binaries::wharfd());
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .args(arguments);
    command
}

/// A directory beside the world's own server, which these scenarios do not start.
fn alone(world: &World) -> PathBuf {
    let place = world.directory().join("alone");
    fs::create_dir_all(&place).unwrap();
    place
}

/// What keeps a server from anything outside of a directory, and from any containerd.
fn flags_below(directory: &Path) -> Vec<String> {
    let below = |name: &str| directory.join(name).display().to_string();
    let flags = [
        ["--state-dir".to_owned(), below("state")],
        ["--run-dir".to_owned(), below("run")],
        [
            "--containerd-address".to_owned(),
            below("no-containerd.sock"),
        ],
    ];
    flags.concat()
}

/// The one line on standard error of a server that does not start, without the program's name.
async fn refused(mut command: Command, code: i32) -> String {
    let told = format!("{command:?}");
    command.stdin(Stdio::null());
    let output = process::run_with_input(command, LONGEST).await;
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{told}: {said}");
    assert_eq!(output.stdout, b"", "{told}");
    assert_eq!(said.lines().count(), 1, "{told}: {said}");
    let line = said.strip_prefix("wharfd: ").expect("the program's name");
    line.trim_end_matches('\n').to_owned()
}

/// A server without containerd, with a log of its own. Killed when dropped.
struct Alone {
    daemon: Daemon,
    log: PathBuf,
}

impl Alone {
    fn start(command: Command, log: &Path) -> Self {
        Self {
            daemon: Daemon::spawn("wharfd", command, log),
            log: log.to_owned(),
        }
    }

    /// Waits until it answers there.
    async fn answers(&mut self, socket: &Path) -> Client {
        let client = Client::of_socket(socket);
        until("wharfd answers", LONGEST, async || {
            if let Some(status) = self.daemon.ended() {
                panic!("wharfd ended with {status}: {}", self.log());
            }
            client.info().await.map_err(|refusal| refusal.to_string())
        })
        .await;
        client
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// SIGTERM, and a clean end.
    async fn stop(mut self) {
        self.daemon.signal(Signal::TERM);
        let status = self.daemon.end(LONGEST).await;
        assert!(status.success(), "{status}: {}", self.log());
    }
}
