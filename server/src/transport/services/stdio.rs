//! Joins a caller's gRPC streams with the streams of a process.
//!
//! ```text
//! client -- start, input ... --> Taken ---> SessionInput      signals, sizes, detach
//!                                  |  '--> a few messages --> stdin (waits while it is full)
//!                                  |  one poll drives all; none waits for another
//! client <-- attached, output .. <- Joined <- SessionOutput   (waits while nothing is said)
//! ```
//!
//! The answer's stream is all there is: no task, and no queue but the few messages of stdin that signals
//! overtake. Dropping it drops the session, and that is the caller's leaving. What is to become of the
//! process then is the engine's business.
//!
//! A cancelled call, a lost connection and a half-close all end the inbound stream in the same way, and
//! only the last of them is a message to the process. But a call that is gone is never polled again:
//! hyper looks for a reset of the stream before it polls the answer. So the end of input is acted upon
//! only in the poll after the one that saw it. In between, the answer is pending. Clients that half-close
//! on their way to a cancel get a moment for it: [`HALF_CLOSE_GRACE`].

#[cfg(test)]
mod tests;

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tonic::Status;
use wharf_api::v1;

use super::Answers;
use crate::engine;
use crate::engine::session::{Attached, Input, Output, Session, SessionInput, SessionOutput};
use crate::transport::{CallError, Violations, parse, render};

/// How long after a half-close the process sees the end of its input. hyper's client, when its user drops
/// a call, ends the request's body first and cancels the stream just after it: by then the two frames
/// are here, also if the client's machine is busy (10 ms were seen not to be enough). `close_stdin` has no such delay.
const HALF_CLOSE_GRACE: Duration = Duration::from_millis(100);

/// A message of a caller that joins a process's streams.
pub(super) trait Inbound: Send + 'static {
    /// How the call opens.
    type Start;

    /// What it says.
    fn part(self) -> Part<Self::Start>;
}

/// What a caller's message says.
#[derive(Debug)]
pub(super) enum Part<S> {
    Start(S),
    Input(v1::ProcessInput),
    Nothing,
}

/// A message to a caller that joined a process's streams.
pub(super) trait Outbound: Send + 'static {
    fn attached(attached: v1::Attached) -> Self;
    fn output(output: v1::ProcessOutput) -> Self;
}

macro_rules! inbound {
    ($($message:ident in $module:ident starts with $start:ty,)*) => {$(
        impl Inbound for v1::$message {
            type Start = $start;

            fn part(self) -> Part<$start> {
                match self.request {
                    Some(v1::$module::Request::Start(start)) => Part::Start(start),
                    Some(v1::$module::Request::Input(input)) => Part::Input(input),
                    None => Part::Nothing,
                }
            }
        }
    )*};
}

macro_rules! outbound {
    ($($message:ident in $module:ident,)*) => {$(
        impl Outbound for v1::$message {
            fn attached(attached: v1::Attached) -> Self {
                Self { response: Some(v1::$module::Response::Attached(attached)) }
            }

            fn output(output: v1::ProcessOutput) -> Self {
                Self { response: Some(v1::$module::Response::Output(output)) }
            }
        }
    )*};
}

inbound!(
    RunExecRequest in run_exec_request starts with Box<v1::RunExecStart>,
    AttachExecRequest in attach_exec_request starts with v1::AttachExecStart,
    RunContainerRequest in run_container_request starts with Box<v1::RunContainerStart>,
    AttachContainerRequest in attach_container_request starts with v1::AttachContainerStart,
);

outbound!(
    RunExecResponse in run_exec_response,
    AttachExecResponse in attach_exec_response,
    FollowExecResponse in follow_exec_response,
    RunContainerResponse in run_container_response,
    AttachContainerResponse in attach_container_response,
    FollowContainerResponse in follow_container_response,
);

/// Messages of stdin that wait for the process to read, at most 64 KiB each. Signals and sizes overtake
/// them; what comes when there are more waits in the connection, and what is behind it too.
const STDIN_WAITING: usize = 8;

