//! The flags that `run` and `create` share, and the request they make.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use wharf_client::v1::{
    ContainerSpec, CreateContainerRequest, Mount, NetworkSpec, Platform, ProcessSpec, PullOptions,
    PullPolicy, Resources, RestartPolicy, Rlimit,
};

use super::attached;
use super::failure::Failure;
use super::security::{self, SecurityFlags};
use super::session::idempotency_key;
use super::{image_names, mounts, values};

/// What to run and in what surroundings.
#[derive(Debug, Args)]
pub(crate) struct ContainerFlags {
    /// Name; made up by default
    #[arg(long)]
    name: Option<String>,
    /// Delete the container after its run
    #[arg(long)]
    rm: bool,
    /// Environment variable; without a value, the present one
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,
    /// Read environment variables from a file, one KEY[=VALUE] a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Mount a host directory, created if missing
    #[arg(short, long, value_name = "SRC:DST[:ro]", value_parser = mounts::volume)]
    volume: Vec<Mount>,
    /// Mount: type=bind|tmpfs|image,source=SRC,target=DST, then options such as readonly
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = mounts::mount)]
    mount: Vec<Mount>,
    /// Mount memory
    #[arg(long, value_name = "DST[:size=64m,mode=1777,ro]", value_parser = mounts::tmpfs)]
    tmpfs: Vec<Mount>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// User: NAME, NAME:GROUP, UID or UID:GID
    #[arg(short, long)]
    user: Option<String>,
    /// Further group, by name or gid
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Program in place of the image's entrypoint; "" for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    tty: bool,
    /// Run a small init as process 1 that forwards signals and reaps orphans
    #[arg(long)]
    init: bool,
    /// When to start it again: no, on-failure, on-failure:MAX or always
    #[arg(long, value_name = "POLICY", value_parser = values::restart_policy)]
    restart: Option<RestartPolicy>,
    #[command(flatten)]
    resources: ResourceFlags,
    /// Make the root read-only
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    security: SecurityFlags,
    /// none, host, container:NAME or path:/PATH
    #[arg(long, visible_alias = "net", value_name = "NETWORK", value_parser = security::network)]
    network: Option<NetworkSpec>,
    /// Label
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = values::pair)]
    label: Vec<(String, String)>,
    /// Signal that asks the container to stop
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Time before a stop kills; 0 kills at once
    #[arg(long, value_name = "SECONDS", value_parser = values::duration)]
    stop_timeout: Option<Duration>,
    /// Host name inside
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    shm_size: Option<i64>,
    /// Limit of each process; -1 for none
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = security::ulimit)]
    ulimit: Vec<Rlimit>,
    /// OCI annotation
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::full_pair)]
    annotation: Vec<(String, String)>,
    /// Runtime, such as runc
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
    /// When to pull the image
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pull: Pull,
    /// Image for this platform instead of the server's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    platform: Option<Platform>,
    /// Image, by reference or id (whole, or its first 12 or more digits), then the command and its arguments
    // One list, so that everything after the image belongs to the container, flags too.
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "IMAGE [COMMAND]"
    )]
    image_and_command: Vec<String>,
    /// Print help
    // `-h` is the host name, as docker has it.
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
}

/// When to pull.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Pull {
    /// If it is not here
    #[default]
    Missing,
    /// Also to see whether the registry has a newer one
    Always,
    /// Not at all
    Never,
}

/// Limits; also of `update`.
#[derive(Debug, Default, Args)]
pub(crate) struct ResourceFlags {
    /// Memory limit
    #[arg(short, long, value_name = "BYTES", value_parser = values::bytes)]
    pub(crate) memory: Option<i64>,
    /// Memory kept under pressure
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    pub(crate) memory_reservation: Option<i64>,
    /// Processors, such as 1.5
    #[arg(long, value_name = "NUMBER", value_parser = values::millicores)]
    pub(crate) cpus: Option<i64>,
    /// Processors to run on, such as 0-3,7
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Most processes and threads; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
}

impl ResourceFlags {
    /// The limits; docker's way to say "none" (0, for processes also -1) leaves them unset.
    pub(crate) fn limits(&self) -> Resources {
        let positive = |limit: Option<i64>| limit.filter(|&limit| limit != 0);
        Resources {
            memory_limit_bytes: positive(self.memory),
            memory_reservation_bytes: positive(self.memory_reservation),
            cpu_limit_millicores: positive(self.cpus),
            cpuset_cpus: self.cpuset_cpus.clone().unwrap_or_default(),
            pids_limit: positive(self.pids_limit).filter(|&limit| limit != -1),
            ..Resources::default()
        }
    }
}

