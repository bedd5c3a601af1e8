//! Configuration: flag over environment over file over default. What is wrong with it is one line.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Deserialize;
use thiserror::Error;

use crate::model::limits;
use crate::transport::Address;

/// What can be set, by flag or environment.
#[derive(Debug, Default, Parser)]
#[command(
    name = "wharfd",
    version,
    about = "A container engine whose API is gRPC"
)]
struct Flags {
    /// Where to listen: unix:///PATH or tcp://127.0.0.1:PORT. May be repeated [default: unix://RUN_DIR/wharf.sock]
    #[arg(
        long,
        env = "WHARF_LISTEN",
        value_delimiter = ',',
        value_name = "ADDRESS"
    )]
    listen: Vec<String>,
    /// What runs containers [default: containerd if its address is given, else local]
    #[arg(long, env = "WHARF_BACKEND", value_name = "containerd|local")]
    backend: Option<String>,
    /// containerd's socket [default: /run/containerd/containerd.sock]
    #[arg(long, env = "WHARF_CONTAINERD_ADDRESS", value_name = "PATH")]
    containerd_address: Option<PathBuf>,
    /// The containerd namespace of everything that this server makes [default: wharf]
    #[arg(long, env = "WHARF_CONTAINERD_NAMESPACE", value_name = "NAME")]
    containerd_namespace: Option<String>,
    /// Runtime of containers that name none: a program's name or path [default: runc with containerd, none with local]
    #[arg(long, env = "WHARF_RUNTIME", value_name = "NAME")]
    runtime: Option<String>,
    /// Program that keeps containers' streams while the server is away [default: wharf-keeper beside wharfd]
    #[arg(long, env = "WHARF_KEEPER", value_name = "PATH")]
    keeper: Option<PathBuf>,
    /// Where state is kept [default: /var/lib/wharf]
    #[arg(long, env = "WHARF_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where sockets are made [default: /run/wharf]
    #[arg(long, env = "WHARF_RUN_DIR", value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Seconds between the stop signal and SIGKILL, unless a request or spec says otherwise [default: 10]
    #[arg(long, env = "WHARF_STOP_GRACE_PERIOD", value_name = "SECONDS")]
    stop_grace_period: Option<u64>,
    /// Seconds that streams may take to end when the server stops [default: 10]
    #[arg(long, env = "WHARF_DRAIN_TIMEOUT", value_name = "SECONDS")]
    drain_timeout: Option<u64>,
    /// Size of the journal beyond which the oldest events go [default: 67108864]
    #[arg(long, env = "WHARF_JOURNAL_BYTES", value_name = "BYTES")]
    journal_bytes: Option<u64>,
    /// Age in seconds beyond which events go [default: 604800]
    #[arg(long, env = "WHARF_JOURNAL_AGE", value_name = "SECONDS")]
    journal_age: Option<u64>,
    /// Directory of registries' settings: DIR/REGISTRY/hosts.toml, as containerd has them [default: /etc/wharf/certs.d]
    #[arg(long, env = "WHARF_REGISTRY_CONFIG_DIR", value_name = "DIR")]
    registry_config_dir: Option<PathBuf>,
    /// Seconds for which a pull or push may be slower than 1 KiB a second [default: 60]
    #[arg(long, env = "WHARF_REGISTRY_STALL_TIMEOUT", value_name = "SECONDS")]
    registry_stall_timeout: Option<u64>,
    /// Form of the log [default: text]
    #[arg(long, env = "WHARF_LOG_FORMAT", value_name = "text|json")]
    log_format: Option<String>,
    /// What to log: error, warn, info, debug, trace, or a filter such as info,wharf_server=debug [default: info]
    #[arg(long, env = "WHARF_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// File with the same settings, in TOML
    #[arg(long, env = "WHARF_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What can be set in the file: the flags' names with underscores.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    listen: Vec<String>,
    backend: Option<String>,
    containerd_address: Option<PathBuf>,
    containerd_namespace: Option<String>,
    runtime: Option<String>,
    keeper: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    stop_grace_period: Option<u64>,
    drain_timeout: Option<u64>,
    journal_bytes: Option<u64>,
    journal_age: Option<u64>,
    registry_config_dir: Option<PathBuf>,
    registry_stall_timeout: Option<u64>,
    log_format: Option<String>,
    log: Option<String>,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// What runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BackendKind {
    /// A containerd daemon.
    Containerd,
    /// The server itself, with its keeper.
    Local,
}

