//! `wharfd`: reads its configuration and serves until it is told to stop.

use std::io::{self, Write as _};
use std::process::ExitCode;

use wharf_server::config::{Config, ConfigError};
use wharf_server::daemon;

/// A wrong configuration, as getopt programs say it.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let config = match Config::load() {
        Ok(config) => config,
        Err(ConfigError::Shown(text)) => {
            // Nobody reads it: nothing is lost.
            drop(io::stdout().write_all(text.as_bytes()));
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&error, EXIT_USAGE),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    match runtime.block_on(daemon::run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(
            &error,
            if error.is_configuration() {
                EXIT_USAGE
            } else {
                1
            },
        ),
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    // Without stderr there is nowhere to say it.
    drop(writeln!(io::stderr(), "wharfd: {error}"));
    ExitCode::from(code)
}
