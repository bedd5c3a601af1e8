//! Events and the messages of a watch.

use wharf_api::v1;
use wharf_api::v1::event::{Detail, Type};
use wharf_api::v1::watch_gap;

use super::status;
use crate::engine::watch::GapReason;
use crate::journal::Cursor;
use crate::model::event::EventType;
use crate::model::{Event, EventKind};

/// An event, without its container; `cursor` is the resume point just after it.
pub(in crate::transport) fn event(event: &Event, cursor: Cursor) -> v1::Event {
    let body = &event.body;
    let about = body.container.as_ref();
    v1::Event {
        sequence: event.sequence.0,
        cursor: cursor.to_string(),
        time: Some(body.time.into()),
        r#type: event_type(body.kind.event_type()).into(),
        cause: body.cause.as_ref().map(status::cause),
        container_id: about.map(|c| c.id.to_string()).unwrap_or_default(),
        container_name: about.map(|c| c.name.to_string()).unwrap_or_default(),
        labels: about.map(|c| c.labels.as_ref().clone()).unwrap_or_default(),
        image: body.image.as_deref().unwrap_or_default().to_owned(),
        exec_id: body
            .kind
            .exec()
            .map(|id| id.to_string())
            .unwrap_or_default(),
        run: about.map(|c| c.run.0).unwrap_or_default(),
        container: None,
        detail: detail(&body.kind),
    }
}

fn detail(kind: &EventKind) -> Option<Detail> {
    match kind {
        EventKind::ContainerExited { exit } | EventKind::ExecExited { exit, .. } => {
            Some(Detail::ExitStatus(status::exit_status(exit)))
        }
        EventKind::ContainerSignaled { signal } => Some(Detail::Signal(signal.to_string())),
        EventKind::ContainerStartFailed { failure }
        | EventKind::ContainerFailed { failure }
        | EventKind::ExecStartFailed { failure, .. }
        | EventKind::ImagePullFailed { failure }
        | EventKind::BackendDisconnected { failure } => {
            Some(Detail::Failure(status::failure(failure)))
        }
        EventKind::ContainerUpdated { paths, .. } => Some(Detail::Changed(v1::ChangedFields {
            paths: paths.clone(),
        })),
        EventKind::ContainerCreated
        | EventKind::ContainerStarted
        | EventKind::ContainerStopping
        | EventKind::ContainerPaused
        | EventKind::ContainerResumed
        | EventKind::ContainerDeleted
        | EventKind::ContainerOom
        | EventKind::ExecCreated { .. }
        | EventKind::ExecStarted { .. }
        | EventKind::ImagePulled
        | EventKind::ImageImported
        | EventKind::ImageTagged
        | EventKind::ImageUntagged
        | EventKind::ImageDeleted
        | EventKind::SystemStarted
        | EventKind::SystemDraining
        | EventKind::BackendConnected => None,
    }
}

fn event_type(event_type: EventType) -> Type {
    match event_type {
        EventType::ContainerCreated => Type::ContainerCreated,
        EventType::ContainerStarted => Type::ContainerStarted,
        EventType::ContainerExited => Type::ContainerExited,
        EventType::ContainerStartFailed => Type::ContainerStartFailed,
        EventType::ContainerStopping => Type::ContainerStopping,
        EventType::ContainerSignaled => Type::ContainerSignaled,
        EventType::ContainerPaused => Type::ContainerPaused,
        EventType::ContainerResumed => Type::ContainerResumed,
        EventType::ContainerUpdated => Type::ContainerUpdated,
        EventType::ContainerFailed => Type::ContainerFailed,
        EventType::ContainerDeleted => Type::ContainerDeleted,
        EventType::ContainerOom => Type::ContainerOom,
        EventType::ExecCreated => Type::ExecCreated,
        EventType::ExecStarted => Type::ExecStarted,
        EventType::ExecStartFailed => Type::ExecStartFailed,
        EventType::ExecExited => Type::ExecExited,
        EventType::ImagePulled => Type::ImagePulled,
        EventType::ImagePullFailed => Type::ImagePullFailed,
        EventType::ImageImported => Type::ImageImported,
        EventType::ImageTagged => Type::ImageTagged,
        EventType::ImageUntagged => Type::ImageUntagged,
        EventType::ImageDeleted => Type::ImageDeleted,
        EventType::SystemStarted => Type::SystemStarted,
        EventType::SystemDraining => Type::SystemDraining,
        EventType::BackendDisconnected => Type::BackendDisconnected,
        EventType::BackendConnected => Type::BackendConnected,
    }
}

/// A gap in a watch.
pub(in crate::transport) fn gap(reason: GapReason, missed: u64) -> v1::WatchGap {
    let reason = match reason {
        GapReason::Expired => watch_gap::Reason::Expired,
        GapReason::EpochChanged => watch_gap::Reason::EpochChanged,
    };
    v1::WatchGap {
        reason: reason.into(),
        missed,
    }
}
