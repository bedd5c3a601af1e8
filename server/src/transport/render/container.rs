//! Containers and what calls about them answer.

use wharf_api::v1;
use wharf_api::v1::ContainerView;
use wharf_api::v1::container;
use wharf_api::v1::wait_container_request;

use super::{duration, signed, spec, status};
use crate::engine::wait::{Condition, WaitResult};
use crate::engine::{ProcessInfo, Remark, Stopped};
use crate::journal::Cursor;
use crate::model::{Container, State};

/// As much of a container as `view` says; `cursor` is the resume point of its last change.
pub(in crate::transport) fn container(
    container: &Container,
    view: ContainerView,
    cursor: Cursor,
) -> v1::Container {
    v1::Container {
        id: container.id.to_string(),
        cursor: cursor.to_string(),
        etag: container.etag(),
        ..unidentified(container, view)
    }
}

/// A container that was only validated: it has no identity, so nothing to be found again by.
pub(in crate::transport) fn validated(container: &Container) -> v1::Container {
    unidentified(container, ContainerView::Full)
}

pub(super) fn unidentified(container: &Container, view: ContainerView) -> v1::Container {
    let spec = match view {
        ContainerView::Full => Some(full_spec(container)),
        ContainerView::Basic | ContainerView::Unspecified => None,
    };
    v1::Container {
        name: container.name.to_string(),
        image: container.spec.image.clone(),
        image_id: container.image.id.to_string(),
        labels: container.labels.as_ref().clone(),
        state: state(container.state).into(),
        run: container.run.0,
        pid: container.pid.unwrap_or_default(),
        exit_status: container.exit_status.as_ref().map(status::exit_status),
        failure: container.failure.as_ref().map(status::failure),
        create_time: Some(container.create_time.into()),
        start_time: container.start_time.map(Into::into),
        update_time: Some(container.update_time.into()),
        spec,
        ..v1::Container::default()
    }
}

/// The spec, with the image's stop signal: what Stop will send is worth knowing.
fn full_spec(container: &Container) -> v1::ContainerSpec {
    let mut spec = spec::spec(&container.spec);
    if spec.stop_signal.is_empty() {
        let signal = container
            .image
            .stop_signal
            .unwrap_or(crate::model::Signal::TERM);
        spec.stop_signal = signal.to_string();
    }
    spec
}

/// Where a container is.
pub(in crate::transport) fn state(state: State) -> container::State {
    match state {
        State::Creating => container::State::Creating,
        State::Created => container::State::Created,
        State::Starting => container::State::Starting,
        State::Running => container::State::Running,
        State::Paused => container::State::Paused,
        State::Stopping => container::State::Stopping,
        State::Exited => container::State::Exited,
        State::BackingOff => container::State::BackingOff,
        State::Deleting => container::State::Deleting,
        State::Failed => container::State::Failed,
    }
}

/// What became of a stop.
pub(in crate::transport) fn stopped(stopped: &Stopped) -> v1::StopContainerResponse {
    v1::StopContainerResponse {
        changed: stopped.changed,
        killed: stopped.killed,
        exit_status: stopped.exit.as_deref().map(status::exit_status),
    }
}

/// What a wait ended with.
pub(in crate::transport) fn wait_result(result: &WaitResult) -> v1::WaitResult {
    use wait_container_request::Condition as Shown;
    let condition = match result.condition {
        Condition::Running => Shown::Running,
        Condition::Exited => Shown::Exited,
        Condition::Deleted => Shown::Deleted,
        Condition::Healthy => Shown::Healthy,
        Condition::Unhealthy => Shown::Unhealthy,
    };
    v1::WaitResult {
        condition: condition.into(),
        exit_status: result.exit.as_deref().map(status::exit_status),
        run: result.run.0,
    }
}

/// One process inside.
pub(in crate::transport) fn process(process: ProcessInfo) -> v1::ProcessInfo {
    v1::ProcessInfo {
        pid: process.pid,
        parent_pid: process.parent_pid,
        container_pid: process.container_pid,
        uid: process.uid,
        args: process.args,
        cpu_time: Some(duration(process.cpu_time)),
        resident_bytes: signed(process.resident_bytes),
        exec_id: String::new(),
    }
}

/// What is to be known about a container that was just made.
pub(in crate::transport) fn warning(remark: Remark) -> v1::Warning {
    let (reason, field, message) = match remark {
        Remark::VolumeInRoot { path } => (
            "IMAGE_VOLUME_IN_ROOT",
            "spec.mounts",
            format!(
                "the image declares the volume {path:?}: it is part of the container's root, and goes with it"
            ),
        ),
        Remark::HealthCheckNotRun => (
            "IMAGE_HEALTH_CHECK_NOT_RUN",
            "spec.health_check",
            "the image has a health check, which is not run".to_owned(),
        ),
    };
    v1::Warning {
        reason: reason.to_owned(),
        message,
        field: field.to_owned(),
    }
}
