//! Calls joined with a process whose other ends the test holds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

mod connection;

use std::time::SystemTime;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};
use tonic::Code;
use tonic_types::StatusExt as _;
use wharf_api::v1::attach_exec_request::Request;
use wharf_api::v1::attach_exec_response::Response;
use wharf_api::v1::process_input::Kind;
use wharf_api::v1::process_output::Kind as Said;

use super::*;
use crate::model::{ContainerId, ExecId, OutputStream, Run};

/// What the process's side of a call has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Stdin(Bytes),
    CloseStdin,
    Resize(u16, u16),
    Signal(String),
    Detach,
    /// The end of input.
    End,
    /// The session was dropped.
    Gone,
}

/// The test's ends of a session.
struct Process {
    attached: Attached,
    seen: mpsc::UnboundedReceiver<Seen>,
    says: mpsc::UnboundedSender<Result<Output, engine::Error>>,
    /// Whether stdin takes anything.
    open: watch::Sender<Stdin>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stdin {
    Takes,
    Full,
    Closed,
}

struct TestInput {
    seen: mpsc::UnboundedSender<Seen>,
    open: watch::Receiver<Stdin>,
}

impl TakesInput for TestInput {
    async fn send(&self, input: Input) -> Result<(), engine::Error> {
        let bytes = matches!(input, Input::Stdin(_) | Input::CloseStdin);
        let mut open = self.open.clone();
        let is_open = open.wait_for(|open| !bytes || *open != Stdin::Full).await;
        if bytes && is_open.is_ok_and(|open| *open == Stdin::Closed) {
            return Err(engine::Error::StdinNotOpen {
                container: "web".to_owned(),
                exec: None,
            });
        }
        let seen = match input {
            Input::Stdin(data) => Seen::Stdin(data),
            Input::CloseStdin => Seen::CloseStdin,
            Input::Resize(size) => Seen::Resize(size.rows, size.columns),
            Input::Signal(signal) => Seen::Signal(signal.to_string()),
            Input::Detach => Seen::Detach,
        };
        self.seen.send(seen).ok();
        Ok(())
    }

    async fn end(&self) -> Result<(), engine::Error> {
        self.seen.send(Seen::End).ok();
        Ok(())
    }
}

/// Tells when the session is dropped.
struct TestOutput {
    said: mpsc::UnboundedReceiver<Result<Output, engine::Error>>,
    seen: mpsc::UnboundedSender<Seen>,
}

impl Drop for TestOutput {
    fn drop(&mut self) {
        self.seen.send(Seen::Gone).ok();
    }
}

impl Stream for TestOutput {
    type Item = Result<Output, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let said = self.said.poll_recv(cx);
        said.map(|said| said.map(|output| output.map_err(CallError::from)))
    }
}

/// A call that sends `messages`, and the process that it is joined with.
fn call(
    messages: impl Stream<Item = Result<v1::AttachExecRequest, Status>> + Send + Unpin + 'static,
) -> (Answers<v1::AttachExecResponse>, Process) {
    let (seen_sender, seen) = mpsc::unbounded_channel();
    let (says, said) = mpsc::unbounded_channel();
    let (open, opened) = watch::channel(Stdin::Takes);
    let attached = Attached {
        container: ContainerId::generate(),
        exec: Some(ExecId::generate()),
        terminal: false,
    };
    let input = TestInput {
        seen: seen_sender.clone(),
        open: opened,
    };
    let output = TestOutput {
        said,
        seen: seen_sender,
    };
    let process = Process {
        attached,
        seen,
        says,
        open,
    };
    (joined(&attached, messages, input, output), process)
}

impl Process {
    fn says(&self, output: Output) {
        self.says.send(Ok(output)).unwrap();
    }

    fn chunk(&self, data: &'static [u8]) {
        self.says(Output::Chunk {
            stream: OutputStream::Stdout,
            offset: 7,
            data: Bytes::from_static(data),
        });
    }

