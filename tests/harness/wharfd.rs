//! The server under test, as its users run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;

use super::client::Client;
use super::process::Daemon;
use super::wait::until;
use super::{Backend, binaries, containerd};

const READY: Duration = Duration::from_secs(90);

/// How to start it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it finds containerd.
    pub containerd: PathBuf,
    /// More arguments.
    pub arguments: Vec<String>,
    /// More environment.
    pub environment: Vec<(String, String)>,
}

/// A server of one directory; started, killed and started again.
#[derive(Debug)]
pub struct Wharfd {
    directory: PathBuf,
    options: Options,
    daemon: Option<Daemon>,
}

impl Wharfd {
    /// One that is not running yet. All its files are below `directory`.
    pub fn below(directory: &Path, options: Options) -> Self {
        Self {
            directory: directory.to_owned(),
            options,
            daemon: None,
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.join("wharfd.sock")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Where it finds how to speak with which registry.
    fn registries(&self) -> PathBuf {
        self.directory.join("registries")
    }

    /// What it is told of the registry that references call `host`; before its start.
    pub fn tell_of_registry(&self, host: &str, hosts_toml: &str) {
        let place = self.registries().join(host);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("hosts.toml"), hosts_toml).unwrap();
    }

    /// Starts it without waiting.
    pub fn launch(&mut self) {
        assert!(self.daemon.is_none(), "wharfd runs already");
        // Ignored signals are inherited, as below nohup: no container may have them.
        let mut command = Command::new("env");
        command
            .arg("--ignore-signal=HUP,QUIT")
            .arg(binaries::wharfd())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("WHARF_REGISTRY_CONFIG_DIR", self.registries())
            .envs(self.options.environment.iter().cloned())
            .arg("--listen")
            .arg(format!("unix://{}", self.socket().display()))
            .arg("--state-dir")
            .arg(self.state_dir())
            .arg("--run-dir")
            .arg(self.directory.join("run"))
            .args(["--log-format", "json"]);
        match Backend::of_this_run() {
            Backend::Containerd => command
                .args(["--backend", "containerd"])
                .arg("--containerd-address")
                .arg(&self.options.containerd)
                .args(["--containerd-namespace", containerd::NAMESPACE]),
            Backend::Local => command.args(["--backend", "local"]),
            Backend::LocalBy(runtime) => command.args(["--backend", "local", "--runtime", runtime]),
        };
        command.args(&self.options.arguments);
        self.daemon = Some(Daemon::spawn("wharfd", command, &self.log_file()));
    }

    /// Starts it, and waits until it serves and has its backend.
    pub async fn start(&mut self) -> Client {
        self.launch();
        self.ready().await
    }

    /// Starts it, and waits until it answers, backend or not.
    pub async fn start_without_backend(&mut self) -> Client {
        self.launch();
        let client = self.client();
        until("wharfd answers", READY, async || {
            self.must_run()?;
            client.info().await.map_err(|refusal| refusal.to_string())
        })
        .await;
        client
    }

    /// Waits until it serves and has its backend.
    pub async fn ready(&mut self) -> Client {
        let client = self.client();
        until("wharfd has its backend", READY, async || {
            self.must_run()?;
            let info = client.info().await.map_err(|refusal| refusal.to_string())?;
            let ready = info
                .conditions
                .iter()
                .any(|condition| condition.r#type == "BackendReady" && condition.status);
            ready
                .then_some(())
                .ok_or_else(|| format!("{:?}", info.conditions))
        })
        .await;
        client
    }

    /// A client with a connection of its own, made when it is first used.
    pub fn client(&self) -> Client {
        Client::of_socket(&self.socket())
    }

    fn must_run(&mut self) -> Result<(), String> {
        let ended = self.daemon.as_mut().and_then(Daemon::ended);
        match ended {
            None => Ok(()),
            Some(status) => panic!("wharfd ended with {status}:\n{}", self.log_tail(40)),
        }
    }

    pub fn is_running(&self) -> bool {
        self.daemon.is_some()
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().pid()
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// SIGTERM, and its end.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().unwrap();
        daemon.signal(Signal::TERM);
        daemon.end(Duration::from_secs(30)).await
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("wharfd.log")
    }

    /// Everything it has logged, over all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub fn log_tail(&self, lines: usize) -> String {
        containerd::tail(&self.log_file(), lines)
    }
}
