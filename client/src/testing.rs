//! A server that answers what its script says, for tests of what the client does with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper::rt::Executor as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{Address, Client};

/// One step of an answer.
pub(crate) enum Step {
    /// Sends a message.
    Send(Vec<u8>),
    /// Ends the answer.
    End(Status),
    /// Cuts all connections, once everything before is sent.
    Cut,
    /// Answers nothing more.
    Hang,
    /// Waits until the call has sent so many messages.
    Await(usize),
}

/// How the asking half of a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestEnd {
    HalfClosed,
    Cancelled,
}

/// A message to send.
pub(crate) fn send(message: &impl Message) -> Step {
    Step::Send(message.encode_to_vec())
}

/// The good end.
pub(crate) fn ok() -> Step {
    Step::End(Status::ok(""))
}

/// UNAVAILABLE with a reason, to be repeated after 10 ms.
pub(crate) fn away(reason: &str) -> Step {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "wharf", []);
    details.set_retry_info(Some(Duration::from_millis(10)));
    Step::End(Status::with_error_details(
        Code::Unavailable,
        "away",
        details,
    ))
}

/// One call as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) messages: Vec<Bytes>,
    pub(crate) end: Option<RequestEnd>,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn message<T: Message + Default>(&self) -> T {
        T::decode(self.messages[0].clone()).unwrap()
    }

    /// The messages after the first one.
    pub(crate) fn rest<T: Message + Default>(&self) -> Vec<T> {
        let rest = self.messages.iter().skip(1);
        rest.map(|message| T::decode(message.clone()).unwrap())
            .collect()
    }
}

#[derive(Default)]
struct State {
    script: Mutex<VecDeque<Vec<Step>>>,
    calls: watch::Sender<Vec<Call>>,
    connections: AtomicUsize,
    open: watch::Sender<usize>,
    cut: Notify,
    /// Of two-way calls, only the first message is read.
    stalls: AtomicBool,
}

/// A server on a socket of its own, gone when dropped.
pub(crate) struct Server {
    state: Arc<State>,
    directory: tempfile::TempDir,
    tasks: JoinSet<()>,
}

impl Server {
    /// Answers the first call with the first script, and so on; a call beyond hangs.
    pub(crate) fn start(script: Vec<Vec<Step>>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Self {
            state: Arc::default(),
            directory,
            tasks: JoinSet::new(),
        };
        server.state.script.lock().unwrap().extend(script);
        server.listen();
        server
    }

    fn socket(&self) -> std::path::PathBuf {
        self.directory.path().join("s")
    }

    fn listen(&mut self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let state = Arc::clone(&self.state);
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((io, _)) = listener.accept().await {
                connections.spawn(serve(TokioIo::new(io), Arc::clone(&state)));
            }
        });
    }

    /// Takes no more connections, and has none.
    pub(crate) async fn stop(&mut self) {
        self.tasks.shutdown().await;
        std::fs::remove_file(self.socket()).unwrap();
    }

    /// Listens again after [`Self::stop`].
    pub(crate) fn restart(&mut self) {
        self.listen();
    }

    pub(crate) fn address(&self) -> Address {
        Address::Unix(self.socket())
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address()).await.unwrap()
    }

    /// How many connections it has taken.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.calls.borrow().clone()
    }

    /// Reads only the first message of two-way calls from now on.
    pub(crate) fn stall(&self) {
        self.state.stalls.store(true, Ordering::Relaxed);
    }

    /// How many connections it has.
    pub(crate) fn open_connections(&self) -> usize {
        *self.state.open.borrow()
    }

    /// Waits until it has so many connections.
    pub(crate) async fn until_connections(&self, count: usize) {
        let mut open = self.state.open.subscribe();
        open.wait_for(|open| *open == count).await.unwrap();
    }

    /// Waits until the calls are as they should be.
    pub(crate) async fn until(&self, reached: impl Fn(&[Call]) -> bool) {
        let mut calls = self.state.calls.subscribe();
        calls.wait_for(|calls| reached(calls)).await.unwrap();
    }
}

