//! The one map from errors to statuses. Exhaustive: a new error does not compile until it has a
//! reason here. Facts that are variable in a message are in the metadata under the documented keys.

use std::collections::BTreeMap;

use tonic::{Code, Status};
use tonic_types::FieldViolation;
use wharf_api::ErrorReason as R;

use super::details::{Facts, Report};
use super::error::{CallError, Violation, ViolationKind, Violations};
pub use super::reason::{code, retry_delay};
use crate::backend::{Applied, BackendError};
use crate::engine;
use crate::files::FileError;
use crate::journal::JournalError;
use crate::model::limits::MAX_MESSAGE_BYTES;
use crate::model::{ExecId, Failure, LaunchFailure, PullFailure, State};
use crate::oci::image::ImageError;
use crate::registry::RegistryError;
use crate::store::StoreError;

impl From<CallError> for Status {
    fn from(error: CallError) -> Self {
        // The request body's own refusal, on its way through a handler.
        if let CallError::Inbound(status) = &error
            && !status.details().is_empty()
        {
            return Self::clone(status);
        }
        let report = report(&error);
        log_if_ours(&report);
        report.into_status()
    }
}

/// The reason and the metadata of a failure that is kept as data: those that the same error has as a
/// status, save for the container, which the data belongs to.
#[must_use]
pub fn failure_reason(failure: &Failure) -> (R, BTreeMap<String, String>) {
    let facts = of_failure(failure);
    let metadata = facts.metadata.into_iter();
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
    (facts.reason, metadata.collect())
}

/// These are the server's own fault, and nobody else gets to log them.
fn log_if_ours(report: &Report) {
    if matches!(
        report.facts.reason,
        R::InternalBug | R::BackendProtocol | R::StateCorrupt
    ) {
        tracing::error!(reason = %report.facts.reason, detail = %report.message, "call failed");
    }
}

fn report(error: &CallError) -> Report {
    let facts = of_call(error);
    Report {
        violations: violations(error, &facts),
        message: error.to_string(),
        facts,
    }
}

#[rustfmt::skip] // A table: one error, one row.
fn of_call(error: &CallError) -> Facts {
    match error {
        CallError::Engine(error) => of_engine(error),
        CallError::Container { container, error } => of_engine(error).of_container(container),
        CallError::Invalid(violations) => Facts::new(R::InvalidField, [("firstField", &first_field(violations))]),
        CallError::OptionsNotSupported { violations, backend } =>
            Facts::new(R::OptionNotSupported, [("field", &first_field(violations)), ("backend", backend)]),
        CallError::PageTokenInvalid => Facts::new(R::PageTokenInvalid, [("field", &"page_token")]),
        CallError::CursorInvalid { field } => Facts::new(R::CursorInvalid, [("field", field)]),
        CallError::CursorExpired { oldest, newest } =>
            Facts::new(R::CursorExpired, [("oldestCursor", oldest), ("newestCursor", newest)]),
        CallError::StreamProtocol { expected, got } => Facts::new(R::StreamProtocol, [("expected", expected), ("got", got)]),
        CallError::MethodNotSupported { method, backend } =>
            Facts::new(R::MethodNotSupported, [("method", method), ("backend", backend)]),
        CallError::TransferMismatch { expected, actual } =>
            Facts::new(R::DigestMismatch, [("expected", expected), ("actual", actual)]),
        CallError::TooLarge { limit, actual } =>
            Facts::new(R::RequestTooLarge, [("limitBytes", limit), ("actualBytes", actual)]),
        CallError::PartialWrite { entries, error } => of_call(error).with("entries", entries),
        CallError::Inbound(status) => of_inbound(status.code()),
        CallError::Deadline { phase, applied } =>
            Facts::new(R::Deadline, [("phase", phase), ("mutationApplied", &applied_text(*applied))]),
        CallError::Cancelled { applied } => Facts::new(R::CallerCancelled, [("mutationApplied", &applied_text(*applied))]),
        CallError::Bug { .. } => Facts::new(R::InternalBug, []),
    }
}

/// About a main process, or an exec of its container.
fn of_process(reason: R, container: &str, exec: Option<&ExecId>) -> Facts {
    let exec = exec.map(ExecId::to_string).unwrap_or_default();
    Facts::new(reason, [("container", &container), ("execId", &exec)])
}