/// Whether a container is started as soon as it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Start,
    Leave,
}

impl ContainerFlags {
    /// Whether input is kept open, and by that sent when attached.
    pub(crate) fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Whether the process gets a terminal.
    pub(crate) fn has_terminal(&self) -> bool {
        self.tty
    }

    /// The request that the flags make.
    ///
    /// # Errors
    /// [`Failure::File`] for a file that cannot be read, [`Failure::Usage`] for what cannot be meant.
    pub(crate) fn request(self, then: Then) -> Result<CreateContainerRequest, Failure> {
        Ok(CreateContainerRequest {
            name: self.name.clone().unwrap_or_default(),
            labels: self.label.iter().cloned().collect(),
            pull: self.pull_options(),
            start: then == Then::Start,
            idempotency_key: idempotency_key(),
            spec: Some(self.spec()?),
            ..Default::default()
        })
    }

    fn spec(self) -> Result<ContainerSpec, Failure> {
        let process = self.process()?;
        let security = self.security.security()?;
        let limits = self.resources.limits();
        let mut mounts = self.volume;
        mounts.extend(self.mount);
        mounts.extend(self.tmpfs);
        Ok(ContainerSpec {
            image: self
                .image_and_command
                .into_iter()
                .next()
                .unwrap_or_default(),
            process: Some(process),
            stdin_open: self.interactive,
            init: self.init,
            restart_policy: self.restart,
            stop_signal: self.stop_signal.unwrap_or_default(),
            stop_grace_period: self.stop_timeout.map(values::proto_duration),
            auto_delete: self.rm,
            mounts,
            read_only_root: self.read_only,
            shm_size_bytes: self.shm_size.unwrap_or_default(),
            resources: (limits != Resources::default()).then_some(limits),
            rlimits: self.ulimit,
            security,
            network: self.network,
            hostname: self.hostname.unwrap_or_default(),
            runtime: self.runtime.unwrap_or_default(),
            annotations: self.annotation.into_iter().collect(),
            ..Default::default()
        })
    }

    fn process(&self) -> Result<ProcessSpec, Failure> {
        let (entrypoint, args) = self.program()?;
        Ok(ProcessSpec {
            entrypoint,
            args,
            env: self.environment()?,
            working_dir: self.workdir.clone().unwrap_or_default(),
            user: self.user.clone().unwrap_or_default(),
            terminal: self.tty.then(attached::size_or_default),
            supplemental_groups: self.group_add.clone(),
        })
    }

    /// Entrypoint and arguments. No entrypoint at all means that the command is the program.
    fn program(&self) -> Result<(Vec<String>, Vec<String>), Failure> {
        let command = self.image_and_command.get(1..).unwrap_or_default().to_vec();
        match self.entrypoint.as_deref() {
            None => Ok((Vec::new(), command)),
            Some("") if command.is_empty() => Err(Failure::Usage(
                "--entrypoint \"\" needs a command after the image".to_owned(),
            )),
            Some("") => Ok((command, Vec::new())),
            Some(program) => Ok((vec![program.to_owned()], command)),
        }
    }

    /// Files first, flags over them.
    fn environment(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut environment = BTreeMap::new();
        for path in &self.env_file {
            let lines = env_file(path)?;
            environment.extend(lines.lines().filter(|l| is_setting(l)).filter_map(setting));
        }
        environment.extend(self::environment(&self.env));
        Ok(environment)
    }

    fn pull_options(&self) -> Option<PullOptions> {
        let image = self.image_and_command.first();
        let when = match image.is_some_and(|image| image_names::is_id(image)) {
            // An id is in no registry: whether it is here is for the create to say.
            true => Pull::Never,
            false => self.pull,
        };
        let policy = match when {
            Pull::Never if self.platform.is_none() => return None,
            Pull::Never => PullPolicy::Never,
            Pull::Missing => PullPolicy::IfMissing,
            Pull::Always => PullPolicy::Always,
        };
        Some(PullOptions {
            policy: policy.into(),
            platform: self.platform.clone(),
            auth: None,
        })
    }
}

/// What `-e` says.
pub(crate) fn environment(flags: &[String]) -> BTreeMap<String, String> {
    flags.iter().filter_map(|text| setting(text)).collect()
}

fn env_file(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })
}

fn is_setting(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with('#')
}

/// "KEY=VALUE", or "KEY" for the present value; nothing if it has none.
fn setting(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) => Some((key.to_owned(), value.to_owned())),
        None => Some((text.to_owned(), std::env::var(text).ok()?)),
    }
}
