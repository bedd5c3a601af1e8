//! What a launch that came to nothing means.

use rustix::io::Errno;

use super::BACKEND;
use super::plan::NoPlan;
use crate::backend::{Applied, BackendError, proc};
use crate::cgroup::CgroupError;
use crate::model::image::Platform;
use crate::model::spec::Network;
use crate::model::{Container, LaunchFailure, errno};
use crate::stdio::launch::{LaunchStep, Plan, Step, World};
use crate::stdio::{LaunchError, StdioError};

/// What was to be launched.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    pub(super) container: &'a Container,
    pub(super) plan: &'a Plan,
    /// The process whose namespaces it was to join.
    pub(super) joined: Option<u32>,
    /// Its program, as asked for.
    pub(super) program: &'a str,
    /// Its working directory, as asked for.
    pub(super) directory: &'a str,
}

impl From<NoPlan> for BackendError {
    fn from(error: NoPlan) -> Self {
        refused(error.to_string())
    }
}

pub(super) fn of(error: LaunchError, attempt: &Attempt<'_>) -> BackendError {
    match error {
        LaunchError::Failed { step, index, errno } => failed(step, index, errno, attempt),
        LaunchError::NotAsked(StdioError::Unavailable { detail }) => keeper(detail, Applied::No),
        LaunchError::NotAsked(error) => refused(error.to_string()),
        LaunchError::Unknown(error) => keeper(error.to_string(), Applied::Unknown),
    }
}

impl From<CgroupError> for BackendError {
    fn from(error: CgroupError) -> Self {
        match error {
            CgroupError::NotSupported { limit } => Self::NotSupported {
                backend: BACKEND,
                field: field(limit),
            },
            ref error if error.errno() == Some(Errno::NOSPC) => Self::NoSpace {
                path: error.to_string(),
            },
            error => refused(error.to_string()),
        }
    }
}

/// Where the request has a limit that the host does not know.
fn field(limit: &str) -> &'static str {
    match limit {
        "cpu.shares" => "spec.resources.cpu_weight",
        "cpu.quota" => "spec.resources.cpu_limit_millicores",
        "cpu.cpus" => "spec.resources.cpuset_cpus",
        "memory.limit" => "spec.resources.memory_limit_bytes",
        "memory.swap" => "spec.resources.swap_limit_bytes",
        "memory.reservation" => "spec.resources.memory_reservation_bytes",
        "pids.limit" => "spec.resources.pids_limit",
        "blockIO.weight" => "spec.resources.io_weight",
        _ => "spec.resources",
    }
}

/// The keeper is away.
pub(super) fn keeper(detail: String, applied: Applied) -> BackendError {
    BackendError::Unavailable {
        backend: "keeper",
        detail,
        applied,
    }
}

/// The process that was to be acted on, or to be joined.
pub(super) fn ended() -> BackendError {
    BackendError::NotFound {
        backend: BACKEND,
        what: "process",
    }
}

pub(super) fn refused(message: String) -> BackendError {
    LaunchFailure::Refused { message }.into()
}

fn failed(
    step: LaunchStep,
    index: usize,
    errno: Option<Errno>,
    attempt: &Attempt<'_>,
) -> BackendError {
    let why = errno.map_or_else(|| "it was killed".to_owned(), errno::name);
    // pid_namespaces(7): once its init is on its way out, a namespace takes no process, which is "no memory".
    if let (Some(Errno::NOMEM), Some(joined)) = (errno, attempt.joined)
        && !proc::is_alive(joined)
    {
        return ended();
    }
    if let Some(exhausted) = errno.and_then(exhausted) {
        return exhausted;
    }
    match step {
        LaunchStep::Execute if is_init(index, attempt) => LaunchFailure::Refused {
            message: format!("executing the init: {why}"),
        },
        LaunchStep::Execute => return not_executed(errno, attempt.program),
        LaunchStep::Directory => LaunchFailure::WorkingDirInvalid {
            path: attempt.directory.to_owned(),
        },
        LaunchStep::Step => return step_failed(index, why, attempt),
        LaunchStep::Seccomp => LaunchFailure::SecurityProfileInvalid {
            profile_kind: "seccomp".to_owned(),
            profile: "json".to_owned(),
        },
        LaunchStep::Network => return network_failed(&why, attempt),
        LaunchStep::Namespaces | LaunchStep::Cgroup
            if attempt.joined.is_some()
                && matches!(errno, Some(Errno::SRCH | Errno::NOENT | Errno::NODEV)) =>
        {
            return ended();
        }
        LaunchStep::Clone
        | LaunchStep::Cgroup
        | LaunchStep::Stdio
        | LaunchStep::Namespaces
        | LaunchStep::Root
        | LaunchStep::Terminal
        | LaunchStep::Hostname
        | LaunchStep::Limits
        | LaunchStep::Keyring
        | LaunchStep::Capabilities
        | LaunchStep::User
        | LaunchStep::Killed => LaunchFailure::Refused {
            message: format!("{}: {why}", doing(step)),
        },
    }
    .into()
}

