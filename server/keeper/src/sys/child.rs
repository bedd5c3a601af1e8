//! System calls of a process that is made by copying this one, and of its making.
//!
//! The copy has one thread, while this process has two: the other one may have held any lock when the copy was
//! made, the allocator's too. So nothing here allocates, and neither may its callers in the copy.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint};
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use rustix::io::Errno;
use wharf_keeper::protocol::launch::Text;

/// One of the two that return from [`copy`].
#[derive(Debug)]
pub(crate) enum Copied {
    /// This is the copy.
    Child,
    /// This is the process that was copied.
    Parent {
        /// The copy.
        pid: u32,
        /// Its descriptor.
        pidfd: OwnedFd,
    },
}

/// `struct clone_args`, clone(2); `CLONE_ARGS_SIZE_VER2`.
#[derive(Default)]
#[repr(C, align(8))]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Where the new process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pids {
    /// In the namespace that this thread's children are in.
    Same,
    /// In a new one, as its init.
    New,
}

/// Makes a copy of this process, without sharing anything that either could change.
pub(crate) fn copy(pids: Pids, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Copied> {
    let mut pidfd: RawFd = -1;
    let new_pids = match pids {
        Pids::Same => 0,
        Pids::New => flag(libc::CLONE_NEWPID),
    };
    let mut args = CloneArgs {
        flags: flag(libc::CLONE_PIDFD) | CLONE_CLEAR_SIGHAND | new_pids,
        pidfd: ptr::from_mut(&mut pidfd) as u64,
        exit_signal: flag(libc::SIGCHLD),
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd().unsigned_abs().into();
    }
    // SAFETY: without CLONE_VM the copy has its own memory, and without a stack it goes on here as after
    // fork(2). The arguments live until the call returns; the kernel writes a descriptor where `pidfd` says.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            ptr::from_mut(&mut args),
            size_of::<CloneArgs>(),
        )
    };
    match u32::try_from(pid) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(0) => Ok(Copied::Child),
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(pid) => Ok(Copied::Parent {
            pid,
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

fn flag(flag: c_int) -> u64 {
    u64::from(flag.unsigned_abs())
}

/// Leaves the namespaces of these kinds for new ones. For a process with one thread.
pub(crate) fn unshare(kinds: c_int) -> Result<(), Errno> {
    // SAFETY: it is asked for namespaces only, never for descriptors, which Rust takes for shared by threads.
    let done = unsafe { libc::unshare(kinds) };
    done_or_errno(c_long::from(done))
}

/// Ends the process that it is called in, and runs nothing on the way.
pub(crate) fn exit(code: c_int) -> ! {
    // SAFETY: it takes any number and does not return.
    unsafe { libc::_exit(code) }
}

/// Strings as execve(2) takes them: made before the copy, used in it.
#[derive(Debug)]
pub(crate) struct Pointers<'a> {
    list: Vec<*const c_char>,
    strings: PhantomData<&'a [Text]>,
}

impl<'a> Pointers<'a> {
    pub(crate) fn to(strings: &'a [Text]) -> Self {
        let pointers = strings.iter().map(|text| text.as_c_str().as_ptr());
        Self {
            list: pointers.chain([ptr::null()]).collect(),
            strings: PhantomData,
        }
    }
}

/// Becomes a program; returns only if that fails.
pub(crate) fn execute(program: &CStr, args: &Pointers<'_>, env: &Pointers<'_>) -> Errno {
    // SAFETY: both lists end with a null pointer, and their strings are borrowed for as long.
    unsafe { libc::execve(program.as_ptr(), args.list.as_ptr(), env.list.as_ptr()) };
    last_errno()
}

/// No signal is blocked, and none is ignored: Rust programs ignore SIGPIPE, and whoever started the daemon may have
/// had it ignore others (`nohup`), which programs would inherit.
pub(crate) fn reset_signals() {
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initializes the set before it is read. No handler is installed.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Closes every descriptor but these and the standard streams. For a process that is about to become another
/// program.
pub(crate) fn close_all_but(kept: [Option<&OwnedFd>; 2]) -> Result<(), Errno> {
    let mut kept = kept.map(|kept| kept.map_or(c_uint::MAX, |fd| fd.as_raw_fd().unsigned_abs()));
    kept.sort_unstable();
    let mut first = 3;
    for kept in kept {
        close(first, kept.saturating_sub(1))?;
        first = kept.saturating_add(1);
    }
    close(first, c_uint::MAX)
}

/// Leaves a descriptor open for the next program, under this number.
pub(crate) fn leave_open(kept: &OwnedFd, number: RawFd) -> Result<(), Errno> {
    let kept = kept.as_raw_fd();
    // SAFETY: whatever has this number is nobody's any more: all but two descriptors are closed by now, and of
    // those the one that is not left open is used for nothing but to tell of a failure, which is then not told.
    let done = unsafe {
        if kept == number {
            libc::fcntl(kept, libc::F_SETFD, 0)
        } else {
            libc::dup2(kept, number)
        }
    };
    done_or_errno(c_long::from(done))
}

fn close(first: c_uint, last: c_uint) -> Result<(), Errno> {
    if first > last {
        return Ok(());
    }
    // SAFETY: whoever owns one of them never runs again, so that nobody uses or closes it a second time.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) };
    done_or_errno(closed)
}

/// `struct mount_attr`, mount_setattr(2).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// How far a change of a mount reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The mount itself.
    One,
    /// All below it as well.
    All,
}

/// Sets and clears attributes (`MOUNT_ATTR_*`) and, unless 0, the propagation (`MS_*`) of an open mount.
pub(crate) fn set_mount(
    mount: &OwnedFd,
    reach: Reach,
    (set, clear): (u64, u64),
    propagation: u64,
) -> Result<(), Errno> {
    let attr = MountAttr {
        set,
        clear,
        propagation,
        user_namespace: 0,
    };
    let recursive = match reach {
        Reach::One => 0,
        Reach::All => libc::AT_RECURSIVE,
    };
    // SAFETY: the path is empty and ends with a zero byte; the kernel only reads the attributes.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            ptr::from_ref(&attr),
            size_of::<MountAttr>(),
        )
    };
    done_or_errno(set)
}