#[rustfmt::skip] // A table: one error, one row.
fn of_engine(error: &engine::Error) -> Facts {
    use engine::Error as E;
    match error {
        E::ContainerNotFound { container } => Facts::new(R::ContainerNotFound, [("container", container)]),
        E::NameInUse { name, existing } => Facts::new(R::ContainerNameInUse, [("name", name), ("existingId", existing)]),
        E::NotRunning { container, state } => Facts::new(R::ContainerNotRunning, [("container", container), ("state", state)]),
        E::StillRunning { container, state } => Facts::new(R::ContainerRunning, [("container", container), ("state", state)]),
        E::Paused { container } => Facts::new(R::ContainerPaused, [("container", container), ("state", &State::Paused)]),
        E::ControlLost { container } => Facts::new(R::ContainerFailed, [("container", container), ("state", &State::Failed)]),
        E::ConditionUnreachable { container, run, state, conditions } => Facts::new(
            R::ConditionUnreachable,
            [("container", container), ("run", run), ("state", state), ("conditions", conditions)],
        ),
        E::RunChanged { container, expected, run } =>
            Facts::new(R::RunChanged, [("container", container), ("expectedRun", expected), ("run", run)]),
        E::EtagMismatch { container, etag } => Facts::new(R::EtagMismatch, [("container", container), ("etag", etag)]),
        E::OperationInProgress { container, operation, request_id } => Facts::new(
            R::OperationInProgress,
            [("container", container), ("operation", operation), ("requestId", request_id)],
        ),
        E::DeletedConcurrently { container } => Facts::new(R::DeletedConcurrently, [("container", container)]),
        E::StopTimedOut { container, phase } => Facts::new(R::StopTimedOut, [("container", container), ("phase", phase)]),
        E::TooManyContainers { limit } => Facts::new(R::TooManyContainers, [("limit", limit)]),
        E::ExecNotFound { exec } => Facts::new(R::ExecNotFound, [("execId", exec)]),
        E::ExecAlreadyStarted { exec, state } => Facts::new(R::ExecAlreadyStarted, [("execId", exec), ("state", state)]),
        E::ExecNotRunning { exec, state } => Facts::new(R::ExecNotRunning, [("execId", exec), ("state", state)]),
        E::TerminalNotAllocated { container, exec } => of_process(R::TerminalNotAllocated, container, exec.as_ref()),
        E::StdinNotOpen { container, exec } => of_process(R::StdinNotOpen, container, exec.as_ref()),
        E::TooManyExecs { container, limit } => Facts::new(R::TooManyExecs, [("container", container), ("limit", limit)]),
        E::LogNotFound { container } => Facts::new(R::LogNotFound, [("container", container)]),
        E::LogCursorInvalid { .. } => Facts::new(R::CursorInvalid, [("field", &"cursor")]),
        E::LogUnreadable { .. } => disk_failed(),
        E::IdempotentRequestInProgress { key, first_request_id } =>
            Facts::new(R::IdempotentRequestInProgress, [("idempotencyKey", key), ("firstRequestId", first_request_id)]),
        E::IdempotencyKeyMismatch { key, first_request_id } =>
            Facts::new(R::IdempotencyKeyMismatch, [("idempotencyKey", key), ("firstRequestId", first_request_id)]),
        E::ImageNotFound { image } => Facts::new(R::ImageNotFound, [("image", image)]),
        E::PlatformNotFound { image, platform, available } => Facts::new(
            R::PlatformNotFound,
            [("image", image), ("platform", platform), ("available", available)],
        ),
        E::ReferenceInUse { reference, existing } =>
            Facts::new(R::ImageReferenceInUse, [("reference", reference), ("existingId", existing)]),
        E::ImageInUse { image, containers } => Facts::new(R::ImageInUse, [("image", image), ("containers", containers)]),
        E::Image(error) => of_image(error),
        E::Registry(error) => of_registry(error),
        E::File { container, error } => of_file(container, error),
        E::PartialWrite { entries, error } => of_engine(error).with("entries", entries),
        E::InvalidField { field, .. } => Facts::new(R::InvalidField, [("firstField", field)]),
        E::OptionNotSupported { field, backend } => Facts::new(R::OptionNotSupported, [("field", field), ("backend", backend)]),
        E::Starting { phase } => Facts::new(R::ServerStarting, [("phase", phase)]),
        E::Draining => Facts::new(R::ServerDraining, []),
        E::Backend(error) => of_backend(error),
        E::Store(error) => of_store(error),
        E::Journal(error) => of_journal(error),
        E::EpochChanged { epoch, oldest, newest } => Facts::new(
            R::CursorEpochChanged,
            [("oldestCursor", oldest), ("newestCursor", newest), ("epoch", epoch)],
        ),
        E::ForeignCursor => Facts::new(R::CursorInvalid, [("field", &"cursor")]),
        E::Bug { .. } => Facts::new(R::InternalBug, []),
    }
}

