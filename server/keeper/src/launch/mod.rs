//! Launching processes: a copy of the keeper is made, and carries out a plan until it becomes the program.
//!
//! ```text
//! control thread                                   child
//!   prepare: pointers, groups, room ...
//!   clone3 ----------------------------------------> child::run: control groups, streams, namespaces, root,
//!   epoll <-- SEQPACKET: terminal, ready, failure --   steps, confinement
//!   Launched once the socket closes <----- exec -----  the program
//! ```
//!
//! The control thread only makes the copy: whatever touches a path, and so may hang, is done in the child. What
//! happens in the child allocates nothing and never returns (see `sys::child`).

mod child;
mod filesystem;
mod report;
mod terminal;

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType};
use rustix::thread::{move_into_link_name_space, move_into_thread_name_spaces};
use thiserror::Error;
use wharf_keeper::protocol::launch::{LaunchStep, MAX_PLAN_BYTES, Plan, Step, World};

pub(crate) use self::report::{Report, receive};
use crate::log;
use crate::sys::child::{Copied, Filter, Pids, Pointers, copy};

/// A mount takes options of one page at most (mount(2)), the zero byte included.
const MOST_MOUNT_OPTIONS: usize = 4095;

/// What comes along with a plan.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    pub(crate) filter: Option<OwnedFd>,
    pub(crate) cgroup: Option<OwnedFd>,
    pub(crate) join: Option<OwnedFd>,
    pub(crate) reports: Option<OwnedFd>,
}

/// A child that has not become its program yet.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    /// What it tells, see [`receive`]. Its end is the exec, or the child's.
    pub(crate) reports: OwnedFd,
}

/// Why there is no child.
#[derive(Debug, Error)]
pub(crate) enum LaunchError {
    #[error("the plan makes no sense: {0}")]
    Plan(#[from] serde_json::Error),
    #[error("the plan makes no sense: {0}")]
    Invalid(&'static str),
    #[error("{step:?}: {source}")]
    System { step: LaunchStep, source: io::Error },
}

impl LaunchError {
    fn at(step: LaunchStep) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { step, source }
    }
}

/// What the child needs and cannot make itself.
#[derive(Debug)]
struct Prepared<'a> {
    plan: &'a Plan,
    args: Pointers<'a>,
    env: Pointers<'a>,
    groups: Vec<rustix::process::Gid>,
    filter: Filter,
    /// The root's options for mount(2), if they fit.
    overlay: Option<CString>,
    /// Room for every mount of the host that is taken along.
    binds: Vec<OwnedFd>,
    join: Option<OwnedFd>,
    reports: OwnedFd,
    /// What the program reports on instead.
    handed_on: Option<OwnedFd>,
}

/// Makes a child that carries out a plan. Waits for nothing.
pub(crate) fn launch(plan: OwnedFd, extras: Extras) -> Result<Child, LaunchError> {
    let plan: Plan = serde_json::from_slice(&read(plan)?)?;
    let Extras {
        filter,
        cgroup,
        join,
        reports: handed_on,
    } = extras;
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|error| LaunchError::at(LaunchStep::Clone)(error.into()))?;
    let mut prepared = prepare(&plan, filter, join, theirs)?;
    prepared.handed_on = handed_on;
    let pids = match &plan.world {
        World::New(_) => Pids::New,
        World::Join {} | World::Host { .. } => Pids::Same,
    };
    let there = prepared
        .join
        .as_ref()
        .map(PidNamespace::enter)
        .transpose()?;
    let (pid, pidfd) = copied(prepared, pids, cgroup)?;
    drop(there);
    Ok(Child {
        pid,
        pidfd,
        reports: ours,
    })
}

/// Returns in this process only.
fn copied(
    prepared: Prepared<'_>,
    pids: Pids,
    cgroup: Option<OwnedFd>,
) -> Result<(u32, OwnedFd), LaunchError> {
    let made = copy(pids, cgroup.as_ref().map(AsFd::as_fd));
    match made.map_err(LaunchError::at(LaunchStep::Clone))? {
        Copied::Child => child::run(prepared),
        Copied::Parent { pid, pidfd } => Ok((pid, pidfd)),
    }
}

