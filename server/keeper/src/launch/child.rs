//! What a child does, from its first instruction to the program's. It allocates nothing, and there is no way
//! out of it but the exec and its end.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, ThreadNameSpaceType};
use wharf_keeper::protocol::launch::{
    Confinement, LaunchStep, Network, NewContainer, Program, Root, Stdio, Text, World,
};

use super::report::{self, Failure};
use super::{Prepared, filesystem, terminal};
use crate::sys::child as sys;

/// What a shell says of a program that cannot be executed; nobody is told.
const FAILED: i32 = 126;

pub(super) type Done<T = ()> = Result<T, Failure>;

/// What failed, if something did.
pub(super) fn at(step: LaunchStep) -> impl Fn(Errno) -> Failure {
    at_index(step, 0)
}

pub(super) fn at_index(step: LaunchStep, index: usize) -> impl Fn(Errno) -> Failure {
    move |errno| Failure {
        step,
        index: u16::try_from(index).unwrap_or(u16::MAX),
        errno,
    }
}

/// Ends the process when it is dropped: a panic in the copy must not go on as a second keeper.
struct NoWayOut;

impl Drop for NoWayOut {
    fn drop(&mut self) {
        sys::exit(FAILED);
    }
}

pub(super) fn run(mut prepared: Prepared<'_>) -> ! {
    let _guard = NoWayOut;
    if let Err(failure) = become_program(&mut prepared) {
        report::failed(&prepared.reports, failure);
    }
    sys::exit(FAILED)
}

fn become_program(prepared: &mut Prepared<'_>) -> Done {
    sys::reset_signals();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    rustix::process::setsid().map_err(at(LaunchStep::Clone))?;
    let plan = prepared.plan;
    // While the host's files are there: nothing in the container can redirect these.
    enter_cgroups(prepared)?;
    write_once(
        c"/proc/self/oom_score_adj",
        decimal(plan.oom_score_adj).text(),
    )
    .map_err(at(LaunchStep::Cgroup))?;
    if let Stdio::Fifos {
        stdin,
        stdout,
        stderr,
    } = &plan.stdio
    {
        let stdin = stdin.as_ref().map_or(c"/dev/null", |path| path.as_c_str());
        let outputs = [stdout.as_c_str(), stderr.as_c_str()];
        open_fifos(stdin, outputs, &plan.confinement).map_err(at(LaunchStep::Stdio))?;
    }
    match (&plan.world, prepared.join.take()) {
        (World::New(new), _) => enter_new(prepared, new)?,
        (World::Host { root, hidden }, _) => enter_host(prepared, root.as_ref(), hidden)?,
        (World::Join {}, Some(process)) => join(&process)?,
        (World::Join {}, None) => return Err(at(LaunchStep::Namespaces)(Errno::INVAL)),
    }
    if let Stdio::Terminal { rows, columns, .. } = plan.stdio {
        let console = matches!(plan.world, World::New(_));
        let master = terminal::make(rows, columns, plan.confinement.uid, console)
            .map_err(at(LaunchStep::Terminal))?;
        report::terminal(&prepared.reports, &master).map_err(at(LaunchStep::Terminal))?;
    }
    confine_and_execute(prepared)
}

fn enter_cgroups(prepared: &Prepared<'_>) -> Done {
    for (index, cgroup) in prepared.plan.cgroups.iter().enumerate() {
        write_once(cgroup.as_c_str(), b"0").map_err(at_index(LaunchStep::Cgroup, index))?;
    }
    Ok(())
}

fn write_once(path: &CStr, text: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    rustix::io::write(&file, text).map(drop)
}

/// A number as text, without an allocation.
struct Decimal {
    digits: [u8; 12],
    first: usize,
}

impl Decimal {
    fn text(&self) -> &[u8] {
        self.digits.get(self.first..).unwrap_or_default()
    }
}

