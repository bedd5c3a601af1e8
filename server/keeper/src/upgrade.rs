//! Going on as another program, or as the same one again, without letting go of anything.
//!
//! ```text
//! drain thread stops --> sealed copy of the binary --> state in a sealed memfd
//!   --> descriptors left open over exec --> exec --> state read, descriptors adopted --> both threads run
//! ```
//!
//! A sealed memfd can be neither changed nor reached by a path, so what runs cannot be overwritten by a
//! container that gets hold of a descriptor of it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};
use wharf_keeper::segment::{Limits, Positions, ProcessExit};

use crate::link::{Debts, Finished};
use crate::sys;

const PROGRAM: &str = "wharf-keeper";

/// How often sealing is tried.
const SEAL_ATTEMPTS: u32 = 10;

/// What the process after this one needs to know. It grows by fields with defaults.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) listener: RawFd,
    pub(crate) lock: RawFd,
    pub(crate) streams: Vec<Saved>,
}

/// One stream in it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) stream: String,
    pub(crate) directory: PathBuf,
    pub(crate) run: u64,
    pub(crate) limits: Limits,
    pub(crate) outputs: [Option<RawFd>; 2],
    pub(crate) stdin: Option<RawFd>,
    #[serde(default)]
    pub(crate) terminal: Option<RawFd>,
    #[serde(default)]
    pub(crate) process: Option<SavedProcess>,
    pub(crate) positions: Positions,
    pub(crate) debts: Debts,
    pub(crate) finishing_ms: Option<u64>,
    pub(crate) finished: Option<Finished>,
}

/// A stream's process in it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum SavedProcess {
    Launching {
        pid: u32,
        pidfd: RawFd,
        reports: RawFd,
        ready: bool,
    },
    Running {
        pid: u32,
        pidfd: RawFd,
    },
    Ended {
        pid: u32,
        exit: ProcessExit,
    },
}

/// What is left of a time to wait, for another process.
pub(crate) fn left_ms(deadline: Instant) -> u64 {
    let left = deadline.saturating_duration_since(Instant::now());
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}

/// The time that is so far away.
pub(crate) fn deadline(within_ms: u64) -> Instant {
    const LONGEST: Duration = Duration::from_secs(24 * 3_600);
    Instant::now() + Duration::from_millis(within_ms).min(LONGEST)
}

/// Goes on as the sealed copy of this program, unless this is it already.
pub(crate) fn run_sealed() -> io::Result<()> {
    let running = File::open("/proc/self/exe")?;
    if fcntl_get_seals(&running).is_ok_and(|seals| seals.contains(SealFlags::WRITE)) {
        return Ok(());
    }
    let copy = sealed_copy(Some(running.into()))?;
    Err(execute(&copy, std::env::args_os().skip(1)))
}

/// A sealed copy of this binary; without one, of the running one.
pub(crate) fn sealed_copy(binary: Option<OwnedFd>) -> io::Result<OwnedFd> {
    let mut from = match binary {
        Some(binary) => File::from(binary),
        None => File::open("/proc/self/exe")?,
    };
    from.rewind()?;
    let mut copy = File::from(memfd(MemfdFlags::EXEC)?);
    io::copy(&mut from, &mut copy)?;
    seal(copy)
}

/// Leaves `descriptors` open for the sealed program and becomes it. Returns only if that fails, with
/// everything as it was.
pub(crate) fn become_next(
    binary: &OwnedFd,
    state: &State,
    descriptors: &[&OwnedFd],
    args: impl FnOnce(RawFd) -> [OsString; 6],
) -> io::Error {
    let state = match save(state) {
        Ok(state) => state,
        Err(error) => return error,
    };
    let kept = || descriptors.iter().copied().chain([&state]);
    let left = kept().try_for_each(|fd| fcntl_setfd(fd, FdFlags::empty()));
    let error = match left {
        Ok(()) => execute(binary, args(state.as_raw_fd())),
        Err(error) => error.into(),
    };
    for fd in kept() {
        // It worked a moment ago.
        let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
    error
}

/// Reads what the process before this one has left.
pub(crate) fn load(state: OwnedFd) -> io::Result<State> {
    let mut text = Vec::new();
    let mut file = File::from(state);
    file.rewind()?;
    file.read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

fn save(state: &State) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd(MemfdFlags::NOEXEC_SEAL)?);
    file.write_all(&serde_json::to_vec(state)?)?;
    seal(file)
}

fn execute(binary: &OwnedFd, args: impl IntoIterator<Item = OsString>) -> io::Error {
    let variable = |(name, value): (OsString, OsString)| {
        let mut variable = name;
        variable.push("=");
        variable.push(value);
        variable
    };
    let args = [OsString::from(PROGRAM)].into_iter().chain(args);
    sys::execute(binary, args, std::env::vars_os().map(variable))
}

/// Kernels before 6.3 do not know the flags that say whether a memfd can be executed: there, all can.
fn memfd(kind: MemfdFlags) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create(PROGRAM, flags | kind) {
        Err(Errno::INVAL) => Ok(memfd_create(PROGRAM, flags)?),
        other => Ok(other?),
    }
}

/// The kernel refuses while anything of it is pinned, as by a processor that has yet to pass on what was just
/// written. It waits up to 150 ms for that itself (`mm/memfd.c`), which a busy machine can exceed.
fn seal(file: File) -> io::Result<OwnedFd> {
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    let mut attempts = 1..SEAL_ATTEMPTS;
    while let Err(error) = fcntl_add_seals(&file, seals) {
        if error != Errno::BUSY || attempts.next().is_none() {
            return Err(error.into());
        }
    }
    Ok(file.into())
}
