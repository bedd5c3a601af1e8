//! What an OCI runtime's words mean.
//!
//! A message is a chain of wrappings, what failed, and the words of an error number:
//!
//! ```text
//! failed to create shim task: OCI runtime create failed: runc create failed: unable to start container
//! process: exec: "/nope": stat /nope: no such file or directory: unknown
//! ```
//!
//! The wrappings are taken off, and what is left is recognised by how it begins and ends, never by
//! what stands in it: a path may hold any words. What the caller asked for is taken from the container,
//! not from the text.

use super::name::{self, RuntimeName};
use super::{errno, shortened};
use crate::backend::BackendError;
use crate::model::image::Platform;
use crate::model::spec::{Mount, MountSource, Process, Seccomp};
use crate::model::{Container, LaunchFailure};

/// What was to be launched.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct LaunchContext<'a> {
    /// The container.
    pub(in super::super) container: &'a Container,
    /// Its main process, or an exec's.
    pub(in super::super) process: &'a Process,
    /// What runs it.
    pub(in super::super) runtime: RuntimeName<'a>,
}

/// What Go's readers say of a layer that is no tar, or breaks off.
const BAD_TAR: [&str; 2] = ["archive/tar: invalid tar header", "unexpected EOF"];

/// What containerd, its shim and runc put around the words of a failure.
const WRAPPINGS: [&str; 12] = [
    "failed to create shim task: ",
    "failed to start shim: ",
    "OCI runtime create failed: ",
    "OCI runtime start failed: ",
    "OCI runtime exec failed: ",
    "exec failed: ",
    "runc exec failed: ",
    "runc create failed: ",
    "runc start failed: ",
    "unable to start container process: ",
    "unable to create new parent process: ",
    "error during container init: ",
];
/// How Go's `os/exec` says that a name without a slash is nowhere.
const NOT_IN_PATH: &str = ": executable file not found in $PATH";

/// A runtime's words, taken apart.
#[derive(Debug, Clone, Copy)]
struct Words<'a> {
    /// Without wrappings, with the error number.
    core: &'a str,
    /// The core without its error number.
    what: &'a str,
    /// The error number's name.
    errno: Option<&'static str>,
    context: LaunchContext<'a>,
}

/// A kind of failure: how its words begin, and what they mean (`None`: go on with the next rule).
struct Rule {
    begins: &'static str,
    means: fn(Words<'_>) -> Option<LaunchFailure>,
}

/// The words of runc 1.1 and crun 1.8, the most particular first.
const RULES: [Rule; 19] = [
    rule("failed to resolve runtime path: ", runtime_missing),
    rule("unable to retrieve OCI runtime error (", runtime_unusable),
    rule("exec: \"", executable),
    rule("exec ", executable),
    rule("executable file `", executable_missing),
    rule("open executable", executable),
    rule("chdir to cwd ", working_dir),
    rule("chdir `", working_dir),
    rule("mkdir ", directory),
    rule("error mounting ", mount_of_runc),
    rule("mount `", mount_of_crun),
    rule("error stat'ing file `", mount_source),
    rule("unable to find user ", user),
    rule("unable to find group ", user),
    rule("unable to init seccomp", seccomp),
    rule("error loading seccomp filter", seccomp),
    rule("seccomp ", seccomp),
    rule("unable to apply apparmor profile", apparmor),
    rule("apparmor ", apparmor),
];

const fn rule(begins: &'static str, means: fn(Words<'_>) -> Option<LaunchFailure>) -> Rule {
    Rule { begins, means }
}

/// What a failed launch means; `None` if nothing is known of such words.
pub(in super::super) fn classify(
    message: &str,
    context: &LaunchContext<'_>,
) -> Option<BackendError> {
    let core = unwrapped(message);
    let (what, errno) = errno::split(core);
    let words = Words {
        core,
        what,
        errno,
        context: *context,
    };
    if let Some(error) = root_missing(words) {
        return Some(error);
    }
    if let Some(error) = exhausted(message) {
        return Some(error);
    }
    let mut rules = RULES.iter().filter(|rule| core.starts_with(rule.begins));
    rules.find_map(|rule| (rule.means)(words)).map(Into::into)
}

