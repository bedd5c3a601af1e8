//! The few instructions and the two system calls that device rules of version 2 need (bpf(2)).

#![allow(
    unsafe_code,
    reason = "bpf(2) has no safe form, and the crates that wrap it bring a loader for whole programs"
)]

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

/// `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    fn new(code: u8, [to, from]: [u8; 2], offset: i16, immediate: i32) -> Self {
        Self {
            code,
            registers: to | from << 4,
            offset,
            immediate,
        }
    }

    /// Loads 32 bits from where a register points.
    pub(super) fn load_word(to: u8, from: u8, offset: i16) -> Self {
        Self::new(0x61, [to, from], offset, 0)
    }

    pub(super) fn copy(to: u8, from: u8) -> Self {
        Self::new(0xbf, [to, from], 0, 0)
    }

    pub(super) fn set(to: u8, value: i32) -> Self {
        Self::new(0xb7, [to, 0], 0, value)
    }

    /// Of all 64 bits; the value's sign is extended.
    pub(super) fn and(to: u8, value: i32) -> Self {
        Self::new(0x57, [to, 0], 0, value)
    }

    pub(super) fn shift_right(to: u8, by: i32) -> Self {
        Self::new(0x77, [to, 0], 0, by)
    }

    pub(super) fn skip_unless_equal(register: u8, value: i32, skip: i16) -> Self {
        Self::new(0x55, [register, 0], skip, value)
    }

    pub(super) fn exit() -> Self {
        Self::new(0x95, [0, 0], 0, 0)
    }
}

/// The part of `union bpf_attr` that loading a program uses.
#[derive(Default)]
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that attaching one uses.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

const PROG_LOAD: c_long = 5;
const PROG_ATTACH: c_long = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
/// Beside whatever a manager above has attached.
const ALLOW_MULTI: u32 = 2;

/// Has the kernel ask this program about each use of a device in a version 2 group. It stays as long as the
/// group does.
pub(super) fn attach_device_program(
    program: &[Instruction],
    group: BorrowedFd<'_>,
) -> io::Result<()> {
    let mut load = Load {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr() as u64,
        // It calls none of the functions that ask for one.
        license: c"".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: the kernel reads as many instructions as are there and the license up to its zero byte; it keeps
    // copies.
    let loaded = unsafe { call(PROG_LOAD, ptr::from_mut(&mut load), size_of::<Load>()) }?;
    let number = i32::try_from(loaded).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let program = unsafe { OwnedFd::from_raw_fd(number) };
    let mut attach = Attach {
        target: group.as_raw_fd().unsigned_abs(),
        program: program.as_raw_fd().unsigned_abs(),
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: all of it is numbers.
    unsafe { call(PROG_ATTACH, ptr::from_mut(&mut attach), size_of::<Attach>()) }.map(drop)
}

/// # Safety
/// `attributes` must point to `size` bytes that make sense for the command, with valid pointers inside.
unsafe fn call<T>(command: c_long, attributes: *mut T, size: usize) -> io::Result<c_long> {
    // SAFETY: as the caller promises.
    match unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) } {
        result @ 0.. => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
