//! The root of the program, as it is built alone: its first instruction, and what the compiler takes for granted.

#![no_std]
#![no_main]
// What follows must not be compiled into calls of itself.
#![no_builtins]

mod program;

use core::arch::global_asm;
use core::panic::PanicInfo;

// The kernel leaves the arguments on the stack and promises nothing about any other register.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym main,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "bl {main}",
    "brk #1",
    main = sym main,
);

extern "C" fn main(stack: *const usize) -> ! {
    // SAFETY: it is what the kernel has left there.
    let (args, environment) = unsafe { program::sys::Strings::of_process(stack) };
    program::main(args, environment)
}

/// Nothing here is meant to panic.
#[panic_handler]
fn panicked(_: &PanicInfo<'_>) -> ! {
    program::sys::exit(program::BROKEN)
}

/// # Safety
/// As of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    for at in 0..length {
        // SAFETY: both are `length` bytes long.
        unsafe { *to.add(at) = *from.add(at) };
    }
    to
}

/// # Safety
/// As of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    for at in 0..length {
        // SAFETY: it is `length` bytes long.
        unsafe { *to.add(at) = byte.to_le_bytes()[0] };
    }
    to
}

/// # Safety
/// As of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    for at in 0..length {
        // SAFETY: both are `length` bytes long.
        let (left, right) = unsafe { (*left.add(at), *right.add(at)) };
        if left != right {
            return i32::from(left) - i32::from(right);
        }
    }
    0
}

/// # Safety
/// As of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
    // SAFETY: the same is promised.
    unsafe { memcmp(left, right, length) }
}
