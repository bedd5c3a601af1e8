//! A counting proxy between `wharfd` and containerd. It passes every call through as it is, body by body
//! and trailer by trailer, counts calls by path, and misbehaves where it is told to.

mod faults;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::client::conn::http2 as client;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use faults::Fault;
use faults::Faults;

/// Calls by path: `/containerd.services.tasks.v1.Tasks/Start`.
pub type Counts = BTreeMap<String, usize>;

type Body = BoxBody<Bytes, hyper::Error>;

/// A proxy in place. Dropped, it cuts all connections.
#[derive(Debug)]
pub struct Proxy {
    state: Arc<State>,
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    target: PathBuf,
    counts: Mutex<Counts>,
    /// Path and metadata of every call, in order.
    seen: Mutex<Vec<(String, HeaderMap)>>,
    faults: Mutex<Faults>,
    /// Moves when all connections are to be cut.
    cut: watch::Sender<u64>,
}

impl Proxy {
    /// Listens on `listen` and passes on to `target`, which need not be there yet.
    pub fn start(listen: &Path, target: &Path) -> Self {
        let listener = UnixListener::bind(listen).unwrap();
        let state = Arc::new(State {
            target: target.to_owned(),
            counts: Mutex::default(),
            seen: Mutex::default(),
            faults: Mutex::default(),
            cut: watch::Sender::new(0),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&state)));
        Self {
            state,
            _accepting: accepting,
        }
    }

    /// The calls so far.
    pub fn counts(&self) -> Counts {
        self.state.counts.lock().unwrap().clone()
    }

    /// The calls since an earlier count.
    pub fn since(&self, before: &Counts) -> Counts {
        self.counts()
            .into_iter()
            .map(|(path, count)| {
                let earlier = before.get(&path).copied().unwrap_or_default();
                (path, count - earlier)
            })
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    /// The metadata of every call of `path` so far, in order.
    pub fn metadata_of(&self, path: &str) -> Vec<HeaderMap> {
        let seen = self.state.seen.lock().unwrap();
        let calls = seen.iter().filter(|(called, _)| called == path);
        calls.map(|(_, metadata)| metadata.clone()).collect()
    }

    /// Misbehaves at every call of `path`, until [`Self::heal`].
    pub fn fail(&self, path: &str, fault: Fault) {
        self.state.faults.lock().unwrap().set(path, fault, None);
    }

    /// Misbehaves at the next `times` calls of `path`.
    pub fn fail_times(&self, path: &str, fault: Fault, times: usize) {
        self.state
            .faults
            .lock()
            .unwrap()
            .set(path, fault, Some(times));
    }

    /// Behaves again, at every path.
    pub fn heal(&self) {
        self.state.faults.lock().unwrap().clear();
    }

    /// Cuts every connection there is; new ones are taken.
    pub fn cut(&self) {
        self.state.cut.send_modify(|count| *count += 1);
    }
}

async fn accept(listener: UnixListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((inbound, _)) = accepted {
                    connections.spawn(serve(inbound, Arc::clone(&state)));
                }
            }
            // Ended ones are reaped as they end.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection in, one connection out: what breaks on one side breaks on the other.
async fn serve(inbound: UnixStream, state: Arc<State>) {
    let mut cut = state.cut.subscribe();
    let Ok(outbound) = UnixStream::connect(&state.target).await else {
        return;
    };
    let handshake = client::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .handshake::<_, Incoming>(TokioIo::new(outbound));
    let Ok((sender, upstream)) = handshake.await else {
        return;
    };
    let service = service_fn(move |request| pass_on(Arc::clone(&state), sender.clone(), request));
    let downstream = server::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20)
        .serve_connection(TokioIo::new(inbound), service);
    tokio::select! {
        _ = downstream => {}
        _ = upstream => {}
        _ = cut.changed() => {}
    }
}

async fn pass_on(
    state: Arc<State>,
    mut sender: client::SendRequest<Incoming>,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    *state
        .counts
        .lock()
        .unwrap()
        .entry(path.clone())
        .or_default() += 1;
    let call = (path.clone(), request.headers().clone());
    state.seen.lock().unwrap().push(call);
    let fault = state.faults.lock().unwrap().take(&path);
    match fault {
        Some(Fault::Status(code, message)) => return Ok(faults::status(code, message)),
        Some(Fault::Hang) => match pending::<Infallible>().await {},
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::ActThenCut) => {
            // containerd does it; its answer is lost with the connection.
            let answer = sender.send_request(request).await?;
            answer.into_body().collect().await.ok();
            state.cut.send_modify(|count| *count += 1);
            match pending::<Infallible>().await {}
        }
        Some(Fault::Cut) => {
            state.cut.send_modify(|count| *count += 1);
            match pending::<Infallible>().await {}
        }
        None => {}
    }
    let answer = sender.send_request(request).await?;
    Ok(answer.map(BodyExt::boxed))
}
