//! Calls as no generated client makes them: any header, any bytes, any framing, over HTTP/2 alone.

use std::convert::Infallible;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Status;

use crate::harness::Refusal;

/// Whatever is sent, there is an answer or an end within this long.
pub const PATIENCE: Duration = Duration::from_secs(60);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A connection.
#[derive(Debug)]
pub struct Wire {
    sender: SendRequest<Body>,
    _driver: JoinSet<()>,
}

/// A call that is put together.
#[derive(Debug)]
pub struct Call<'a> {
    wire: &'a mut Wire,
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Vec<Bytes>,
    ending: Ending,
}

/// What follows the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its end.
    End,
    /// Trailers, which only servers send.
    Trailers,
    /// Nothing, for ever.
    Silence,
}

/// What came of a call.
#[derive(Debug)]
pub enum Outcome {
    /// A message, or an end that says OK.
    Answered,
    Refused(Refusal),
    /// The stream or its connection broke.
    Broken(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => f.write_str("answered"),
            Self::Refused(refusal) => write!(f, "{refusal}"),
            Self::Broken(how) => write!(f, "broken: {how}"),
        }
    }
}

impl Outcome {
    /// # Panics
    /// If it is none.
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            other => panic!("no refusal: {other}"),
        }
    }
}

/// A message in gRPC's framing, with any flag and any length.
pub fn framed(flag: u8, length: usize, message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + 5);
    bytes.put_u8(flag);
    bytes.put_u32(u32::try_from(length).unwrap());
    bytes.put_slice(message);
    bytes.freeze()
}

/// A message in gRPC's framing.
pub fn message(message: &[u8]) -> Bytes {
    framed(0, message.len(), message)
}

impl Wire {
    pub async fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).await.unwrap();
        let shaken = http2::Builder::new(TokioExecutor::new())
            .max_header_list_size(256 << 10)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = timeout(PATIENCE, shaken).await.unwrap().unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(async { drop(connection.await) });
        Self {
            sender,
            _driver: driver,
        }
    }

    /// A call of a path as a well-behaved client begins it, without any message.
    pub fn call(&mut self, path: &str) -> Call<'_> {
        let headers = [
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("x-request-id", "wire"),
        ];
        let headers = headers
            .into_iter()
            .map(|(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            })
            .collect();
        Call {
            wire: self,
            method: Method::POST,
            path: path.to_owned(),
            headers,
            body: Vec::new(),
            ending: Ending::End,
        }
    }
}

impl Call<'_> {
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// Sets a header.
    pub fn header(mut self, name: &'static str, value: &[u8]) -> Self {
        let value = HeaderValue::from_bytes(value).unwrap();
        self.headers.insert(name, value);
        self
    }

    /// Leaves a header out.
    pub fn without(mut self, name: &'static str) -> Self {
        self.headers.remove(name);
        self
    }

    /// Adds bytes to the body.
    pub fn bytes(mut self, bytes: impl Into<Bytes>) -> Self {
        self.body.push(bytes.into());
        self
    }

    /// Adds a message to the body.
    pub fn message(self, sent: &impl Message) -> Self {
        self.bytes(message(&sent.encode_to_vec()))
    }

    pub fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    /// Sends it, and reads until there is a message or the end.
    ///
    /// # Panics
    /// If there is neither in time.
    pub async fn send(self) -> Outcome {
        let what = format!("{} {}", self.method, self.path);
        timeout(PATIENCE, self.outcome())
            .await
            .unwrap_or_else(|_| panic!("{what}: nothing within {PATIENCE:?}"))
    }

    async fn outcome(self) -> Outcome {
        let body = body(self.body, self.ending);
        let mut request = Request::builder()
            .method(self.method)
            .uri(format!("http://localhost{}", self.path))
            .body(body)
            .unwrap();
        *request.headers_mut() = self.headers;
        if let Err(error) = self.wire.sender.ready().await {
            return Outcome::Broken(error.to_string());
        }
        match self.wire.sender.send_request(request).await {
            Ok(response) => read(response).await,
            Err(error) => Outcome::Broken(format!("{error:?}")),
        }
    }
}

fn body(pieces: Vec<Bytes>, ending: Ending) -> Body {
    let data = stream::iter(pieces).map(|bytes| Ok(Frame::data(bytes)));
    let ending = match ending {
        Ending::End => stream::empty().boxed(),
        Ending::Trailers => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            stream::iter([Ok(Frame::trailers(trailers))]).boxed()
        }
        Ending::Silence => stream::pending().boxed(),
    };
    StreamBody::new(data.chain(ending)).boxed_unsync()
}

async fn read(response: Response<Incoming>) -> Outcome {
    let http = response.status();
    let (parts, mut body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&parts.headers) {
        return of_status(status);
    }
    if http != StatusCode::OK {
        return Outcome::Broken(format!("HTTP status {http}"));
    }
    match body.frame().await {
        Some(Ok(frame)) if frame.is_data() => Outcome::Answered,
        Some(Ok(frame)) => match frame.trailers_ref().and_then(Status::from_header_map) {
            Some(status) => of_status(status),
            None => Outcome::Broken("trailers without a status".to_owned()),
        },
        Some(Err(error)) => Outcome::Broken(format!("{error:?}")),
        None => Outcome::Broken("an end without a status".to_owned()),
    }
}

fn of_status(status: Status) -> Outcome {
    if status.code() == tonic::Code::Ok {
        Outcome::Answered
    } else {
        Outcome::Refused(Refusal::from(status))
    }
}