/// What was being done, in words.
fn doing(step: LaunchStep) -> &'static str {
    match step {
        LaunchStep::Clone => "making a process",
        LaunchStep::Cgroup => "entering the control groups",
        LaunchStep::Stdio => "opening the standard streams",
        LaunchStep::Namespaces => "making the namespaces",
        LaunchStep::Network => "entering the network",
        LaunchStep::Root => "mounting the root",
        LaunchStep::Step => "making the mounts",
        LaunchStep::Terminal => "making the terminal",
        LaunchStep::Hostname => "setting the host name",
        LaunchStep::Limits => "setting the limits of the process",
        LaunchStep::Keyring => "joining a keyring",
        LaunchStep::Capabilities => "setting the capabilities",
        LaunchStep::User => "becoming the user",
        LaunchStep::Seccomp => "loading the seccomp filter",
        LaunchStep::Directory => "entering the working directory",
        LaunchStep::Execute => "executing the program",
        LaunchStep::Killed => "launching the process",
    }
}

/// The host has run out of something, wherever that showed.
fn exhausted(errno: Errno) -> Option<BackendError> {
    let (resource, errno) = match errno {
        Errno::NOMEM => ("memory", "ENOMEM"),
        Errno::AGAIN => ("processes", "EAGAIN"),
        Errno::MFILE => ("descriptors", "EMFILE"),
        Errno::NFILE => ("descriptors", "ENFILE"),
        _ => return None,
    };
    Some(BackendError::HostResources { resource, errno })
}

/// Whether what could not be executed is a container's init, and not its program.
fn is_init(index: usize, attempt: &Attempt<'_>) -> bool {
    let is_container = matches!(attempt.plan.world, World::New(_));
    is_container && attempt.plan.program.reports && index != usize::from(LaunchStep::BY_INIT)
}

/// What an init tells of its program.
pub(super) fn told_by_init(errno: Errno, program: &str) -> BackendError {
    exhausted(errno).unwrap_or_else(|| not_executed(Some(errno), program))
}

fn not_executed(errno: Option<Errno>, program: &str) -> BackendError {
    let path = program.to_owned();
    match errno {
        Some(Errno::NOENT | Errno::NOTDIR) => LaunchFailure::ExecutableNotFound { path },
        Some(Errno::ACCESS | Errno::PERM | Errno::ISDIR) => {
            LaunchFailure::ExecutableNotPermitted { path }
        }
        Some(Errno::NOEXEC | Errno::LIBBAD) => LaunchFailure::ExecutableFormat {
            path,
            platform: Platform::host().to_string(),
        },
        other => {
            let why = other.map_or_else(|| "it was killed".to_owned(), errno::name);
            LaunchFailure::Refused {
                message: format!("executing {path:?}: {why}"),
            }
        }
    }
    .into()
}

fn step_failed(index: usize, errno: String, attempt: &Attempt<'_>) -> BackendError {
    let World::New(new) = &attempt.plan.world else {
        return refused(format!("{}: {errno}", doing(LaunchStep::Step)));
    };
    let shown = |text: &crate::stdio::launch::Text| text.as_c_str().to_string_lossy().into_owned();
    match new.steps.get(index) {
        Some(Step::Bind { source, target, .. }) => LaunchFailure::MountFailed {
            target: shown(target),
            source_path: shown(source),
            errno,
        }
        .into(),
        Some(Step::Mount { target, .. }) => LaunchFailure::MountFailed {
            target: shown(target),
            source_path: String::new(),
            errno,
        }
        .into(),
        Some(
            Step::Link { path, .. }
            | Step::Device { path, .. }
            | Step::Mask { path }
            | Step::ReadOnly { path }
            | Step::Attributes { path, .. },
        ) => refused(format!("preparing {}: {errno}", shown(path))),
        None => refused(format!("{}: {errno}", doing(LaunchStep::Step))),
    }
}

fn network_failed(errno: &str, attempt: &Attempt<'_>) -> BackendError {
    match &attempt.container.spec.network {
        // It was there when the start began.
        Network::Container { container } => LaunchFailure::NetworkContainerNotRunning {
            container: container.clone(),
            state: "EXITED".to_owned(),
        }
        .into(),
        Network::Path { path } => refused(format!("entering the network {path:?}: {errno}")),
        Network::None | Network::Host => {
            refused(format!("{}: {errno}", doing(LaunchStep::Network)))
        }
    }
}
