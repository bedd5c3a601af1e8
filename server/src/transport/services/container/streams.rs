//! Running containers with their streams, and joining those of main processes.

use std::future::ready;

use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt, stream};
use tonic::Status;
use wharf_api::v1;
use wharf_api::v1::ContainerView;
use wharf_api::v1::run_container_response::Response;

use super::{Answers, Containers};
use crate::engine::{Call, News, PullFirst, PullNews, Pulling};
use crate::model::{Container, Run};
use crate::transport::parse::container::RunContainer;
use crate::transport::parse::{Field, idempotency};
use crate::transport::services::{About, complete, parsed, parsed_about, stdio};
use crate::transport::{CallError, RequestContext, parse, render};

/// Where a run with a pull stands.
enum Step {
    /// What comes after the pull does nothing before.
    Pulling(
        Pulling,
        BoxFuture<'static, Result<Answers<v1::RunContainerResponse>, CallError>>,
    ),
    Running(Answers<v1::RunContainerResponse>),
    Over,
}

impl Step {
    /// The next message, and what comes after it.
    async fn next(mut self) -> Option<(Result<v1::RunContainerResponse, Status>, Self)> {
        loop {
            match self {
                Self::Pulling(mut pulling, then) => match pulling.next().await {
                    Some(Ok(PullNews::Resolved(_))) => self = Self::Pulling(pulling, then),
                    Some(Ok(PullNews::Further(News::Progress(progress)))) => {
                        let progress = render::image::progress(&progress);
                        let message = v1::RunContainerResponse {
                            response: Some(Response::Progress(progress)),
                        };
                        return Some((Ok(message), Self::Pulling(pulling, then)));
                    }
                    Some(Err(error)) => {
                        return Some((Err(CallError::from(error).into()), Self::Over));
                    }
                    Some(Ok(PullNews::Further(News::Done(_)))) | None => {
                        self = match then.await {
                            Ok(running) => Self::Running(running),
                            Err(error) => return Some((Err(error.into()), Self::Over)),
                        }
                    }
                },
                Self::Running(mut running) => {
                    let message = running.next().await?;
                    return Some((message, Self::Running(running)));
                }
                Self::Over => return None,
            }
        }
    }
}

impl Containers {
    /// Creates, joins and starts one, after pulling its image if that is asked for.
    pub(super) async fn run(
        &self,
        context: &RequestContext,
        mut messages: impl Stream<Item = Result<v1::RunContainerRequest, Status>>
        + Send
        + Unpin
        + 'static,
    ) -> Result<Answers<v1::RunContainerResponse>, CallError> {
        let start = *stdio::start(&mut messages).await?;
        let call = idempotency::call(context, &start);
        let mut run = complete(parsed(&self.engine, |out| {
            parse::container::run(start, out)
        })?)?;
        let pulling = self.engine.pull_before_run(&call, &run.create)?;
        let Some(pulling) = pulling else {
            return self.create_and_join(call, run, messages).await;
        };
        run.create.pull = PullFirst::default();
        let containers = self.clone();
        let then = async move { containers.create_and_join(call, run, messages).await };
        let first = Step::Pulling(pulling, Box::pin(then));
        Ok(Box::pin(stream::unfold(first, Step::next)))
    }

    async fn create_and_join(
        &self,
        call: Call,
        run: RunContainer,
        messages: impl Stream<Item = Result<v1::RunContainerRequest, Status>> + Send + Unpin + 'static,
    ) -> Result<Answers<v1::RunContainerResponse>, CallError> {
        let name = run.create.name.clone().unwrap_or_default();
        let (container, session) = self
            .engine
            .run_container(call, run.create, run.attach)
            .await
            .map_err(CallError::of(&name))?;
        let created = stream::once(ready(Ok(self.created(&container))));
        Ok(Box::pin(created.chain(stdio::join(session, messages))))
    }

    fn created(&self, container: &Container) -> v1::RunContainerResponse {
        let created = v1::ContainerCreated {
            container: Some(self.show(container, ContainerView::Full)),
            warnings: self.warnings(container),
        };
        v1::RunContainerResponse {
            response: Some(Response::Created(Box::new(created))),
        }
    }

    /// Joins the main process of one, or the next one.
    pub(super) async fn attach(
        &self,
        context: &RequestContext,
        mut messages: impl Stream<Item = Result<v1::AttachContainerRequest, Status>>
        + Send
        + Unpin
        + 'static,
    ) -> Result<Answers<v1::AttachContainerResponse>, CallError> {
        let start = stdio::start(&mut messages).await?;
        let (key, run) = (start.container.clone(), start.expected_run.map(Run));
        let attach = parsed_about(
            &self.engine,
            About::Container(&key),
            &Field::new("start").child("container"),
            |out| parse::container::attach(start, out),
        )?;
        let session = self
            .engine
            .attach_container(context.cause(), &key, run, attach)
            .await
            .map_err(CallError::of(&key))?;
        Ok(stdio::join(session, messages))
    }

    /// Reads the output of the main process of one, or of the next one.
    pub(super) async fn follow(
        &self,
        request: v1::FollowContainerRequest,
    ) -> Result<Answers<v1::FollowContainerResponse>, CallError> {
        let (key, run) = (request.container.clone(), request.expected_run.map(Run));
        let follow = self.parsed(request, parse::container::follow)?;
        let session = self
            .engine
            .follow_container(&key, run, follow)
            .await
            .map_err(CallError::of(&key))?;
        Ok(stdio::follow(session))
    }
}