    fn exits(self) -> mpsc::UnboundedReceiver<Seen> {
        let exit = crate::store::tests::exit(1);
        self.says(Output::Exited(exit));
        self.seen
    }

    fn seen(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }
}

fn message(kind: Option<Kind>) -> v1::AttachExecRequest {
    v1::AttachExecRequest {
        request: Some(Request::Input(v1::ProcessInput { kind })),
    }
}

fn stdin(data: &'static [u8]) -> v1::AttachExecRequest {
    message(Some(Kind::Stdin(Bytes::from_static(data))))
}

fn start_message() -> v1::AttachExecRequest {
    let start = v1::AttachExecStart::default();
    v1::AttachExecRequest {
        request: Some(Request::Start(start)),
    }
}

/// These messages, then silence.
fn sends<const N: usize>(
    messages: [v1::AttachExecRequest; N],
) -> impl Stream<Item = Result<v1::AttachExecRequest, Status>> + Send + Unpin {
    stream::iter(messages.map(Ok)).chain(stream::pending())
}

/// What is answered as long as nothing else happens. `None` is the end of the stream.
fn answered(
    answers: &mut Answers<v1::AttachExecResponse>,
) -> Vec<Option<Result<Response, Status>>> {
    let mut all = Vec::new();
    let mut pending = 0;
    // A pending stream may have asked to be polled again; this test's clients always do.
    while pending < 10 {
        match answers.next().now_or_never() {
            Some(None) => {
                all.push(None);
                break;
            }
            Some(Some(answer)) => all.push(Some(answer.map(|a| a.response.unwrap()))),
            None => pending += 1,
        }
    }
    all
}

fn said(answer: Option<Result<Response, Status>>) -> Said {
    match answer {
        Some(Ok(Response::Output(output))) => output.kind.unwrap(),
        other => unreachable!("no output: {other:?}"),
    }
}

fn refusal(answer: Option<Option<Result<Response, Status>>>) -> (Code, String) {
    let Some(Some(Err(status))) = answer else {
        unreachable!("no refusal: {answer:?}");
    };
    let info = status.get_details_error_info().unwrap();
    (status.code(), info.reason)
}

#[test]
fn attached_comes_first_and_at_once() {
    let (mut answers, process) = call(sends([]));
    let first = answers.next().now_or_never().unwrap().unwrap().unwrap();
    let expected = v1::Attached {
        container_id: process.attached.container.to_string(),
        exec_id: process.attached.exec.unwrap().to_string(),
        terminal: false,
    };
    assert_eq!(first.response, Some(Response::Attached(expected)));
}

#[test]
fn output_comes_in_its_order_and_ends_with_the_exit() {
    let (mut answers, process) = call(sends([]));
    process.says(Output::Started {
        run: Run(3),
        pid: 4,
        time: SystemTime::UNIX_EPOCH,
    });
    process.chunk(b"abc");
    process.says(Output::Gap {
        stream: OutputStream::Stderr,
        dropped: 9,
    });
    let mut seen = process.exits();
    let mut all = answered(&mut answers).into_iter();
    all.next();
    let started = v1::ProcessStarted {
        run: 3,
        pid: 4,
        start_time: Some(SystemTime::UNIX_EPOCH.into()),
    };
    assert_eq!(said(all.next().unwrap()), Said::Started(started));
    let chunk = v1::OutputChunk {
        stream: 1,
        data: Bytes::from_static(b"abc"),
        offset: 7,
    };
    assert_eq!(said(all.next().unwrap()), Said::Output(chunk));
    let gap = v1::OutputGap {
        stream: 2,
        dropped_bytes: 9,
    };
    assert_eq!(said(all.next().unwrap()), Said::Gap(gap));
    assert!(matches!(said(all.next().unwrap()), Said::Exited(exit) if exit.code == 3));
    assert!(matches!(all.next(), Some(None)), "the stream has ended");
    assert_eq!(seen.try_recv(), Ok(Seen::Gone));
}

