//! The system calls that the program makes, and nothing between it and the kernel.

#![allow(
    unsafe_code,
    reason = "system calls without a C library, and the strings that the kernel leaves on the stack"
)]

use core::arch::asm;
use core::ffi::CStr;
use core::ptr;

/// An error of the kernel's, as errno(3) numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

impl Errno {
    pub(crate) const NOENT: Self = Self(2);
    pub(crate) const INTR: Self = Self(4);
    pub(crate) const NOEXEC: Self = Self(8);
    pub(crate) const AGAIN: Self = Self(11);
    pub(crate) const ACCES: Self = Self(13);
    pub(crate) const NOTDIR: Self = Self(20);
    pub(crate) const NAMETOOLONG: Self = Self(36);
}

pub(crate) const SIGCHLD: i32 = 17;

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const WRITE: usize = 1;
    pub(super) const CLOSE: usize = 3;
    pub(super) const RT_SIGPROCMASK: usize = 14;
    pub(super) const IOCTL: usize = 16;
    pub(super) const GETPID: usize = 39;
    pub(super) const SENDTO: usize = 44;
    pub(super) const CLONE: usize = 56;
    pub(super) const EXECVE: usize = 59;
    pub(super) const WAIT4: usize = 61;
    pub(super) const KILL: usize = 62;
    pub(super) const FCNTL: usize = 72;
    pub(super) const SETSID: usize = 112;
    pub(super) const RT_SIGTIMEDWAIT: usize = 128;
    pub(super) const EXIT_GROUP: usize = 231;
}

/// asm-generic/unistd.h.
#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const FCNTL: usize = 25;
    pub(super) const IOCTL: usize = 29;
    pub(super) const CLOSE: usize = 57;
    pub(super) const WRITE: usize = 64;
    pub(super) const EXIT_GROUP: usize = 94;
    pub(super) const KILL: usize = 129;
    pub(super) const RT_SIGPROCMASK: usize = 135;
    pub(super) const RT_SIGTIMEDWAIT: usize = 137;
    pub(super) const SETSID: usize = 157;
    pub(super) const GETPID: usize = 172;
    pub(super) const SENDTO: usize = 206;
    pub(super) const CLONE: usize = 220;
    pub(super) const EXECVE: usize = 221;
    pub(super) const WAIT4: usize = 260;
}

/// # Safety
/// The arguments must be what this call takes; pointers among them must be good for what it does.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, args: [usize; 6]) -> isize {
    let result;
    // SAFETY: the caller's promise. The kernel changes rax, rcx and r11, and memory by the pointers.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number.cast_signed() => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// # Safety
/// The arguments must be what this call takes; pointers among them must be good for what it does.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, args: [usize; 6]) -> isize {
    let result;
    // SAFETY: the caller's promise. The kernel changes x0, and memory by the pointers.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0].cast_signed() => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack),
        );
    }
    result
}

/// # Safety
/// As of [`call`].
unsafe fn checked<const N: usize>(number: usize, args: [usize; N]) -> Result<usize, Errno> {
    let mut all = [0; 6];
    for (to, from) in all.iter_mut().zip(args) {
        *to = from;
    }
    // SAFETY: the caller's promise.
    let result = unsafe { call(number, all) };
    usize::try_from(result).map_err(|_| Errno(i32::try_from(-result).unwrap_or(0)))
}

/// A number as a register has it.
fn register(number: i32) -> usize {
    // Of negative ones the kernel looks at the lower half only.
    usize::try_from(number.cast_unsigned()).unwrap_or(0)
}

/// Strings as the kernel lays them out for a process: pointers, with a null pointer behind the last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strings(*const *const u8);

impl Strings {
    /// Arguments and environment.
    ///
    /// # Safety
    /// `stack` must be the stack pointer that the process began with.
    pub(crate) unsafe fn of_process(stack: *const usize) -> (Self, Self) {
        // SAFETY: the number of arguments, they, a null pointer, the environment, a null pointer.
        unsafe {
            let args = stack.add(1);
            let environment = args.add(*stack + 1);
            (Self(args.cast()), Self(environment.cast()))
        }
    }

    /// The first one, and the others.
    pub(crate) fn split_first(self) -> Option<(&'static CStr, Self)> {
        // SAFETY: it stops at the null pointer behind the last one; all of it stays as long as the process.
        unsafe {
            let first = *self.0;
            if first.is_null() {
                return None;
            }
            let mut length = 0;
            while *first.add(length) != 0 {
                length += 1;
            }
            let bytes = core::slice::from_raw_parts(first, length + 1);
            Some((
                CStr::from_bytes_with_nul_unchecked(bytes),
                Self(self.0.add(1)),
            ))
        }
    }
}

impl Iterator for Strings {
    type Item = &'static CStr;

    fn next(&mut self) -> Option<&'static CStr> {
        let (first, others) = self.split_first()?;
        *self = others;
        Some(first)
    }
}

/// A set of signals: the kernel's own form, one bit for each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signals(u64);

impl Signals {
    pub(crate) const ALL: Self = Self(u64::MAX);
}

/// Ends the process.
pub(crate) fn exit(code: u8) -> ! {
    loop {
        // SAFETY: it takes a number and does not return.
        let _ = unsafe { checked(number::EXIT_GROUP, [usize::from(code)]) };
    }
}

pub(crate) fn process_id() -> usize {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { checked(number::GETPID, []) }.unwrap_or(0)
}

