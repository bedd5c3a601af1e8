//! One connection: its handshake, its HTTP/2, its end.

use std::pin::pin;
use std::{io, time::Duration};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower::ServiceExt as _;
use tower::util::Oneshot;

use super::authority::{AuthorityRepair, MAX_FRAME_BYTES};
use super::gate::Gate;
use super::layers::{Handler, Peer};
use super::listener::Stream;
use crate::model::limits;

/// What every HTTP/2 client sends first (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Who owns the tasks of all connections, and how they end.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    pub(super) tasks: TaskTracker,
    /// Ends them by themselves.
    pub(super) gate: Gate,
    /// Ends them at once.
    pub(super) cut: CancellationToken,
}

/// What the tasks of one connection's streams run on: owned, and cut with all others.
#[derive(Debug, Clone)]
struct Streams {
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let cut = self.cut.clone();
        self.tasks
            .spawn(async move { cut.run_until_cancelled_owned(stream).await });
    }
}

impl Connections {
    /// Serves one connection to its end.
    pub(super) async fn serve(self, stream: Stream, peer: Peer, handler: impl Handler) {
        let cut = self.cut.clone();
        let served = cut.run_until_cancelled(self.run(stream, peer, handler));
        match served.await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(%error, "connection ended"),
            None => tracing::debug!("connection cut"),
        }
    }

    async fn run(
        &self,
        mut stream: Stream,
        peer: Peer,
        handler: impl Handler,
    ) -> Result<(), ConnectionError> {
        tokio::select! {
            shaken = handshake(&mut stream, limits::HANDSHAKE_TIMEOUT) => shaken?,
            () = self.gate.draining() => return Ok(()),
        }
        let io = TokioIo::new(AuthorityRepair::new(stream, PREFACE));
        let calls = Calls { handler, peer };
        let mut connection = pin!(self.http2().serve_connection(io, calls));
        tokio::select! {
            ended = &mut connection => return Ok(ended?),
            () = self.gate.draining() => {}
        }
        connection.as_mut().graceful_shutdown();
        Ok(connection.await?)
    }

    fn http2(&self) -> Builder<Streams> {
        let mut http2 = Builder::new(Streams {
            tasks: self.tasks.clone(),
            cut: self.cut.clone(),
        });
        http2
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .keep_alive_interval(limits::KEEPALIVE_INTERVAL)
            .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
            .max_frame_size(MAX_FRAME_BYTES)
            .max_concurrent_streams(limits::MAX_CONCURRENT_STREAMS)
            .max_header_list_size(limits::MAX_HEADER_LIST_BYTES)
            .initial_stream_window_size(limits::STREAM_WINDOW_BYTES)
            .initial_connection_window_size(limits::CONNECTION_WINDOW_BYTES)
            .max_pending_accept_reset_streams(limits::MAX_PENDING_RESETS)
            .max_local_error_reset_streams(limits::MAX_ERROR_RESETS)
            .max_send_buf_size(limits::MAX_SEND_BUFFER_BYTES);
        http2
    }
}

/// Why a connection ended other than by its client's will.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("no HTTP/2 preface: {0}")]
    Handshake(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// Waits for the client to show that it speaks HTTP/2. Until then it costs next to nothing.
async fn handshake(stream: &mut Stream, limit: Duration) -> io::Result<()> {
    timeout(limit, preface(stream)).await?
}

/// Reads the preface, and gives up at the first byte that is another: a client that speaks HTTP/1
/// waits for an answer, and may have less to say than the preface is long.
async fn preface(stream: &mut Stream) -> io::Result<()> {
    let mut read = [0; PREFACE.len()];
    let mut filled = 0;
    while filled < read.len() {
        match stream.read(&mut read[filled..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => filled += more,
        }
        if !PREFACE.starts_with(&read[..filled]) {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(())
}

/// The calls of one connection: each is told whom it comes from.
#[derive(Debug, Clone)]
struct Calls<S> {
    handler: S,
    peer: Peer,
}

impl<S: Handler> hyper::service::Service<Request<Incoming>> for Calls<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Oneshot<S, Request<Body>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer.clone());
        self.handler.clone().oneshot(request)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;
    use tokio_util::either::Either;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_has_limited_time() {
        let (stream, _silent) = UnixStream::pair().unwrap();
        let start = tokio::time::Instant::now();
        let shaken = handshake(&mut Either::Left(stream), limits::HANDSHAKE_TIMEOUT).await;
        assert_eq!(shaken.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), limits::HANDSHAKE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_speaks_another_protocol_is_not_waited_for() {
        let (stream, mut other) = UnixStream::pair().unwrap();
        other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let start = tokio::time::Instant::now();
        let shaken = handshake(&mut Either::Left(stream), limits::HANDSHAKE_TIMEOUT).await;
        assert_eq!(shaken.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_preface_may_come_byte_by_byte() {
        let (stream, mut client) = UnixStream::pair().unwrap();
        let slowly = async {
            for byte in PREFACE {
                client.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let mut stream = Either::Left(stream);
        let shaken = handshake(&mut stream, limits::HANDSHAKE_TIMEOUT);
        assert!(tokio::join!(shaken, slowly).0.is_ok());
    }
}
