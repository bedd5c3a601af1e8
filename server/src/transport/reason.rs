//! What each error reason means on the wire: its gRPC code, its details, whether a retry can help.
//! The table that the API's documentation shows, and the only place that says so.

use std::time::Duration;

use tonic::Code;
use wharf_api::ErrorReason;

use crate::model::limits::{BACKEND_RETRY, CONFLICT_RETRY};

/// Which detail a reason carries besides `ErrorInfo`, `RequestInfo` and `RetryInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// None.
    Plain,
    /// `BadRequest`: the violations.
    BadRequest,
    /// `ResourceInfo`: the subject.
    Resource,
    /// `PreconditionFailure`: the subject, and the reason as its type.
    Precondition,
    /// `QuotaFailure`: the subject.
    Quota,
}

/// When the same call may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// Not by waiting: no `RetryInfo`.
    Never,
    /// Once something short is over.
    Soon,
    /// Once something has recovered.
    Later,
}

/// The code of every status with this reason.
#[must_use]
pub fn code(reason: ErrorReason) -> Code {
    row(reason).0
}

/// The detail of every status with this reason.
pub(super) fn shape(reason: ErrorReason) -> Shape {
    row(reason).1
}

/// The delay in `RetryInfo`, for reasons that have one.
#[must_use]
pub fn retry_delay(reason: ErrorReason) -> Option<Duration> {
    match row(reason).2 {
        Retry::Never => None,
        Retry::Soon => Some(CONFLICT_RETRY),
        Retry::Later => Some(BACKEND_RETRY),
    }
}

