//! From a profile to the program that the kernel runs at each system call.
//!
//! libseccomp compiles, as for every OCI runtime. In front of what it makes comes what runc has too, and it has
//! not: a system call that is newer than any the profile names answers ENOSYS, because that is what makes a libc
//! fall back to an older one (runc's `patchbpf`).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek};
use std::sync::Arc;

use libseccomp::error::SeccompError as LibraryError;
use libseccomp::{
    ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall,
};
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator, LinuxSyscall,
};
use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, memfd_create};

use super::{ENOSYS, EPERM, SeccompError};

/// linux/seccomp.h, `SECCOMP_FILTER_FLAG_*`.
const LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;
const WAIT_KILLABLE_RECV: u32 = 1 << 5;
/// `SECCOMP_RET_ERRNO`.
const RETURN_ERRNO: u32 = 0x0005_0000;
/// seccomp_attr_set(3), `SCMP_FLTATR_CTL_OPTIMIZE`.
const BINARY_TREE: u32 = 2;
/// Marks the numbers of x32, which share x86-64's token.
const X32: u32 = 0x4000_0000;

/// Programs that are kept: the default profile has one for each set of capabilities.
const MOST_KEPT: usize = 64;

/// A compiled profile.
#[derive(Debug, PartialEq, Eq)]
pub struct Filter {
    program: Vec<u8>,
    flags: u32,
}

impl Filter {
    /// An array of `struct sock_filter`, as seccomp(2) takes it.
    #[must_use]
    pub fn program(&self) -> &[u8] {
        &self.program
    }

    /// `SECCOMP_FILTER_FLAG_*`.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags
    }
}

/// Compiled profiles, the latest of them.
#[derive(Debug, Default)]
pub struct Filters {
    kept: Mutex<VecDeque<(LinuxSeccomp, Arc<Filter>)>>,
}

impl Filters {
    /// The program of a profile, which takes some milliseconds the first time. Blocking.
    ///
    /// # Errors
    /// [`SeccompError::Refused`].
    pub fn compiled(&self, profile: &LinuxSeccomp) -> Result<Arc<Filter>, SeccompError> {
        let known = |kept: &VecDeque<(LinuxSeccomp, Arc<Filter>)>| {
            let mut kept = kept.iter();
            kept.find(|(known, _)| known == profile)
                .map(|(_, filter)| Arc::clone(filter))
        };
        if let Some(filter) = known(&self.kept.lock()) {
            return Ok(filter);
        }
        let filter = Arc::new(compile(profile)?);
        let mut kept = self.kept.lock();
        if kept.len() == MOST_KEPT {
            kept.pop_front();
        }
        kept.push_back((profile.clone(), Arc::clone(&filter)));
        Ok(filter)
    }
}

/// Compiles a profile. Blocking.
///
/// # Errors
/// [`SeccompError::Refused`].
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, SeccompError> {
    let architectures = architectures(profile);
    let mut context = library(profile, &architectures).map_err(refused)?;
    let default = action(profile.default_action(), profile.default_errno_ret());
    for rule in profile.syscalls().iter().flatten() {
        add(&mut context, rule, default).map_err(refused)?;
    }
    let mut program = Vec::new();
    if default_refuses(default) {
        program.extend(newer_calls_are_unknown(profile, &architectures));
    }
    program.extend(exported(&context)?);
    Ok(Filter {
        program,
        flags: flags(profile),
    })
}

fn refused(error: LibraryError) -> SeccompError {
    SeccompError::Refused {
        problem: error.to_string(),
    }
}

fn library(
    profile: &LinuxSeccomp,
    architectures: &[ScmpArch],
) -> Result<ScmpFilterContext, LibraryError> {
    let default = action(profile.default_action(), profile.default_errno_ret());
    let mut context = ScmpFilterContext::new(default)?;
    // By halves instead of one by one: the kernel goes through the program once for each system call there is when
    // it is loaded. A library before 2.5 does without.
    let _ = context.set_ctl_optimize(BINARY_TREE);
    for architecture in architectures {
        context.add_arch(*architecture)?;
    }
    Ok(context)
}

