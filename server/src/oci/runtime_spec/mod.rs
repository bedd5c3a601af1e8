//! From a container's record to the OCI runtime spec that a runtime starts it by.
//!
//! Owns the isolation every container gets: namespaces, capabilities, mounts, masked paths, devices,
//! limits. Pure: what must be known of the host comes in [`Host`]. Nothing here makes a directory: the
//! backend makes the missing host directory of a bind mount with `create` before it starts the container.

mod capabilities;
mod host;
mod isolation;
mod mounts;
mod resources;

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{
    Box, BoxBuilder, Capabilities, Linux, LinuxSeccomp, PosixRlimit, PosixRlimitBuilder,
    PosixRlimitType, Process, Root, Spec, User,
};
use thiserror::Error;

use super::seccomp::{self, SeccompError};
use crate::model::failure::LaunchFailure;
use crate::model::spec::{self, ContainerSpec, Network, Rlimit, Seccomp};
use crate::model::{Container, Exec, TerminalSize};

pub use capabilities::{UnknownCapability, all as all_capabilities, bits as capability_bits};
pub use host::{CgroupVersion, Host, ReadOnlyMounts};
pub use resources::{resources, resources_update};

/// The version of the runtime spec that the result keeps to: the oldest with all it uses.
const OCI_VERSION: &str = "1.0.2";
/// Digits of the id that make a container's host name, as docker's users know it.
const HOSTNAME_DIGITS: usize = 12;

/// What besides the record decides how a container is started.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// The cgroup that holds those of all containers, from the root of each hierarchy.
    pub cgroup_parent: PathBuf,
    /// What the container's own is called in there; its id by default.
    pub cgroup_name: Option<String>,
    /// The main process of the container whose network is to be joined, for [`Network::Container`]. Without
    /// it such a container gets a fresh network namespace, which is only right for a spec that is
    /// recorded and not started from.
    pub network_pid: Option<u32>,
    /// What containers with an init get; without it they are refused.
    pub init: Option<Init>,
    /// The host.
    pub host: Host,
}

/// The init of containers that ask for one.
#[derive(Debug, Clone)]
pub struct Init {
    /// [`wharf_init::PROGRAM`], on the host.
    pub file: PathBuf,
    /// What becomes of a program that it cannot execute.
    pub failures: wharf_init::Failures,
}

impl RuntimeOptions {
    /// The usual options on `host`, without an init.
    #[must_use]
    pub fn new(host: Host) -> Self {
        Self {
            cgroup_parent: PathBuf::from("/wharf"),
            cgroup_name: None,
            network_pid: None,
            init: None,
            host,
        }
    }
}

/// A record that no runtime spec can be made of.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpecError {
    /// The seccomp profile is refused.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// There is no such capability.
    #[error(transparent)]
    Capability(#[from] UnknownCapability),
    /// There is no such process limit.
    #[error("there is no process limit {name:?}")]
    UnknownRlimit {
        /// As asked for.
        name: String,
    },
    /// It is to have an init, and there is none.
    #[error("there is no init")]
    NoInit,
}

impl From<SpecError> for LaunchFailure {
    fn from(error: SpecError) -> Self {
        match error {
            SpecError::Seccomp(_) => Self::SecurityProfileInvalid {
                profile_kind: "seccomp".to_owned(),
                profile: "json".to_owned(),
            },
            SpecError::Capability(_) | SpecError::UnknownRlimit { .. } | SpecError::NoInit => {
                Self::Refused {
                    message: error.to_string(),
                }
            }
        }
    }
}

/// The cgroup of a container, called `name`, below `parent`, from the root of each hierarchy.
#[must_use]
pub fn cgroup_path(parent: &std::path::Path, name: &str) -> PathBuf {
    parent.join(name)
}

/// The runtime spec of `container`. Its root is the bundle's `rootfs`.
///
/// # Errors
/// [`SpecError`], for what a request's parser should have refused.
pub fn build(container: &Container, options: &RuntimeOptions) -> Result<Spec, SpecError> {
    let spec = &*container.spec;
    let capabilities = capabilities::of(&spec.security, &options.host.capabilities)?;
    let init = match spec.init {
        true => Some(options.init.as_ref().ok_or(SpecError::NoInit)?),
        false => None,
    };

    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs"))
        .set_readonly(Some(spec.read_only_root));

    let mut result = Spec::default();
    result
        .set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_hostname(Some(hostname(container, &options.host)))
        .set_mounts(Some(mounts::of(spec, &options.host, init)))
        .set_process(Some(main_process(container, &capabilities, init)?))
        .set_annotations(annotations(spec))
        .set_linux(Some(linux(container, options, &capabilities)?));
    Ok(result)
}

/// With the host's network, programs expect the host's name, too; the namespace is private all the same.
fn hostname(container: &Container, host: &Host) -> String {
    match (&container.spec.hostname, &container.spec.network) {
        (Some(name), _) => name.clone(),
        (None, Network::Host) => host.hostname.clone(),
        (None, Network::None | Network::Container { .. } | Network::Path { .. }) => {
            let mut id = container.id.to_string();
            id.truncate(HOSTNAME_DIGITS);
            id
        }
    }
}

fn main_process(
    container: &Container,
    capabilities: &Capabilities,
    init: Option<&Init>,
) -> Result<Process, SpecError> {
    let terminal = container.spec.process.terminal;
    let mut process = process(container, &container.process, terminal, capabilities)?;
    if let Some(init) = init {
        let args = wharf_init::args(&container.process.args, init.failures);
        process.set_args(Some(args));
    }
    Ok(process)
}

