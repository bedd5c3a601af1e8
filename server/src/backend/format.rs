//! Whether the host can execute a container's program, for runtimes that cannot tell: runc and crun have reported their
//! success by the time their child executes it, and what is left of a failure is an exit code.
//!
//! Looked at when the container's first process waits for its start, or runs: its root is what the program will be found
//! in. Only what surely fails is refused; whatever else is wrong, the runtime finds.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, RawDir, fstat, open as open_path};
use rustix::io::{Errno, read};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use tokio::time::timeout;

use super::StartExec;
use crate::files::open;
use crate::model::image::Platform;
use crate::model::{LaunchFailure, spec};

/// A file system of the container that does not answer is not waited for: the program may still start.
const PATIENCE: Duration = Duration::from_secs(1);
/// elf(5): magic number, byte order at 5, machine at 18.
const ELF: &[u8] = b"\x7fELF";
const BYTE_ORDER: usize = 5;
const BIG_ENDIAN: u8 = 2;
const MACHINE: usize = 18;
/// What hosts execute by themselves, also of their family's smaller members (linux/elf-em.h).
const MACHINES: &[(&str, &[u16])] = &[
    ("amd64", &[62, 3]),
    ("arm64", &[183, 40]),
    ("riscv64", &[243]),
    ("ppc64le", &[21]),
    ("s390x", &[22]),
];

/// Refuses the program of `process` in the root of the process `pid`, for a container whose first process waits for its
/// start.
///
/// # Errors
/// [`LaunchFailure::ExecutableFormat`].
pub(super) async fn check(pid: u32, process: &spec::Process) -> Result<(), LaunchFailure> {
    let searched = process.clone();
    let work = tokio::task::spawn_blocking(move || is_foreign(pid, &searched));
    match timeout(PATIENCE, work).await {
        Ok(Ok(Ok(true))) => Err(LaunchFailure::ExecutableFormat {
            path: process.args.first().cloned().unwrap_or_default(),
            platform: Platform::host().to_string(),
        }),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The same for a further process, before anything is done about it.
///
/// # Errors
/// As [`check`].
pub(super) async fn check_exec(start: &StartExec) -> Result<(), LaunchFailure> {
    match start.container.pid {
        Some(pid) => check(pid, &start.exec.process).await,
        None => Ok(()),
    }
}

fn is_foreign(pid: u32, process: &spec::Process) -> Result<bool, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open_path(format!("/proc/{pid}/root"), flags, Mode::empty())?;
    let program = candidates(process)
        .into_iter()
        .find_map(|path| executable(&root, &path));
    let Some(program) = program else {
        return Ok(false);
    };
    let mut start = [0; MACHINE + 2];
    let length = read(&program, &mut start)?;
    Ok(!is_native(&start[..length]) && !has_handlers()?)
}

/// Where the program may be: at its path, or in the directories of `PATH`.
fn candidates(process: &spec::Process) -> Vec<String> {
    let program = process.args.first().map_or("", String::as_str);
    let below = |directory: &str| format!("{directory}/{program}");
    if program.starts_with('/') {
        return vec![program.to_owned()];
    }
    if program.contains('/') {
        return vec![below(&process.working_dir)];
    }
    let mut variables = process.env.iter();
    let path = variables.find_map(|variable| variable.strip_prefix("PATH="));
    path.unwrap_or_default().split(':').map(below).collect()
}

/// A regular file that somebody may execute, opened.
fn executable(root: &OwnedFd, path: &str) -> Option<OwnedFd> {
    let held = open::in_root(root, path, open::HOLD).ok()?;
    let stat = fstat(&held).ok()?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let is_executable = stat.st_mode & 0o111 != 0;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    (is_file && is_executable)
        .then(|| open_path(open::own_path(&held), flags, Mode::empty()).ok())
        .flatten()
}

/// Whether the kernel has a way of its own to execute what starts so. What scripts name is not looked at.
fn is_native(start: &[u8]) -> bool {
    if start.starts_with(b"#!") {
        return true;
    }
    let (Some(order), Some(&[first, second])) = (start.get(BYTE_ORDER), start.get(MACHINE..))
    else {
        return false;
    };
    let machine = match *order {
        BIG_ENDIAN => u16::from_be_bytes([first, second]),
        _ => u16::from_le_bytes([first, second]),
    };
    let host = Platform::host().architecture;
    let known = MACHINES.iter().find(|(name, _)| *name == host);
    start.starts_with(ELF) && known.is_none_or(|(_, machines)| machines.contains(&machine))
}

/// Whether somebody has taught the kernel to execute more than it can by itself (binfmt_misc). Handlers hold everywhere,
/// also where the file system that names them is not mounted.
fn has_handlers() -> Result<bool, Errno> {
    let registry = match fsopen("binfmt_misc", FsOpenFlags::FSOPEN_CLOEXEC) {
        // The kernel does not have it.
        Err(Errno::NODEV) => return Ok(false),
        registry => registry?,
    };
    fsconfig_create(&registry)?;
    let registry = fsmount(
        &registry,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = open::beneath(&registry, "", flags)?;
    let mut buffer = Vec::with_capacity(4 << 10);
    let mut entries = RawDir::new(&directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let name = entry?.file_name().to_bytes().to_owned();
        if !matches!(name.as_slice(), b"." | b".." | b"register" | b"status") {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;

    fn process(args: &[&str], env: &[&str]) -> spec::Process {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        spec::Process {
            args: owned(args),
            env: owned(env),
            working_dir: "/work".to_owned(),
            uid: 0,
            gid: 0,
            additional_gids: Vec::new(),
        }
    }

    #[test]
    fn a_program_is_looked_for_where_it_would_be_executed() {
        let env = ["HOME=/", "PATH=/bin:/usr/bin"];
        let places = |program| candidates(&process(&[program], &env));
        assert_eq!(places("/bin/sh"), ["/bin/sh"]);
        assert_eq!(places("./run"), ["/work/./run"]);
        assert_eq!(places("sh"), ["/bin/sh", "/usr/bin/sh"]);
    }

    #[test]
    fn what_the_kernel_executes_is_told_by_its_start() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(is_native(&own[..MACHINE + 2]));
        assert!(is_native(b"#!/bin/sh\n"));
        let mut foreign = own[..MACHINE + 2].to_vec();
        foreign[MACHINE..].copy_from_slice(&0xfffe_u16.to_le_bytes());
        for start in [
            &foreign[..],
            b"",
            b"\x7fELF",
            b"echo without an interpreter line",
        ] {
            assert!(!is_native(start), "{start:?}");
        }
    }

    #[tokio::test]
    async fn a_process_that_is_gone_or_a_program_that_is_not_there_is_left_to_the_runtime() {
        let own = std::process::id();
        for (pid, program) in [(u32::MAX, "/bin/sh"), (own, "/nowhere"), (own, "/bin/sh")] {
            let checked = check(pid, &process(&[program], &[])).await;
            assert_eq!(checked, Ok(()), "{program}");
        }
    }
}