fn decimal(number: i32) -> Decimal {
    let mut made = Decimal {
        digits: [b'0'; 12],
        first: 12,
    };
    let mut left = number.unsigned_abs();
    for place in (0..12).rev() {
        made.digits[place] = b'0' + u8::try_from(left % 10).unwrap_or(0);
        made.first = place;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if number < 0 && made.first > 0 {
        made.first -= 1;
        made.digits[made.first] = b'-';
    }
    made
}

/// The process owns its streams, so that it can open them again as `/dev/stdout`.
fn open_fifos(stdin: &CStr, outputs: [&CStr; 2], owner: &Confinement) -> Result<(), Errno> {
    // Not to wait for a writer: if the input has been closed already, it is at its end.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let stdin = rustix::fs::open(stdin, flags, Mode::empty())?;
    rustix::fs::fcntl_setfl(&stdin, OFlags::empty())?;
    give(&stdin, owner)?;
    rustix::stdio::dup2_stdin(&stdin)?;
    let [stdout, stderr] = outputs;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let stdout = rustix::fs::open(stdout, flags, Mode::empty())?;
    give(&stdout, owner)?;
    rustix::stdio::dup2_stdout(&stdout)?;
    let stderr = rustix::fs::open(stderr, flags, Mode::empty())?;
    give(&stderr, owner)?;
    rustix::stdio::dup2_stderr(&stderr)
}

/// `/dev/null` stays the host's.
fn give(stream: &OwnedFd, owner: &Confinement) -> Result<(), Errno> {
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(stream)?.st_mode);
    if kind != rustix::fs::FileType::Fifo {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    rustix::fs::fchown(stream, Some(uid), Some(gid))
}

fn enter_new(prepared: &mut Prepared<'_>, new: &NewContainer) -> Done {
    let own_network = match &new.network {
        Network::Own {} => libc::CLONE_NEWNET,
        Network::Host {} => 0,
        Network::Path(path) => {
            enter_network(path.as_c_str()).map_err(at(LaunchStep::Network))?;
            0
        }
    };
    // After the control groups: the ones it is in become the root of what it sees of them.
    let own = libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWCGROUP;
    sys::unshare(own | own_network).map_err(at(LaunchStep::Namespaces))?;
    if new.network == (Network::Own {}) {
        sys::bring_loopback_up().map_err(at(LaunchStep::Network))?;
    }
    rustix::system::sethostname(new.hostname.as_c_str().to_bytes())
        .map_err(at(LaunchStep::Hostname))?;
    filesystem::enter(prepared, new)
}

/// Only what it mounts is its own.
fn enter_host(prepared: &Prepared<'_>, root: Option<&Root>, hidden: &[Text]) -> Done {
    sys::unshare(libc::CLONE_NEWNS).map_err(at(LaunchStep::Namespaces))?;
    filesystem::prepare_host(root, prepared.overlay.as_deref(), hidden)
        .map_err(at(LaunchStep::Root))
}

fn enter_network(path: &CStr) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let network = rustix::fs::open(path, flags, Mode::empty())?;
    let kind = rustix::thread::LinkNameSpaceType::Network;
    rustix::thread::move_into_link_name_space(network.as_fd(), Some(kind))
}

/// All of the other process's namespaces at once; the pid namespace it has from its making.
fn join(process: &OwnedFd) -> Done {
    let kinds = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::CONTROL_GROUP;
    rustix::thread::move_into_thread_name_spaces(process.as_fd(), kinds)
        .map_err(at(LaunchStep::Namespaces))
}

