//! `ContainerService`.

mod list;
mod prune;
mod streams;
mod wait;

use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};
use wharf_api::v1;
use wharf_api::v1::ContainerView;
use wharf_api::v1::container_service_server::ContainerService;

use super::{Answers, PruneMode, complete, keyed, parsed, parsed_of};
use crate::engine::{self, Engine};
use crate::model::{Container, Run};
use crate::transport::parse::container::Targeted;
use crate::transport::parse::idempotency;
use crate::transport::{CallError, RequestContext, Violations, parse, render};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Containers {
    engine: Engine,
}

impl Containers {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Parses a request about one container.
    fn parsed<R: Targeted, T>(
        &self,
        request: R,
        parse: impl FnOnce(R, &mut Violations) -> T,
    ) -> Result<T, CallError> {
        parsed_of(&self.engine, request, parse)
    }

    fn show(&self, container: &Container, view: ContainerView) -> v1::Container {
        show(&self.engine, container, view)
    }

    fn warnings(&self, container: &Container) -> Vec<v1::Warning> {
        let remarks = self.engine.remarks(container).into_iter();
        remarks.map(render::container::warning).collect()
    }

    fn show_full(&self, container: Arc<Container>) -> Option<v1::Container> {
        Some(self.show(&container, ContainerView::Full))
    }
}

/// As much of a container as `view` says, with the resume point of its last change.
pub(super) fn show(engine: &Engine, container: &Container, view: ContainerView) -> v1::Container {
    let cursor = engine.journal().cursor(container.last_event);
    render::container::container(container, view, cursor)
}

