//! What a session is answered: six kinds of messages as one.

use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use tonic::{Response, Status, Streaming};
use wharf_api::v1::{
    AttachContainerResponse, AttachExecResponse, Attached, ContainerCreated,
    FollowContainerResponse, FollowExecResponse, ProcessOutput, RunContainerResponse,
    RunExecResponse, TransferProgress, attach_container_response, attach_exec_response,
    follow_container_response, follow_exec_response, run_container_response, run_exec_response,
};

use super::line::Line;
use crate::connection::Cut;

/// One message of any of the answers.
pub(crate) enum Reply {
    Progress(TransferProgress),
    Created(Box<ContainerCreated>),
    Attached(Attached),
    Output(ProcessOutput),
    /// A kind of message that is newer than this client.
    Unknown,
}

/// The answering half of an open stream.
pub(crate) struct Replies {
    pub(crate) stream: BoxStream<'static, Result<Reply, Status>>,
    /// Cuts the connection, if that is the stream's own.
    _cut: Option<Cut>,
}

/// An open stream.
pub(crate) struct Opened {
    pub(crate) replies: Replies,
    /// `None` if nothing can be sent.
    pub(crate) line: Option<Line>,
}

impl Opened {
    pub(crate) fn new<T>(
        answer: Response<Streaming<T>>,
        line: Option<Line>,
        cut: Option<Cut>,
    ) -> Self
    where
        T: Into<Reply> + Send + 'static,
    {
        let replies = Replies {
            stream: answer.into_inner().map_ok(Into::into).boxed(),
            _cut: cut,
        };
        Self { replies, line }
    }
}

/// What most of the answers have in common.
macro_rules! replies {
    ($($message:ident, $module:ident;)*) => {$(
        impl From<$message> for Reply {
            fn from(message: $message) -> Self {
                match message.response {
                    Some($module::Response::Attached(attached)) => Self::Attached(attached),
                    Some($module::Response::Output(output)) => Self::Output(output),
                    None => Self::Unknown,
                }
            }
        }
    )*};
}

replies! {
    RunExecResponse, run_exec_response;
    AttachExecResponse, attach_exec_response;
    FollowExecResponse, follow_exec_response;
    AttachContainerResponse, attach_container_response;
    FollowContainerResponse, follow_container_response;
}

impl From<RunContainerResponse> for Reply {
    fn from(message: RunContainerResponse) -> Self {
        use run_container_response::Response;
        match message.response {
            Some(Response::Attached(attached)) => Self::Attached(attached),
            Some(Response::Output(output)) => Self::Output(output),
            Some(Response::Progress(progress)) => Self::Progress(progress),
            Some(Response::Created(created)) => Self::Created(created),
            None => Self::Unknown,
        }
    }
}