fn confine_and_execute(prepared: &Prepared<'_>) -> Done {
    let confinement = &prepared.plan.confinement;
    let program = &prepared.plan.program;
    rustix::process::umask(Mode::from_raw_mode(confinement.umask));
    for (index, (number, soft, hard)) in confinement.limits.iter().enumerate() {
        sys::limit(*number, *soft, *hard).map_err(at_index(LaunchStep::Limits, index))?;
    }
    join_keyring(confinement)?;
    if program.make_directory {
        filesystem::make_directories(program.directory.as_c_str())
            .map_err(at(LaunchStep::Directory))?;
    }
    if let World::New(new) = &prepared.plan.world {
        filesystem::seal(&new.root).map_err(at(LaunchStep::Root))?;
    }
    let filter = confinement
        .seccomp_flags
        .map(|flags| (flags, &prepared.filter));
    // Without no_new_privs the kernel wants CAP_SYS_ADMIN for it, which goes next.
    if let Some((flags, filter)) = filter.filter(|_| !confinement.no_new_privileges) {
        filter.load(flags).map_err(at(LaunchStep::Seccomp))?;
    }
    become_user(prepared)?;
    let handed_on = prepared.handed_on.as_ref();
    sys::close_all_but([Some(&prepared.reports), handed_on]).map_err(at(LaunchStep::Directory))?;
    enter_directory(program).map_err(at(LaunchStep::Directory))?;
    report::ready(&prepared.reports).map_err(at(LaunchStep::Execute))?;
    if let Some((flags, filter)) = filter.filter(|_| confinement.no_new_privileges) {
        filter.load(flags).map_err(at(LaunchStep::Seccomp))?;
    }
    if program.reports {
        let reports = handed_on.unwrap_or(&prepared.reports);
        sys::leave_open(reports, wharf_init::REPORTS).map_err(at(LaunchStep::Execute))?;
    }
    Err(at(LaunchStep::Execute)(execute(prepared)))
}

/// A kernel without keyrings has none to protect.
fn join_keyring(confinement: &Confinement) -> Done {
    match sys::join_keyring(confinement.keyring.as_c_str()) {
        Ok(()) | Err(Errno::NOSYS) => Ok(()),
        Err(error) => Err(at(LaunchStep::Keyring)(error)),
    }
}

fn become_user(prepared: &Prepared<'_>) -> Done {
    let wanted = &prepared.plan.confinement;
    sys::bound_capabilities(wanted.bounding).map_err(at(LaunchStep::Capabilities))?;
    rustix::thread::clear_ambient_capability_set().map_err(at(LaunchStep::Capabilities))?;
    let (uid, gid) = (Uid::from_raw(wanted.uid), Gid::from_raw(wanted.gid));
    let user = at(LaunchStep::User);
    rustix::thread::set_thread_groups(&prepared.groups).map_err(&user)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(&user)?;
    // Another user than root loses its capabilities on the way, but those it is to have.
    let keeps = wanted.permitted != 0 && wanted.uid != 0;
    rustix::thread::set_keep_capabilities(keeps).map_err(&user)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(&user)?;
    rustix::thread::set_keep_capabilities(false).map_err(&user)?;
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(wanted.effective),
        permitted: CapabilitySet::from_bits_retain(wanted.permitted),
        inheritable: CapabilitySet::from_bits_retain(wanted.inheritable),
    };
    rustix::thread::set_capabilities(None, sets).map_err(at(LaunchStep::Capabilities))?;
    if wanted.no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(at(LaunchStep::Capabilities))?;
    }
    Ok(())
}

/// No descriptor of ours is open any more that a path like `/proc/self/fd/7` could lead through, and the
/// directory must be one that is below the root.
fn enter_directory(program: &Program) -> Result<(), Errno> {
    rustix::process::chdir(program.directory.as_c_str())?;
    if sys::is_directory_reachable()? {
        Ok(())
    } else {
        Err(Errno::NOENT)
    }
}

/// Tries where the program may be, as a shell does: what is not there, or may not be executed, is passed over,
/// and the last is only said if there is nothing else.
fn execute(prepared: &Prepared<'_>) -> Errno {
    let mut found = Errno::NOENT;
    for candidate in &prepared.plan.program.candidates {
        match sys::execute(candidate.as_c_str(), &prepared.args, &prepared.env) {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => found = Errno::ACCESS,
            error => return error,
        }
    }
    found
}