#[test]
fn every_input_reaches_the_process_in_its_order() {
    let size = v1::TerminalSize {
        rows: 24,
        columns: 80,
    };
    let (mut answers, mut process) = call(sends([
        stdin(b"abc"),
        message(Some(Kind::Resize(size))),
        message(Some(Kind::Signal("HUP".to_owned()))),
        message(Some(Kind::CloseStdin(v1::CloseStdin {}))),
        message(Some(Kind::Detach(v1::Detach {}))),
    ]));
    assert_eq!(answered(&mut answers).len(), 1);
    let expected = [
        Seen::Stdin(Bytes::from_static(b"abc")),
        Seen::Resize(24, 80),
        Seen::Signal("SIGHUP".to_owned()),
        Seen::CloseStdin,
        Seen::Detach,
    ];
    assert_eq!(process.seen(), expected);
    process.says(Output::Detached);
    drop(process.says);
    let mut rest = answered(&mut answers).into_iter();
    assert_eq!(said(rest.next().unwrap()), Said::Detached(v1::Detached {}));
    assert!(matches!(rest.next(), Some(None)));
}

#[test]
fn a_full_stdin_does_not_hold_back_the_output() {
    let (mut answers, mut process) = call(sends([stdin(b"a"), stdin(b"b")]));
    process.open.send(Stdin::Full).unwrap();
    process.chunk(b"1");
    assert_eq!(answered(&mut answers).len(), 2);
    process.chunk(b"2");
    process.chunk(b"3");
    assert_eq!(answered(&mut answers).len(), 2);
    assert_eq!(process.seen(), []);
    process.open.send(Stdin::Takes).unwrap();
    answered(&mut answers);
    assert_eq!(process.seen().len(), 2);
}

#[test]
fn a_signal_overtakes_stdin_that_waits() {
    let signal = message(Some(Kind::Signal("HUP".to_owned())));
    let (mut answers, mut process) = call(sends([stdin(b"a"), stdin(b"b"), signal]));
    process.open.send(Stdin::Full).unwrap();
    answered(&mut answers);
    assert_eq!(process.seen(), [Seen::Signal("SIGHUP".to_owned())]);
}

#[test]
fn a_silent_process_does_not_hold_back_the_input() {
    let (mut answers, mut process) = call(sends([stdin(b"a"), stdin(b"b")]));
    answered(&mut answers);
    assert_eq!(process.seen().len(), 2);
}

