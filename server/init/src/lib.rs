//! A small process 1 for containers whose program is not made to be one.
//!
//! ```text
//! process 1: wharf-init ──fork──► session of its own, its terminal ──exec──► the program
//!               │  every signal but SIGCHLD ───────────────────────────────────► it
//!               └─ reaps whatever ends; ends with the program: its exit code, or 128 + the signal that ended it
//! ```
//!
//! [`PROGRAM`] is the whole program, for whoever puts it where containers can execute it: static, without a C library,
//! so that it runs in any image. Its source is in `program/`, with the rest of what this crate has; nothing of that
//! runs in the process that embeds it.
//!
//! # How it is started
//!
//! `wharf-init [--report] -- PROGRAM [ARGUMENT ...]`, as process 1 of its namespace. PROGRAM is looked up in `PATH`
//! as the keeper does it. If it cannot be executed, the init ends with 127 (it is not there) or 126 and one line on
//! its standard error, or with `--report` tells the errno on descriptor [`REPORTS`]: four bytes, little-endian. That
//! descriptor is closed by the time the program runs, and its end without a message means that it does.

#[cfg(any(test, clippy))]
#[allow(dead_code, reason = "it is called by `start.rs`, which is built alone")]
mod program;

/// The program.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/wharf-init"));

/// Where containers have it. `/dev` is the container's own file system: nothing of it is left in the image's, and
/// it is there and writable whatever the image is and however its root is mounted.
pub const PATH: &str = "/dev/wharf-init";

/// The descriptor that [`Failures::Told`] are told on.
pub const REPORTS: i32 = 3;

/// Bytes of a message on it.
pub const REPORT_BYTES: usize = 4;

/// What becomes of a program that cannot be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failures {
    /// The init ends with 126 or 127.
    Exit,
    /// The errno is told on [`REPORTS`].
    Told,
}

/// The arguments that make it run a program with these.
#[must_use]
pub fn args(program: &[String], failures: Failures) -> Vec<String> {
    let report = match failures {
        Failures::Exit => None,
        Failures::Told => Some("--report"),
    };
    let own = [PATH].into_iter().chain(report).chain(["--"]);
    let own = own.map(str::to_owned);
    own.chain(program.iter().cloned()).collect()
}

/// The errno in a message.
#[must_use]
pub fn errno(message: [u8; REPORT_BYTES]) -> i32 {
    i32::from_le_bytes(message)
}