fn read(from: OwnedFd) -> Result<Vec<u8>, LaunchError> {
    let mut file = File::from(from);
    let mut bytes = Vec::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(MAX_PLAN_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(LaunchError::at(LaunchStep::Clone))?;
    if bytes.len() as u64 > MAX_PLAN_BYTES {
        return Err(LaunchError::Invalid("it is too large"));
    }
    Ok(bytes)
}

fn prepare<'a>(
    plan: &'a Plan,
    filter: Option<OwnedFd>,
    join: Option<OwnedFd>,
    reports: OwnedFd,
) -> Result<Prepared<'a>, LaunchError> {
    check(plan, filter.as_ref(), join.as_ref())?;
    let filter = match filter {
        Some(filter) => Filter::parse(&read(filter)?)
            .ok_or(LaunchError::Invalid("the seccomp program is none"))?,
        None => Filter::default(),
    };
    let ids = plan.confinement.groups.iter();
    Ok(Prepared {
        plan,
        args: Pointers::to(&plan.program.args),
        env: Pointers::to(&plan.program.env),
        groups: ids.map(|id| rustix::process::Gid::from_raw(*id)).collect(),
        filter,
        overlay: overlay(plan),
        binds: Vec::with_capacity(binds(plan)),
        join,
        reports,
        handed_on: None,
    })
}

/// What must come together, does.
fn check(plan: &Plan, filter: Option<&OwnedFd>, join: Option<&OwnedFd>) -> Result<(), LaunchError> {
    if plan.confinement.seccomp_flags.is_some() != filter.is_some() {
        return Err(LaunchError::Invalid("seccomp flags without a program"));
    }
    if matches!(plan.world, World::Join {}) != join.is_some() {
        return Err(LaunchError::Invalid("no process to join"));
    }
    if plan.program.args.is_empty() || plan.program.candidates.is_empty() {
        return Err(LaunchError::Invalid("no program"));
    }
    let no_id = u32::MAX;
    let confinement = &plan.confinement;
    let ids = [confinement.uid, confinement.gid];
    // To the kernel that number means "as it is".
    if ids.iter().chain(&confinement.groups).any(|id| *id == no_id) {
        return Err(LaunchError::Invalid("an id is none"));
    }
    Ok(())
}

fn binds(plan: &Plan) -> usize {
    let World::New(new) = &plan.world else {
        return 0;
    };
    let binds = new.steps.iter();
    binds
        .filter(|step| matches!(step, Step::Bind { .. }))
        .count()
}

/// In one string, unless it gets too long, or a path has what would separate it.
fn overlay(plan: &Plan) -> Option<CString> {
    let root = match &plan.world {
        World::New(new) => &new.root,
        World::Host { root, .. } => root.as_ref()?,
        World::Join {} => return None,
    };
    let mut options = Vec::from(b"lowerdir=");
    for (number, lower) in root.lower.iter().enumerate() {
        if number > 0 {
            options.push(b':');
        }
        plain(&mut options, lower.as_c_str().to_bytes())?;
    }
    options.extend(b",upperdir=");
    plain(&mut options, root.upper.as_c_str().to_bytes())?;
    options.extend(b",workdir=");
    plain(&mut options, root.work.as_c_str().to_bytes())?;
    CString::new(options)
        .ok()
        .filter(|options| options.as_bytes().len() <= MOST_MOUNT_OPTIONS)
}

fn plain(options: &mut Vec<u8>, path: &[u8]) -> Option<()> {
    if path.iter().any(|byte| b",:\\".contains(byte)) {
        return None;
    }
    options.extend(path);
    Some(())
}

/// While it lives, processes that this thread makes are in another process's pid namespace.
struct PidNamespace {
    own: File,
}

impl PidNamespace {
    fn enter(of: &OwnedFd) -> Result<Self, LaunchError> {
        let own = File::open("/proc/thread-self/ns/pid")
            .map_err(LaunchError::at(LaunchStep::Namespaces))?;
        move_into_thread_name_spaces(of.as_fd(), ThreadNameSpaceType::PROCESS_ID)
            .map_err(|error| LaunchError::at(LaunchStep::Namespaces)(error.into()))?;
        Ok(Self { own })
    }
}

impl Drop for PidNamespace {
    fn drop(&mut self) {
        let kind = Some(LinkNameSpaceType::ProcessID);
        if let Err(error) = move_into_link_name_space(self.own.as_fd(), kind) {
            // The next container's processes would be made in this one's namespace. Without the keeper
            // everything that it keeps goes on, and another one takes it up.
            let number = self.own.as_raw_fd();
            log::line(&format_args!(
                "cannot leave a pid namespace ({number}): {error}"
            ));
            std::process::abort();
        }
    }
}