/// The profile's and the host's own.
fn architectures(profile: &LinuxSeccomp) -> Vec<ScmpArch> {
    let named = profile.architectures().iter().flatten();
    let mut all = vec![ScmpArch::native()];
    for architecture in named.filter_map(architecture) {
        if !all.contains(&architecture) {
            all.push(architecture);
        }
    }
    all
}

fn architecture(named: &Arch) -> Option<ScmpArch> {
    Some(match named {
        Arch::ScmpArchNative => return None,
        Arch::ScmpArchX86 => ScmpArch::X86,
        Arch::ScmpArchX86_64 => ScmpArch::X8664,
        Arch::ScmpArchX32 => ScmpArch::X32,
        Arch::ScmpArchArm => ScmpArch::Arm,
        Arch::ScmpArchAarch64 => ScmpArch::Aarch64,
        Arch::ScmpArchMips => ScmpArch::Mips,
        Arch::ScmpArchMips64 => ScmpArch::Mips64,
        Arch::ScmpArchMips64n32 => ScmpArch::Mips64N32,
        Arch::ScmpArchMipsel => ScmpArch::Mipsel,
        Arch::ScmpArchMipsel64 => ScmpArch::Mipsel64,
        Arch::ScmpArchMipsel64n32 => ScmpArch::Mipsel64N32,
        Arch::ScmpArchPpc => ScmpArch::Ppc,
        Arch::ScmpArchPpc64 => ScmpArch::Ppc64,
        Arch::ScmpArchPpc64le => ScmpArch::Ppc64Le,
        Arch::ScmpArchS390 => ScmpArch::S390,
        Arch::ScmpArchS390x => ScmpArch::S390X,
        Arch::ScmpArchParisc => ScmpArch::Parisc,
        Arch::ScmpArchParisc64 => ScmpArch::Parisc64,
        Arch::ScmpArchRiscv64 => ScmpArch::Riscv64,
        Arch::ScmpArchLoongarch64 => ScmpArch::Loongarch64,
        // What libseccomp does not know cannot run here either.
        _ => return None,
    })
}

fn action(wanted: LinuxSeccompAction, errno: Option<u32>) -> ScmpAction {
    let errno = errno.unwrap_or(EPERM);
    match wanted {
        // As libseccomp, and so every runtime, has it.
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            ScmpAction::KillThread
        }
        LinuxSeccompAction::ScmpActKillProcess => ScmpAction::KillProcess,
        LinuxSeccompAction::ScmpActTrap => ScmpAction::Trap,
        LinuxSeccompAction::ScmpActErrno => {
            ScmpAction::Errno(i32::try_from(errno).unwrap_or(i32::MAX))
        }
        LinuxSeccompAction::ScmpActNotify => ScmpAction::Notify,
        LinuxSeccompAction::ScmpActTrace => {
            ScmpAction::Trace(u16::try_from(errno).unwrap_or(u16::MAX))
        }
        LinuxSeccompAction::ScmpActLog => ScmpAction::Log,
        LinuxSeccompAction::ScmpActAllow => ScmpAction::Allow,
    }
}

/// Names that this libseccomp does not know are left out, as runtimes do: profiles are written for newer ones.
fn add(
    context: &mut ScmpFilterContext,
    rule: &LinuxSyscall,
    default: ScmpAction,
) -> Result<(), LibraryError> {
    let action = action(rule.action(), rule.errno_ret());
    if action == default {
        return Ok(());
    }
    let conditions: Vec<_> = rule.args().iter().flatten().map(condition).collect();
    for name in rule.names() {
        let Ok(call) = ScmpSyscall::from_name(name) else {
            continue;
        };
        if conditions.is_empty() {
            context.add_rule(action, call)?;
        } else if bears_on_one_argument_twice(rule) {
            // libseccomp cannot have both in one rule; runtimes take either for enough.
            for condition in &conditions {
                context.add_rule_conditional(action, call, &[*condition])?;
            }
        } else {
            context.add_rule_conditional(action, call, &conditions)?;
        }
    }
    Ok(())
}

