//! The requests of `ContainerService`. Each parser leaves `container`, the field that says which one
//! is meant, to [`key`].

use wharf_api::v1;
use wharf_api::v1::ContainerView;
use wharf_api::v1::wait_container_request;

use super::{Field, filter, image, labels, name, reason, spec, stdio};
use crate::backend::SignalScope;
use crate::engine::query::ContainerFilter;
use crate::engine::wait::Condition;
use crate::engine::{Attach, CreateContainer, DeleteContainer, Follow, StopContainer};
use crate::model::{Run, Signal, State, TerminalSize};
use crate::transport::Violations;

/// A request about one container.
pub(crate) trait Targeted {
    /// Its id or name.
    fn container(&self) -> &str;

    /// The path of the field that says so.
    fn field(&self) -> &'static str {
        "container"
    }
}

macro_rules! targeted {
    ($($request:ident $(in $field:literal)?),* $(,)?) => {$(
        impl Targeted for v1::$request {
            fn container(&self) -> &str {
                &self.container
            }

            $(fn field(&self) -> &'static str {
                $field
            })?
        }
    )*};
}

targeted!(
    GetContainerRequest,
    UpdateContainerRequest,
    DeleteContainerRequest,
    StartContainerRequest,
    StopContainerRequest,
    RestartContainerRequest,
    SignalContainerRequest,
    PauseContainerRequest,
    ResumeContainerRequest,
    WaitContainerRequest,
    ListContainerProcessesRequest,
    FollowContainerRequest,
    ResizeContainerRequest,
    StatPathRequest,
    ReadArchiveRequest,
    ReadFileRequest,
    WriteArchiveStart in "start.container",
    WriteFileStart in "start.container",
);

/// Checks which container is meant; false if that cannot be said.
pub(crate) fn key(request: &impl Targeted, out: &mut Violations) -> bool {
    name::container(request.container(), &Field::new(request.field()), out)
}

pub(crate) fn create(
    request: v1::CreateContainerRequest,
    out: &mut Violations,
) -> Option<CreateContainer> {
    name::idempotency_key(&request.idempotency_key, out);
    let spec_field = Field::new("spec");
    let name = name::new_container(request.name, &Field::new("name"), out);
    let labels = labels::labels(request.labels, &Field::new("labels"), out);
    let (platform, pull) = image::pull(request.pull, &Field::new("pull"), out);
    let Some(message) = request.spec else {
        spec_field.missing(out);
        return None;
    };
    Some(CreateContainer {
        name,
        spec: spec::spec(message, &spec_field, out),
        labels,
        platform,
        pull,
        start: request.start,
    })
}

pub(crate) fn get(request: v1::GetContainerRequest, out: &mut Violations) -> ContainerView {
    filter::view(request.view, ContainerView::Full, &Field::new("view"), out)
}

pub(crate) fn list(
    request: v1::ListContainersRequest,
    out: &mut Violations,
) -> (ContainerFilter, ContainerView) {
    (
        filter::containers(request.filter, &Field::new("filter"), out),
        filter::view(request.view, ContainerView::Basic, &Field::new("view"), out),
    )
}

pub(crate) fn delete(request: v1::DeleteContainerRequest, out: &mut Violations) -> DeleteContainer {
    let field = Field::new("grace_period");
    let grace_period = spec::grace_period(request.grace_period, &field, out).unwrap_or_default();
    if !request.force && !grace_period.is_zero() {
        field.reject(reason::CONFLICT, "needs force", out);
    }
    DeleteContainer {
        force: request.force,
        grace_period,
        etag: name::etag(request.etag, &Field::new("etag"), out),
    }
}

pub(crate) fn start(request: v1::StartContainerRequest, out: &mut Violations) -> Option<Run> {
    name::idempotency_key(&request.idempotency_key, out);
    request.expected_run.map(Run)
}

pub(crate) fn stop(request: v1::StopContainerRequest, out: &mut Violations) -> StopContainer {
    StopContainer {
        signal: name::signal(&request.signal, &Field::new("signal"), out),
        grace_period: spec::grace_period(request.grace_period, &Field::new("grace_period"), out),
        expected_run: request.expected_run.map(Run),
    }
}