/// The settings in force.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; never empty.
    pub listen: Vec<Address>,
    /// What runs containers.
    pub backend: BackendKind,
    /// containerd's socket.
    pub containerd_address: PathBuf,
    /// The containerd namespace of everything that this server makes.
    pub containerd_namespace: String,
    /// Runtime of containers that name none; `None` for the backend's own default.
    pub runtime: Option<String>,
    /// The keeper's program.
    pub keeper: PathBuf,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// Grace period of stops whose request and spec name none.
    pub stop_grace_period: Duration,
    /// How long streams may take to end when the server stops.
    pub drain_timeout: Duration,
    /// Size of the journal beyond which the oldest events go.
    pub journal_bytes: u64,
    /// Age beyond which events go.
    pub journal_age: Duration,
    /// Directory of registries' settings.
    pub registry_config_dir: PathBuf,
    /// How long a transfer to or from a registry may be slower than 1 KiB a second.
    pub registry_stall_timeout: Duration,
    /// Form of the log.
    pub log_format: LogFormat,
    /// What to log.
    pub log: String,
}

/// What is wrong with the configuration, or what was asked for instead of a server.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Help or the version was asked for.
    #[error("{0}")]
    Shown(String),
    /// A flag or an environment variable cannot be understood.
    #[error("{0}")]
    Flags(String),
    /// The file cannot be read.
    #[error("{path}: {problem}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A value is not what it must be.
    #[error("{name}: {problem}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What is wrong.
        problem: String,
    },
}

impl Config {
    /// Reads flags, environment and file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load() -> Result<Self, ConfigError> {
        Self::from_args(std::env::args_os())
    }

    fn from_args<T: Into<std::ffi::OsString> + Clone>(
        args: impl IntoIterator<Item = T>,
    ) -> Result<Self, ConfigError> {
        let flags = Flags::try_parse_from(args).map_err(|error| from_clap(&error))?;
        let file = flags
            .config
            .as_deref()
            .map(read)
            .transpose()?
            .unwrap_or_default();
        Self::merge(flags, file)
    }

    fn merge(flags: Flags, file: File) -> Result<Self, ConfigError> {
        let containerd = flags.containerd_address.or(file.containerd_address);
        let backend = match flags.backend.or(file.backend) {
            Some(backend) => parse_backend(&backend)?,
            None if containerd.is_some() => BackendKind::Containerd,
            None => BackendKind::Local,
        };
        let run_dir = absolute("run-dir", flags.run_dir.or(file.run_dir), "/run/wharf")?;
        let listen = if flags.listen.is_empty() {
            file.listen
        } else {
            flags.listen
        };
        let log_format = flags
            .log_format
            .or(file.log_format)
            .unwrap_or_else(|| "text".to_owned());
        let seconds = |flag: Option<u64>, file: Option<u64>, default: Duration| {
            flag.or(file).map_or(default, Duration::from_secs)
        };
        Ok(Self {
            listen: addresses(&listen, &run_dir)?,
            backend,
            containerd_address: absolute(
                "containerd-address",
                containerd,
                "/run/containerd/containerd.sock",
            )?,
            containerd_namespace: flags
                .containerd_namespace
                .or(file.containerd_namespace)
                .unwrap_or_else(|| "wharf".to_owned()),
            runtime: flags.runtime.or(file.runtime),
            keeper: absolute(
                "keeper",
                flags.keeper.or(file.keeper).or_else(keeper_beside_us),
                "/usr/bin/wharf-keeper",
            )?,
            state_dir: absolute(
                "state-dir",
                flags.state_dir.or(file.state_dir),
                "/var/lib/wharf",
            )?,
            stop_grace_period: seconds(
                flags.stop_grace_period,
                file.stop_grace_period,
                limits::DEFAULT_STOP_GRACE,
            ),
            drain_timeout: seconds(
                flags.drain_timeout,
                file.drain_timeout,
                limits::DRAIN_TIMEOUT,
            ),
            journal_bytes: flags
                .journal_bytes
                .or(file.journal_bytes)
                .unwrap_or(limits::JOURNAL_BYTES),
            journal_age: seconds(flags.journal_age, file.journal_age, limits::JOURNAL_AGE),
            registry_config_dir: absolute(
                "registry-config-dir",
                flags.registry_config_dir.or(file.registry_config_dir),
                "/etc/wharf/certs.d",
            )?,
            registry_stall_timeout: seconds(
                flags.registry_stall_timeout,
                file.registry_stall_timeout,
                limits::REGISTRY_STALL_TIMEOUT,
            ),
            log_format: parse_log_format(&log_format)?,
            log: flags.log.or(file.log).unwrap_or_else(|| "info".to_owned()),
        })
    }
}