#[rustfmt::skip] // A table: one error, one row.
fn of_backend(error: &BackendError) -> Facts {
    use BackendError as E;
    match error {
        E::Unavailable { backend, applied, .. } =>
            Facts::new(R::BackendUnavailable, [("backend", backend), ("mutationApplied", &applied_text(*applied))]),
        E::Launch(failure) => of_launch(failure),
        // The engine settles what it expects to be missing; the rest is a contradiction.
        E::NotFound { backend, what } => Facts::new(
            R::BackendProtocol,
            [("backend", backend), ("backendCode", &"NotFound"), ("backendMessage", what)],
        ),
        // The image is as good as gone, and importing it again helps.
        E::ImageContentMissing { chain_id } => Facts::new(R::ImageNotFound, [("image", chain_id)]),
        E::BlobMissing { digest } => Facts::new(R::ImageNotFound, [("image", digest)]),
        E::NoSpace { path } => Facts::new(R::NoSpace, [("path", path)]),
        E::HostResources { resource, errno } => Facts::new(R::HostResources, [("resource", resource), ("errno", errno)]),
        E::DigestMismatch { expected, actual } => Facts::new(R::DigestMismatch, [("expected", expected), ("actual", actual)]),
        E::LayerInvalid { problem, .. } => Facts::new(R::ImageInvalid, [("problem", problem)]),
        E::NotSupported { backend, field } => Facts::new(R::OptionNotSupported, [("field", field), ("backend", backend)]),
        E::Protocol { backend, code, message } => Facts::new(
            R::BackendProtocol,
            [("backend", backend), ("backendCode", code), ("backendMessage", message)],
        ),
    }
}

#[rustfmt::skip] // A table: one error, one row.
fn of_launch(failure: &LaunchFailure) -> Facts {
    use LaunchFailure as F;
    match failure {
        F::ExecutableNotFound { path } => Facts::new(R::ExecutableNotFound, [("path", path), ("exitCode", &127)]),
        F::ExecutableNotPermitted { path } => Facts::new(R::ExecutableNotPermitted, [("path", path), ("exitCode", &126)]),
        F::ExecutableFormat { path, platform } => Facts::new(R::ExecutableFormat, [("path", path), ("platform", platform)]),
        F::UserNotFound { user } => Facts::new(R::UserNotFound, [("user", user)]),
        F::WorkingDirInvalid { path } => Facts::new(R::WorkingDirInvalid, [("path", path)]),
        F::DeviceNotFound { path } => Facts::new(R::DeviceNotFound, [("path", path)]),
        F::MountFailed { target, source_path, errno } =>
            Facts::new(R::MountFailed, [("target", target), ("source", source_path), ("errno", errno)]),
        F::SecurityProfileInvalid { profile_kind, profile } =>
            Facts::new(R::SecurityProfileInvalid, [("kind", profile_kind), ("profile", profile)]),
        F::RuntimeNotFound { runtime, available } =>
            Facts::new(R::RuntimeNotFound, [("runtime", runtime), ("available", available)]),
        // The subject is the other container: the one that has to be started first.
        F::NetworkContainerNotRunning { container, state } =>
            Facts::new(R::ContainerNotRunning, [("container", container), ("state", state)]),
        F::KernelFeatureMissing { feature } => Facts::new(R::KernelFeatureMissing, [("feature", feature)]),
        F::Refused { message } => Facts::new(R::RuntimeStartFailed, [("runtimeMessage", message)]),
    }
}

fn of_failure(failure: &Failure) -> Facts {
    match failure {
        Failure::Launch { source } => of_launch(source),
        Failure::StartInterrupted => Facts::new(
            R::BackendUnavailable,
            [("mutationApplied", &applied_text(Applied::No))],
        ),
        Failure::PullFailed { kind, .. } => Facts::new(of_pull(*kind), []),
        Failure::ControlLost { .. } => Facts::new(R::ContainerFailed, [("state", &State::Failed)]),
        Failure::BackendUnavailable { .. } => Facts::new(
            R::BackendUnavailable,
            [("mutationApplied", &applied_text(Applied::Unknown))],
        ),
    }
}

