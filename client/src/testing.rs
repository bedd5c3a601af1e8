//! A server that answers what its script says, for tests of what the client does with it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by panicking"
)]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixListener;
use tokio::sync::Notify;
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
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn message<T: Message + Default>(&self) -> T {
        T::decode(self.messages[0].clone()).unwrap()
    }
}

#[derive(Default)]
struct State {
    script: Mutex<VecDeque<Vec<Step>>>,
    calls: Mutex<Vec<Call>>,
    connections: AtomicUsize,
    cut: Notify,
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
        self.state.calls.lock().unwrap().clone()
    }
}

async fn serve(io: TokioIo<tokio::net::UnixStream>, state: Arc<State>) {
    state.connections.fetch_add(1, Ordering::Relaxed);
    let service = hyper::service::service_fn(|request| answer(request, Arc::clone(&state)));
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(io, service);
    tokio::select! {
        _ = connection => {}
        () = state.cut.notified() => {}
    }
}

type Answer = http::Response<UnsyncBoxBody<Bytes, io::Error>>;

async fn answer(request: http::Request<Incoming>, state: Arc<State>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes());
    state.calls.lock().unwrap().push(Call {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        messages: unframe(body.unwrap_or_default()),
    });
    let steps = state.script.lock().unwrap().pop_front();
    let steps = steps.unwrap_or_else(|| vec![Step::Hang]);
    let frames = stream::iter(steps).then(move |step| perform(step, Arc::clone(&state)));
    let answer = http::Response::builder()
        .header("content-type", "application/grpc")
        .body(StreamBody::new(frames).boxed_unsync());
    Ok(answer.unwrap())
}

async fn perform(step: Step, state: Arc<State>) -> io::Result<Frame<Bytes>> {
    match step {
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

fn unframe(mut body: Bytes) -> Vec<Bytes> {
    let mut messages = Vec::new();
    while body.len() >= 5 {
        let length = u32::from_be_bytes([body[1], body[2], body[3], body[4]]);
        let _ = body.split_to(5);
        messages.push(body.split_to(usize::try_from(length).unwrap()));
    }
    messages
}