fn bears_on_one_argument_twice(rule: &LinuxSyscall) -> bool {
    let mut seen = [false; 6];
    rule.args().iter().flatten().any(|argument| {
        let seen = seen.get_mut(argument.index());
        seen.is_some_and(|seen| std::mem::replace(seen, true))
    })
}

fn condition(argument: &LinuxSeccompArg) -> ScmpArgCompare {
    let index = u32::try_from(argument.index()).unwrap_or(u32::MAX);
    let value = argument.value();
    let (operator, datum) = match argument.op() {
        LinuxSeccompOperator::ScmpCmpNe => (ScmpCompareOp::NotEqual, value),
        LinuxSeccompOperator::ScmpCmpLt => (ScmpCompareOp::Less, value),
        LinuxSeccompOperator::ScmpCmpLe => (ScmpCompareOp::LessOrEqual, value),
        LinuxSeccompOperator::ScmpCmpEq => (ScmpCompareOp::Equal, value),
        LinuxSeccompOperator::ScmpCmpGe => (ScmpCompareOp::GreaterEqual, value),
        LinuxSeccompOperator::ScmpCmpGt => (ScmpCompareOp::Greater, value),
        LinuxSeccompOperator::ScmpCmpMaskedEq => (
            ScmpCompareOp::MaskedEqual(value),
            argument.value_two().unwrap_or_default(),
        ),
    };
    ScmpArgCompare::new(index, operator, datum)
}

fn exported(context: &ScmpFilterContext) -> Result<Vec<u8>, SeccompError> {
    let system = |error: std::io::Error| SeccompError::Refused {
        problem: error.to_string(),
    };
    let made = memfd_create("wharf-seccomp", MemfdFlags::CLOEXEC);
    let mut file = File::from(made.map_err(|error| system(error.into()))?);
    context.export_bpf(&file).map_err(refused)?;
    let mut program = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut program))
        .map_err(system)?;
    Ok(program)
}

/// `TSYNC` is about threads, of which a process that loads a filter here has one.
fn flags(profile: &LinuxSeccomp) -> u32 {
    let flags = profile.flags().iter().flatten();
    flags.fold(0, |all, flag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => all | LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => all,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => all | SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => all | WAIT_KILLABLE_RECV,
    })
}

/// Whether what is not named is refused, and not already as unknown.
fn default_refuses(default: ScmpAction) -> bool {
    let unknown = ScmpAction::Errno(i32::try_from(ENOSYS).unwrap_or_default());
    !matches!(default, ScmpAction::Allow | ScmpAction::Log) && default != unknown
}

/// For each architecture: if the call is one of it and newer than all that are named, ENOSYS.
fn newer_calls_are_unknown(profile: &LinuxSeccomp, architectures: &[ScmpArch]) -> Vec<u8> {
    let blocks = architectures.iter().filter_map(|architecture| {
        let token = token(*architecture)?;
        let newest = newest(profile, *architecture)?;
        Some([
            load(ARCHITECTURE),
            // Each block ends where the next one, or the library's program, loads what it needs by itself.
            jump(EQUAL, token, 0, 4),
            load(NUMBER),
            jump(GREATER_OR_EQUAL, X32, 2, 0),
            jump(GREATER, newest, 0, 1),
            instruction(RETURN, 0, 0, RETURN_ERRNO | ENOSYS),
        ])
    });
    blocks.flatten().flatten().collect()
}

/// linux/bpf_common.h.
const LOAD_WORD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Where `struct seccomp_data` has them.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// One `struct sock_filter`.
fn instruction(code: u16, if_true: u8, if_false: u8, value: u32) -> [u8; 8] {
    let [a, b] = code.to_ne_bytes();
    let [c, d, e, f] = value.to_ne_bytes();
    [a, b, if_true, if_false, c, d, e, f]
}