#[rustfmt::skip] // A table: one reason, one row.
fn row(reason: ErrorReason) -> (Code, Shape, Retry) {
    use ErrorReason as R;
    use Retry::{Later, Never, Soon};
    use Shape::{BadRequest, Plain, Precondition, Quota, Resource};
    match reason {
        R::Unspecified => (Code::Internal, Plain, Never),
        R::InvalidField => (Code::InvalidArgument, BadRequest, Never),
        R::StreamProtocol => (Code::InvalidArgument, Plain, Never),
        R::PageTokenInvalid => (Code::InvalidArgument, BadRequest, Never),
        R::CursorInvalid => (Code::InvalidArgument, BadRequest, Never),
        R::IdempotencyKeyMismatch => (Code::InvalidArgument, BadRequest, Never),
        R::RequestTooLarge => (Code::ResourceExhausted, Quota, Never),
        R::ContainerNotFound => (Code::NotFound, Resource, Never),
        R::ExecNotFound => (Code::NotFound, Resource, Never),
        R::ImageNotFound => (Code::NotFound, Resource, Never),
        R::RegistryImageNotFound => (Code::NotFound, Resource, Never),
        R::PlatformNotFound => (Code::NotFound, Resource, Never),
        R::PathNotFound => (Code::NotFound, Resource, Never),
        R::LogNotFound => (Code::NotFound, Resource, Never),
        R::ContainerNameInUse => (Code::AlreadyExists, Resource, Never),
        R::ImageReferenceInUse => (Code::AlreadyExists, Resource, Never),
        R::ContainerNotRunning => (Code::FailedPrecondition, Precondition, Never),
        R::ContainerRunning => (Code::FailedPrecondition, Precondition, Never),
        R::ContainerPaused => (Code::FailedPrecondition, Precondition, Never),
        R::ContainerFailed => (Code::FailedPrecondition, Precondition, Never),
        R::ConditionUnreachable => (Code::FailedPrecondition, Precondition, Never),
        R::RunChanged => (Code::FailedPrecondition, Precondition, Never),
        R::ExecAlreadyStarted => (Code::FailedPrecondition, Precondition, Never),
        R::ExecNotRunning => (Code::FailedPrecondition, Precondition, Never),
        R::TerminalNotAllocated => (Code::FailedPrecondition, Precondition, Never),
        R::StdinNotOpen => (Code::FailedPrecondition, Precondition, Never),
        R::ImageInUse => (Code::FailedPrecondition, Precondition, Never),
        R::PathKindMismatch => (Code::FailedPrecondition, Precondition, Never),
        R::RootReadOnly => (Code::FailedPrecondition, Precondition, Never),
        R::ExecutableNotFound => (Code::FailedPrecondition, Precondition, Never),
        R::ExecutableNotPermitted => (Code::FailedPrecondition, Precondition, Never),
        R::ExecutableFormat => (Code::FailedPrecondition, Precondition, Never),
        R::UserNotFound => (Code::FailedPrecondition, Precondition, Never),
        R::WorkingDirInvalid => (Code::FailedPrecondition, Precondition, Never),
        R::DeviceNotFound => (Code::FailedPrecondition, Precondition, Never),
        R::MountFailed => (Code::FailedPrecondition, Precondition, Never),
        R::SecurityProfileInvalid => (Code::FailedPrecondition, Precondition, Never),
        R::RuntimeNotFound => (Code::FailedPrecondition, Precondition, Never),
        R::RuntimeStartFailed => (Code::FailedPrecondition, Precondition, Never),
        R::KernelFeatureMissing => (Code::FailedPrecondition, Precondition, Never),
        R::EtagMismatch => (Code::Aborted, Resource, Never),
        R::OperationInProgress => (Code::Aborted, Resource, Soon),
        R::IdempotentRequestInProgress => (Code::Aborted, Plain, Soon),
        R::DeletedConcurrently => (Code::Aborted, Resource, Never),
        R::CursorExpired => (Code::OutOfRange, Plain, Never),
        R::CursorEpochChanged => (Code::OutOfRange, Plain, Never),
        R::UnauthenticatedCaller => (Code::Unauthenticated, Plain, Never),
        R::PermissionDeniedMethod => (Code::PermissionDenied, Plain, Never),
        R::PermissionDeniedResource => (Code::PermissionDenied, Resource, Never),
        R::PolicyDenied => (Code::PermissionDenied, Precondition, Never),
        R::RegistryAuthFailed => (Code::PermissionDenied, Resource, Never),
        R::TooManyContainers => (Code::ResourceExhausted, Quota, Never),
        R::TooManyExecs => (Code::ResourceExhausted, Quota, Later),
        R::TooManyStreams => (Code::ResourceExhausted, Quota, Later),
        R::RateLimited => (Code::ResourceExhausted, Quota, Later),
        R::Overloaded => (Code::ResourceExhausted, Plain, Later),
        R::RegistryRateLimited => (Code::ResourceExhausted, Plain, Later),
        R::NoSpace => (Code::ResourceExhausted, Quota, Never),
        R::HostResources => (Code::ResourceExhausted, Plain, Later),
        R::BackendUnavailable => (Code::Unavailable, Plain, Later),
        R::ServerDraining => (Code::Unavailable, Plain, Later),
        R::ServerStarting => (Code::Unavailable, Plain, Soon),
        R::RegistryUnavailable => (Code::Unavailable, Plain, Later),
        R::Deadline => (Code::DeadlineExceeded, Plain, Never),
        R::StopTimedOut => (Code::DeadlineExceeded, Resource, Never),
        R::CallerCancelled => (Code::Cancelled, Plain, Never),
        R::MethodNotSupported => (Code::Unimplemented, Plain, Never),
        R::OptionNotSupported => (Code::Unimplemented, BadRequest, Never),
        R::DigestMismatch => (Code::DataLoss, Resource, Never),
        R::StateCorrupt => (Code::DataLoss, Resource, Never),
        R::BackendProtocol => (Code::Internal, Plain, Never),
        R::InternalBug => (Code::Internal, Plain, Never),
        R::ImageInvalid => (Code::InvalidArgument, Plain, Never),
        R::RegistryResponseInvalid => (Code::Internal, Plain, Never),
        R::RegistrySettingsInvalid => (Code::FailedPrecondition, Precondition, Never),
        R::ArchiveInvalid => (Code::InvalidArgument, Plain, Never),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reason_says_ok_or_unknown() {
        for reason in ErrorReason::all() {
            assert!(
                !matches!(code(reason), Code::Ok | Code::Unknown),
                "{reason}"
            );
        }
    }

    #[test]
    fn every_unavailable_reason_says_when_to_come_back() {
        for reason in ErrorReason::all().filter(|reason| code(*reason) == Code::Unavailable) {
            assert!(retry_delay(reason).is_some(), "{reason}");
        }
    }

    #[test]
    fn every_failed_precondition_says_which() {
        for reason in ErrorReason::all() {
            let precondition = code(reason) == Code::FailedPrecondition;
            // A policy forbids, and says which part of it does.
            let says = shape(reason) == Shape::Precondition && reason != ErrorReason::PolicyDenied;
            assert_eq!(says, precondition, "{reason}");
        }
    }
}