/// The process of an exec in `container`: with the container's limits and confinement, and with its
/// capabilities unless it is privileged.
///
/// # Errors
/// [`SpecError`], as [`build`].
pub fn exec_process(container: &Container, exec: &Exec, host: &Host) -> Result<Process, SpecError> {
    let capabilities = if exec.spec.privileged {
        host.capabilities.clone()
    } else {
        capabilities::of(&container.spec.security, &host.capabilities)?
    };
    let terminal = exec.spec.process.terminal.and(exec.terminal_size);
    let mut result = process(container, &exec.process, terminal, &capabilities)?;
    if exec.spec.privileged {
        result.set_no_new_privileges(Some(false));
    }
    Ok(result)
}

fn process(
    container: &Container,
    model: &spec::Process,
    terminal: Option<TerminalSize>,
    capabilities: &Capabilities,
) -> Result<Process, SpecError> {
    let mut user = User::default();
    user.set_uid(model.uid).set_gid(model.gid);
    if !model.additional_gids.is_empty() {
        user.set_additional_gids(Some(model.additional_gids.clone()));
    }

    let mut process = Process::default();
    process
        .set_terminal(Some(terminal.is_some()))
        .set_console_size(terminal.and_then(console_size))
        .set_user(user)
        .set_args(Some(model.args.clone()))
        .set_env(Some(model.env.clone()))
        .set_cwd(PathBuf::from(&model.working_dir))
        .set_capabilities(Some(capabilities::sets(capabilities, model.uid)))
        .set_rlimits(rlimits(&container.spec.rlimits)?)
        .set_no_new_privileges(Some(container.spec.security.no_new_privileges))
        // Said although it is the usual value: a runtime inherits its caller's, and containerd's own
        // service runs with -999, which would shield containers from the OOM killer.
        .set_oom_score_adj(Some(0));
    Ok(process)
}

/// A terminal's size as the runtime spec has it.
// The builder fails on missing fields only, and none is.
#[must_use]
pub fn console_size(size: TerminalSize) -> Option<Box> {
    let (height, width) = (u64::from(size.rows), u64::from(size.columns));
    BoxBuilder::default()
        .height(height)
        .width(width)
        .build()
        .ok()
}

/// `None` leaves the runtime's own in place: an empty list would be sent as one.
fn rlimits(limits: &[Rlimit]) -> Result<Option<Vec<PosixRlimit>>, SpecError> {
    let limits = limits.iter().map(rlimit).collect::<Result<Vec<_>, _>>()?;
    Ok((!limits.is_empty()).then_some(limits))
}

fn rlimit(limit: &Rlimit) -> Result<PosixRlimit, SpecError> {
    let kind: PosixRlimitType = limit.name.parse().map_err(|_| SpecError::UnknownRlimit {
        name: limit.name.clone(),
    })?;
    let built = PosixRlimitBuilder::default()
        .typ(kind)
        .soft(limit.soft)
        .hard(limit.hard)
        .build();
    // The builder fails on missing fields only, and none is.
    built.map_err(|_| SpecError::UnknownRlimit {
        name: limit.name.clone(),
    })
}

fn annotations(spec: &ContainerSpec) -> Option<HashMap<String, String>> {
    let pairs = spec.annotations.iter();
    (!spec.annotations.is_empty()).then(|| pairs.map(|(k, v)| (k.clone(), v.clone())).collect())
}

fn linux(
    container: &Container,
    options: &RuntimeOptions,
    capabilities: &Capabilities,
) -> Result<Linux, SpecError> {
    let spec = &*container.spec;
    let mut limits = resources(&spec.resources, options.host.cgroup);
    limits.set_devices(Some(isolation::device_rules()));

    let cgroup = match &options.cgroup_name {
        Some(name) => name.clone(),
        None => container.id.to_string(),
    };
    let mut linux = Linux::default();
    linux
        .set_cgroups_path(Some(cgroup_path(&options.cgroup_parent, &cgroup)))
        .set_namespaces(Some(isolation::namespaces(
            &spec.network,
            options.network_pid,
        )))
        .set_resources(Some(limits))
        .set_seccomp(seccomp_filter(&spec.security.seccomp, capabilities)?)
        .set_rootfs_propagation(mounts::root_propagation(spec))
        .set_masked_paths(Some(isolation::masked_paths(&options.host)))
        .set_readonly_paths(Some(isolation::read_only_paths()));
    Ok(linux)
}

/// The seccomp profile of a container's processes; `None` if they are not to have one.
///
/// # Errors
/// [`SpecError`], as [`build`].
pub fn seccomp(container: &Container, host: &Host) -> Result<Option<LinuxSeccomp>, SpecError> {
    let security = &container.spec.security;
    let capabilities = capabilities::of(security, &host.capabilities)?;
    Ok(seccomp_filter(&security.seccomp, &capabilities)?)
}

fn seccomp_filter(
    wanted: &Seccomp,
    capabilities: &Capabilities,
) -> Result<Option<LinuxSeccomp>, SeccompError> {
    match wanted {
        Seccomp::Default => Ok(Some(seccomp::default_profile(capabilities))),
        Seccomp::Unconfined => Ok(None),
        Seccomp::Json { json } => seccomp::parse(json).map(Some),
    }
}

#[cfg(test)]
mod tests;
