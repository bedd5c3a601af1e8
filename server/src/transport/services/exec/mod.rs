//! `ExecService`.

mod list;
mod streams;

use futures_util::{StreamExt, stream};
use std::future::ready;
use tonic::{Request, Response, Status, Streaming};
use wharf_api::v1;
use wharf_api::v1::exec_service_server::ExecService;
use wharf_api::v1::write_stdin_request::Target as Asked;

use super::{About, Answers, complete, keyed, parsed, parsed_about};
use crate::engine::exec::ExecWait;
use crate::engine::{self, Engine, Target};
use crate::model::{ExecId, Run};
use crate::transport::parse::{Field, idempotency};
use crate::transport::{CallError, RequestContext, Violations, parse, render};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Execs {
    engine: Engine,
}

impl Execs {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// Parses a request that names a running container to put an exec in.
    fn parsed_in<T>(
        &self,
        container: &str,
        parse: impl FnOnce(&mut Violations) -> T,
    ) -> Result<T, CallError> {
        let field = Field::new("container");
        parsed_about(&self.engine, About::Container(container), &field, parse)
    }

    /// Parses a request about one exec.
    fn parsed<T>(
        &self,
        exec: &str,
        parse: impl FnOnce(&mut Violations) -> T,
    ) -> Result<(ExecId, T), CallError> {
        let field = Field::new("exec_id");
        let read = parsed_about(&self.engine, About::Exec(exec), &field, parse)?;
        Ok((id(exec)?, read))
    }

    /// What the engine said about an exec, with the container that its error may not name.
    fn error(&self, id: ExecId) -> impl FnOnce(engine::Error) -> CallError {
        let exec = self.engine.exec(id).ok();
        move |error| match exec {
            Some(exec) => CallError::of(&exec.container.to_string())(error),
            None => error.into(),
        }
    }
}

/// Which exec is meant. What is no id names none.
pub(super) fn id(text: &str) -> Result<ExecId, engine::Error> {
    text.parse().map_err(|_| engine::Error::ExecNotFound {
        exec: text.to_owned(),
    })
}

