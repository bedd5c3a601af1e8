//! System call filters: the default one, and those that come as OCI JSON.
//!
//! Owns the default list (`syscalls`) and the rules on arguments below. It must not know containers:
//! it sees capabilities, and gives the runtime spec's `linux.seccomp`.

mod compile;
mod syscalls;

use oci_spec::runtime::{
    Arch, Capabilities, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg,
    LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall,
};
use thiserror::Error;

pub use self::compile::{Filter, Filters, compile};

use crate::model::limits::MAX_SECCOMP_BYTES;

/// errno(3).
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Every CLONE_NEW* flag that clone(2) takes: mount, cgroup, uts, ipc, user, pid and network namespaces.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// Where clone(2) has its flags: s390 swaps the first two arguments ("C library/kernel differences").
const CLONE_FLAGS_INDEX: usize = if cfg!(target_arch = "s390x") { 1 } else { 0 };

/// Socket families a container must not have (socket(2)): the crypto interface, whose drivers have been
/// a way into the kernel, and the hypervisor's, which is not namespaced.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// Execution domains (personality(2)) that change nothing about safety: PER_LINUX, PER_LINUX32,
/// UNAME26 with either, and the query.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// A profile that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SeccompError {
    /// It is larger than [`MAX_SECCOMP_BYTES`].
    #[error("the seccomp profile has {bytes} bytes, more than {MAX_SECCOMP_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It is not an OCI `linux.seccomp` in JSON.
    #[error("the seccomp profile is not OCI seccomp JSON: {problem}")]
    Invalid {
        /// What is wrong, with line and column.
        problem: String,
    },
    /// It cannot be compiled.
    #[error("the seccomp profile cannot be compiled: {problem}")]
    Refused {
        /// What the library says.
        problem: String,
    },
    /// It asks for what only a helper on the host could do, such as `SCMP_ACT_NOTIFY`.
    #[error("the seccomp profile needs a listener on the host, in {field}")]
    ListenerNeeded {
        /// The JSON field.
        field: &'static str,
    },
}

/// The filter of a container whose bounding set is `capabilities`: what is not on the list answers
/// EPERM; `clone3` answers ENOSYS, because its flags cannot be read by a filter and every libc then
/// falls back to `clone`. Runtimes answer ENOSYS by themselves to calls newer than the list (runc since 1.1).
#[must_use]
pub fn default_profile(capabilities: &Capabilities) -> LinuxSeccomp {
    let mut rules: Vec<LinuxSyscall> = Vec::with_capacity(16);
    rules.push(allow(syscalls::ALWAYS.join(" ").as_str(), Vec::new()));
    rules.extend(
        syscalls::BY_CAPABILITY
            .iter()
            .filter(|group| capabilities.contains(&group.capability))
            .map(|group| allow(group.names, Vec::new())),
    );
    rules.extend(socket_rules());
    rules.extend(PERSONALITIES.map(|value| {
        let argument = argument(0, LinuxSeccompOperator::ScmpCmpEq, value, None);
        allow("personality", vec![argument])
    }));
    if !capabilities.contains(&Capability::SysAdmin) {
        rules.extend(clone_rules());
    }

    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(EPERM))
        .set_architectures(Some(architectures()))
        .set_syscalls(Some(rules));
    profile
}

/// Reads a profile in OCI form.
///
/// # Errors
/// [`SeccompError`].
pub fn parse(json: &str) -> Result<LinuxSeccomp, SeccompError> {
    if json.len() > MAX_SECCOMP_BYTES {
        return Err(SeccompError::TooLarge { bytes: json.len() });
    }
    let profile: LinuxSeccomp =
        serde_json::from_str(json).map_err(|error| SeccompError::Invalid {
            problem: error.to_string(),
        })?;
    refuse_listeners(&profile)?;
    refuse_bad_arguments(&profile)?;
    Ok(profile)
}

/// A listener is a socket path on the host that the runtime would connect to.
fn refuse_listeners(profile: &LinuxSeccomp) -> Result<(), SeccompError> {
    if profile.listener_path().is_some() || profile.listener_metadata().is_some() {
        return Err(SeccompError::ListenerNeeded {
            field: "listenerPath",
        });
    }
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        return Err(SeccompError::ListenerNeeded {
            field: "defaultAction",
        });
    }
    let notified = |rule: &LinuxSyscall| rule.action() == LinuxSeccompAction::ScmpActNotify;
    if profile.syscalls().iter().flatten().any(notified) {
        return Err(SeccompError::ListenerNeeded {
            field: "syscalls.action",
        });
    }
    Ok(())
}

/// A system call has six arguments.
fn refuse_bad_arguments(profile: &LinuxSeccomp) -> Result<(), SeccompError> {
    let rules = profile.syscalls().iter().flatten();
    for rule in rules {
        if let Some(bad) = rule.args().iter().flatten().find(|arg| arg.index() > 5) {
            return Err(SeccompError::Invalid {
                problem: format!("syscalls.args.index {} is not 0 to 5", bad.index()),
            });
        }
    }
    Ok(())
}

/// Everything below AF_ALG, between it and AF_VSOCK, and above.
fn socket_rules() -> [LinuxSyscall; 3] {
    use LinuxSeccompOperator::{ScmpCmpEq, ScmpCmpGt, ScmpCmpLt};
    [
        (ScmpCmpLt, AF_ALG),
        (ScmpCmpEq, AF_ALG + 1),
        (ScmpCmpGt, AF_VSOCK),
    ]
    .map(|(operator, family)| allow("socket", vec![argument(0, operator, family, None)]))
}

