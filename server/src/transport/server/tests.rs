//! A real server, real sockets, a real client.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::pin::Pin;

use futures_util::{Stream as Items, future, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tonic::service::Routes;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;
use wharf_api::v1::event_service_client::EventServiceClient;
use wharf_api::v1::event_service_server::{EventService, EventServiceServer};
use wharf_api::v1::*;

use super::*;
use crate::transport::context::RequestContext;
use crate::transport::listener::Address;

/// Lists the caller's principal; watches without end; gets stuck when asked for a page.
#[derive(Debug, Clone)]
struct Events;

#[tonic::async_trait]
impl EventService for Events {
    type WatchEventsStream = Pin<Box<dyn Items<Item = Result<WatchEventsResponse, Status>> + Send>>;

    async fn watch_events(
        &self,
        _: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let first = stream::iter([Ok(WatchEventsResponse::default())]);
        let rest = stream::pending();
        Ok(Response::new(Box::pin(futures_util::StreamExt::chain(
            first, rest,
        ))))
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let context = RequestContext::of(&request)?;
        if request.into_inner().page_size == 1 {
            future::pending::<()>().await;
        }
        Ok(Response::new(ListEventsResponse {
            next_page_token: context.principal.to_string(),
            ..ListEventsResponse::default()
        }))
    }
}

struct Running {
    gate: Gate,
    served: JoinHandle<Drained>,
    socket: PathBuf,
    port: String,
    _dir: tempfile::TempDir,
}

async fn start() -> Running {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("wharf.sock");
    let unix = Listener::bind(&Address::Unix(socket.clone()))
        .await
        .unwrap();
    let tcp = Listener::bind(&"tcp://127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let port = tcp.address().to_string();
    let gate = Gate::new();
    gate.open();
    let options = ServeOptions {
        gate: gate.clone(),
        backend: "fake",
        drain_timeout: Duration::from_millis(300),
    };
    let routes = Routes::new(EventServiceServer::new(Events));
    Running {
        gate,
        served: tokio::task::spawn(serve(vec![unix, tcp], routes, options)),
        socket,
        port: port.trim_start_matches("tcp://").to_owned(),
        _dir: dir,
    }
}

impl Running {
    async fn client(&self) -> EventServiceClient<tonic::transport::Channel> {
        let address = format!("unix://{}", self.socket.display());
        let endpoint = Endpoint::try_from(address).unwrap();
        EventServiceClient::new(endpoint.connect().await.unwrap())
    }

    async fn drain(self) -> Drained {
        self.gate.drain();
        let drained = self.served.await.unwrap();
        assert!(!self.socket.exists(), "the socket is gone");
        assert!(TcpStream::connect(&self.port).await.is_err());
        drained
    }
}

fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map(|info| info.reason).unwrap_or_default()
}

fn stuck() -> ListEventsRequest {
    ListEventsRequest {
        page_size: 1,
        ..ListEventsRequest::default()
    }
}

#[tokio::test]
async fn a_caller_is_known_by_the_socket_it_came_from() {
    let server = start().await;
    let mut client = server.client().await;
    let answer = client
        .list_events(ListEventsRequest::default())
        .await
        .unwrap();
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(answer.into_inner().next_page_token, format!("uid:{uid}"));

    let endpoint = Endpoint::try_from(format!("http://{}", server.port)).unwrap();
    let mut client = EventServiceClient::new(endpoint.connect().await.unwrap());
    let answer = client
        .list_events(ListEventsRequest::default())
        .await
        .unwrap();
    assert_eq!(answer.into_inner().next_page_token, "loopback");
    drop(client);
    assert_eq!(server.drain().await, Drained::Clean);
}

#[tokio::test]
async fn a_drain_ends_streams_and_leaves_nothing() {
    let server = start().await;
    let mut client = server.client().await;
    let watch = client.watch_events(WatchEventsRequest::default());
    let mut watch = watch.await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let (drained, end) = tokio::join!(server.drain(), watch.message());
    let end = end.unwrap_err();
    assert_eq!(
        (end.code(), &*reason(&end)),
        (Code::Unavailable, "SERVER_DRAINING")
    );
    assert_eq!(drained, Drained::Clean);
}

#[tokio::test]
async fn a_call_that_does_not_end_is_cut() {
    let server = start().await;
    let mut client = server.client().await;
    let mut second = client.clone();
    let stuck = tokio::task::spawn(async move { client.list_events(stuck()).await });
    // It is under way once a later call on the same connection is answered.
    second
        .list_events(ListEventsRequest::default())
        .await
        .unwrap();
    assert!(matches!(server.drain().await, Drained::Cut { .. }));
    assert!(stuck.await.unwrap().is_err());
}

#[tokio::test]
async fn a_client_that_speaks_something_else_is_closed() {
    let server = start().await;
    let mut stream = UnixStream::connect(&server.socket).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // Closed with unread bytes, which a Unix socket reports as a reset.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    server.client().await;
    assert_eq!(server.drain().await, Drained::Clean);
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_hold_up_a_drain() {
    let server = start().await;
    let silent = UnixStream::connect(&server.socket).await.unwrap();
    server.client().await;
    assert_eq!(server.drain().await, Drained::Clean);
    drop(silent);
}

#[tokio::test]
async fn a_server_that_nobody_waits_for_ends() {
    let server = start().await;
    let mut client = server.client().await;
    client
        .list_events(ListEventsRequest::default())
        .await
        .unwrap();
    server.served.abort();
    let gone = |path: &Path| !path.exists();
    tokio::time::timeout(Duration::from_secs(10), async {
        while !gone(&server.socket) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let failed = client.list_events(ListEventsRequest::default()).await;
    assert!(failed.is_err());
}

#[tokio::test]
async fn a_connection_too_many_is_closed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("wharf.sock");
    let listener = Listener::bind(&Address::Unix(socket.clone()))
        .await
        .unwrap();
    let mut client = UnixStream::connect(&socket).await.unwrap();
    let accepted = listener.accept().await.unwrap();
    let connections = Connections {
        tasks: TaskTracker::new(),
        gate: Gate::new(),
        cut: CancellationToken::new(),
    };
    let full = Arc::new(Semaphore::new(0));
    admit(&listener, &full, accepted, &Routes::default(), &connections);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    assert!(connections.tasks.is_empty());
}
