//! Failures that are kept as data: in a container's record, or in an event.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a process could not be launched.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LaunchFailure {
    /// The program is not in the container.
    #[error("program {path:?} is not in the container")]
    ExecutableNotFound {
        /// As asked for.
        path: String,
    },
    /// The program may not be executed.
    #[error("program {path:?} cannot be executed: permission denied")]
    ExecutableNotPermitted {
        /// As asked for.
        path: String,
    },
    /// The program is for another platform, or no program at all.
    #[error("program {path:?} has a format this host cannot execute")]
    ExecutableFormat {
        /// As asked for.
        path: String,
        /// The host's platform, `linux/amd64`.
        platform: String,
    },
    /// A user or group is not in the container's files.
    #[error("user or group {user:?} is not in the image")]
    UserNotFound {
        /// As asked for.
        user: String,
    },
    /// The working directory cannot be entered.
    #[error("working directory {path:?} cannot be entered")]
    WorkingDirInvalid {
        /// As asked for.
        path: String,
    },
    /// A device is not on the host.
    #[error("device {path:?} is not on the host")]
    DeviceNotFound {
        /// Host path.
        path: String,
    },
    /// A mount cannot be made.
    #[error("{source_path:?} cannot be mounted on {target:?}: {errno}")]
    MountFailed {
        /// Inside the container.
        target: String,
        /// On the host; empty for memory.
        source_path: String,
        /// `ENOENT`, or the runtime's words if it gave none.
        errno: String,
    },
    /// A seccomp or AppArmor profile is missing or refused.
    #[error("{profile_kind} profile {profile:?} is missing or refused")]
    SecurityProfileInvalid {
        /// `seccomp` or `apparmor`.
        profile_kind: String,
        /// Its name; `json` for one that came with the request.
        profile: String,
    },
    /// The named runtime is not installed.
    #[error("runtime {runtime:?} is not installed")]
    RuntimeNotFound {
        /// As asked for.
        runtime: String,
        /// Those that are, comma-separated.
        available: String,
    },
    /// The container whose network was to be joined does not run.
    #[error("container {container} does not run, and its network was to be joined")]
    NetworkContainerNotRunning {
        /// As asked for.
        container: String,
        /// Where it is instead; `ABSENT` if there is none.
        state: String,
    },
    /// The host's kernel cannot do it.
    #[error("the kernel lacks {feature}")]
    KernelFeatureMissing {
        /// Which.
        feature: String,
    },
    /// The runtime refused, for a reason not listed above.
    #[error("the runtime refused: {message}")]
    Refused {
        /// The runtime's words, at most 1 KiB.
        message: String,
    },
}

/// Why an image was not pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullFailure {
    /// The registry does not have it.
    NotFound,
    /// The registry refuses the credentials.
    AuthFailed,
    /// The registry answers too many requests.
    RateLimited,
    /// The registry cannot be reached.
    Unavailable,
    /// The registry answers what it must not.
    ResponseInvalid,
    /// The settings for the registry cannot be used.
    SettingsInvalid,
    /// Content is not what its digest says.
    DigestMismatch,
    /// It has no content for the platform.
    PlatformNotFound,
    /// It is no image that can be unpacked.
    ImageInvalid,
    /// The disk is full.
    NoSpace,
    /// Something on this host failed.
    Internal,
}

/// A failure as a container's record or an event holds it.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "failure", rename_all = "snake_case")]
pub enum Failure {
    /// The last start failed.
    #[error(transparent)]
    Launch {
        /// How.
        #[from]
        source: LaunchFailure,
    },
    /// A start was cut short before its process ran: the backend or the server went away.
    #[error("the start was interrupted before the process ran")]
    StartInterrupted,
    /// What should be there is not: somebody else removed or changed it.
    #[error("control of the container was lost: {detail}")]
    ControlLost {
        /// What was found.
        detail: String,
    },
    /// An image was not pulled.
    #[error("{detail}")]
    PullFailed {
        /// Why, for programs.
        kind: PullFailure,
        /// Why, for people.
        detail: String,
    },
    /// The backend cannot be reached.
    #[error("the backend cannot be reached: {detail}")]
    BackendUnavailable {
        /// What was tried.
        detail: String,
    },
}
