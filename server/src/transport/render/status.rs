//! What is shared by containers and events: how a process ended, failures, causes.

use wharf_api::v1;
use wharf_api::v1::exit_status::Reason;

use crate::model::{Cause, ExitReason, ExitStatus, Failure};
use crate::transport::status::failure_reason;

/// How a run ended.
pub(in crate::transport) fn exit_status(exit: &ExitStatus) -> v1::ExitStatus {
    v1::ExitStatus {
        reason: reason(exit.reason).into(),
        code: exit.code.into(),
        signal: exit.signal.map(|s| s.to_string()).unwrap_or_default(),
        exit_time: Some(exit.exit_time.into()),
        output_truncated: exit.output_truncated,
        cause: exit.cause.as_ref().map(cause),
        run: exit.run.0,
    }
}

fn reason(reason: ExitReason) -> Reason {
    match reason {
        ExitReason::Exited => Reason::Exited,
        ExitReason::Signaled => Reason::Signaled,
        ExitReason::OomKilled => Reason::OomKilled,
        ExitReason::TimedOut => Reason::TimedOut,
        ExitReason::Lost => Reason::Lost,
    }
}

/// The call that made something happen.
pub(in crate::transport) fn cause(cause: &Cause) -> v1::Cause {
    v1::Cause {
        request_id: cause.request_id.to_string(),
        trace_id: cause.trace_id.as_deref().unwrap_or_default().to_owned(),
        method: cause.method.to_string(),
        principal: cause.principal.to_string(),
    }
}

/// Longest message of a failure.
const MAX_MESSAGE_BYTES: usize = 2 << 10;

/// An error kept as data.
pub(in crate::transport) fn failure(failure: &Failure) -> v1::Failure {
    let (reason, metadata) = failure_reason(failure);
    let mut message = failure.to_string();
    message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
    v1::Failure {
        reason: reason.to_string(),
        message,
        metadata,
    }
}