#[rustfmt::skip] // A table: one error, one row.
fn of_file(container: &str, error: &FileError) -> Facts {
    use FileError as E;
    match error {
        E::NotFound { path } => Facts::new(R::PathNotFound, [("path", path), ("container", &container)]),
        E::Kind { path, want, have } => Facts::new(R::PathKindMismatch, [("path", path), ("want", want), ("have", have)]),
        // The engine says in which state.
        E::Covered { .. } => Facts::new(R::ContainerNotRunning, [("container", &container), ("state", &"")]),
        E::ReadOnly { path } => Facts::new(R::RootReadOnly, [("path", path), ("container", &container)]),
        E::NoSpace { path } => Facts::new(R::NoSpace, [("path", path)]),
        E::Archive { problem } => Facts::new(R::ArchiveInvalid, [("problem", problem)]),
        E::TooDeep { .. } | E::Attributes { .. } => Facts::new(R::InvalidField, [("firstField", &"path")]),
        E::Host { resource, errno } => Facts::new(R::HostResources, [("resource", resource), ("errno", errno)]),
        E::Mount { source_path, errno } => Facts::new(
            R::MountFailed,
            [("container", &container), ("target", &"/"), ("source", source_path), ("errno", errno)],
        ),
        E::KernelFeature { feature } => Facts::new(R::KernelFeatureMissing, [("feature", feature)]),
        // The engine says what the container is busy with.
        E::ProcessEnded => Facts::new(
            R::OperationInProgress,
            [("container", &container), ("operation", &"exit"), ("requestId", &"")],
        ),
        E::Stalled => Facts::new(R::Overloaded, []),
        E::Stopped => Facts::new(R::CallerCancelled, [("mutationApplied", &applied_text(Applied::Unknown))]),
    }
}

fn of_store(error: &StoreError) -> Facts {
    match error {
        StoreError::NoSpace { path } => Facts::new(R::NoSpace, [("path", path)]),
        StoreError::Corrupt { path, .. } | StoreError::NewerFormat { path, .. } => {
            Facts::new(R::StateCorrupt, [("path", path)])
        }
        StoreError::Io { .. } => disk_failed(),
        // Only opening the store can meet it, and nothing is served before that.
        StoreError::InUse { .. } => Facts::new(R::InternalBug, []),
        StoreError::Closed => Facts::new(R::ServerDraining, []),
    }
}

fn of_journal(error: &JournalError) -> Facts {
    match error {
        // Handlers that have the journal at hand say which cursors: `CallError::of_journal`.
        JournalError::Expired { .. } => Facts::new(R::CursorExpired, []),
        JournalError::Unreadable { .. } => Facts::new(R::StateCorrupt, [("path", &"journal")]),
    }
}

fn of_image(error: &ImageError) -> Facts {
    match error {
        ImageError::Invalid { problem } => Facts::new(R::ImageInvalid, [("problem", problem)]),
        ImageError::DigestMismatch { expected, actual } => Facts::new(
            R::DigestMismatch,
            [("expected", expected), ("actual", actual)],
        ),
        ImageError::PlatformNotFound {
            platform,
            available,
        } => Facts::new(
            R::PlatformNotFound,
            [
                ("image", &""),
                ("platform", platform),
                ("available", available),
            ],
        ),
        ImageError::NoSpace { path } => Facts::new(R::NoSpace, [("path", path)]),
        ImageError::Io { .. } => disk_failed(),
    }
}

fn of_registry(error: &RegistryError) -> Facts {
    use RegistryError as E;
    match error {
        E::NotFound { registry, image } => Facts::new(
            R::RegistryImageNotFound,
            [("image", image), ("registry", registry)],
        ),
        E::AuthFailed { registry, image } => Facts::new(
            R::RegistryAuthFailed,
            [("registry", registry), ("image", image)],
        ),
        E::RateLimited {
            registry,
            retry_after,
        } => {
            let facts = Facts::new(R::RegistryRateLimited, [("registry", registry)]);
            match retry_after {
                Some(delay) => facts.after(*delay),
                None => facts,
            }
        }
        E::Unavailable { registry, .. } => {
            Facts::new(R::RegistryUnavailable, [("registry", registry)])
        }
        E::ResponseInvalid { registry, problem } => Facts::new(
            R::RegistryResponseInvalid,
            [("registry", registry), ("problem", problem)],
        ),
        E::DigestMismatch { expected, actual } => Facts::new(
            R::DigestMismatch,
            [("expected", expected), ("actual", actual)],
        ),
        E::Settings {
            registry,
            path,
            problem,
        } => Facts::new(
            R::RegistrySettingsInvalid,
            [("registry", registry), ("path", path), ("problem", problem)],
        ),
        E::NoSpace { path } => Facts::new(R::NoSpace, [("path", path)]),
        E::Io { .. } | E::Changed => disk_failed(),
        // A caller that is still there is told so only by a server that ends.
        E::Abandoned => Facts::new(R::ServerDraining, []),
    }
}