/// Takes what a caller sends.
pub(super) trait TakesInput: Send + Sync + 'static {
    /// Takes one input; returns when it is written.
    fn send(&self, input: Input) -> impl Future<Output = Result<(), engine::Error>> + Send;

    /// The caller sends nothing more.
    fn end(&self) -> impl Future<Output = Result<(), engine::Error>> + Send;
}

impl TakesInput for SessionInput {
    fn send(&self, input: Input) -> impl Future<Output = Result<(), engine::Error>> + Send {
        Self::send(self, input)
    }

    fn end(&self) -> impl Future<Output = Result<(), engine::Error>> + Send {
        Self::end(self)
    }
}

/// The first message, which must say how the call starts.
pub(super) async fn start<M: Inbound>(
    messages: &mut (impl Stream<Item = Result<M, Status>> + Unpin),
) -> Result<M::Start, CallError> {
    match messages.next().await.transpose()?.map(M::part) {
        Some(Part::Start(start)) => Ok(start),
        Some(Part::Input(_)) => Err(unexpected("start", "input")),
        Some(Part::Nothing) => Err(unexpected("start", "an empty message")),
        None => Err(unexpected("start", "end of stream")),
    }
}

fn unexpected(expected: &'static str, got: &'static str) -> CallError {
    CallError::StreamProtocol { expected, got }
}

/// The answers of a call that sends and reads.
pub(super) fn join<M: Inbound, R: Outbound>(
    session: Session,
    messages: impl Stream<Item = Result<M, Status>> + Send + Unpin + 'static,
) -> Answers<R> {
    let output = output(session.output, session.attached);
    joined(&session.attached, messages, session.input, output)
}

fn joined<M: Inbound, R: Outbound>(
    attached: &Attached,
    messages: impl Stream<Item = Result<M, Status>> + Send + Unpin + 'static,
    input: impl TakesInput,
    output: impl Stream<Item = Result<Output, CallError>> + Send + 'static,
) -> Answers<R> {
    let (stdin, waiting) = mpsc::channel(STDIN_WAITING);
    let input = Arc::new(input);
    let written = written(waiting, Arc::clone(&input));
    let taken = stream::select(taken(messages, input, stdin), written).boxed();
    answers(attached, Joined::of(taken, output.boxed()))
}

/// The answers of a call that only reads.
pub(super) fn follow<R: Outbound>(session: Session) -> Answers<R> {
    let output = output(session.output, session.attached).boxed();
    answers(
        &session.attached,
        Joined::of(stream::empty().boxed(), output),
    )
}

/// `attached` at once, then whatever comes.
fn answers<R: Outbound>(attached: &Attached, outputs: Joined) -> Answers<R> {
    let attached = R::attached(render::stdio::attached(attached));
    let outputs = outputs.map(|output| {
        let output = output?;
        Ok(R::output(render::stdio::output(output)))
    });
    Box::pin(stream::once(ready(Ok(attached))).chain(outputs))
}

/// What the session says, to its end. It is dropped with the stream.
fn output(
    output: SessionOutput,
    attached: Attached,
) -> impl Stream<Item = Result<Output, CallError>> + Send {
    stream::try_unfold(output, move |mut output| async move {
        match output.next().await {
            Ok(next) => Ok(next.map(|item| (item, output))),
            Err(error) => Err(CallError::of(&attached.container.to_string())(error)),
        }
    })
}

/// What became of the inbound side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// A message was taken.
    Message,
    /// There are no more, for whatever reason; it has not been acted upon.
    End,
}

/// Where the inbound side is.
enum Inbox<S> {
    Open(S),
    /// It ended, with what tonic says if it broke.
    Over(Option<Status>),
}

/// What is to be done to stdin.
enum ToStdin {
    Input(Input),
    /// The caller sends nothing more.
    End,
}

/// Who takes messages.
struct Taker<S, I> {
    inbox: Inbox<S>,
    input: Arc<I>,
    stdin: mpsc::Sender<ToStdin>,
}

/// Takes message by message. What is for stdin gets in line there; the rest is done at once.
fn taken<M: Inbound>(
    messages: impl Stream<Item = Result<M, Status>> + Send + Unpin + 'static,
    input: Arc<impl TakesInput>,
    stdin: mpsc::Sender<ToStdin>,
) -> impl Stream<Item = Result<Taken, CallError>> + Send {
    let taker = Taker {
        inbox: Inbox::Open(messages),
        input,
        stdin,
    };
    stream::try_unfold(taker, take)
}

