//! The state machine of a session: takes what the server says, in order, and opens again what was
//! interrupted. The diagram stands in the parent module.
//!
//! It owns the stream's answering half and, through the port, the asking half; it must not hold a byte
//! longer than its caller takes to ask for the next.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use tokio::time::timeout;
use wharf_api::ErrorReason;
use wharf_api::v1::process_output::Kind;
use wharf_api::v1::wait_container_request::Condition;
use wharf_api::v1::{
    Attached, OutputStream, ProcessOutput, ProcessStarted, StreamOffset, WaitContainerRequest,
    WaitResult,
};

use super::InputFate;
use super::opening::{Opening, Standing, Stdin};
use super::output::{Output, Positions};
use super::port::{Delivery, Port};
use super::replies::{Opened, Replies, Reply};
use crate::client::{CallContext, Client};
use crate::error::Error;
use crate::resume::Interruptions;

/// How long the server is given to end a stream after its last message.
const FAREWELL: Duration = Duration::from_secs(1);

/// A session, without its caller's side.
pub(crate) struct Engine {
    // Dropped before the port: first the answering half, then the asking one.
    link: Link,
    port: Option<Port>,
    client: Client,
    call: CallContext,
    opening: Opening,
    interruptions: Interruptions,
    positions: Positions,
    attached: Option<Attached>,
    created: bool,
    /// 0 before the start.
    run: u64,
    stdin: Stdin,
    /// Between an interruption and the answer to the attempt that takes the session up again.
    rejoining: bool,
    /// What one message or one interruption has made of itself; a handful.
    ready: VecDeque<Output>,
}