/// The runtime's own words for what no rule knows.
pub(in super::super) fn refused(message: &str) -> BackendError {
    LaunchFailure::Refused {
        message: shortened(unwrapped(message)),
    }
    .into()
}

/// Whether the host ran out of something. For any call.
pub(in super::super) fn exhausted(message: &str) -> Option<BackendError> {
    let (what, errno) = errno::split(unwrapped(message));
    let (resource, errno) = match errno? {
        "ENOSPC" | "EDQUOT" => {
            return Some(BackendError::NoSpace {
                path: path_in(what).to_owned(),
            });
        }
        "ENOMEM" => ("memory", "ENOMEM"),
        "EAGAIN" => ("processes", "EAGAIN"),
        "EMFILE" => ("descriptors", "EMFILE"),
        "ENFILE" => ("descriptors", "ENFILE"),
        _ => return None,
    };
    Some(BackendError::HostResources { resource, errno })
}

/// Whether what containerd met when it unpacked a layer is the layer's own fault: entries that no file system takes,
/// or that contradict each other.
pub(in super::super) fn blames_layer(message: &str) -> bool {
    let core = unwrapped(message);
    if core.starts_with("failed to mount") {
        return false;
    }
    // What containerd did once the layer's place was mounted.
    let place_and_rest = core.strip_prefix("mount callback failed on ");
    let rest = place_and_rest.and_then(|text| text.split_once(": "));
    let core = rest.map_or(core, |(_, rest)| rest);
    match errno::split(core).1 {
        Some("EEXIST" | "EINVAL" | "EISDIR" | "ELOOP" | "EMLINK" | "ENAMETOOLONG") => true,
        Some("ENOTDIR" | "ENOTEMPTY" | "ERANGE") => true,
        Some("ENOENT") => core.starts_with("link "),
        Some(_) => false,
        None => BAD_TAR.iter().any(|words| core.ends_with(words)),
    }
}

/// Without wrappings, and without the code's name that containerd appends.
fn unwrapped(message: &str) -> &str {
    let mut core = message.strip_suffix(": unknown").unwrap_or(message);
    while let Some(rest) = WRAPPINGS.iter().find_map(|wrap| core.strip_prefix(wrap)) {
        core = rest;
    }
    core
}

/// `write /a/b` -> `/a/b`; empty if the last word is no path.
fn path_in(what: &str) -> &str {
    let last = what.rsplit(' ').next().unwrap_or_default();
    if last.starts_with('/') { last } else { "" }
}

/// The layers or the writable directory of the root are gone.
fn root_missing(words: Words<'_>) -> Option<BackendError> {
    let is_root = words.core.starts_with("failed to mount rootfs component");
    (is_root && words.errno == Some("ENOENT")).then_some(BackendError::NotFound {
        backend: "containerd",
        what: "snapshot",
    })
}

fn runtime_missing(words: Words<'_>) -> Option<LaunchFailure> {
    Some(LaunchFailure::RuntimeNotFound {
        runtime: words.context.runtime.as_str().to_owned(),
        available: name::installed(),
    })
}

/// The shim found no log of the runtime: if it could not be executed, there is none.
fn runtime_unusable(words: Words<'_>) -> Option<LaunchFailure> {
    if words.core.ends_with(NOT_IN_PATH) || words.errno == Some("ENOENT") {
        return runtime_missing(words);
    }
    None
}

fn executable(words: Words<'_>) -> Option<LaunchFailure> {
    if words.core.ends_with(NOT_IN_PATH) {
        return executable_missing(words);
    }
    let path = program(words);
    match words.errno? {
        "ENOENT" | "ENOTDIR" | "ELOOP" | "ENAMETOOLONG" => executable_missing(words),
        "EACCES" | "EPERM" | "EISDIR" => Some(LaunchFailure::ExecutableNotPermitted { path }),
        "ENOEXEC" => Some(LaunchFailure::ExecutableFormat {
            path,
            platform: Platform::host().to_string(),
        }),
        _ => None,
    }
}

