//! The same over real connections: a client that leaves, in whatever way, closes nobody's stdin.

use std::convert::Infallible;
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use futures_util::future::BoxFuture;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use prost::Message as _;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Streaming;
use tonic::server::{Grpc, StreamingService};

use super::*;
use crate::model::Principal;
use crate::transport::connection::Connections;
use crate::transport::gate::Gate;
use crate::transport::layers::{self, LayerOptions, Peer};

const PATIENCE: Duration = Duration::from_secs(20);

/// Joins each call with a process, and hands that to the test.
#[derive(Clone)]
struct Attaches(mpsc::UnboundedSender<Process>);

impl StreamingService<v1::AttachExecRequest> for Attaches {
    type Response = v1::AttachExecResponse;
    type ResponseStream = Answers<v1::AttachExecResponse>;
    type Future = BoxFuture<'static, Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<v1::AttachExecRequest>>) -> Self::Future {
        let processes = self.0.clone();
        Box::pin(async move {
            let mut messages = request.into_inner();
            start(&mut messages).await?;
            let (answers, process) = call(messages);
            processes.send(process).ok();
            Ok(tonic::Response::new(answers))
        })
    }
}

/// A server and one connection to it.
struct Wire {
    requests: SendRequest<Bytes>,
    processes: mpsc::UnboundedReceiver<Process>,
    client: JoinSet<()>,
    _server: JoinSet<()>,
}

impl Wire {
    async fn connect() -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (sender, processes) = mpsc::unbounded_channel();
        let mut server = JoinSet::new();
        server.spawn(serve(theirs, sender));
        let (requests, connection) = h2::client::handshake(ours).await.unwrap();
        let mut client = JoinSet::new();
        client.spawn(async { drop(connection.await) });
        Self {
            requests,
            processes,
            client,
            _server: server,
        }
    }

    /// Opens a call and waits until it is attached.
    async fn attach(&mut self) -> (Call, Process) {
        let request = http::Request::post("http://localhost/wharf.v1.ExecService/AttachExec")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, send) = self.requests.send_request(request, false).unwrap();
        let mut call = Call {
            send,
            answers: None,
        };
        call.send(&start_message());
        call.answers = Some(attached(response).await);
        let process = timeout(PATIENCE, self.processes.recv()).await;
        (call, process.unwrap().unwrap())
    }
}

/// All that there is between a socket and a handler.
async fn serve(stream: UnixStream, processes: mpsc::UnboundedSender<Process>) {
    let gate = Gate::new();
    gate.open();
    let options = LayerOptions {
        gate: gate.clone(),
        backend: "fake",
    };
    let attaches = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
        let attaches = Attaches(processes.clone());
        async move {
            let codec = tonic_prost::ProstCodec::default();
            Ok::<_, Infallible>(Grpc::new(codec).streaming(attaches, request).await)
        }
    });
    let connections = Connections {
        tasks: TaskTracker::new(),
        gate,
        cut: CancellationToken::new(),
    };
    let peer = Peer(Principal::user(1000));
    let handler = layers::around(attaches, &options);
    connections.serve(Either::Left(stream), peer, handler).await;
}

async fn attached(response: ResponseFuture) -> RecvStream {
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    let mut answers = response.into_body();
    let first = timeout(PATIENCE, answers.data()).await.unwrap();
    first.unwrap().unwrap();
    answers
}

struct Call {
    send: SendStream<Bytes>,
    answers: Option<RecvStream>,
}

impl Call {
    fn send(&mut self, message: &v1::AttachExecRequest) {
        let encoded = message.encode_to_vec();
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(encoded.len()).unwrap());
        bytes.put_slice(&encoded);
        self.send.send_data(bytes.freeze(), false).unwrap();
    }
}

/// What the process sees until its session is gone.
async fn until_gone(mut process: Process) -> Vec<Seen> {
    let mut all = Vec::new();
    while let Some(seen) = timeout(PATIENCE, process.seen.recv()).await.unwrap() {
        if seen == Seen::Gone {
            break;
        }
        all.push(seen);
    }
    all
}

/// Leaves attached calls by `leave`, and looks at what the process saw of it.
async fn leaving_closes_nothing(leave: impl Fn(Call)) {
    let mut wire = Wire::connect().await;
    for n in 0..200 {
        let (mut call, process) = wire.attach().await;
        if n % 2 == 0 {
            call.send(&stdin(b"abc"));
        }
        // Busy with output as well as idle.
        if n % 3 == 0 {
            for _ in 0..100 {
                process.chunk(&[b'x'; 4_096]);
            }
        }
        leave(call);
        let seen = until_gone(process).await;
        assert!(!seen.contains(&Seen::End), "call {n}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_cancelled_call_closes_nobodys_stdin() {
    leaving_closes_nothing(|mut call| call.send.send_reset(Reason::CANCEL)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_call_that_is_reset_for_an_error_closes_nobodys_stdin() {
    leaving_closes_nothing(|mut call| call.send.send_reset(Reason::INTERNAL_ERROR)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_call_that_is_dropped_closes_nobodys_stdin() {
    leaving_closes_nothing(drop).await;
}

/// As hyper's client does when its user drops a call: the body ends, then nobody wants the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_half_close_that_a_cancel_follows_at_once_closes_nobodys_stdin() {
    leaving_closes_nothing(|mut call| {
        drop(call.answers.take());
        call.send.send_data(Bytes::new(), true).unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_lost_connection_closes_nobodys_stdin() {
    for n in 0..100 {
        let mut wire = Wire::connect().await;
        let (mut call, process) = wire.attach().await;
        if n % 2 == 0 {
            call.send(&stdin(b"abc"));
            process.chunk(&[b'x'; 4_096]);
        }
        wire.client.shutdown().await;
        let seen = until_gone(process).await;
        assert!(!seen.contains(&Seen::End), "connection {n}: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_half_close_closes_stdin_and_the_output_arrives_whole() {
    let mut wire = Wire::connect().await;
    for _ in 0..50 {
        let (mut call, mut process) = wire.attach().await;
        call.send(&stdin(b"abc"));
        call.send.send_data(Bytes::new(), true).unwrap();
        let abc = Seen::Stdin(Bytes::from_static(b"abc"));
        for expected in [abc, Seen::End] {
            let seen = timeout(PATIENCE, process.seen.recv()).await.unwrap();
            assert_eq!(seen, Some(expected));
        }
        process.chunk(b"late output");
        process.exits();
        let mut answers = call.answers.take().unwrap();
        let mut bytes = Vec::new();
        while let Some(data) = timeout(PATIENCE, answers.data()).await.unwrap() {
            bytes.extend_from_slice(&data.unwrap());
        }
        assert!(bytes.windows(11).any(|window| window == b"late output"));
        let trailers = answers.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
    }
}
