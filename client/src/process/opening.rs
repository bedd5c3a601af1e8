//! How a session is opened, and how it is taken up again: one call of the API for each.

use futures_util::stream::{self, Stream, StreamExt as _};
use tonic::transport::Channel;
use wharf_api::v1::container_service_client::ContainerServiceClient;
use wharf_api::v1::exec_service_client::ExecServiceClient;
use wharf_api::v1::{
    AttachContainerRequest, AttachContainerStart, AttachExecRequest, AttachExecStart,
    AttachOptions, Attached, BackpressurePolicy, DisconnectAction, FollowContainerRequest,
    FollowExecRequest, OutputStream, ProcessInput, RunContainerRequest, RunContainerStart,
    RunExecRequest, RunExecStart, StreamOffset, attach_container_request, attach_exec_request,
    run_container_request, run_exec_request,
};

use super::line::{Line, line};
use super::output::Positions;
use super::replies::Opened;
use crate::client::{CallContext, Client};
use crate::connection::Cut;
use crate::error::Error;
use crate::rpc::ServerStreaming as _;

/// The first request of a session.
#[derive(Debug, Clone)]
pub(crate) enum Opening {
    RunExec(Box<RunExecStart>),
    AttachExec(AttachExecStart),
    FollowExec(FollowExecRequest),
    RunContainer(Box<RunContainerStart>),
    AttachContainer(AttachContainerStart),
    FollowContainer(FollowContainerRequest),
}

/// Where a session that is taken up again stands.
pub(crate) struct Standing<'a> {
    pub(crate) attached: &'a Attached,
    /// None before the start.
    pub(crate) run: Option<u64>,
    pub(crate) resume: Vec<StreamOffset>,
    pub(crate) stdin: Stdin,
}

/// Whether input is asked for when a session is taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdin {
    AsBefore,
    Without,
}

/// Opens a stream that takes input: each attempt has a line of its own.
macro_rules! two_way {
    ($client:ident, $call:ident, $start:ident.$options:ident, $service:ident.$method:ident, $module:ident::$message:ident) => {
        $client
            .attempt($call, |channel, time| {
                let (channel, cut) = way($client, channel, &$start.$options);
                let first = $module::Request::Start($start.clone());
                let (line, requests) = inputs(first, $module::Request::Input);
                let requests = requests.map(|request| $message {
                    request: Some(request),
                });
                let request = $call.request(requests, time);
                async move {
                    let answer = $service(channel).$method(request).await?;
                    Ok(Opened::new(answer, Some(line), cut))
                }
            })
            .await
    };
}

/// Opens a stream that takes none.
macro_rules! one_way {
    ($client:ident, $call:ident, $request:ident, $service:ident.$method:ident) => {
        $client
            .attempt($call, |channel, time| {
                let request = $call.request($request.clone(), time);
                async move {
                    let answer = $service(channel).$method(request).await?;
                    Ok(Opened::new(answer, None, None))
                }
            })
            .await
    };
}

