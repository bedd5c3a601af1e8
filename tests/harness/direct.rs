//! A connection that adds nothing: tonic's own channel keeps the deadlines of its calls itself, so with it
//! nobody sees what the server does about them.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tonic::body::Body;
use tower::Service;

/// What requests are sent to; any valid authority will do.
pub fn origin() -> Uri {
    Uri::from_static("http://localhost")
}

/// A connection, for generated clients with [`origin`].
#[derive(Debug, Clone)]
pub struct Direct {
    sender: SendRequest<Body>,
    _connection: Arc<JoinSet<()>>,
}

impl Direct {
    pub async fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await.unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        let mut driving = JoinSet::new();
        driving.spawn(async move { drop(connection.await) });
        Self {
            sender,
            _connection: Arc::new(driving),
        }
    }
}

impl Service<Request<Body>> for Direct {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}