/// `clone` without any new namespace; `clone3` as if the kernel were too old for it.
fn clone_rules() -> [LinuxSyscall; 2] {
    let no_namespace = argument(
        CLONE_FLAGS_INDEX,
        LinuxSeccompOperator::ScmpCmpMaskedEq,
        CLONE_NAMESPACES,
        Some(0),
    );
    let mut clone3 = rule("clone3", LinuxSeccompAction::ScmpActErrno);
    clone3.set_errno_ret(Some(ENOSYS));
    [allow("clone", vec![no_namespace]), clone3]
}

fn allow(names: &str, arguments: Vec<LinuxSeccompArg>) -> LinuxSyscall {
    let mut rule = rule(names, LinuxSeccompAction::ScmpActAllow);
    if !arguments.is_empty() {
        rule.set_args(Some(arguments));
    }
    rule
}

fn rule(names: &str, action: LinuxSeccompAction) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.split_whitespace().map(str::to_owned).collect())
        .set_action(action);
    rule
}

fn argument(
    index: usize,
    operator: LinuxSeccompOperator,
    value: u64,
    second: Option<u64>,
) -> LinuxSeccompArg {
    let mut builder = LinuxSeccompArgBuilder::default()
        .index(index)
        .op(operator)
        .value(value);
    if let Some(second) = second {
        builder = builder.value_two(second);
    }
    // The builder fails on missing fields only, and every field has a default.
    builder.build().unwrap_or_default()
}

/// The host's architecture and those whose programs it runs as well: a call made by way of an
/// architecture that is not named here kills the process.
fn architectures() -> Vec<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        "aarch64" => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        "s390x" => vec![Arch::ScmpArchS390x, Arch::ScmpArchS390],
        "powerpc64" => vec![Arch::ScmpArchPpc64le],
        "riscv64" => vec![Arch::ScmpArchRiscv64],
        "loongarch64" => vec![Arch::ScmpArchLoongarch64],
        _ => vec![Arch::ScmpArchNative],
    }
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn unconditional(profile: &LinuxSeccomp) -> BTreeSet<String> {
        let rules = profile.syscalls().as_ref().expect("rules").iter();
        rules
            .filter(|rule| {
                rule.action() == LinuxSeccompAction::ScmpActAllow && rule.args().is_none()
            })
            .flat_map(|rule| rule.names().clone())
            .collect()
    }

    #[test]
    fn what_is_not_listed_is_refused() {
        let profile = default_profile(&Capabilities::new());
        assert_eq!(profile.default_action(), LinuxSeccompAction::ScmpActErrno);
        assert_eq!(profile.default_errno_ret(), Some(EPERM));
    }

    #[test]
    fn no_capability_opens_io_uring_or_the_key_rings() {
        let all = crate::oci::runtime_spec::all_capabilities();
        let allowed = unconditional(&default_profile(&all));
        for name in [
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "keyctl",
            "add_key",
            "request_key",
            "kexec_load",
            "socketcall",
            "userfaultfd",
        ] {
            assert!(!allowed.contains(name), "{name}");
        }
    }

    #[test]
    fn a_capability_opens_its_own_calls_only() {
        let without = unconditional(&default_profile(&Capabilities::new()));
        let with = unconditional(&default_profile(&[Capability::SysChroot].into()));
        let opened: Vec<_> = with.difference(&without).collect();
        assert_eq!(opened, ["chroot"]);
        for name in ["mount", "unshare", "setns", "bpf", "clone", "clone3"] {
            assert!(!without.contains(name), "{name}");
        }
    }

    #[test]
    fn new_namespaces_need_sys_admin() {
        let clone_rule = |capabilities: Capabilities| {
            let profile = default_profile(&capabilities);
            let rules = profile.syscalls().clone().expect("rules");
            rules
                .into_iter()
                .find(|rule| rule.names() == &["clone".to_owned()])
        };
        let rule = clone_rule(Capabilities::new()).expect("a rule on clone");
        let argument = rule.args().as_ref().expect("arguments")[0];
        assert_eq!(argument.value(), CLONE_NAMESPACES);
        assert_eq!(argument.value_two(), Some(0));
        assert_eq!(clone_rule([Capability::SysAdmin].into()), None);
    }

    #[test]
    fn no_call_is_listed_twice() {
        let names: Vec<_> = syscalls::ALWAYS
            .iter()
            .flat_map(|names| names.split_whitespace())
            .collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(names.len() > 300, "{}", names.len());
    }

    #[test]
    fn a_profile_reads_back_as_it_was_written() {
        let profile = default_profile(&Capabilities::new());
        let json = serde_json::to_string(&profile).expect("JSON");
        assert_eq!(parse(&json), Ok(profile));
    }

    #[test]
    fn a_profile_of_another_form_is_refused() {
        for json in ["", "{}", "[]", "{\"defaultAction\":\"NOTHING\"}"] {
            assert!(
                matches!(parse(json), Err(SeccompError::Invalid { .. })),
                "{json}"
            );
        }
        let sixth = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],
            "action":"SCMP_ACT_ERRNO","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#;
        assert!(matches!(parse(sixth), Err(SeccompError::Invalid { .. })));
        let huge = " ".repeat(MAX_SECCOMP_BYTES + 1);
        assert!(matches!(parse(&huge), Err(SeccompError::TooLarge { .. })));
    }

    #[test]
    fn a_profile_that_reaches_for_the_host_is_refused() {
        for json in [
            r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/x"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["open"],"action":"SCMP_ACT_NOTIFY"}]}"#,
        ] {
            assert!(
                matches!(parse(json), Err(SeccompError::ListenerNeeded { .. })),
                "{json}"
            );
        }
    }
}