impl Opening {
    pub(crate) fn method(&self) -> &'static str {
        match self {
            Self::RunExec(_) => "/wharf.v1.ExecService/RunExec",
            Self::AttachExec(_) => "/wharf.v1.ExecService/AttachExec",
            Self::FollowExec(_) => FollowExecRequest::METHOD,
            Self::RunContainer(_) => "/wharf.v1.ContainerService/RunContainer",
            Self::AttachContainer(_) => "/wharf.v1.ContainerService/AttachContainer",
            Self::FollowContainer(_) => FollowContainerRequest::METHOD,
        }
    }

    pub(crate) fn is_of_container(&self) -> bool {
        match self {
            Self::RunContainer(_) | Self::AttachContainer(_) | Self::FollowContainer(_) => true,
            Self::RunExec(_) | Self::AttachExec(_) | Self::FollowExec(_) => false,
        }
    }

    /// Where the output begins, as far as that is known beforehand.
    pub(crate) fn positions(&self) -> Positions {
        match self {
            Self::RunExec(_) | Self::RunContainer(_) => Positions::beginning(),
            Self::AttachExec(start) => Positions::of(&options(&start.options).resume),
            Self::AttachContainer(start) => Positions::of(&options(&start.options).resume),
            Self::FollowExec(request) => Positions::of(&request.resume),
            Self::FollowContainer(request) => Positions::of(&request.resume),
        }
    }

    /// Whether output of `stream` is asked for.
    pub(crate) fn wants(&self, stream: OutputStream) -> bool {
        let streams = match self {
            Self::RunExec(start) => streams(&start.attach),
            Self::RunContainer(start) => streams(&start.attach),
            Self::AttachExec(start) => streams(&start.options),
            Self::AttachContainer(start) => streams(&start.options),
            Self::FollowExec(request) => &request.streams,
            Self::FollowContainer(request) => &request.streams,
        };
        streams.is_empty() || streams.contains(&stream.into())
    }

    /// The request that goes on with a process that was joined.
    pub(crate) fn again(&self, standing: &Standing<'_>) -> Self {
        let Standing { attached, run, .. } = standing;
        match self {
            // Its key leads to the same process, and it gets all output without asking.
            Self::RunExec(_) | Self::RunContainer(_) if run.is_none() => self.clone(),
            Self::RunExec(start) => Self::AttachExec(AttachExecStart {
                exec_id: attached.exec_id.clone(),
                options: standing.options(&start.attach, DisconnectAction::Kill),
            }),
            Self::AttachExec(start) => Self::AttachExec(AttachExecStart {
                exec_id: start.exec_id.clone(),
                options: standing.attached_options(&start.options),
            }),
            Self::FollowExec(request) => Self::FollowExec(FollowExecRequest {
                resume: standing.resume.clone(),
                ..request.clone()
            }),
            Self::RunContainer(start) => Self::AttachContainer(AttachContainerStart {
                container: attached.container_id.clone(),
                options: standing.options(&start.attach, DisconnectAction::Stop),
                expected_run: *run,
            }),
            Self::AttachContainer(start) => Self::AttachContainer(AttachContainerStart {
                // By id: the name may be another container's by now.
                container: attached.container_id.clone(),
                options: standing.attached_options(&start.options),
                expected_run: run.or(start.expected_run),
            }),
            Self::FollowContainer(request) => Self::FollowContainer(FollowContainerRequest {
                container: attached.container_id.clone(),
                resume: standing.resume.clone(),
                expected_run: run.or(request.expected_run),
                ..request.clone()
            }),
        }
    }

    /// Opens the stream, again and again while the server asks for that: none of the six does harm
    /// when it is repeated, those that create something because of their key.
    pub(crate) async fn open(self, client: &Client, call: &CallContext) -> Result<Opened, Error> {
        match self {
            Self::RunExec(start) => {
                two_way!(
                    client,
                    call,
                    start.attach,
                    exec_service.run_exec,
                    run_exec_request::RunExecRequest
                )
            }
            Self::AttachExec(start) => {
                two_way!(
                    client,
                    call,
                    start.options,
                    exec_service.attach_exec,
                    attach_exec_request::AttachExecRequest
                )
            }
            Self::RunContainer(start) => {
                two_way!(
                    client,
                    call,
                    start.attach,
                    container_service.run_container,
                    run_container_request::RunContainerRequest
                )
            }
            Self::AttachContainer(start) => {
                two_way!(
                    client,
                    call,
                    start.options,
                    container_service.attach_container,
                    attach_container_request::AttachContainerRequest
                )
            }
            Self::FollowExec(request) => {
                one_way!(client, call, request, exec_service.follow_exec)
            }
            Self::FollowContainer(request) => {
                one_way!(client, call, request, container_service.follow_container)
            }
        }
    }
}

impl Standing<'_> {
    /// The options of an attach that goes on with a run: its defaults are other ones.
    fn options(
        &self,
        before: &Option<AttachOptions>,
        default_action: DisconnectAction,
    ) -> Option<AttachOptions> {
        let mut options = self.attached_options(before).unwrap_or_default();
        if options.on_disconnect() == DisconnectAction::Unspecified {
            options.set_on_disconnect(default_action);
        }
        if options.backpressure() == BackpressurePolicy::Unspecified {
            options.set_backpressure(BackpressurePolicy::Block);
        }
        Some(options)
    }

    fn attached_options(&self, before: &Option<AttachOptions>) -> Option<AttachOptions> {
        let before = options(before);
        Some(AttachOptions {
            stdin: before.stdin && self.stdin == Stdin::AsBefore,
            resume: self.resume.clone(),
            ..before
        })
    }
}

fn options(options: &Option<AttachOptions>) -> AttachOptions {
    options.clone().unwrap_or_default()
}

fn streams(options: &Option<AttachOptions>) -> &[i32] {
    options.as_ref().map_or(&[], |options| &options.streams)
}

fn exec_service(channel: Channel) -> ExecServiceClient<Channel> {
    ExecServiceClient::new(channel)
}

fn container_service(channel: Channel) -> ContainerServiceClient<Channel> {
    ContainerServiceClient::new(channel)
}

/// `first`, then what comes down a new line.
fn inputs<R>(
    first: R,
    then: impl Fn(ProcessInput) -> R + Send + 'static,
) -> (Line, impl Stream<Item = R> + Send + 'static)
where
    R: Send + 'static,
{
    let (line, outbound) = line();
    let requests = stream::once(async move { first }).chain(outbound.into_stream().map(then));
    (line, requests)
}

/// Bytes that the server does not read can fill a stream's window, and then only the end of the
/// connection still reaches it; so who sends bytes gets a connection of its own.
fn way(client: &Client, shared: Channel, attach: &Option<AttachOptions>) -> (Channel, Option<Cut>) {
    if attach.as_ref().is_some_and(|attach| attach.stdin) {
        let (channel, cut) = client.private();
        (channel, Some(cut))
    } else {
        (shared, None)
    }
}
