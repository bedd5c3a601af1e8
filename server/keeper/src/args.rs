//! The command line.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

const IDLE_EXIT: Duration = Duration::from_secs(60);

/// What the keeper is told when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Args {
    /// Where its socket and its lock are.
    pub(crate) directory: PathBuf,
    /// How long it stays without anything to do.
    pub(crate) idle_exit: Duration,
    /// What the process that it continues has left for it.
    pub(crate) resume: Option<RawFd>,
}

/// A command line that makes no sense.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum UsageError {
    #[error("unknown argument {0:?}")]
    Unknown(OsString),
    #[error("{0} needs a value")]
    NoValue(&'static str),
    #[error("{0} needs a number")]
    NoNumber(&'static str),
    #[error("--directory is needed")]
    NoDirectory,
}

impl Args {
    pub(crate) fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Self, UsageError> {
        let (mut directory, mut idle_exit, mut resume) = (None, IDLE_EXIT, None);
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--directory") => {
                    let value = args.next().ok_or(UsageError::NoValue("--directory"))?;
                    directory = Some(PathBuf::from(value));
                }
                Some("--idle-exit-seconds") => {
                    idle_exit = Duration::from_secs(number(args.next(), "--idle-exit-seconds")?);
                }
                Some("--resume") => resume = Some(number(args.next(), "--resume")?),
                _ => return Err(UsageError::Unknown(arg)),
            }
        }
        Ok(Self {
            directory: directory.ok_or(UsageError::NoDirectory)?,
            idle_exit,
            resume,
        })
    }

    /// The same for the process that continues this one.
    pub(crate) fn resuming(&self, state: RawFd) -> [OsString; 6] {
        [
            "--directory".into(),
            self.directory.clone().into(),
            "--idle-exit-seconds".into(),
            self.idle_exit.as_secs().to_string().into(),
            "--resume".into(),
            state.to_string().into(),
        ]
    }
}

fn number<N: std::str::FromStr>(
    value: Option<OsString>,
    name: &'static str,
) -> Result<N, UsageError> {
    let value = value.ok_or(UsageError::NoValue(name))?;
    let number = value.to_str().and_then(|text| text.parse().ok());
    number.ok_or(UsageError::NoNumber(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Args, UsageError> {
        Args::parse(text.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_command_line_says_what_the_next_process_needs() {
        let args = parse("--directory /run/x --idle-exit-seconds 5").unwrap();
        assert_eq!(args.idle_exit, Duration::from_secs(5));
        let next = Args::parse(args.resuming(7).into_iter()).unwrap();
        assert_eq!((next.resume, next.directory), (Some(7), args.directory));
    }

    #[test]
    fn a_wrong_command_line_is_refused() {
        assert_eq!(parse(""), Err(UsageError::NoDirectory));
        assert_eq!(
            parse("--directory"),
            Err(UsageError::NoValue("--directory"))
        );
        assert_eq!(parse("--resume x"), Err(UsageError::NoNumber("--resume")));
        assert_eq!(parse("-h"), Err(UsageError::Unknown("-h".into())));
    }
}