#[tonic::async_trait]
impl ContainerService for Containers {
    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Result<Response<v1::CreateContainerResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let call = idempotency::call(&context, &request);
        let validate_only = request.validate_only;
        let create = complete(parsed(&self.engine, |out| {
            parse::container::create(request, out)
        })?)?;
        let name = create.name.clone().unwrap_or_default();
        let answer = |container, warnings| v1::CreateContainerResponse {
            container,
            warnings,
        };
        if validate_only {
            let container = self.engine.validate(create).map_err(CallError::of(&name))?;
            let warnings = self.warnings(&container);
            let container = Some(render::container::validated(&container));
            return Ok(Response::new(answer(container, warnings)));
        }
        let created = self
            .engine
            .create(call, create)
            .await
            .map_err(CallError::of(&name))?;
        Ok(keyed(created, |container| {
            let warnings = self.warnings(&container);
            answer(self.show_full(container), warnings)
        }))
    }

    async fn get_container(
        &self,
        request: Request<v1::GetContainerRequest>,
    ) -> Result<Response<v1::GetContainerResponse>, Status> {
        let request = request.into_inner();
        let key = request.container.clone();
        let view = self.parsed(request, parse::container::get)?;
        let container = self.engine.get(&key).map_err(CallError::from)?;
        Ok(Response::new(v1::GetContainerResponse {
            container: Some(self.show(&container, view)),
        }))
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Result<Response<v1::ListContainersResponse>, Status> {
        Ok(Response::new(list::containers(
            &self.engine,
            request.into_inner(),
        )?))
    }

    async fn update_container(
        &self,
        request: Request<v1::UpdateContainerRequest>,
    ) -> Result<Response<v1::UpdateContainerResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let key = request.container.clone();
        let update = self.parsed(request, parse::update::update)?;
        let container = self
            .engine
            .update(context.cause(), &key, update)
            .await
            .map_err(CallError::of(&key))?;
        Ok(Response::new(v1::UpdateContainerResponse {
            container: self.show_full(container),
        }))
    }

    async fn delete_container(
        &self,
        request: Request<v1::DeleteContainerRequest>,
    ) -> Result<Response<v1::DeleteContainerResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let key = request.container.clone();
        let allow_missing = request.allow_missing;
        let delete = self.parsed(request, parse::container::delete)?;
        let changed = match self.engine.delete(context.cause(), &key, delete).await {
            Ok(()) => true,
            Err(engine::Error::ContainerNotFound { .. }) if allow_missing => false,
            Err(error) => return Err(CallError::of(&key)(error).into()),
        };
        Ok(Response::new(v1::DeleteContainerResponse { changed }))
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Result<Response<v1::StartContainerResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let call = idempotency::call(&context, &request);
        let key = request.container.clone();
        let expected_run = self.parsed(request, parse::container::start)?;
        let started = self
            .engine
            .start(call, &key, expected_run)
            .await
            .map_err(CallError::of(&key))?;
        Ok(keyed(started, |started| v1::StartContainerResponse {
            changed: started.changed,
            container: self.show_full(started.container),
        }))
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Result<Response<v1::StopContainerResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let key = request.container.clone();
        let stop = self.parsed(request, parse::container::stop)?;
        let stopped = self
            .engine
            .stop(context.cause(), &key, stop)
            .await
            .map_err(CallError::of(&key))?;
        Ok(Response::new(render::container::stopped(&stopped)))
    }

    async fn restart_container(
        &self,
        request: Request<v1::RestartContainerRequest>,
    ) -> Result<Response<v1::RestartContainerResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let call = idempotency::call(&context, &request);
        let key = request.container.clone();
        let stop = self.parsed(request, parse::container::restart)?;
        let restarted = self
            .engine
            .restart(call, &key, stop)
            .await
            .map_err(CallError::of(&key))?;
        Ok(keyed(restarted, |container| v1::RestartContainerResponse {
            container: self.show_full(container),
        }))
    }

    async fn signal_container(
        &self,
        request: Request<v1::SignalContainerRequest>,
    ) -> Result<Response<v1::SignalContainerResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let call = idempotency::call(&context, &request);
        let key = request.container.clone();
        let send = complete(self.parsed(request, parse::container::signal)?)?;
        let sent = self
            .engine
            .signal(call, &key, send.signal, send.scope, send.expected_run)
            .await
            .map_err(CallError::of(&key))?;
        Ok(keyed(sent, |()| v1::SignalContainerResponse {}))
    }

    async fn pause_container(
        &self,
        request: Request<v1::PauseContainerRequest>,
    ) -> Result<Response<v1::PauseContainerResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let key = request.container.clone();
        let run = self.parsed(request, |request, _| request.expected_run.map(Run))?;
        let changed = self
            .engine
            .pause(context.cause(), &key, run)
            .await
            .map_err(CallError::of(&key))?;
        Ok(Response::new(v1::PauseContainerResponse { changed }))
    }

    async fn resume_container(
        &self,
        request: Request<v1::ResumeContainerRequest>,
    ) -> Result<Response<v1::ResumeContainerResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let key = request.container.clone();
        let run = self.parsed(request, |request, _| request.expected_run.map(Run))?;
        let changed = self
            .engine
            .resume(context.cause(), &key, run)
            .await
            .map_err(CallError::of(&key))?;
        Ok(Response::new(v1::ResumeContainerResponse { changed }))
    }

    type WaitContainerStream = Answers<v1::WaitContainerResponse>;

    async fn wait_container(
        &self,
        request: Request<v1::WaitContainerRequest>,
    ) -> Result<Response<Self::WaitContainerStream>, Status> {
        let request = request.into_inner();
        let key = request.container.clone();
        // A container that is deleted can still be waited for, so its absence is no reason to refuse.
        let (conditions, run) = parsed(&self.engine, |out| {
            parse::container::key(&request, out);
            parse::container::wait(request, out)
        })?;
        let wait = self
            .engine
            .wait(&key, conditions, run)
            .await
            .map_err(CallError::from)?;
        Ok(Response::new(wait::messages(wait)))
    }

    async fn list_container_processes(
        &self,
        request: Request<v1::ListContainerProcessesRequest>,
    ) -> Result<Response<v1::ListContainerProcessesResponse>, Status> {
        let request = request.into_inner();
        let page = self.parsed(request.clone(), |request, out| list::page(&request, out))??;
        let processes = self
            .engine
            .processes(&request.container)
            .await
            .map_err(CallError::of(&request.container))?;
        Ok(Response::new(list::processes(processes, &page)))
    }

    type PruneContainersStream = Answers<v1::PruneContainersResponse>;

    async fn prune_containers(
        &self,
        request: Request<v1::PruneContainersRequest>,
    ) -> Result<Response<Self::PruneContainersStream>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let mode = PruneMode::of(request.dry_run);
        let filter = parsed(&self.engine, |out| parse::container::prune(request, out))?;
        let prune = prune::Prune {
            engine: self.engine.clone(),
            cause: context.cause(),
            mode,
        };
        Ok(Response::new(prune.run(&filter)))
    }

    type AttachContainerStream = Answers<v1::AttachContainerResponse>;

    async fn attach_container(
        &self,
        request: Request<Streaming<v1::AttachContainerRequest>>,
    ) -> Result<Response<Self::AttachContainerStream>, Status> {
        let context = RequestContext::of(&request)?;
        let answers = self.attach(&context, request.into_inner()).await?;
        Ok(Response::new(answers))
    }

    type FollowContainerStream = Answers<v1::FollowContainerResponse>;

    async fn follow_container(
        &self,
        request: Request<v1::FollowContainerRequest>,
    ) -> Result<Response<Self::FollowContainerStream>, Status> {
        Ok(Response::new(self.follow(request.into_inner()).await?))
    }

    async fn resize_container(
        &self,
        request: Request<v1::ResizeContainerRequest>,
    ) -> Result<Response<v1::ResizeContainerResponse>, Status> {
        let request = request.into_inner();
        let key = request.container.clone();
        let size = complete(self.parsed(request, parse::container::resize)?)?;
        self.engine
            .resize_container(&key, size, None)
            .await
            .map_err(CallError::of(&key))?;
        Ok(Response::new(v1::ResizeContainerResponse {}))
    }

    type RunContainerStream = Answers<v1::RunContainerResponse>;

    async fn run_container(
        &self,
        request: Request<Streaming<v1::RunContainerRequest>>,
    ) -> Result<Response<Self::RunContainerStream>, Status> {
        let context = RequestContext::of(&request)?;
        let answers = self.run(&context, request.into_inner()).await?;
        Ok(Response::new(answers))
    }
}
