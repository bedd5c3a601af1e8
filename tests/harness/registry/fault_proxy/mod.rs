//! A proxy between `wharfd` and a registry. It passes every request on as it is, keeps what was asked for,
//! counts what it sends of each blob, and misbehaves where it is told to.

mod faults;
mod misbehaviour;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, RANGE};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::task::JoinSet;

use super::http::{Body, send, serve};
use super::{PASSWORD, USER, Wharfd};
use faults::Program;
pub use faults::{At, Fault};

/// A proxy in place. Dropped, it cuts all connections.
#[derive(Debug)]
pub struct FaultProxy {
    address: String,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    /// With its query.
    pub path: String,
    pub headers: HeaderMap,
}

impl Asked {
    /// `bytes=…`
    pub fn range(&self) -> Option<&str> {
        self.headers.get(RANGE)?.to_str().ok()
    }

    fn is_at(&self, at: &At) -> bool {
        at.is(&self.path)
    }
}

#[derive(Debug)]
struct State {
    upstream: String,
    /// What it lets itself in with, as a host that needs no credentials from others.
    credentials: Option<HeaderValue>,
    program: Mutex<Program>,
    asked: Mutex<Vec<Asked>>,
    /// Bytes of bodies by digest of blob.
    sent: Mutex<BTreeMap<String, u64>>,
    /// Held by every blob that is being sent.
    sending: Arc<()>,
}

impl FaultProxy {
    /// On a port of 127.0.0.1, in front of `upstream`, which is `HOST:PORT` and speaks no TLS.
    pub async fn start(upstream: &str) -> Self {
        Self::listen("127.0.0.1", upstream, None).await
    }

    /// Another host, in front of a registry that wants [`PASSWORD`], but asks nobody for it itself: as the
    /// stores are that registries send to for blobs.
    pub async fn store(upstream: &str) -> Self {
        let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        let credentials = HeaderValue::from_str(&basic).unwrap();
        Self::listen("127.0.0.2", upstream, Some(credentials)).await
    }

    async fn listen(host: &str, upstream: &str, credentials: Option<HeaderValue>) -> Self {
        let state = Arc::new(State {
            upstream: upstream.to_owned(),
            credentials,
            program: Mutex::default(),
            asked: Mutex::default(),
            sent: Mutex::default(),
            sending: Arc::default(),
        });
        let for_requests = Arc::clone(&state);
        let (address, serving) = serve(host, move |request| {
            Box::pin(respond(Arc::clone(&for_requests), request))
        })
        .await;
        Self {
            address: address.to_string(),
            state,
            _serving: serving,
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `app:1` as references name it.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Tells a server that this speaks no TLS.
    pub fn known_to(&self, wharfd: &Wharfd) {
        let server = format!("server = \"http://{}\"\n", self.address);
        wharfd.tell_of_registry(&self.address, &server);
    }

    /// Misbehaves at every such request, until [`Self::heal`]. Of several faults the first that was asked
    /// for and can happen to a request does.
    pub fn fail(&self, at: At, fault: Fault) {
        self.state.program.lock().unwrap().add(at, fault, None);
    }

    /// Misbehaves at the next `times` such requests.
    pub fn fail_times(&self, at: At, fault: Fault, times: usize) {
        let mut program = self.state.program.lock().unwrap();
        program.add(at, fault, Some(times));
    }

    /// Behaves again.
    pub fn heal(&self) {
        *self.state.program.lock().unwrap() = Program::default();
    }

    /// The requests so far, in order.
    pub fn asked(&self, at: &At) -> Vec<Asked> {
        let asked = self.state.asked.lock().unwrap();
        asked
            .iter()
            .filter(|asked| asked.is_at(at))
            .cloned()
            .collect()
    }

    /// The requests for content so far, in order: those that only ask whether it is there are not among them.
    pub fn fetched(&self, at: &At) -> Vec<Asked> {
        let mut asked = self.asked(at);
        asked.retain(|asked| asked.method == Method::GET);
        asked
    }

    /// How many bytes of each blob were sent so far.
    pub fn sent(&self) -> BTreeMap<String, u64> {
        self.state.sent.lock().unwrap().clone()
    }

    /// How many blobs are being sent now.
    pub fn sending(&self) -> usize {
        Arc::strong_count(&self.state.sending) - 1
    }

    /// Forgets the requests and bytes so far.
    pub fn forget(&self) {
        self.state.asked.lock().unwrap().clear();
        self.state.sent.lock().unwrap().clear();
    }
}

async fn respond(state: Arc<State>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let asked = Asked {
        method: request.method().clone(),
        path: request.uri().to_string(),
        headers: request.headers().clone(),
    };
    state.asked.lock().unwrap().push(asked.clone());
    let fault = state.program.lock().unwrap().take(&asked);
    let response = match fault {
        Some(fault) => misbehaviour::of(fault, &state, &asked, request).await?,
        None => pass_on(&state, request).await?,
    };
    Ok(counted(state, &asked, response))
}

async fn pass_on(state: &State, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let mut request = request.map(|body| body.map_err(io::Error::other).boxed_unsync());
    if let Some(credentials) = &state.credentials {
        request
            .headers_mut()
            .insert(AUTHORIZATION, credentials.clone());
    }
    send(&state.upstream, request).await
}

fn counted(state: Arc<State>, asked: &Asked, response: Response<Body>) -> Response<Body> {
    let Some(digest) = faults::blob(&asked.path).map(str::to_owned) else {
        return response;
    };
    if asked.method != Method::GET || !response.status().is_success() {
        return response;
    }
    let sending = Arc::clone(&state.sending);
    response.map(|body| {
        body.map_frame(move |frame| {
            let _ = &sending;
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            *state
                .sent
                .lock()
                .unwrap()
                .entry(digest.clone())
                .or_default() += bytes;
            frame
        })
        .boxed_unsync()
    })
}