/// Where the session gets its next message.
enum Link {
    /// Opening, now or after a delay.
    Opening(BoxFuture<'static, Result<Opened, Error>>),
    Open(Replies),
    /// The last message came; only the status is left, which changes nothing.
    Ending(Replies),
    /// The run cannot be attached to any more, but how it ended is still known.
    Waiting(BoxFuture<'static, Result<WaitResult, Error>>),
    Over,
}

/// What a link gives.
enum Step {
    Opened(Opened),
    Reply(Option<Reply>),
    Result(Box<WaitResult>),
}

impl Engine {
    pub(crate) fn new(client: &Client, opening: Opening, port: Option<Port>) -> Self {
        let call = client.context(opening.method()).repeatable();
        let link = Link::Opening(open(client, &call, opening.clone(), Duration::ZERO));
        Self {
            link,
            port,
            client: client.clone(),
            call,
            positions: opening.positions(),
            opening,
            interruptions: Interruptions::default(),
            attached: None,
            created: false,
            run: 0,
            stdin: Stdin::AsBefore,
            rejoining: false,
            ready: VecDeque::new(),
        }
    }

    pub(crate) fn attached(&self) -> Option<&Attached> {
        self.attached.as_ref()
    }

    pub(crate) fn offsets(&self) -> Vec<StreamOffset> {
        let mut offsets = self.positions.known();
        offsets.retain(|offset| self.reads(offset.stream()));
        offsets
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Output>, Error> {
        loop {
            if let Some(output) = self.ready.pop_front() {
                return Ok(Some(output));
            }
            match &mut self.link {
                Link::Over => return Ok(None),
                Link::Ending(replies) => {
                    let _ = timeout(FAREWELL, replies.stream.next()).await;
                    self.link = Link::Over;
                    return Ok(None);
                }
                Link::Opening(_) | Link::Open(_) | Link::Waiting(_) => {}
            }
            let step = self.step().await;
            if let Err(error) = step.and_then(|step| self.take(step)) {
                self.interrupted(error)?;
            }
        }
    }

    async fn step(&mut self) -> Result<Step, Error> {
        match &mut self.link {
            Link::Opening(opening) => opening.await.map(Step::Opened),
            Link::Open(replies) => {
                let reply = replies.stream.try_next();
                self.call
                    .bounded(self.client.address(), reply)
                    .await
                    .map(Step::Reply)
            }
            Link::Waiting(wait) => wait.await.map(|result| Step::Result(Box::new(result))),
            Link::Ending(_) | Link::Over => Ok(Step::Reply(None)),
        }
    }

    fn take(&mut self, step: Step) -> Result<(), Error> {
        match step {
            Step::Opened(opened) => {
                self.link = Link::Open(opened.replies);
                if let (Some(port), Some(line)) = (&mut self.port, opened.line) {
                    port.connected(line);
                }
                Ok(())
            }
            Step::Reply(Some(reply)) => {
                self.interruptions.over();
                self.reply(reply);
                Ok(())
            }
            Step::Reply(None) => Err(Error::Incomplete {
                method: self.opening.method(),
            }),
            Step::Result(result) => {
                let exited = Output::Exited(result.exit_status.unwrap_or_default());
                self.finish(exited);
                Ok(())
            }
        }
    }

    fn reply(&mut self, reply: Reply) {
        match reply {
            Reply::Progress(progress) if !self.created => {
                self.ready.push_back(Output::Progress(progress));
            }
            Reply::Created(created) if !self.created => {
                self.created = true;
                self.ready.push_back(Output::Created(created));
            }
            Reply::Attached(attached) => self.join(attached),
            Reply::Output(output) => self.output(output),
            // Told before the interruption, or newer than this client.
            Reply::Progress(_) | Reply::Created(_) | Reply::Unknown => {}
        }
    }

    fn join(&mut self, attached: Attached) {
        if let Some(port) = &self.port {
            port.attached();
        }
        self.rejoining = false;
        if self.attached.is_none() {
            self.attached = Some(attached.clone());
            self.ready.push_back(Output::Attached(attached));
        } else {
            self.rejoin();
        }
    }

    /// Says what the interruption has cost.
    fn rejoin(&mut self) {
        if let Some(port) = &self.port {
            port.detach_again();
        }
        let fate = self.settle_input();
        self.ready.push_back(Output::Resumed(fate));
        if self.run > 0 {
            let unknown: Vec<_> = self.positions.unknown().collect();
            self.announce_unknown_gaps(unknown);
        }
    }

    /// A stream that takes input although its end was sent did not hear the end, nor perhaps what came
    /// before it.
    fn settle_input(&self) -> InputFate {
        let Some(port) = &self.port else {
            return InputFate::Untouched;
        };
        let was_closed = port.is_closed();
        match self.stdin {
            Stdin::AsBefore => port.settle(Delivery::InDoubt),
            Stdin::Without => {
                port.closed();
                let delivery = match was_closed {
                    true => Delivery::Complete,
                    false => Delivery::InDoubt,
                };
                port.settle(delivery)
            }
        }
    }

    fn announce_unknown_gaps(&mut self, streams: impl IntoIterator<Item = OutputStream>) {
        for stream in streams {
            if self.reads(stream) {
                self.ready.push_back(Output::Gap {
                    stream,
                    dropped_bytes: None,
                });
            }
        }
    }

    /// Whether output of `stream` can come: a terminal has only one.
    fn reads(&self, stream: OutputStream) -> bool {
        let terminal = self.attached.as_ref().is_some_and(|it| it.terminal);
        self.opening.wants(stream) && !(terminal && stream == OutputStream::Stderr)
    }

    fn output(&mut self, output: ProcessOutput) {
        match output.kind {
            Some(Kind::Started(started)) => self.started(started),
            Some(Kind::Output(chunk)) => self.ready.extend(self.positions.chunk(chunk)),
            Some(Kind::Gap(gap)) => self.ready.push_back(self.positions.gap(&gap)),
            Some(Kind::Exited(status)) => self.finish(Output::Exited(status)),
            Some(Kind::Detached(_)) => self.finish(Output::Detached),
            None => {}
        }
    }

    fn started(&mut self, started: ProcessStarted) {
        if self.run > 0 && self.opening.is_of_container() && started.run != self.run {
            // The next run's, joined because the one that this session is about is over.
            self.wait_for_exit();
            return;
        }
        let known = self.run > 0;
        self.run = started.run.max(1);
        if let Some(port) = &self.port {
            port.started();
            if known && port.is_closed() && self.stdin == Stdin::AsBefore {
                port.close_again();
            }
        }
        if !known {
            self.ready.push_back(Output::Started(started));
        }
    }

    /// Leaves the stream to be read to its end: a call that is dropped before counts as cancelled.
    fn finish(&mut self, last: Output) {
        let link = std::mem::replace(&mut self.link, Link::Over);
        self.end();
        if let Link::Open(replies) = link {
            self.link = Link::Ending(replies);
        }
        self.ready.push_back(last);
    }

    fn end(&mut self) {
        self.link = Link::Over;
        if let Some(port) = &mut self.port {
            port.end();
        }
    }

    /// Opens again what was interrupted, or ends the session with `error`.
    fn interrupted(&mut self, error: Error) -> Result<(), Error> {
        if let Some(port) = &mut self.port {
            port.away();
        }
        if self.rejoining && self.run > 0 {
            if self.stdin == Stdin::AsBefore && is(&error, &[ErrorReason::StdinNotOpen]) {
                self.stdin = Stdin::Without;
                self.reopen(Duration::ZERO);
                return Ok(());
            }
            if self.opening.is_of_container() && is(&error, RUN_IS_OVER) {
                self.wait_for_exit();
                return Ok(());
            }
        }
        if !self.client.repeats() {
            self.end();
            return Err(error);
        }
        match self.interruptions.next_delay(error) {
            Ok(delay) => {
                self.reopen(delay);
                Ok(())
            }
            Err(error) => {
                self.end();
                Err(error)
            }
        }
    }

    /// Before anything is joined the same request does; after it only one that names what has been
    /// delivered.
    fn reopen(&mut self, delay: Duration) {
        if self.run == 0 && self.attached.is_some() {
            // The process may start while nobody listens: then its first bytes are wanted, too.
            self.positions.begin();
        }
        let again = match &self.attached {
            Some(attached) => self.opening.again(&Standing {
                attached,
                run: (self.run > 0).then_some(self.run),
                resume: self.offsets(),
                stdin: self.stdin,
            }),
            None => self.opening.clone(),
        };
        self.rejoining = true;
        self.link = Link::Opening(open(&self.client, &self.call, again, delay));
    }

    /// The rest of the run's output cannot be had any more; how it ended can. A refusal of that, too, ends
    /// the session.
    fn wait_for_exit(&mut self) {
        self.rejoining = false;
        self.announce_unknown_gaps([OutputStream::Stdout, OutputStream::Stderr]);
        let attached = self.attached.clone().unwrap_or_default();
        let request = WaitContainerRequest {
            container: attached.container_id,
            conditions: vec![Condition::Exited.into()],
            run: self.run,
        };
        let (client, call) = (self.client.clone(), self.call.clone());
        let wait = async move { call.within(client.wait(request)).await };
        self.link = Link::Waiting(wait.boxed());
    }
}

/// What an attach to a run that is over is refused with.
const RUN_IS_OVER: &[ErrorReason] = &[
    ErrorReason::RunChanged,
    ErrorReason::ContainerNotFound,
    ErrorReason::DeletedConcurrently,
];

fn is(error: &Error, reasons: &[ErrorReason]) -> bool {
    error
        .reason()
        .is_some_and(|reason| reasons.contains(&reason))
}

fn open(
    client: &Client,
    call: &CallContext,
    opening: Opening,
    delay: Duration,
) -> BoxFuture<'static, Result<Opened, Error>> {
    let (client, call) = (client.clone(), call.clone());
    async move {
        call.pause(delay).await?;
        opening.open(&client, &call.again()).await
    }
    .boxed()
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("opening", &self.opening)
            .field("attached", &self.attached)
            .field("positions", &self.positions)
            .finish_non_exhaustive()
    }
}