/// clap explains itself at length; what is wrong is its first line.
fn from_clap(error: &clap::Error) -> ConfigError {
    let text = error.render().to_string();
    if error.use_stderr() {
        let line = text.lines().next().unwrap_or_default();
        ConfigError::Flags(line.strip_prefix("error: ").unwrap_or(line).to_owned())
    } else {
        ConfigError::Shown(text)
    }
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let problem = |problem: String| ConfigError::File {
        path: path.to_owned(),
        problem,
    };
    let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
    toml::from_str(&text).map_err(|error| {
        let line = error
            .span()
            .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        problem(format!("line {line}: {}", error.message()))
    })
}

fn value(name: &'static str, problem: impl Display) -> ConfigError {
    ConfigError::Value {
        name,
        problem: problem.to_string(),
    }
}

fn keeper_beside_us() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.with_file_name("wharf-keeper");
    path.is_file().then_some(path)
}

fn parse_backend(text: &str) -> Result<BackendKind, ConfigError> {
    BackendKind::from_str(text, false).map_err(|_| {
        value(
            "backend",
            format!("{text:?} is neither containerd nor local"),
        )
    })
}

fn parse_log_format(text: &str) -> Result<LogFormat, ConfigError> {
    LogFormat::from_str(text, false)
        .map_err(|_| value("log-format", format!("{text:?} is neither text nor json")))
}

fn absolute(
    name: &'static str,
    path: Option<PathBuf>,
    default: &str,
) -> Result<PathBuf, ConfigError> {
    let path = path.unwrap_or_else(|| default.into());
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(value(
            name,
            format!("{} is not an absolute path", path.display()),
        ))
    }
}

fn addresses(listen: &[String], run_dir: &Path) -> Result<Vec<Address>, ConfigError> {
    if listen.is_empty() {
        return Ok(vec![Address::Unix(run_dir.join("wharf.sock"))]);
    }
    listen
        .iter()
        .map(|text| Address::from_str(text).map_err(|error| value("listen", error)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(args: &[&str], file: &str) -> Result<Config, ConfigError> {
        let flags = Flags::try_parse_from(std::iter::once(&"wharfd").chain(args))
            .map_err(|error| from_clap(&error))?;
        Config::merge(flags, toml::from_str(file).expect("a valid file"))
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        let file = "state_dir = '/from/file'\nruntime = 'crun'";
        let config = merged(&["--state-dir", "/from/flag"], file).expect("valid");
        assert_eq!(config.state_dir, Path::new("/from/flag"));
        assert_eq!(config.runtime.as_deref(), Some("crun"));
        assert_eq!(config.containerd_namespace, "wharf");
    }

    #[test]
    fn without_listeners_there_is_one_in_the_run_directory() {
        let config = merged(&["--run-dir", "/r"], "").expect("valid");
        assert_eq!(config.listen, [Address::Unix("/r/wharf.sock".into())]);
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line() {
        let wrong: [&[&str]; 6] = [
            &["--listen", "http://x"],
            &["--backend", "podman"],
            &["--state-dir", "relative"],
            &["--log-format", "xml"],
            &["--no-such-flag"],
            &["--drain-timeout", "soon"],
        ];
        for args in wrong {
            let error = merged(args, "").expect_err("wrong").to_string();
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn an_unknown_setting_in_the_file_is_an_error_with_its_line() {
        let path = std::env::temp_dir().join(format!("wharf-config-{}.toml", std::process::id()));
        std::fs::write(&path, "runtime = 'runc'\nno_such = 1\n").expect("written");
        let error = read(&path).expect_err("unknown").to_string();
        std::fs::remove_file(&path).expect("removed");
        assert!(error.contains("line 2"), "{error}");
    }
}