/// One step of the inbound side, and where it is then.
type Step<S, I> = Option<(Taken, Taker<S, I>)>;

async fn take<M: Inbound, S, I: TakesInput>(taker: Taker<S, I>) -> Result<Step<S, I>, CallError>
where
    S: Stream<Item = Result<M, Status>> + Unpin,
{
    let Taker {
        inbox,
        input,
        stdin,
    } = taker;
    let (taken, inbox) = match inbox {
        Inbox::Open(mut messages) => match messages.next().await {
            Some(Ok(message)) => {
                pass(checked(message)?, &*input, &stdin).await?;
                (Taken::Message, Inbox::Open(messages))
            }
            Some(Err(status)) => (Taken::End, Inbox::Over(Some(status))),
            None => (Taken::End, Inbox::Over(None)),
        },
        Inbox::Over(None) => {
            sleep(HALF_CLOSE_GRACE).await;
            // Closed if writing has failed: that is told there.
            drop(stdin.send(ToStdin::End).await);
            return Ok(None);
        }
        Inbox::Over(Some(status)) => return Err(status.into()),
    };
    let taker = Taker {
        inbox,
        input,
        stdin,
    };
    Ok(Some((taken, taker)))
}

async fn pass(
    message: Input,
    input: &impl TakesInput,
    stdin: &mpsc::Sender<ToStdin>,
) -> Result<(), CallError> {
    match message {
        message @ (Input::Stdin(_) | Input::CloseStdin) => {
            drop(stdin.send(ToStdin::Input(message)).await);
            Ok(())
        }
        message @ (Input::Resize(_) | Input::Signal(_) | Input::Detach) => {
            Ok(input.send(message).await?)
        }
    }
}

/// Writes what is in line for stdin, one after the other.
fn written(
    waiting: mpsc::Receiver<ToStdin>,
    input: Arc<impl TakesInput>,
) -> impl Stream<Item = Result<Taken, CallError>> + Send {
    stream::try_unfold((waiting, input), async |(mut waiting, input)| {
        match waiting.recv().await {
            Some(ToStdin::Input(message)) => input.send(message).await?,
            Some(ToStdin::End) => input.end().await?,
            None => return Ok(None),
        }
        Ok(Some((Taken::Message, (waiting, input))))
    })
}

fn checked<M: Inbound>(message: M) -> Result<Input, CallError> {
    let input = match message.part() {
        Part::Input(input) => input,
        Part::Start(_) => return Err(unexpected("input", "start")),
        Part::Nothing => return Err(unexpected("input", "an empty message")),
    };
    let mut violations = Violations::new();
    match parse::stdio::input(input, &mut violations) {
        Some(input) if violations.is_empty() => Ok(input),
        Some(_) | None => Err(CallError::Invalid(violations)),
    }
}

/// Both sides of a call. `None` once it is over: the session is gone then, whoever still holds this.
struct Joined(Option<Sides>);

struct Sides {
    taken: BoxStream<'static, Result<Taken, CallError>>,
    output: BoxStream<'static, Result<Output, CallError>>,
}

impl Joined {
    fn of(
        taken: BoxStream<'static, Result<Taken, CallError>>,
        output: BoxStream<'static, Result<Output, CallError>>,
    ) -> Self {
        let taken = taken.fuse().boxed();
        Self(Some(Sides { taken, output }))
    }
}

impl Stream for Joined {
    type Item = Result<Output, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(sides) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let next = sides.poll(cx);
        if let Poll::Ready(None | Some(Err(_))) = next {
            self.0 = None;
        }
        next
    }
}

impl Sides {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Output, CallError>>> {
        match self.taken.poll_next_unpin(cx) {
            // There may be more, but the output has its turn first.
            Poll::Ready(Some(Ok(Taken::Message))) => cx.waker().wake_by_ref(),
            // Not even output: hyper must get to look for a reset before the next poll.
            Poll::Ready(Some(Ok(Taken::End))) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) | Poll::Pending => {}
        }
        self.output.poll_next_unpin(cx)
    }
}