pub(crate) fn restart(request: v1::RestartContainerRequest, out: &mut Violations) -> StopContainer {
    name::idempotency_key(&request.idempotency_key, out);
    StopContainer {
        signal: None,
        grace_period: spec::grace_period(request.grace_period, &Field::new("grace_period"), out),
        expected_run: request.expected_run.map(Run),
    }
}

/// What to send to which processes of which run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendSignal {
    pub(crate) signal: Signal,
    pub(crate) scope: SignalScope,
    pub(crate) expected_run: Option<Run>,
}

pub(crate) fn signal(
    request: v1::SignalContainerRequest,
    out: &mut Violations,
) -> Option<SendSignal> {
    name::idempotency_key(&request.idempotency_key, out);
    Some(SendSignal {
        signal: stdio::required_signal(&request.signal, &Field::new("signal"), out)?,
        scope: if request.all {
            SignalScope::All
        } else {
            SignalScope::Main
        },
        expected_run: request.expected_run.map(Run),
    })
}

pub(crate) fn wait(
    request: v1::WaitContainerRequest,
    out: &mut Violations,
) -> (Vec<Condition>, Run) {
    let field = Field::new("conditions");
    let mut conditions = Vec::new();
    for (n, number) in request.conditions.into_iter().enumerate() {
        let Some(condition) = field.at(n).enumeration(number, out).map(condition) else {
            // One is enough to refuse the request, and the list can be long.
            break;
        };
        if !conditions.contains(&condition) {
            conditions.push(condition);
        }
    }
    if conditions.is_empty() {
        conditions.push(Condition::Exited);
    }
    (conditions, Run(request.run))
}

fn condition(condition: wait_container_request::Condition) -> Condition {
    use wait_container_request::Condition as Asked;
    match condition {
        Asked::Unspecified | Asked::Exited => Condition::Exited,
        Asked::Running => Condition::Running,
        Asked::Deleted => Condition::Deleted,
        Asked::Healthy => Condition::Healthy,
        Asked::Unhealthy => Condition::Unhealthy,
    }
}

/// A container to be made, and how its caller joins its main process.
#[derive(Debug)]
pub(crate) struct RunContainer {
    pub(crate) create: CreateContainer,
    pub(crate) attach: Attach,
}

pub(crate) fn run(start: v1::RunContainerStart, out: &mut Violations) -> Option<RunContainer> {
    let field = Field::new("start");
    name::idempotency_key_of(&start.idempotency_key, &field.child("idempotency_key"), out);
    let name = name::new_container(start.name, &field.child("name"), out);
    let labels = labels::labels(start.labels, &field.child("labels"), out);
    let (platform, pull) = image::pull(start.pull, &field.child("pull"), out);
    let options = field.child("attach");
    let attach = stdio::attach_to_new(start.attach, stdio::RUN_CONTAINER, &options, out);
    let spec_field = field.child("spec");
    let Some(message) = start.spec else {
        spec_field.missing(out);
        return None;
    };
    let create = CreateContainer {
        name,
        spec: spec::spec(message, &spec_field, out),
        labels,
        platform,
        pull,
        start: true,
    };
    Some(RunContainer { create, attach })
}

pub(crate) fn attach(start: v1::AttachContainerStart, out: &mut Violations) -> Attach {
    stdio::attach(start.options, &Field::new("start").child("options"), out)
}

pub(crate) fn follow(request: v1::FollowContainerRequest, out: &mut Violations) -> Follow {
    let wanted = stdio::Wanted {
        streams: request.streams,
        replay_bytes: request.replay_bytes,
        resume: request.resume,
    };
    wanted.read(None, out)
}

pub(crate) fn resize(
    request: v1::ResizeContainerRequest,
    out: &mut Violations,
) -> Option<TerminalSize> {
    stdio::new_size(request.size, &Field::new("size"), out)
}

pub(crate) fn prune(request: v1::PruneContainersRequest, out: &mut Violations) -> ContainerFilter {
    let field = Field::new("filter");
    let filter = filter::containers(request.filter, &field, out);
    let over = |state: &State| matches!(state, State::Exited | State::Failed);
    if !filter.states.iter().all(over) {
        field.child("states").reject(
            reason::CONFLICT,
            "only EXITED and FAILED containers are pruned",
            out,
        );
    }
    filter
}