fn load(offset: u32) -> [u8; 8] {
    instruction(LOAD_WORD, 0, 0, offset)
}

fn jump(comparison: u16, value: u32, if_true: u8, if_false: u8) -> [u8; 8] {
    instruction(comparison, if_true, if_false, value)
}

/// The largest number among the calls that the profile names.
fn newest(profile: &LinuxSeccomp, architecture: ScmpArch) -> Option<u32> {
    let rules = profile.syscalls().iter().flatten();
    let names = rules.flat_map(|rule| rule.names());
    let numbers = names.filter_map(|name| {
        let call = ScmpSyscall::from_name_by_arch(name, architecture).ok()?;
        // Those that the architecture does not have are negative.
        u32::try_from(call.as_raw_syscall()).ok()
    });
    numbers.max()
}

/// linux/audit.h, `AUDIT_ARCH_*`. X32 has that of x86-64, and its numbers are not in one order with the others.
fn token(architecture: ScmpArch) -> Option<u32> {
    let architecture = match architecture {
        ScmpArch::Native => match std::env::consts::ARCH {
            "x86_64" => ScmpArch::X8664,
            "aarch64" => ScmpArch::Aarch64,
            "s390x" => ScmpArch::S390X,
            "powerpc64" => ScmpArch::Ppc64Le,
            "riscv64" => ScmpArch::Riscv64,
            "loongarch64" => ScmpArch::Loongarch64,
            _ => return None,
        },
        other => other,
    };
    Some(match architecture {
        ScmpArch::X8664 => 0xc000_003e,
        ScmpArch::X86 => 0x4000_0003,
        ScmpArch::Aarch64 => 0xc000_00b7,
        ScmpArch::Arm => 0x4000_0028,
        ScmpArch::S390X => 0x8000_0016,
        ScmpArch::S390 => 0x0000_0016,
        ScmpArch::Ppc64Le => 0xc000_0015,
        ScmpArch::Riscv64 => 0xc000_00f3,
        ScmpArch::Loongarch64 => 0xc000_0102,
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use oci_spec::runtime::Capabilities;

    use super::super::{default_profile, parse};
    use super::*;

    /// What the kernel would do about a call: the program is run as seccomp(2) describes it.
    fn verdict(filter: &Filter, architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_ne_bytes());
        data.extend(architecture.to_ne_bytes());
        data.extend(0_u64.to_ne_bytes());
        data.extend(arguments.iter().flat_map(|argument| argument.to_ne_bytes()));
        let (instructions, rest) = filter.program().as_chunks::<8>();
        assert!(rest.is_empty());
        let word = |at: u32| {
            let at = at as usize;
            u32::from_ne_bytes(data[at..at + 4].try_into().unwrap())
        };
        let (mut at, mut value) = (0, 0);
        loop {
            let [a, b, if_true, if_false, k @ ..] = instructions[at];
            let (code, k) = (u16::from_ne_bytes([a, b]), u32::from_ne_bytes(k));
            let holds = match code {
                LOAD_WORD => {
                    value = word(k);
                    at += 1;
                    continue;
                }
                0x54 => {
                    value &= k;
                    at += 1;
                    continue;
                }
                0x05 => {
                    at += 1 + k as usize;
                    continue;
                }
                RETURN => return k,
                EQUAL => value == k,
                GREATER => value > k,
                GREATER_OR_EQUAL => value >= k,
                other => panic!("instruction {other:#x}"),
            };
            at += 1 + usize::from(if holds { if_true } else { if_false });
        }
    }

    const X86_64: u32 = 0xc000_003e;
    const ALLOW: u32 = 0x7fff_0000;

    fn number(name: &str) -> u32 {
        let call = ScmpSyscall::from_name_by_arch(name, ScmpArch::X8664).unwrap();
        u32::try_from(call.as_raw_syscall()).unwrap()
    }

    fn plain(filter: &Filter, name: &str) -> u32 {
        verdict(filter, X86_64, number(name), [0; 6])
    }

    #[test]
    fn the_default_profile_allows_refuses_and_does_not_know() {
        let filter = compile(&default_profile(&Capabilities::new())).unwrap();
        for name in ["read", "write", "execve", "exit_group", "futex", "openat2"] {
            assert_eq!(plain(&filter, name), ALLOW, "{name}");
        }
        for name in [
            "mount",
            "keyctl",
            "bpf",
            "unshare",
            "io_uring_setup",
            "ptrace_not",
        ] {
            let Ok(call) = ScmpSyscall::from_name_by_arch(name, ScmpArch::X8664) else {
                continue;
            };
            let number = u32::try_from(call.as_raw_syscall()).unwrap();
            let refused = RETURN_ERRNO | EPERM;
            assert_eq!(verdict(&filter, X86_64, number, [0; 6]), refused, "{name}");
        }
        let unknown = RETURN_ERRNO | ENOSYS;
        assert_eq!(plain(&filter, "clone3"), unknown);
        assert_eq!(verdict(&filter, X86_64, 9_999, [0; 6]), unknown);
        let x32 = verdict(&filter, X86_64, X32 | 9_999, [0; 6]);
        assert_eq!(x32, RETURN_ERRNO | EPERM, "another numbering");
        assert_eq!(
            verdict(&filter, 0x1234, 0, [0; 6]) & 0xffff_0000,
            0,
            "killed"
        );
    }

    #[test]
    fn arguments_decide_where_the_profile_says_so() {
        let filter = compile(&default_profile(&Capabilities::new())).unwrap();
        let socket =
            |family: u64| verdict(&filter, X86_64, number("socket"), [family, 0, 0, 0, 0, 0]);
        assert_eq!(socket(1), ALLOW);
        assert_eq!(socket(16), ALLOW);
        assert_eq!(socket(38), RETURN_ERRNO | EPERM);
        assert_eq!(socket(40), RETURN_ERRNO | EPERM);
        let clone = |flags: u64| verdict(&filter, X86_64, number("clone"), [flags, 0, 0, 0, 0, 0]);
        assert_eq!(clone(0x11), ALLOW);
        assert_eq!(clone(0x1000_0000), RETURN_ERRNO | EPERM);
    }

    #[test]
    fn a_profile_of_ones_own_has_its_own_actions() {
        let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"],"syscalls":[
            {"names":["mkdir","no_such_call"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
            {"names":["chmod"],"action":"SCMP_ACT_KILL_PROCESS"},
            {"names":["read"],"action":"SCMP_ACT_ALLOW"},
            {"names":["kill"],"action":"SCMP_ACT_ERRNO","args":[
                {"index":1,"value":9,"op":"SCMP_CMP_EQ"},{"index":1,"value":15,"op":"SCMP_CMP_EQ"}]}]}"#;
        let filter = compile(&parse(json).unwrap()).unwrap();
        assert_eq!(filter.flags(), LOG);
        assert_eq!(plain(&filter, "mkdir"), RETURN_ERRNO | 13);
        assert_eq!(plain(&filter, "chmod"), 0x8000_0000);
        assert_eq!(plain(&filter, "read"), ALLOW);
        let kill = |signal: u64| verdict(&filter, X86_64, number("kill"), [1, signal, 0, 0, 0, 0]);
        assert_eq!(kill(9), RETURN_ERRNO | EPERM);
        assert_eq!(kill(15), RETURN_ERRNO | EPERM);
        assert_eq!(kill(1), ALLOW);
        assert_eq!(verdict(&filter, X86_64, 9_999, [0; 6]), ALLOW);
    }

    #[test]
    fn a_profile_is_compiled_once() {
        let filters = Filters::default();
        let profile = default_profile(&Capabilities::new());
        let first = filters.compiled(&profile).unwrap();
        assert!(Arc::ptr_eq(&first, &filters.compiled(&profile).unwrap()));
    }
}
