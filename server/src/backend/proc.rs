//! Processes as the host's `/proc` shows them (proc(5)). Blocking, but never slow.

use std::fs;
use std::io::Read;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::termios::{LocalModes, SpecialCodeIndex, tcgetattr};

use crate::model::image::AccountFiles;

/// Longest command line shown.
const MAX_ARGS_BYTES: usize = 4 << 10;
/// Largest account file that is read.
const MAX_ACCOUNT_FILE_BYTES: u64 = 4 << 20;
/// Major numbers of pseudo-terminals' slaves (Documentation/admin-guide/devices.txt of Linux).
const PSEUDO_TERMINALS: RangeInclusive<u32> = 136..=143;

/// One process inside a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    /// On the host.
    pub pid: u32,
    /// Its parent, on the host.
    pub parent_pid: u32,
    /// Inside the container.
    pub container_pid: u32,
    /// User id; that of the host, which is the one inside without a user namespace.
    pub uid: u32,
    /// Command line, cut at 4 KiB.
    pub args: Vec<String>,
    /// CPU time used.
    pub cpu_time: Duration,
    /// Resident memory.
    pub resident_bytes: u64,
}

/// A process's state, `R`, `S`, `D`, `Z` ...; none if it is gone.
#[must_use]
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    fields_after_name(&stat)?.first()?.chars().next()
}

/// Whether a process is there and not on its way out. One that is has no state of its own for that: the
/// init of a process namespace sleeps on its way, until all others in there are gone.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    /// `PF_EXITING` of Linux's `sched.h`.
    const EXITING: u32 = 0x4;
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // Field 9 of stat; the first field after the name is number 3.
    let flags = fields_after_name(&stat).and_then(|fields| fields.get(6)?.parse::<u32>().ok());
    flags.is_some_and(|flags| flags & EXITING == 0)
}

/// The account files in the root of a process, as they are now; `None` if the process is gone. A file that
/// is missing, too large or none is empty.
#[must_use]
pub fn account_files(pid: u32) -> Option<AccountFiles> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty()).ok()?;
    Some(AccountFiles {
        passwd: account_file(&root, "etc/passwd"),
        group: account_file(&root, "etc/group"),
    })
}

/// Links are followed, but never out of the root.
fn account_file(root: &OwnedFd, path: &str) -> String {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let Ok(file) = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) else {
        return String::new();
    };
    let file = fs::File::from(file);
    let is_regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
    let mut text = Vec::new();
    let read = file.take(MAX_ACCOUNT_FILE_BYTES).read_to_end(&mut text);
    if !is_regular || read.is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// What stands for the end of the input in the terminal that a process has as its standard input;
/// `None` if it has none, or if the terminal gives it characters rather than lines.
#[must_use]
pub fn end_of_file_character(pid: u32) -> Option<u8> {
    let path = format!("/proc/{pid}/fd/0");
    // Only looked at first: to open a device may do something.
    let looked = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let device = rustix::fs::fstat(&looked).ok()?.st_rdev;
    if !PSEUDO_TERMINALS.contains(&rustix::fs::major(device)) {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(&path, flags, Mode::empty()).ok()?;
    let settings = tcgetattr(&terminal).ok()?;
    let reads_lines = settings.local_modes.contains(LocalModes::ICANON);
    reads_lines.then(|| settings.special_codes[SpecialCodeIndex::VEOF])
}

/// What there is to know of a process; none if it is gone.
#[must_use]
pub fn process_info(pid: u32) -> Option<ProcessInfo> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let fields = fields_after_name(&stat)?;
    let number = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<u64>().ok())
    };
    // Fields 14 and 15 of stat, in ticks; the first field after the name is number 3.
    let ticks = number(11)?.saturating_add(number(12)?);
    let from_status = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
    Some(ProcessInfo {
        pid,
        parent_pid: u32::try_from(number(1)?).ok()?,
        container_pid: from_status("NSpid:")?
            .split_whitespace()
            .last()?
            .parse()
            .ok()?,
        uid: from_status("Uid:")?
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()?,
        args: command_line(&cmdline),
        cpu_time: Duration::from_secs_f64(
            // Ticks of a process stay far below 2^52.
            ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
        ),
        resident_bytes: number(21)?.saturating_mul(rustix::param::page_size() as u64),
    })
}

/// The fields of a `stat` line after the name, which is in parentheses and may hold anything.
fn fields_after_name(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace().collect())
}

fn command_line(cmdline: &[u8]) -> Vec<String> {
    let cut = &cmdline[..cmdline.len().min(MAX_ARGS_BYTES)];
    let whole = cut.strip_suffix(b"\0").unwrap_or(cut);
    if whole.is_empty() {
        return Vec::new();
    }
    whole
        .split(|byte| *byte == 0)
        .map(|arg| String::from_utf8_lossy(arg).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_shows_itself() {
        let info = process_info(std::process::id()).expect("it runs");
        assert_eq!(info.pid, std::process::id());
        assert_eq!(info.uid, rustix::process::getuid().as_raw());
        assert!(info.resident_bytes > 0);
        assert!(!info.args.is_empty());
        assert!(matches!(state(info.pid), Some('R' | 'S')));
        assert!(is_alive(info.pid));
    }

    #[test]
    fn a_process_that_nobody_has_waited_for_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let pid = child.id();
        while state(pid) != Some('Z') {
            std::thread::yield_now();
        }
        assert!(!is_alive(pid));
        child.wait().expect("it is ours");
    }

    #[test]
    fn a_process_that_is_gone_shows_nothing() {
        assert_eq!(process_info(u32::MAX), None);
        assert_eq!(state(u32::MAX), None);
        assert!(!is_alive(u32::MAX));
    }

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        assert_eq!(
            fields_after_name("1 (a) b (c) S 0 1"),
            Some(vec!["S", "0", "1"])
        );
    }
}
