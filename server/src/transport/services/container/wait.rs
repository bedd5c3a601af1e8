//! The messages of a wait.

use std::future::ready;

use futures_util::{StreamExt, stream};
use wharf_api::v1;
use wharf_api::v1::container::State;
use wharf_api::v1::wait_container_response::Response;

use super::Answers;
use crate::engine::wait::Wait;
use crate::transport::{CallError, render};

/// `registered` at once, then the one result.
pub(super) fn messages(wait: Wait) -> Answers<v1::WaitContainerResponse> {
    let state = wait
        .state
        .map_or(State::Unspecified, render::container::state);
    let registered = Response::Registered(v1::WaitRegistered {
        state: state.into(),
        run: wait.run.0,
    });
    let result = async move {
        let result = wait.result().await.map_err(CallError::from)?;
        Ok(message(Response::Result(render::container::wait_result(
            &result,
        ))))
    };
    Box::pin(stream::once(ready(Ok(message(registered)))).chain(stream::once(result)))
}

fn message(response: Response) -> v1::WaitContainerResponse {
    v1::WaitContainerResponse {
        response: Some(response),
    }
}
