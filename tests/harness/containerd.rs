//! A containerd of one's own: root, state and socket below one directory, and no CRI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::process::{self, Daemon};
use super::wait::until;

/// The namespace that `wharfd` uses by default.
pub const NAMESPACE: &str = "wharf";

const READY: Duration = Duration::from_secs(90);

/// A containerd, running or not. Containers outlive it; see `leaks` for how they end.
#[derive(Debug)]
pub struct Containerd {
    directory: PathBuf,
    socket: PathBuf,
    daemon: Option<Daemon>,
    frozen: bool,
}

impl Containerd {
    /// One that is not running yet.
    pub fn below(directory: &Path) -> Self {
        let this = Self {
            directory: directory.join("containerd"),
            socket: directory.join("containerd/containerd.sock"),
            daemon: None,
            frozen: false,
        };
        fs::create_dir_all(&this.directory).unwrap();
        fs::write(this.directory.join("config.toml"), this.config()).unwrap();
        this
    }

    /// Somebody else's, at this socket, to run `ctr` against.
    pub fn behind(socket: &Path) -> Self {
        Self {
            directory: PathBuf::new(),
            socket: socket.to_owned(),
            daemon: None,
            frozen: false,
        }
    }

    fn config(&self) -> String {
        let directory = self.directory.display();
        format!(
            r#"version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
path = "{directory}/opt"
"#,
            socket = self.socket().display(),
        )
    }

    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    pub fn is_running(&self) -> bool {
        self.daemon.is_some()
    }

    /// Starts it, and waits until it answers.
    pub async fn start(&mut self) {
        assert!(self.daemon.is_none(), "containerd runs already");
        let mut command = Command::new("containerd");
        command
            .arg("--config")
            .arg(self.directory.join("config.toml"));
        let log = self.directory.join("log");
        self.daemon = Some(Daemon::spawn("containerd", command, &log));
        until("containerd answers", READY, async || {
            let output = self.ctr_output(&["version"]).await;
            output.map(|_| ())
        })
        .await;
    }

    /// SIGTERM, and its end.
    pub async fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.signal(Signal::TERM);
            daemon.end(Duration::from_secs(20)).await;
        }
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        self.daemon = None;
        self.frozen = false;
    }

    /// Stops it in its tracks: connections stay, nothing answers.
    pub fn freeze(&mut self) {
        self.frozen = true;
        self.daemon.as_ref().unwrap().signal(Signal::STOP);
    }

    pub fn thaw(&mut self) {
        if std::mem::take(&mut self.frozen) {
            self.daemon.as_ref().unwrap().signal(Signal::CONT);
        }
    }

    /// The lines that `ctr` prints, in `wharfd`'s namespace.
    pub async fn ctr(&self, arguments: &[&str]) -> Vec<String> {
        self.ctr_output(arguments)
            .await
            .unwrap_or_else(|problem| panic!("ctr {arguments:?}: {problem}"))
    }

    /// The same, or what it says on stderr.
    pub async fn ctr_output(&self, arguments: &[&str]) -> Result<Vec<String>, String> {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(&self.socket)
            .args(["--namespace", NAMESPACE])
            .args(["--connect-timeout", "5s", "--timeout", "20s"])
            .args(arguments);
        let output = process::run(command, Duration::from_secs(30)).await;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The end of its log, for a scenario that failed.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.directory.join("log"), lines)
    }
}

/// Where a containerd below `directory` keeps the bundles of running tasks, by container id.
pub fn bundles(directory: &Path) -> PathBuf {
    directory
        .join("containerd/state/io.containerd.runtime.v2.task")
        .join(NAMESPACE)
}

/// The last lines of a file.
pub fn tail(file: &Path, lines: usize) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