#[tonic::async_trait]
impl ExecService for Execs {
    async fn create_exec(
        &self,
        request: Request<v1::CreateExecRequest>,
    ) -> Result<Response<v1::CreateExecResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let call = idempotency::call(&context, &request);
        let container = request.container.clone();
        let create =
            complete(self.parsed_in(&container, |out| parse::exec::create(request, out))?)?;
        let created = self
            .engine
            .create_exec(call, &container, create)
            .await
            .map_err(CallError::of(&container))?;
        Ok(keyed(created, |exec| v1::CreateExecResponse {
            exec: Some(render::exec::exec(&exec)),
        }))
    }

    async fn start_exec(
        &self,
        request: Request<v1::StartExecRequest>,
    ) -> Result<Response<v1::StartExecResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let (id, ()) = self.parsed(&request.into_inner().exec_id, |_| ())?;
        let started = self
            .engine
            .start_exec(context.cause(), id)
            .await
            .map_err(|error| self.error(id)(error))?;
        Ok(Response::new(v1::StartExecResponse {
            changed: started.changed,
            exec: Some(render::exec::exec(&started.exec)),
        }))
    }

    type RunExecStream = Answers<v1::RunExecResponse>;

    async fn run_exec(
        &self,
        request: Request<Streaming<v1::RunExecRequest>>,
    ) -> Result<Response<Self::RunExecStream>, Status> {
        let context = RequestContext::of(&request)?;
        Ok(Response::new(
            self.run(&context, request.into_inner()).await?,
        ))
    }

    type AttachExecStream = Answers<v1::AttachExecResponse>;

    async fn attach_exec(
        &self,
        request: Request<Streaming<v1::AttachExecRequest>>,
    ) -> Result<Response<Self::AttachExecStream>, Status> {
        let context = RequestContext::of(&request)?;
        Ok(Response::new(
            self.attach(&context, request.into_inner()).await?,
        ))
    }

    type FollowExecStream = Answers<v1::FollowExecResponse>;

    async fn follow_exec(
        &self,
        request: Request<v1::FollowExecRequest>,
    ) -> Result<Response<Self::FollowExecStream>, Status> {
        Ok(Response::new(self.follow(request.into_inner()).await?))
    }

    async fn write_stdin(
        &self,
        request: Request<v1::WriteStdinRequest>,
    ) -> Result<Response<v1::WriteStdinResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let call = idempotency::call(&context, &request);
        let target = self.target(&request)?;
        let written = self
            .engine
            .write_stdin(call, target, request.data, request.close)
            .await
            .map_err(CallError::from)?;
        Ok(keyed(written, |()| v1::WriteStdinResponse {}))
    }

    async fn exec_sync(
        &self,
        request: Request<v1::ExecSyncRequest>,
    ) -> Result<Response<v1::ExecSyncResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let call = idempotency::call(&context, &request);
        let container = request.container.clone();
        let exec = complete(self.parsed_in(&container, |out| parse::exec::sync(request, out))?)?;
        let ended = self
            .engine
            .exec_sync(call, &container, exec)
            .await
            .map_err(CallError::of(&container))?;
        Ok(keyed(ended, render::exec::output))
    }

    async fn get_exec(
        &self,
        request: Request<v1::GetExecRequest>,
    ) -> Result<Response<v1::GetExecResponse>, Status> {
        let (id, ()) = self.parsed(&request.into_inner().exec_id, |_| ())?;
        let exec = self.engine.exec(id).map_err(CallError::from)?;
        Ok(Response::new(v1::GetExecResponse {
            exec: Some(render::exec::exec(&exec)),
        }))
    }

    async fn list_execs(
        &self,
        request: Request<v1::ListExecsRequest>,
    ) -> Result<Response<v1::ListExecsResponse>, Status> {
        let page = list::execs(&self.engine, &request.into_inner())?;
        Ok(Response::new(page))
    }

    async fn signal_exec(
        &self,
        request: Request<v1::SignalExecRequest>,
    ) -> Result<Response<v1::SignalExecResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let call = idempotency::call(&context, &request);
        let exec = request.exec_id.clone();
        let (id, signal) = self.parsed(&exec, |out| parse::exec::signal(request, out))?;
        let sent = self
            .engine
            .signal_exec(call, id, complete(signal)?)
            .await
            .map_err(|error| self.error(id)(error))?;
        Ok(keyed(sent, |()| v1::SignalExecResponse {}))
    }

    async fn resize_exec(
        &self,
        request: Request<v1::ResizeExecRequest>,
    ) -> Result<Response<v1::ResizeExecResponse>, Status> {
        let request = request.into_inner();
        let exec = request.exec_id.clone();
        let (id, size) = self.parsed(&exec, |out| parse::exec::resize(request, out))?;
        self.engine
            .resize_exec(id, complete(size)?)
            .await
            .map_err(|error| self.error(id)(error))?;
        Ok(Response::new(v1::ResizeExecResponse {}))
    }

    type WaitExecStream = Answers<v1::WaitExecResponse>;

    async fn wait_exec(
        &self,
        request: Request<v1::WaitExecRequest>,
    ) -> Result<Response<Self::WaitExecStream>, Status> {
        let (id, ()) = self.parsed(&request.into_inner().exec_id, |_| ())?;
        let wait = self.engine.wait_exec(id).map_err(CallError::from)?;
        Ok(Response::new(wait_messages(wait)))
    }

    async fn delete_exec(
        &self,
        request: Request<v1::DeleteExecRequest>,
    ) -> Result<Response<v1::DeleteExecResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let changed = match self.delete(&context, &request).await {
            Ok(()) => true,
            Err(CallError::Engine(engine::Error::ExecNotFound { .. })) if request.allow_missing => {
                false
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Response::new(v1::DeleteExecResponse { changed }))
    }
}

impl Execs {
    async fn delete(
        &self,
        context: &RequestContext,
        request: &v1::DeleteExecRequest,
    ) -> Result<(), CallError> {
        let (id, ()) = self.parsed(&request.exec_id, |_| ())?;
        let deleted = self
            .engine
            .delete_exec(context.cause(), id, request.force)
            .await;
        deleted.map_err(|error| match error {
            error @ engine::Error::ExecNotFound { .. } => error.into(),
            error => self.error(id)(error),
        })
    }

    /// Whose stdin is meant.
    fn target(&self, request: &v1::WriteStdinRequest) -> Result<Target, CallError> {
        let parse = |out: &mut Violations| parse::exec::write_stdin(request, out);
        match &request.target {
            Some(Asked::Container(key)) => {
                self.parsed_in(key, parse)?;
                Ok(Target::Container {
                    key: key.clone(),
                    expected_run: request.expected_run.map(Run),
                })
            }
            Some(Asked::ExecId(exec)) => Ok(Target::Exec(self.parsed(exec, parse)?.0)),
            None => {
                parsed(&self.engine, parse)?;
                complete(None)
            }
        }
    }
}

/// `registered` at once, then the exit status.
fn wait_messages(wait: ExecWait) -> Answers<v1::WaitExecResponse> {
    use v1::wait_exec_response::Response;
    let message = |response| v1::WaitExecResponse {
        response: Some(response),
    };
    let registered = message(Response::Registered(render::exec::exec(&wait.registered)));
    let exited = async move {
        let exit = wait.result().await.map_err(CallError::from)?;
        Ok(message(Response::Exited(render::status::exit_status(
            &exit,
        ))))
    };
    Box::pin(stream::once(ready(Ok(registered))).chain(stream::once(exited)))
}