/// Takes every capability whose bit is not in `kept` out of the bounding set.
pub(crate) fn bound_capabilities(kept: u64) -> Result<(), Errno> {
    for number in 0..u64::BITS {
        let capability = libc::c_ulong::from(number);
        // SAFETY: both take a number; one that is none answers EINVAL.
        let known = unsafe { libc::prctl(libc::PR_CAPBSET_READ, capability, 0, 0, 0) };
        if known < 0 {
            break;
        }
        if known == 1 && kept >> number & 1 == 0 {
            // SAFETY: as above.
            let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
            done_or_errno(c_long::from(dropped))?;
        }
    }
    Ok(())
}

/// Joins a new session keyring of this name, keyctl(2).
pub(crate) fn join_keyring(name: &CStr) -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: the name ends with a zero byte and is only read.
    let joined = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            name.as_ptr(),
            0,
            0,
            0,
        )
    };
    done_or_errno(joined)
}

/// Sets a limit by its number.
pub(crate) fn limit(number: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the limit is only read, and the old one is not asked for.
    let set = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            number,
            ptr::from_ref(&limit),
            ptr::null_mut::<libc::rlimit64>(),
        )
    };
    done_or_errno(set)
}

/// A seccomp program.
#[derive(Default)]
pub(crate) struct Filter(Vec<libc::sock_filter>);

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter({} instructions)", self.0.len())
    }
}

impl Filter {
    /// From an array of `struct sock_filter`; `None` if it is none that the kernel would take.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (instructions, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || instructions.is_empty() || u16::try_from(instructions.len()).is_err()
        {
            return None;
        }
        let parse = |[a, b, jt, jf, c, d, e, f]: &[u8; 8]| libc::sock_filter {
            code: u16::from_ne_bytes([*a, *b]),
            jt: *jt,
            jf: *jf,
            k: u32::from_ne_bytes([*c, *d, *e, *f]),
        };
        Some(Self(instructions.iter().map(parse).collect()))
    }

    /// Filters this thread's system calls from now on, seccomp(2).
    pub(crate) fn load(&self, flags: u32) -> Result<(), Errno> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.0.len()).unwrap_or(u16::MAX),
            // The kernel only reads it.
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: `len` instructions are there; the kernel checks and copies them.
        let loaded = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                ptr::from_ref(&program),
            )
        };
        done_or_errno(loaded)
    }
}