#[test]
fn a_flood_in_one_direction_leaves_the_other_its_turns() {
    let flood = stream::repeat_with(|| Ok(stdin(b"x"))).boxed();
    let (mut answers, mut process) = call(flood);
    for _ in 0..100 {
        process.chunk(b"y");
    }
    for _ in 0..=100 {
        assert!(matches!(answers.next().now_or_never(), Some(Some(Ok(_)))));
    }
    // Stdin takes two turns: one gets in line, one is written.
    assert_eq!(process.seen().len(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_half_close_ends_the_input_and_never_the_output() {
    let messages = stream::iter([Ok(stdin(b"abc"))]);
    let (mut answers, mut process) = call(messages);
    assert_eq!(answered(&mut answers).len(), 1);
    tokio::time::advance(HALF_CLOSE_GRACE).await;
    assert_eq!(answered(&mut answers).len(), 0);
    assert_eq!(
        process.seen(),
        [Seen::Stdin(Bytes::from_static(b"abc")), Seen::End]
    );
    process.chunk(b"late");
    assert_eq!(answered(&mut answers).len(), 1);
    process.exits();
    let rest = answered(&mut answers);
    assert!(matches!(rest[..], [Some(Ok(_)), None]));
}

#[test]
fn the_end_of_input_is_acted_upon_only_in_a_later_poll_than_the_one_that_saw_it() {
    let (mut answers, mut process) = call(stream::empty());
    assert!(answers.next().now_or_never().is_some(), "attached");
    process.chunk(b"there is output");
    assert!(
        answers.next().now_or_never().is_none(),
        "pending all the same"
    );
    assert_eq!(process.seen(), []);
    drop(answers);
    assert_eq!(process.seen(), [Seen::Gone]);
}

#[test]
fn a_broken_inbound_stream_ends_the_call_in_a_later_poll_and_closes_nothing() {
    let broken = stream::iter([Err(Status::new(Code::Unknown, "broken pipe"))]);
    let (mut answers, mut process) = call(broken);
    assert!(answers.next().now_or_never().is_some(), "attached");
    assert!(answers.next().now_or_never().is_none());
    let refused = refusal(answered(&mut answers).into_iter().next());
    assert_eq!(refused, (Code::Cancelled, "CALLER_CANCELLED".to_owned()));
    assert_eq!(process.seen(), [Seen::Gone]);
}

#[test]
fn a_message_that_is_wrong_ends_the_call_though_there_is_output() {
    let (protocol, field) = ("STREAM_PROTOCOL", "INVALID_FIELD");
    let size = |rows, columns| Some(Kind::Resize(v1::TerminalSize { rows, columns }));
    let data = |length| Some(Kind::Stdin(vec![0; length].into()));
    for (wrong, reason) in [
        (start_message(), protocol),
        (v1::AttachExecRequest::default(), protocol),
        (message(None), field),
        (message(data(0)), field),
        (message(data((64 << 10) + 1)), field),
        (message(size(0, 80)), field),
        (message(size(24, 65_536)), field),
        (message(Some(Kind::Signal(String::new()))), field),
        (message(Some(Kind::Signal("NOPE".to_owned()))), field),
    ] {
        let (mut answers, mut process) = call(sends([wrong.clone()]));
        process.chunk(b"pending");
        let mut all = answered(&mut answers).into_iter();
        all.next();
        let refused = refusal(all.next());
        assert_eq!(
            refused,
            (Code::InvalidArgument, reason.to_owned()),
            "{wrong:?}"
        );
        assert_eq!(process.seen(), [Seen::Gone], "{wrong:?}");
        assert!(matches!(answers.next().now_or_never(), Some(None)));
    }
}

#[test]
fn input_that_the_process_cannot_take_ends_the_call() {
    let (mut answers, process) = call(sends([stdin(b"abc")]));
    process.open.send(Stdin::Closed).unwrap();
    process.chunk(b"before");
    let refused = refusal(answered(&mut answers).into_iter().nth(2));
    assert_eq!(
        refused,
        (Code::FailedPrecondition, "STDIN_NOT_OPEN".to_owned())
    );
}

#[test]
fn a_failed_start_is_the_status_of_the_stream() {
    let (mut answers, process) = call(sends([]));
    let exec = process.attached.exec.unwrap();
    let error = engine::Error::ExecNotFound {
        exec: exec.to_string(),
    };
    process.says.send(Err(error)).unwrap();
    let refused = refusal(answered(&mut answers).into_iter().nth(1));
    assert_eq!(refused, (Code::NotFound, "EXEC_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn the_first_message_must_be_the_start() {
    let start = start(&mut sends([start_message()])).await;
    assert_eq!(start.unwrap(), v1::AttachExecStart::default());
    for (first, found) in [
        (Some(stdin(b"x")), "input"),
        (Some(v1::AttachExecRequest::default()), "an empty message"),
        (None, "end of stream"),
    ] {
        let messages = first.into_iter().map(Ok);
        let error = super::start(&mut stream::iter(messages)).await.unwrap_err();
        let is_expected = matches!(
            error,
            CallError::StreamProtocol { expected: "start", got } if got == found
        );
        assert!(is_expected, "{error}");
    }
}
