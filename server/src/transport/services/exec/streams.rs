//! Running execs with their streams, and joining them.

use futures_util::Stream;
use tonic::Status;
use wharf_api::v1;

use super::Execs;
use crate::transport::parse::{Field, idempotency};
use crate::transport::services::{About, Answers, complete, parsed_about, stdio};
use crate::transport::{CallError, RequestContext, parse};

impl Execs {
    /// Creates, joins and starts one.
    pub(super) async fn run(
        &self,
        context: &RequestContext,
        mut messages: impl Stream<Item = Result<v1::RunExecRequest, Status>> + Send + Unpin + 'static,
    ) -> Result<Answers<v1::RunExecResponse>, CallError> {
        let start = *stdio::start(&mut messages).await?;
        let call = idempotency::call(context, &start);
        let container = start.container.clone();
        let run = complete(parsed_about(
            &self.engine,
            About::Container(&container),
            &Field::new("start").child("container"),
            |out| parse::exec::run(start, out),
        )?)?;
        let session = self
            .engine
            .run_exec(call, &container, run.create, run.attach)
            .await
            .map_err(CallError::of(&container))?;
        Ok(stdio::join(session, messages))
    }

    /// Joins one, and starts it if nobody has.
    pub(super) async fn attach(
        &self,
        context: &RequestContext,
        mut messages: impl Stream<Item = Result<v1::AttachExecRequest, Status>> + Send + Unpin + 'static,
    ) -> Result<Answers<v1::AttachExecResponse>, CallError> {
        let start = stdio::start(&mut messages).await?;
        let exec = start.exec_id.clone();
        let attach = parsed_about(
            &self.engine,
            About::Exec(&exec),
            &Field::new("start").child("exec_id"),
            |out| parse::exec::attach(start, out),
        )?;
        let id = super::id(&exec)?;
        let session = self
            .engine
            .attach_exec(context.cause(), id, attach)
            .await
            .map_err(|error| self.error(id)(error))?;
        Ok(stdio::join(session, messages))
    }

    /// Reads the output of one.
    pub(super) async fn follow(
        &self,
        request: v1::FollowExecRequest,
    ) -> Result<Answers<v1::FollowExecResponse>, CallError> {
        let exec = request.exec_id.clone();
        let (id, follow) = self.parsed(&exec, |out| parse::exec::follow(request, out))?;
        let session = self
            .engine
            .follow_exec(id, follow)
            .await
            .map_err(|error| self.error(id)(error))?;
        Ok(stdio::follow(session))
    }
}