/// Brings up this network namespace's loopback interface, netdevice(7).
pub(crate) fn bring_loopback_up() -> Result<(), Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: all of it is numbers, for which zeros are values.
    let mut request = unsafe { MaybeUninit::<libc::ifreq>::zeroed().assume_init() };
    for (place, byte) in request.ifr_name.iter_mut().zip(c"lo".to_bytes_with_nul()) {
        *place = byte.cast_signed();
    }
    // SAFETY: the request names an interface; flags are what the kernel writes and reads there.
    let set = unsafe {
        let socket = socket.as_raw_fd();
        match libc::ioctl(socket, libc::SIOCGIFFLAGS, ptr::from_mut(&mut request)) {
            0 => {
                request.ifr_ifru.ifru_flags |= 1; // IFF_UP
                libc::ioctl(socket, libc::SIOCSIFFLAGS, ptr::from_ref(&request))
            }
            failed => failed,
        }
    };
    done_or_errno(c_long::from(set))
}

/// Whether the working directory is below this process's root: getcwd(2) says `(unreachable)` if not.
pub(crate) fn is_directory_reachable() -> Result<bool, Errno> {
    let mut buffer = [0_u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most so many bytes.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    match length {
        0.. => Ok(buffer.first() == Some(&b'/')),
        // It is there, but too deep to be told, so it cannot be checked.
        _ => Err(last_errno()),
    }
}

/// Sends a signal by its number, real-time ones too (pidfd_send_signal(2)).
pub(crate) fn send_signal(pidfd: impl AsFd, number: u8) -> Result<(), Errno> {
    let pidfd = pidfd.as_fd().as_raw_fd();
    let number = c_int::from(number);
    let no_info = ptr::null::<libc::siginfo_t>();
    // SAFETY: without information of ours the kernel fills in its own.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd, number, no_info, 0) };
    done_or_errno(sent)
}

/// A child that has ended and that nobody has waited for.
pub(crate) fn first_zombie() -> Option<u32> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel fills the structure in; where it has nothing to tell, the zeros stay, which are values.
    let (found, pid) = unsafe {
        let found = libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options);
        (found, info.assume_init().si_pid())
    };
    u32::try_from(pid)
        .ok()
        .filter(|pid| found == 0 && *pid != 0)
}

/// Takes away a child that has ended, whoever it is.
pub(crate) fn reap(pid: u32) {
    let options = libc::WEXITED | libc::WNOHANG;
    // SAFETY: without a place for what is told, nothing is told.
    unsafe { libc::waitid(libc::P_PID, pid, ptr::null_mut(), options) };
}

/// What the kernel tells of the end of a process that is not this one's child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Its wait status: somebody else has waited for it, and Linux 6.15 tells it to who holds its descriptor.
    Status(i32),
    /// Nobody has waited for it yet.
    NotYet,
    /// This kernel does not tell.
    Never,
}

/// How a process ended that is not this one's child.
pub(crate) fn told_wait_status(pidfd: impl AsFd) -> Told {
    /// `struct pidfd_info` of linux/pidfd.h; `PIDFD_INFO_SIZE_VER0`.
    #[derive(Default)]
    #[repr(C)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const INFO_EXIT: u64 = 1 << 3;
    /// `_IOWR(0xff, 11, struct pidfd_info)`.
    const GET_INFO: libc::Ioctl = 0xc040_ff0b;
    let mut info = Info {
        mask: INFO_EXIT,
        ..Info::default()
    };
    // SAFETY: the number says how large the structure is that the kernel reads and writes.
    let told = unsafe {
        libc::ioctl(
            pidfd.as_fd().as_raw_fd(),
            GET_INFO,
            ptr::from_mut(&mut info),
        )
    };
    match told {
        0 if info.mask & INFO_EXIT != 0 => Told::Status(info.exit_code),
        0 => Told::NotYet,
        _ => Told::Never,
    }
}

fn done_or_errno(result: c_long) -> Result<(), Errno> {
    if result < 0 {
        Err(last_errno())
    } else {
        Ok(())
    }
}

fn last_errno() -> Errno {
    let error = io::Error::last_os_error();
    Errno::from_io_error(&error).unwrap_or(Errno::INVAL)
}
