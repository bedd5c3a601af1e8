//! What process 1 does. Only `core` and system calls: see the crate's description.
//!
//! All signals are blocked and taken one after the other, so there is no handler, and nothing can come in between.

pub(crate) mod search;
pub(crate) mod sys;

use core::ffi::CStr;

use sys::{Errno, SIGCHLD, Signals, Strings, Wait};

/// Ends of the init itself; those of shells for a program that cannot be executed, and docker's for what is ours.
const USAGE: u8 = 2;
pub(crate) const BROKEN: u8 = 125;
const NOT_EXECUTED: u8 = 126;
const NOT_FOUND: u8 = 127;
/// What a program that a signal has ended, ends with for a shell: this, and the signal.
const SIGNALED: u8 = 128;

const STDIN: usize = 0;
const STDERR: usize = 2;
/// `wharf_init::REPORTS`.
const REPORTS: usize = 3;

/// What it is to run.
#[derive(Clone, Copy)]
struct Order {
    program: &'static CStr,
    args: Strings,
    environment: Strings,
    /// Whether somebody listens on [`REPORTS`].
    reports: bool,
}

pub(crate) fn main(args: Strings, environment: Strings) -> ! {
    let Some(order) = parse(args, environment) else {
        complain(&[b"usage: wharf-init [--report] -- PROGRAM [ARGUMENT ...]"]);
        sys::exit(USAGE);
    };
    // Anywhere else it would neither get the orphans nor be safe from the signals that it takes.
    if sys::process_id() != 1 {
        complain(&[b"it is process 1 or nothing"]);
        sys::exit(USAGE);
    }
    match start(order) {
        Ok(program) => attend(program),
        Err(error) => fail(order, error),
    }
}

fn parse(args: Strings, environment: Strings) -> Option<Order> {
    let (_, args) = args.split_first()?;
    let (first, others) = args.split_first()?;
    let reports = first == c"--report";
    let args = if reports { others } else { args };
    let (separator, args) = args.split_first()?;
    let (program, _) = args.split_first()?;
    (separator == c"--").then_some(Order {
        program,
        args,
        environment,
        reports,
    })
}

/// Starts the program as if it had been started instead of the init: it leads a session, and if there is a
/// terminal, controls it.
fn start(order: Order) -> Result<usize, Errno> {
    if order.reports {
        sys::close_on_exec(REPORTS)?;
    }
    // Before signals are blocked: it sends some to this process, which process 1 does not get then.
    let has_terminal = sys::leave_terminal(STDIN).is_ok();
    let before = sys::block(Signals::ALL)?;
    let program = sys::fork()?;
    if program == 0 {
        let error = become_program(order, has_terminal, before);
        fail(order, error);
    }
    // Whoever writes to the program must learn that it does not read any more. Its outputs stay: what is written to
    // `/proc/1/fd/1` is to go where it goes without an init.
    sys::close(STDIN);
    if order.reports {
        sys::close(REPORTS);
    }
    Ok(program)
}

fn become_program(order: Order, has_terminal: bool, signals: Signals) -> Errno {
    let prepared = sys::lead_session().and_then(|()| match has_terminal {
        true => sys::take_terminal(STDIN),
        false => Ok(()),
    });
    if let Err(error) = prepared.and_then(|()| sys::block(signals)) {
        return error;
    }
    // The last one counts, as for the keeper.
    let path = order
        .environment
        .filter_map(|entry| entry.to_bytes().strip_prefix(b"PATH="))
        .last();
    search::execute(order.program, path, |candidate| {
        sys::execute(candidate, order.args, order.environment)
    })
}

fn fail(order: Order, error: Errno) -> ! {
    if order.reports {
        sys::tell(REPORTS, &error.0.to_le_bytes());
    } else {
        let why: &[u8] = match error {
            Errno::NOENT | Errno::NOTDIR => b"not found",
            Errno::ACCES => b"permission denied",
            Errno::NOEXEC => b"not a program of this machine",
            Errno::AGAIN => b"too many processes",
            _ => b"cannot be executed",
        };
        complain(&[order.program.to_bytes(), b": ", why]);
    }
    sys::exit(match error {
        Errno::NOENT | Errno::NOTDIR => NOT_FOUND,
        _ => NOT_EXECUTED,
    })
}

fn complain(parts: &[&[u8]]) {
    sys::write(STDERR, b"wharf-init: ");
    for part in parts {
        sys::write(STDERR, part);
    }
    sys::write(STDERR, b"\n");
}

/// Forwards and reaps until the program ends, and ends with it; what else there is the kernel ends then.
fn attend(program: usize) -> ! {
    loop {
        match sys::next_signal(Signals::ALL) {
            Ok(SIGCHLD) => reap(program, Wait::Now),
            // It may have become another user's, whom this one may not signal.
            Ok(signal) => drop(sys::send(program, signal)),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // A filter that forbids to wait for signals: the program still has its end.
            Err(_) => reap(program, Wait::Long),
        }
    }
}

/// Takes away all that have ended, for one signal may stand for many.
fn reap(program: usize, wait: Wait) {
    loop {
        match sys::reap(wait) {
            Ok((0, _)) => return,
            Ok((ended, status)) if ended == program => sys::exit(code(status)),
            Ok(_) | Err(Errno::INTR) => {}
            // As long as the program is there, there is somebody to wait for.
            Err(_) => sys::exit(BROKEN),
        }
    }
}

/// wait(2), "wstatus".
fn code(status: i32) -> u8 {
    let [low, high, ..] = status.to_le_bytes();
    match low & 0x7f {
        0 => high,
        signal => SIGNALED + signal,
    }
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn it_ends_as_the_program_did() {
        assert_eq!(code(0), 0);
        assert_eq!(code(0x0700), 7);
        assert_eq!(code(0xff00), 255);
        assert_eq!(code(15), 143);
        assert_eq!(code(0x80 | 11), 139, "and left a core");
        assert_eq!(code(64), 192);
    }
}
