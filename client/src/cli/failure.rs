//! How a command fails: one line for people, and an exit code as docker has it.

use std::io;
use std::path::PathBuf;

use wharf_client::credentials::CredentialsError;
use wharf_client::{Code, Error, ErrorReason};

/// Exit code of bad usage, and of a `run` that the server refused.
pub(crate) const USAGE: u8 = 125;
const PLAIN: u8 = 1;
const NOT_PERMITTED: u8 = 126;
const NOT_FOUND: u8 = 127;
/// A shell adds the signal's number.
const SIGNALED: u8 = 128;
/// What a shell reports of a process that a broken pipe ended: 128 + SIGPIPE.
const BROKEN_PIPE: u8 = 141;

/// Which exit codes a command's failures get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitStyle {
    /// 1.
    Plain,
    /// 1, or 126 and 127 when the program cannot be executed or is not there.
    Exec,
    /// 125, or 126 and 127 when the program cannot be executed or is not there.
    Run,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{}", line(.0))]
    Call(#[from] Error),
    /// Flags that parse, but cannot be meant.
    #[error("{0}")]
    Usage(String),
    #[error("cannot read {path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("cannot write {path}: {source}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot copy {path}: {source}", path = path.display())]
    Copy { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    #[error("cannot show a message as JSON: {0}")]
    Json(String),
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
    #[error("cannot read standard input: {0}")]
    Stdin(#[source] io::Error),
    #[error("cannot set the terminal: {0}")]
    Terminal(#[source] io::Error),
    #[error("the connection was lost, and part of the input may be lost with it")]
    InputLost,
    /// A signal asked this process to leave, by its number.
    #[error("")]
    Signaled(u8),
    #[error("not confirmed, so nothing was deleted; --force asks no question")]
    NotConfirmed,
    /// Some of several targets failed, and each failure was told when it happened.
    #[error("")]
    Reported,
}

impl Failure {
    /// Whether there is nothing more to say: the reader of the output left, or it was said before.
    pub(crate) fn is_silent(&self) -> bool {
        matches!(self, Self::Reported | Self::Signaled(_)) || self.is_broken_pipe()
    }

    fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(crate) fn exit_code(&self, style: ExitStyle) -> u8 {
        let other = match style {
            ExitStyle::Plain | ExitStyle::Exec => PLAIN,
            ExitStyle::Run => USAGE,
        };
        match (self, style) {
            (failure, _) if failure.is_broken_pipe() => BROKEN_PIPE,
            (Self::Signaled(number), _) => SIGNALED.saturating_add(*number),
            (Self::Usage(_), _) => USAGE,
            (Self::Call(error), ExitStyle::Run | ExitStyle::Exec) => {
                program_code(error).unwrap_or(other)
            }
            (_, _) => other,
        }
    }
}

/// The code of a program that did not run. The server says with which one a shell would answer; the reason
/// says so too.
fn program_code(error: &Error) -> Option<u8> {
    let told = error
        .call()
        .and_then(|call| call.metadata.get("exitCode")?.parse().ok());
    let by_reason = match error.reason() {
        Some(ErrorReason::ExecutableNotFound) => Some(NOT_FOUND),
        Some(ErrorReason::ExecutableNotPermitted) => Some(NOT_PERMITTED),
        _ => None,
    };
    by_reason.and(told).or(by_reason)
}

/// `message (REASON, request id): field: what is wrong with it; …`
fn line(error: &Error) -> String {
    let mut line = match error {
        Error::Connect { .. } => format!("{error}; is wharfd running?"),
        Error::Address(_)
        | Error::Disconnected { .. }
        | Error::Deadline { .. }
        | Error::Call(_)
        | Error::Incomplete { .. }
        | Error::Mismatch { .. }
        | Error::Read(_)
        | Error::Write(_) => error.to_string(),
    };
    if let Some(id) = error.request_id() {
        line.push_str(&format!(" ({}, request {id})", reason_name(error)));
    }
    let violations = error.call().map_or(&[][..], |call| &call.violations);
    for (place, violation) in violations.iter().enumerate() {
        let separator = if place == 0 { ":" } else { ";" };
        line.push_str(&format!(
            "{separator} {}: {}",
            violation.field, violation.description
        ));
    }
    line
}

fn reason_name(error: &Error) -> String {
    match error {
        Error::Call(call) if !call.reason_name.is_empty() => call.reason_name.clone(),
        Error::Call(call) => code_name(call.code).to_owned(),
        Error::Deadline { .. } => ErrorReason::Deadline.as_str_name().to_owned(),
        Error::Disconnected { .. }
        | Error::Address(_)
        | Error::Connect { .. }
        | Error::Incomplete { .. }
        | Error::Mismatch { .. }
        | Error::Read(_)
        | Error::Write(_) => code_name(Code::Unavailable).to_owned(),
    }
}

/// gRPC's own name, for answers without a reason of Wharf's (a proxy's, another server's).
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The argument parser's first paragraph, as one line.
pub(crate) fn usage_line(rendered: &str) -> String {
    let paragraph = rendered.lines().take_while(|line| !line.trim().is_empty());
    let line = paragraph.map(str::trim).collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    format!("{line}; see --help")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use wharf_client::{CallError, Violation};

    fn call(reason: ErrorReason, metadata: &[(&str, &str)]) -> Failure {
        let pairs = metadata
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Failure::Call(Error::Call(Box::new(CallError {
            code: Code::FailedPrecondition,
            reason: Some(reason),
            reason_name: reason.as_str_name().to_owned(),
            message: "it cannot be".to_owned(),
            metadata: BTreeMap::from_iter(pairs),
            request_id: "r-1".to_owned(),
            violations: Vec::new(),
            retry_after: None,
        })))
    }

    #[test]
    fn run_exits_as_docker_does() {
        let code = |failure: Failure| failure.exit_code(ExitStyle::Run);
        assert_eq!(
            code(call(
                ErrorReason::ExecutableNotFound,
                &[("exitCode", "127")]
            )),
            127
        );
        assert_eq!(
            code(call(
                ErrorReason::ExecutableNotPermitted,
                &[("exitCode", "126")]
            )),
            126
        );
        assert_eq!(code(call(ErrorReason::ExecutableNotPermitted, &[])), 126);
        assert_eq!(
            code(call(ErrorReason::ImageNotFound, &[("exitCode", "127")])),
            125
        );
        assert_eq!(code(Failure::Usage("x".into())), 125);
    }

    #[test]
    fn exec_exits_as_run_does_for_the_program_and_with_one_for_all_else() {
        let code = |failure: Failure| failure.exit_code(ExitStyle::Exec);
        assert_eq!(code(call(ErrorReason::ExecutableNotFound, &[])), 127);
        assert_eq!(code(call(ErrorReason::ExecutableNotPermitted, &[])), 126);
        assert_eq!(code(call(ErrorReason::ContainerNotFound, &[])), 1);
        assert_eq!(code(call(ErrorReason::ContainerNotRunning, &[])), 1);
        assert_eq!(code(Failure::InputLost), 1);
        assert_eq!(code(Failure::Usage("x".into())), 125);
    }

    #[test]
    fn other_commands_exit_with_one_and_bad_usage_with_125() {
        let not_found = call(ErrorReason::ExecutableNotFound, &[("exitCode", "127")]);
        assert_eq!(not_found.exit_code(ExitStyle::Plain), 1);
        assert_eq!(Failure::Usage("x".into()).exit_code(ExitStyle::Plain), 125);
        assert_eq!(Failure::Reported.exit_code(ExitStyle::Plain), 1);
    }

    #[test]
    fn a_reader_that_leaves_ends_the_command_without_a_word() {
        let failure = Failure::Output(io::ErrorKind::BrokenPipe.into());
        assert!(failure.is_silent());
        assert_eq!(failure.exit_code(ExitStyle::Plain), 141);
    }

    #[test]
    fn an_error_is_a_line_with_reason_request_id_and_every_violation() {
        let mut failure = call(ErrorReason::InvalidField, &[]);
        assert_eq!(
            failure.to_string(),
            "it cannot be (INVALID_FIELD, request r-1)"
        );
        if let Failure::Call(Error::Call(call)) = &mut failure {
            call.violations = [("name", "is empty"), ("spec.image", "is required")]
                .map(|(field, description)| Violation {
                    field: field.into(),
                    description: description.into(),
                    reason: String::new(),
                })
                .to_vec();
        }
        assert_eq!(
            failure.to_string(),
            "it cannot be (INVALID_FIELD, request r-1): name: is empty; spec.image: is required"
        );
    }

    #[test]
    fn bad_usage_is_one_line() {
        let rendered =
            "error: the following required arguments were not provided:\n  <IMAGE>\n\nUsage: x\n";
        assert_eq!(
            usage_line(rendered),
            "the following required arguments were not provided: <IMAGE>; see --help"
        );
    }
}
