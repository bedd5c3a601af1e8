//! HTTP/1.1 as the registry's neighbours speak it: one connection a request.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A body that may break.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A body that is there.
pub fn whole(content: impl Into<Bytes>) -> Body {
    Full::new(content.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

/// An answer that is there.
pub fn answer(status: u16, media_type: &str, content: impl Into<Bytes>) -> Response<Body> {
    Response::builder()
        .status(status)
        .header(http::header::CONTENT_TYPE, media_type)
        .body(whole(content))
        .unwrap()
}

/// Sends a request to `address`, and owns the connection until all of the answer has been read.
pub async fn send(address: &str, request: Request<Body>) -> io::Result<Response<Body>> {
    let stream = TcpStream::connect(address).await?;
    let handshake = client::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    let mut connecting = JoinSet::new();
    connecting.spawn(async move { connection.await.ok() });
    let response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    Ok(response.map(|body| {
        body.map_frame(move |frame| {
            // The connection goes with the body that it brings.
            let _ = &connecting;
            frame
        })
        .map_err(io::Error::other)
        .boxed_unsync()
    }))
}

/// What answers a request; an error cuts the connection.
pub type Answering = Pin<Box<dyn Future<Output = io::Result<Response<Body>>> + Send>>;

/// Listens on a port of `host` that nobody has, and answers until the returned set is dropped.
pub async fn serve(
    host: &str,
    respond: impl Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(accept(listener, Arc::new(respond)));
    (address, serving)
}

async fn accept(
    listener: TcpListener,
    respond: Arc<impl Fn(Request<Incoming>) -> Answering + Send + Sync + 'static>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    let respond = Arc::clone(&respond);
                    let service = service_fn(move |request| respond(request));
                    let connection = server::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    connections.spawn(async move {
                        connection.await.ok();
                    });
                }
            }
            // Ended ones are reaped as they end.
            Some(_) = connections.join_next() => {}
        }
    }
}