fn executable_missing(words: Words<'_>) -> Option<LaunchFailure> {
    let path = program(words);
    Some(LaunchFailure::ExecutableNotFound { path })
}

fn program(words: Words<'_>) -> String {
    let args = &words.context.process.args;
    args.first().cloned().unwrap_or_default()
}

fn working_dir(words: Words<'_>) -> Option<LaunchFailure> {
    Some(LaunchFailure::WorkingDirInvalid {
        path: words.context.process.working_dir.clone(),
    })
}

/// A directory that the runtime makes: the working directory (runc), or a mount's target (crun).
fn directory(words: Words<'_>) -> Option<LaunchFailure> {
    let path = words.what.strip_prefix("mkdir ")?.trim_matches('`');
    if path == words.context.process.working_dir {
        return working_dir(words);
    }
    let mount = mounts(words).find(|mount| mount.target == path)?;
    Some(failed(words, &mount.target, source(mount)))
}

/// `error mounting "/source" to rootfs at "/target": ...`
fn mount_of_runc(words: Words<'_>) -> Option<LaunchFailure> {
    let rest = words.core.strip_prefix("error mounting \"")?;
    let (source, rest) = rest.split_once("\" to rootfs at \"")?;
    let (target, _) = rest.split_once("\": ")?;
    Some(failed(words, target, source))
}

/// ``mount `/source` to `target`: ...``
fn mount_of_crun(words: Words<'_>) -> Option<LaunchFailure> {
    let rest = words.what.strip_prefix("mount `")?;
    let (source, target) = rest.split_once("` to `")?;
    let target = format!("/{}", target.trim_end_matches('`').trim_start_matches('/'));
    Some(failed(words, &target, source))
}

/// ``error stat'ing file `/source`: ...``
fn mount_source(words: Words<'_>) -> Option<LaunchFailure> {
    let path = words.what.strip_prefix("error stat'ing file `")?;
    let path = path.trim_end_matches('`');
    let mount = mounts(words).find(|mount| source(mount) == path)?;
    Some(failed(words, &mount.target, path))
}

fn failed(words: Words<'_>, target: &str, source: &str) -> LaunchFailure {
    LaunchFailure::MountFailed {
        target: target.to_owned(),
        source_path: source.to_owned(),
        errno: match words.errno {
            Some(name) => name.to_owned(),
            None => shortened(words.core),
        },
    }
}

fn mounts(words: Words<'_>) -> impl Iterator<Item = &Mount> {
    words.context.container.spec.mounts.iter()
}

fn source(mount: &Mount) -> &str {
    match &mount.source {
        MountSource::Bind { path, .. } => path,
        MountSource::Tmpfs { .. } => "",
    }
}

fn user(words: Words<'_>) -> Option<LaunchFailure> {
    let rest = words.core.strip_prefix("unable to find ")?;
    let (_, name) = rest.split_once(' ')?;
    let user = name.split(':').next().unwrap_or_default().to_owned();
    Some(LaunchFailure::UserNotFound { user })
}

fn seccomp(words: Words<'_>) -> Option<LaunchFailure> {
    let profile = match &words.context.container.spec.security.seccomp {
        Seccomp::Default => "default",
        Seccomp::Json { .. } => "json",
        Seccomp::Unconfined => return None,
    };
    Some(security("seccomp", profile))
}

fn apparmor(_: Words<'_>) -> Option<LaunchFailure> {
    Some(security("apparmor", "default"))
}

fn security(kind: &str, profile: &str) -> LaunchFailure {
    LaunchFailure::SecurityProfileInvalid {
        profile_kind: kind.to_owned(),
        profile: profile.to_owned(),
    }
}

#[cfg(test)]
mod tests;
