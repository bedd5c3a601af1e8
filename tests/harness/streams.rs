//! Callers joined to the streams of processes, message by message.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use wharf_api::v1::process_input::Kind as Input;
use wharf_api::v1::process_output::Kind as Output;
use wharf_api::v1::{
    self, AttachContainerStart, AttachExecStart, AttachOptions, Attached, ExecSpec, ExitStatus,
    OutputStream, ProcessInput, ProcessSpec, RunContainerStart, RunExecStart,
};
use wharf_api::v1::{
    attach_container_request, attach_container_response, attach_exec_request, attach_exec_response,
    follow_container_response, follow_exec_response, run_container_request, run_container_response,
    run_exec_request, run_exec_response,
};

use super::client::Client;
use super::refusal::Refusal;

/// No message of a scenario is later than this: hundreds of processes may be starting on two busy cores.
const LATE: Duration = Duration::from_secs(240);
/// The most that one message brings to stdin.
pub const CHUNK: usize = 64 << 10;

/// One message of whichever method.
#[derive(Debug)]
enum Message {
    Attached(Attached),
    Progress(v1::TransferProgress),
    Created(Box<v1::Container>),
    Output(Output),
}

type Messages = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

/// A joined process. Dropped, its caller is gone.
pub struct Joined {
    input: Option<mpsc::Sender<Input>>,
    messages: Messages,
    pub attached: Attached,
    /// Where the pull of RunContainer stood, if it pulled.
    pub progress: Vec<v1::TransferProgress>,
    /// What RunContainer has made.
    pub created: Option<v1::Container>,
}

/// What a process left behind.
#[derive(Debug, Default)]
pub struct Whole {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub gaps: Vec<v1::OutputGap>,
    pub exit: ExitStatus,
}