async fn serve(io: TokioIo<tokio::net::UnixStream>, state: Arc<State>) {
    state.connections.fetch_add(1, Ordering::Relaxed);
    state.open.send_modify(|open| *open += 1);
    let answering = Arc::clone(&state);
    let service =
        hyper::service::service_fn(move |request| answer(request, Arc::clone(&answering)));
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(io, service);
    tokio::select! {
        _ = connection => {}
        () = state.cut.notified() => {}
    }
    state.open.send_modify(|open| *open -= 1);
}

type Answer = http::Response<UnsyncBoxBody<Bytes, io::Error>>;

async fn answer(request: http::Request<Incoming>, state: Arc<State>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let two_way = ["/Run", "/Attach"]
        .iter()
        .any(|name| head.uri.path().contains(name));
    let mut index = 0;
    state.calls.send_modify(|calls| {
        index = calls.len();
        calls.push(Call {
            path: head.uri.path().to_owned(),
            headers: head.headers,
            messages: Vec::new(),
            end: None,
        });
    });
    let reading = read(body, index, Arc::clone(&state));
    if two_way {
        TokioExecutor::new().execute(reading);
        received(&state, index, 1).await;
    } else {
        reading.await;
    }
    let steps = state.script.lock().unwrap().pop_front();
    let steps = steps.unwrap_or_else(|| vec![Step::Hang]);
    let frames = stream::iter(steps).then(move |step| perform(step, index, Arc::clone(&state)));
    let answer = http::Response::builder()
        .header("content-type", "application/grpc")
        .body(StreamBody::new(frames).boxed_unsync());
    Ok(answer.unwrap())
}

/// Notes the messages of a call as they come in.
async fn read(mut body: Incoming, index: usize, state: Arc<State>) {
    let mut unread = BytesMut::new();
    let end = loop {
        match body.frame().await {
            Some(Ok(frame)) => unread.extend(frame.into_data().unwrap_or_default()),
            Some(Err(_)) => break RequestEnd::Cancelled,
            None => break RequestEnd::HalfClosed,
        }
        let messages = unframe(&mut unread);
        let call = |calls: &mut Vec<Call>| calls[index].messages.extend(messages);
        state.calls.send_modify(call);
        if state.stalls.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    state
        .calls
        .send_modify(|calls| calls[index].end = Some(end));
}

async fn received(state: &State, index: usize, count: usize) {
    let mut calls = state.calls.subscribe();
    let _ = calls
        .wait_for(|calls| calls[index].messages.len() >= count)
        .await;
}

async fn perform(step: Step, index: usize, state: Arc<State>) -> io::Result<Frame<Bytes>> {
    match step {
        Step::Await(count) => {
            received(&state, index, count).await;
            Ok(Frame::data(Bytes::new()))
        }
        Step::Send(message) => Ok(Frame::data(frame(&message))),
        Step::End(status) => {
            let mut trailers = http::HeaderMap::new();
            status.add_header(&mut trailers).unwrap();
            Ok(Frame::trailers(trailers))
        }
        Step::Cut => {
            // What was sent before must have left: the connection's task, on the same thread, gets
            // its turns to write it.
            for _ in 0..32 {
                tokio::task::yield_now().await;
            }
            state.cut.notify_waiters();
            std::future::pending().await
        }
        Step::Hang => std::future::pending().await,
    }
}

/// gRPC's framing: one byte of flags, four of length.
fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap());
    framed.put_slice(message);
    framed.freeze()
}

/// Takes the whole messages off `unread`.
fn unframe(unread: &mut BytesMut) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while let Some(header) = unread.first_chunk::<5>() {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let length = usize::try_from(length).unwrap();
        if unread.len() < 5 + length {
            break;
        }
        unread.advance(5);
        messages.push(unread.split_to(length).freeze());
    }
    messages
}