/// Blocks these signals and no others. Returns those that were blocked.
pub(crate) fn block(signals: Signals) -> Result<Signals, Errno> {
    const SIG_SETMASK: usize = 2;
    let mut before = Signals(0);
    let pointers = [
        ptr::from_ref(&signals.0).addr(),
        ptr::from_mut(&mut before.0).addr(),
    ];
    let [new, old] = pointers;
    // SAFETY: both sets are of the size that is told, and live until the call is over.
    unsafe {
        let args = [SIG_SETMASK, new, old, size_of::<u64>()];
        checked(number::RT_SIGPROCMASK, args)?;
    }
    Ok(before)
}

/// Waits for one of these signals, which must be blocked.
pub(crate) fn next_signal(signals: Signals) -> Result<i32, Errno> {
    let set = ptr::from_ref(&signals.0).addr();
    // SAFETY: the set is of the size that is told; nothing else is asked for, and there is no time limit.
    let signal = unsafe { checked(number::RT_SIGTIMEDWAIT, [set, 0, 0, size_of::<u64>()]) };
    Ok(i32::try_from(signal?).unwrap_or(0))
}

/// Sends a signal.
pub(crate) fn send(process: usize, signal: i32) -> Result<(), Errno> {
    // SAFETY: it takes numbers.
    unsafe { checked(number::KILL, [process, register(signal)]) }.map(drop)
}

/// Whether a wait comes back at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// With what has ended by now.
    Now,
    /// With the next one that ends.
    Long,
}

/// Takes away a child that has ended, of whatever kind: its id, 0 if there is none yet, and its wait status.
pub(crate) fn reap(wait: Wait) -> Result<(usize, i32), Errno> {
    const WNOHANG: usize = 1;
    const WALL: usize = 0x4000_0000;
    let options = match wait {
        Wait::Now => WALL | WNOHANG,
        Wait::Long => WALL,
    };
    let mut status = 0_i32;
    let place = ptr::from_mut(&mut status).addr();
    // SAFETY: the place lives until the call is over; no usage is asked for.
    let ended = unsafe { checked(number::WAIT4, [register(-1), place, options, 0]) };
    Ok((ended?, status))
}

/// Makes a copy of this process, which has one thread. Its id; 0 in the copy.
pub(crate) fn fork() -> Result<usize, Errno> {
    // SAFETY: without any CLONE_ flag it is fork(2): nothing is shared, and the copy goes on here.
    unsafe { checked(number::CLONE, [register(SIGCHLD), 0, 0, 0, 0]) }
}

/// Becomes the leader of a new session.
pub(crate) fn lead_session() -> Result<(), Errno> {
    // SAFETY: it takes nothing.
    unsafe { checked(number::SETSID, []) }.map(drop)
}

/// Gives up the terminal that this descriptor is of, if that controls this process's session.
pub(crate) fn leave_terminal(descriptor: usize) -> Result<(), Errno> {
    const TIOCNOTTY: usize = 0x5422;
    // SAFETY: it takes no argument.
    unsafe { checked(number::IOCTL, [descriptor, TIOCNOTTY, 0]) }.map(drop)
}

/// Makes the terminal that of this process's session, which has none, and its group the one in the foreground.
pub(crate) fn take_terminal(descriptor: usize) -> Result<(), Errno> {
    const TIOCSCTTY: usize = 0x540e;
    // SAFETY: its argument is a number: 0, not to take it from others.
    unsafe { checked(number::IOCTL, [descriptor, TIOCSCTTY, 0]) }.map(drop)
}

/// Has the descriptor closed by the next program.
pub(crate) fn close_on_exec(descriptor: usize) -> Result<(), Errno> {
    const F_SETFD: usize = 2;
    const FD_CLOEXEC: usize = 1;
    // SAFETY: it takes numbers.
    unsafe { checked(number::FCNTL, [descriptor, F_SETFD, FD_CLOEXEC]) }.map(drop)
}

pub(crate) fn close(descriptor: usize) {
    // SAFETY: nothing here owns descriptors.
    let _ = unsafe { checked(number::CLOSE, [descriptor]) };
}

/// Becomes a program; returns only if that fails.
pub(crate) fn execute(program: &CStr, args: Strings, environment: Strings) -> Errno {
    let lists = [args.0.addr(), environment.0.addr()];
    let [args, environment] = lists;
    // SAFETY: the path ends with a zero byte, and both lists with a null pointer.
    let failed = unsafe { checked(number::EXECVE, [program.as_ptr().addr(), args, environment]) };
    failed.err().unwrap_or(Errno(0))
}

/// Sends a message to a socket; nobody is told if nobody is there any more.
pub(crate) fn tell(socket: usize, message: &[u8]) {
    const MSG_NOSIGNAL: usize = 0x4000;
    let (bytes, length) = (message.as_ptr().addr(), message.len());
    // SAFETY: the kernel reads so many bytes, and no address.
    let _ = unsafe { checked(number::SENDTO, [socket, bytes, length, MSG_NOSIGNAL, 0, 0]) };
}

/// Writes what of this can be written.
pub(crate) fn write(descriptor: usize, text: &[u8]) {
    let (bytes, length) = (text.as_ptr().addr(), text.len());
    // SAFETY: the kernel reads so many bytes.
    let _ = unsafe { checked(number::WRITE, [descriptor, bytes, length]) };
}