impl Whole {
    pub fn out(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    pub fn err(&self) -> &str {
        std::str::from_utf8(&self.stderr).unwrap()
    }

    fn put(&mut self, chunk: &v1::OutputChunk) {
        let part = match chunk.stream() {
            OutputStream::Stderr => &mut self.stderr,
            _ => &mut self.stdout,
        };
        let dropped: i64 = self
            .gaps
            .iter()
            .filter(|gap| gap.stream == chunk.stream)
            .map(|gap| gap.dropped_bytes)
            .sum();
        assert_eq!(
            chunk.offset,
            part.len() as u64 + u64::try_from(dropped).unwrap(),
            "offsets follow each other"
        );
        part.extend_from_slice(&chunk.data);
    }
}

/// `args` as an exec without anything else.
pub fn exec(args: &[&str]) -> ExecSpec {
    ExecSpec {
        process: Some(ProcessSpec {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The same with stdin.
pub fn exec_with_stdin(args: &[&str]) -> ExecSpec {
    ExecSpec {
        stdin_open: true,
        ..exec(args)
    }
}

/// The same with a terminal.
pub fn exec_with_terminal(args: &[&str], rows: u32, columns: u32) -> ExecSpec {
    let mut spec = exec_with_stdin(args);
    if let Some(process) = &mut spec.process {
        process.terminal = Some(v1::TerminalSize { rows, columns });
    }
    spec
}

/// How to attach with stdin, if the spec has one.
pub fn joining(spec: &ExecSpec) -> AttachOptions {
    AttachOptions {
        stdin: spec.stdin_open,
        ..Default::default()
    }
}

fn input(kind: Input) -> ProcessInput {
    ProcessInput { kind: Some(kind) }
}

/// The outgoing messages: the start, then whatever is sent to the returned end.
macro_rules! requests {
    ($module:ident, $message:ident, $start:expr) => {{
        let (sender, receiver) = mpsc::channel::<Input>(4);
        let start = v1::$message {
            request: Some($module::Request::Start($start)),
        };
        let inputs = ReceiverStream::new(receiver).map(|kind| v1::$message {
            request: Some($module::Request::Input(input(kind))),
        });
        let all = futures_util::stream::once(std::future::ready(start)).chain(inputs);
        (sender, all)
    }};
}

impl Client {
    /// RunExec of `spec`, with its stdin if it has one.
    pub async fn run_exec(&self, container: &str, spec: ExecSpec) -> Result<Joined, Refusal> {
        let attach = joining(&spec);
        self.run_exec_with(container, spec, attach).await
    }

    pub async fn run_exec_with(
        &self,
        container: &str,
        spec: ExecSpec,
        attach: AttachOptions,
    ) -> Result<Joined, Refusal> {
        self.run_exec_start(RunExecStart {
            container: container.to_owned(),
            spec: Some(spec),
            attach: Some(attach),
            ..Default::default()
        })
        .await
    }

    pub async fn run_exec_start(&self, start: RunExecStart) -> Result<Joined, Refusal> {
        let (sender, requests) = requests!(run_exec_request, RunExecRequest, Box::new(start));
        let answer = self.execs().run_exec(self.request(requests)).await?;
        let messages = answer.into_inner().map(|message| {
            Ok(match message?.response.unwrap() {
                run_exec_response::Response::Attached(attached) => Message::Attached(attached),
                run_exec_response::Response::Output(output) => {
                    Message::Output(output.kind.unwrap())
                }
            })
        });
        Joined::new(Some(sender), Box::pin(messages)).await
    }

    pub async fn attach_exec(
        &self,
        exec_id: &str,
        options: AttachOptions,
    ) -> Result<Joined, Refusal> {
        let start = AttachExecStart {
            exec_id: exec_id.to_owned(),
            options: Some(options),
        };
        let (sender, requests) = requests!(attach_exec_request, AttachExecRequest, start);
        let answer = self.execs().attach_exec(self.request(requests)).await?;
        let messages = answer.into_inner().map(|message| {
            Ok(match message?.response.unwrap() {
                attach_exec_response::Response::Attached(attached) => Message::Attached(attached),
                attach_exec_response::Response::Output(output) => {
                    Message::Output(output.kind.unwrap())
                }
            })
        });
        Joined::new(Some(sender), Box::pin(messages)).await
    }

    pub async fn follow_exec(&self, request: v1::FollowExecRequest) -> Result<Joined, Refusal> {
        let answer = self.execs().follow_exec(self.request(request)).await?;
        let messages = answer.into_inner().map(|message| {
            Ok(match message?.response.unwrap() {
                follow_exec_response::Response::Attached(attached) => Message::Attached(attached),
                follow_exec_response::Response::Output(output) => {
                    Message::Output(output.kind.unwrap())
                }
            })
        });
        Joined::new(None, Box::pin(messages)).await
    }

    pub async fn run_container(&self, start: RunContainerStart) -> Result<Joined, Refusal> {
        let (sender, requests) =
            requests!(run_container_request, RunContainerRequest, Box::new(start));
        let answer = self
            .containers()
            .run_container(self.request(requests))
            .await?;
        let messages = answer.into_inner().map(|message| {
            use run_container_response::Response;
            Ok(match message?.response.unwrap() {
                Response::Attached(attached) => Message::Attached(attached),
                Response::Output(output) => Message::Output(output.kind.unwrap()),
                Response::Created(created) => {
                    Message::Created(Box::new(created.container.unwrap()))
                }
                Response::Progress(progress) => Message::Progress(progress),
            })
        });
        Joined::new(Some(sender), Box::pin(messages)).await
    }

    pub async fn attach_container(
        &self,
        container: &str,
        options: AttachOptions,
    ) -> Result<Joined, Refusal> {
        let start = AttachContainerStart {
            container: container.to_owned(),
            options: Some(options),
            ..Default::default()
        };
        let (sender, requests) = requests!(attach_container_request, AttachContainerRequest, start);
        let answer = self
            .containers()
            .attach_container(self.request(requests))
            .await?;
        let messages = answer.into_inner().map(|message| {
            use attach_container_response::Response;
            Ok(match message?.response.unwrap() {
                Response::Attached(attached) => Message::Attached(attached),
                Response::Output(output) => Message::Output(output.kind.unwrap()),
            })
        });
        Joined::new(Some(sender), Box::pin(messages)).await
    }

    pub async fn follow_container(
        &self,
        request: v1::FollowContainerRequest,
    ) -> Result<Joined, Refusal> {
        let answer = self
            .containers()
            .follow_container(self.request(request))
            .await?;
        let messages = answer.into_inner().map(|message| {
            use follow_container_response::Response;
            Ok(match message?.response.unwrap() {
                Response::Attached(attached) => Message::Attached(attached),
                Response::Output(output) => Message::Output(output.kind.unwrap()),
            })
        });
        Joined::new(None, Box::pin(messages)).await
    }

    /// Runs a container to its end, with which it goes.
    pub async fn run_whole(&self, spec: v1::ContainerSpec) -> Result<Whole, Refusal> {
        let start = RunContainerStart {
            spec: Some(v1::ContainerSpec {
                auto_delete: true,
                ..spec
            }),
            ..Default::default()
        };
        self.run_container(start).await?.whole().await
    }

    /// Runs a program in a container to its end.
    pub async fn exec_whole(&self, container: &str, args: &[&str]) -> Result<Whole, Refusal> {
        self.run_exec(container, exec(args)).await?.whole().await
    }
}

impl Joined {
    /// Takes what comes before the process: it comes at once.
    async fn new(input: Option<mpsc::Sender<Input>>, messages: Messages) -> Result<Self, Refusal> {
        let mut joined = Self {
            input,
            messages,
            attached: Attached::default(),
            progress: Vec::new(),
            created: None,
        };
        loop {
            match joined.message().await? {
                Some(Message::Progress(progress)) if joined.created.is_none() => {
                    joined.progress.push(progress);
                }
                Some(Message::Created(container)) => joined.created = Some(*container),
                Some(Message::Attached(attached)) => {
                    joined.attached = attached;
                    return Ok(joined);
                }
                other => panic!("attached comes first, not {other:?}"),
            }
        }
    }

    async fn message(&mut self) -> Result<Option<Message>, Refusal> {
        let next = timeout(LATE, self.messages.next()).await;
        let next = next.unwrap_or_else(|_| panic!("no message for {LATE:?}"));
        Ok(next.transpose()?)
    }

    /// What the process does next; `None` after the end.
    pub async fn next(&mut self) -> Result<Option<Output>, Refusal> {
        Ok(self.message().await?.map(|message| match message {
            Message::Output(output) => output,
            other => panic!("only output comes now, not {other:?}"),
        }))
    }

    /// Takes `started`.
    pub async fn started(&mut self) -> Result<v1::ProcessStarted, Refusal> {
        match self.next().await? {
            Some(Output::Started(started)) => Ok(started),
            other => panic!("started comes first, not {other:?}"),
        }
    }

    pub fn exec_id(&self) -> &str {
        &self.attached.exec_id
    }

    pub async fn send(&self, kind: Input) {
        let input = self.input.as_ref().expect("a stream with input");
        // A stream that has ended takes nothing.
        input.send(kind).await.ok();
    }

    pub async fn write(&self, data: impl Into<Bytes>) {
        let data = data.into();
        for start in (0..data.len()).step_by(CHUNK) {
            let end = data.len().min(start + CHUNK);
            self.send(Input::Stdin(data.slice(start..end))).await;
        }
    }

    /// The other half, to write from another task.
    pub fn writer(&self) -> mpsc::Sender<Input> {
        self.input.clone().expect("a stream with input")
    }

    /// Half-closes: no more input of any kind.
    pub fn half_close(&mut self) {
        self.input = None;
    }

    /// Output until `stop` says that it is enough.
    pub async fn until(&mut self, stop: impl Fn(&Whole) -> bool) -> Result<Whole, Refusal> {
        let mut whole = Whole::default();
        while !stop(&whole) {
            match self.next().await? {
                Some(Output::Started(_)) => {}
                Some(Output::Output(chunk)) => whole.put(&chunk),
                Some(Output::Gap(gap)) => whole.gaps.push(gap),
                other => panic!("{other:?} before the output was complete: {whole:?}"),
            }
        }
        Ok(whole)
    }

    /// Everything to the end: after `exited` nothing comes.
    pub async fn whole(mut self) -> Result<Whole, Refusal> {
        let mut whole = Whole::default();
        loop {
            match self.next().await? {
                Some(Output::Started(_)) => {}
                Some(Output::Output(chunk)) => whole.put(&chunk),
                Some(Output::Gap(gap)) => whole.gaps.push(gap),
                Some(Output::Exited(exit)) => {
                    whole.exit = exit;
                    let after = self.next().await?;
                    assert!(after.is_none(), "exited is last, not {after:?}");
                    return Ok(whole);
                }
                other => panic!("not the end of a process: {other:?}"),
            }
        }
    }
}
