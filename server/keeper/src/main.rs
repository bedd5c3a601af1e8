//! `wharf-keeper`: keeps the output and input of containers while the daemon comes and goes.
//!
//! Usage: `wharf-keeper --directory DIR [--idle-exit-seconds N]`. It binds `DIR/keeper.sock`; see the
//! library for how it is spoken to and where it puts what it reads. Whoever starts it can wait for the end
//! of its standard output: then the socket is bound, or it has failed.
//!
//! It ends by itself after N seconds (60) with neither a connection nor a stream. SIGTERM ends it only if
//! it keeps nothing; SIGINT and SIGHUP never do. Exit codes: 0 ended as it should, 1 it failed, 2 wrong
//! usage, 3 another keeper is at work in this directory.

mod args;
mod control;
mod drain;
mod launch;
mod link;
mod log;
mod poller;
mod start;
mod sys;
mod upgrade;

use std::process::ExitCode;

use crate::args::Args;
use crate::start::StartError;

fn main() -> ExitCode {
    let args = match Args::parse(std::env::args_os().skip(1)) {
        Ok(args) => args,
        Err(error) => {
            log::line(&error);
            return ExitCode::from(2);
        }
    };
    match start::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(&error);
            match error {
                StartError::AnotherKeeper(_) => ExitCode::from(3),
                StartError::System { .. } => ExitCode::FAILURE,
            }
        }
    }
}
