//! When a call is repeated: a pure decision over what the proto and the server's answer say.
//!
//! A call is repeated only if repeating it is harmless (see [`is_repeatable`]) **and** the server
//! asked for it: UNAVAILABLE with a `RetryInfo` or a pushback trailer. A connection that cannot be
//! made sends nothing, so a repeat that meets one (a server that restarts) may go on too.
//! Nothing else is ever repeated.

use std::time::Duration;

use wharf_api::{Idempotency, Method};

use crate::error::Error;

/// How often, and for how long, calls are repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; 1 for no repeats.
    pub max_attempts: u32,
    /// No attempt starts later than this after the first one. The call's deadline bounds it further.
    pub max_elapsed: Duration,
}

impl RetryPolicy {
    /// Never repeats.
    #[must_use]
    pub fn never() -> Self {
        Self {
            max_attempts: 1,
            max_elapsed: Duration::ZERO,
        }
    }
}

impl Default for RetryPolicy {
    /// Six attempts within 30 s.
    fn default() -> Self {
        Self {
            max_attempts: 6,
            max_elapsed: Duration::from_secs(30),
        }
    }
}

/// Whether repeating a call of `method` is harmless.
#[must_use]
pub fn is_repeatable(method: &Method, idempotency_key: &str) -> bool {
    match method.idempotency {
        Idempotency::NoSideEffects | Idempotency::Idempotent => true,
        Idempotency::Unknown => !idempotency_key.is_empty(),
    }
}

/// Where a call that may be repeated stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// Attempts that have failed; at least 1.
    pub(crate) attempts: u32,
    /// Since the first attempt began.
    pub(crate) elapsed: Duration,
    /// Until the call's deadline, if it has one.
    pub(crate) remaining: Option<Duration>,
}

impl RetryPolicy {
    /// How long to wait before the next attempt; `None` to give up.
    pub(crate) fn next_delay(&self, progress: Progress, error: &Error) -> Option<Duration> {
        let delay = asked_delay(progress, error)?;
        let within_time = progress.elapsed.saturating_add(delay) <= self.max_elapsed;
        let within_deadline = progress.remaining.is_none_or(|left| delay < left);
        (progress.attempts < self.max_attempts && within_time && within_deadline).then_some(delay)
    }
}

fn asked_delay(progress: Progress, error: &Error) -> Option<Duration> {
    match error {
        Error::Call(call) if call.code == tonic::Code::Unavailable => call.retry_after,
        // The first attempt's failure is the caller's to hear at once: no server is there.
        Error::Connect { .. } if progress.attempts > 1 => Some(backoff(progress.attempts)),
        Error::Call(_)
        | Error::Connect { .. }
        | Error::Address(_)
        | Error::Disconnected { .. }
        | Error::Deadline { .. }
        | Error::Incomplete { .. }
        | Error::Mismatch { .. }
        | Error::Read(_)
        | Error::Write(_) => None,
    }
}

/// 100 ms doubling to 5 s, less up to half of it at random, so that clients which lost the same
/// server do not all come back in the same moment.
pub(crate) fn backoff(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(6);
    let full = Duration::from_millis(100 << doublings).min(Duration::from_secs(5));
    full.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]
mod tests {
    use super::*;
    use crate::error::CallError;

    fn unavailable(retry_after: Option<Duration>) -> Error {
        let mut call = CallError::from_status(
            &tonic::Status::unavailable("x"),
            &crate::RequestId::generate(),
        );
        call.retry_after = retry_after;
        Error::Call(Box::new(call))
    }

    fn first() -> Progress {
        Progress {
            attempts: 1,
            elapsed: Duration::ZERO,
            remaining: None,
        }
    }

    #[test]
    fn a_method_is_repeatable_by_what_the_proto_says_or_by_its_key() {
        let method = |name: &str| {
            Method::by_path(&format!("/wharf.v1.ContainerService/{name}")).expect("a method")
        };
        assert!(is_repeatable(method("GetContainer"), ""));
        assert!(is_repeatable(method("StopContainer"), ""));
        assert!(!is_repeatable(method("CreateContainer"), ""));
        assert!(is_repeatable(method("CreateContainer"), "key-1"));
    }

    #[test]
    fn only_a_server_that_asks_for_it_gets_a_repeat() {
        let policy = RetryPolicy::default();
        let asked = Duration::from_millis(70);
        assert_eq!(
            policy.next_delay(first(), &unavailable(Some(asked))),
            Some(asked)
        );
        assert_eq!(policy.next_delay(first(), &unavailable(None)), None);
        let deadline = Error::Deadline {
            request_id: "r".into(),
        };
        assert_eq!(policy.next_delay(first(), &deadline), None);
    }

    #[test]
    fn attempts_time_and_deadline_each_end_the_repeats() {
        let policy = RetryPolicy::default();
        let error = unavailable(Some(Duration::from_secs(2)));
        let ends = |progress| policy.next_delay(progress, &error).is_none();
        assert!(!ends(first()));
        assert!(ends(Progress {
            attempts: 6,
            ..first()
        }));
        assert!(ends(Progress {
            elapsed: Duration::from_secs(29),
            ..first()
        }));
        assert!(ends(Progress {
            remaining: Some(Duration::from_secs(2)),
            ..first()
        }));
        assert_eq!(RetryPolicy::never().next_delay(first(), &error), None);
    }

    #[test]
    fn the_backoff_doubles_up_to_five_seconds() {
        for (attempts, most) in [(1, 100), (2, 200), (5, 1600), (60, 5000)] {
            let most = Duration::from_millis(most);
            let delay = backoff(attempts);
            assert!(delay <= most && delay >= most / 2, "{attempts}: {delay:?}");
        }
    }
}