fn of_pull(failure: PullFailure) -> R {
    match failure {
        PullFailure::NotFound => R::RegistryImageNotFound,
        PullFailure::AuthFailed => R::RegistryAuthFailed,
        PullFailure::RateLimited => R::RegistryRateLimited,
        PullFailure::Unavailable => R::RegistryUnavailable,
        PullFailure::ResponseInvalid => R::RegistryResponseInvalid,
        PullFailure::SettingsInvalid => R::RegistrySettingsInvalid,
        PullFailure::DigestMismatch => R::DigestMismatch,
        PullFailure::PlatformNotFound => R::PlatformNotFound,
        PullFailure::ImageInvalid => R::ImageInvalid,
        PullFailure::NoSpace => R::NoSpace,
        PullFailure::Internal => R::HostResources,
    }
}

/// Neither SQLite nor an archive's reader says which error number it met; those of logs are for the operator.
fn disk_failed() -> Facts {
    Facts::new(R::HostResources, [("resource", &"disk"), ("errno", &"EIO")])
}

/// What tonic met while it read the request, by its code: nothing else tells them apart.
fn of_inbound(code: Code) -> Facts {
    match code {
        Code::Internal => Facts::new(R::InvalidField, [("firstField", &"request")]),
        // The guard has let it pass: how long it is once it is decoded is not told.
        Code::OutOfRange | Code::ResourceExhausted => Facts::new(
            R::RequestTooLarge,
            [
                ("limitBytes", &MAX_MESSAGE_BYTES),
                ("actualBytes", &"unknown"),
            ],
        ),
        // The stream or its connection broke.
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => Facts::new(
            R::CallerCancelled,
            [("mutationApplied", &applied_text(Applied::Unknown))],
        ),
    }
}

impl Facts {
    /// Names the container, for reasons whose subject it is but whose error does not know it.
    fn of_container(self, container: &str) -> Self {
        let lacks_it = matches!(
            self.reason,
            R::ExecutableNotFound
                | R::ExecutableNotPermitted
                | R::ExecutableFormat
                | R::UserNotFound
                | R::WorkingDirInvalid
                | R::DeviceNotFound
                | R::MountFailed
                | R::SecurityProfileInvalid
                | R::RuntimeStartFailed
        );
        if lacks_it {
            self.about("container", container)
        } else {
            self
        }
    }

    /// The request's field that a `BadRequest` of one violation is about.
    fn field(&self) -> &str {
        let names_field = |key| matches!(key, "field" | "firstField");
        let named = self.metadata.iter().find(|(key, _)| names_field(*key));
        named.map_or("idempotency_key", |(_, field)| field)
    }
}

fn violations(error: &CallError, facts: &Facts) -> Vec<FieldViolation> {
    if let CallError::Invalid(all)
    | CallError::OptionsNotSupported {
        violations: all, ..
    } = error
    {
        return all.as_slice().iter().map(violation).collect();
    }
    let (reason, description) = match invalid_field(error) {
        Some(problem) => ("INVALID", problem.to_owned()),
        None => (facts.reason.as_str_name(), error.to_string()),
    };
    vec![FieldViolation {
        reason: reason.to_owned(),
        ..FieldViolation::new(facts.field(), description)
    }]
}

/// What the engine has to say against a field.
fn invalid_field(error: &CallError) -> Option<&str> {
    if let CallError::Engine(error) | CallError::Container { error, .. } = error
        && let engine::Error::InvalidField { problem, .. } = error
    {
        Some(problem)
    } else {
        None
    }
}

fn violation(violation: &Violation) -> FieldViolation {
    let reason = match violation.kind {
        ViolationKind::Invalid(reason) => reason,
        ViolationKind::Unsupported => R::OptionNotSupported.as_str_name(),
    };
    FieldViolation {
        reason: reason.to_owned(),
        ..FieldViolation::new(&violation.field, &violation.description)
    }
}

fn first_field(violations: &Violations) -> &str {
    let first = violations.as_slice().first();
    first.map_or("", |violation| &violation.field)
}

fn applied_text(applied: Applied) -> &'static str {
    match applied {
        Applied::No => "no",
        Applied::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests;
