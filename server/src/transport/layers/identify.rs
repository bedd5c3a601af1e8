//! Gives every call its identity: the request id, the caller's or a minted one, and with it the
//! [`RequestContext`] that handlers build causes from. Echoes the id in the headers and the trailers.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::time::Instant;
use tonic::body::Body;
use tower::Service;
use wharf_api::{Method, metadata};

use super::body::with_trailers;
use super::{Answer, Handler, timeout, traceparent};
use crate::model::{Principal, RequestId};
use crate::transport::context::RequestContext;

/// Who is at the other end of the connection. The server puts it into every request.
#[derive(Debug, Clone)]
pub struct Peer(pub Principal);

#[derive(Debug, Clone)]
pub(super) struct Identify<S> {
    inner: S,
}

impl<S> Identify<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: Handler> Service<Request<Body>> for Identify<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answer {
        let sent = Sent::of(request.headers());
        let rejected = matches!(sent, Sent::Unusable);
        let context = context(&request, sent);
        let echo = echo(&context.request_id);
        request.extensions_mut().insert(context);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            let headers = response.headers_mut();
            headers.insert(metadata::REQUEST_ID, echo.clone());
            if rejected {
                headers.insert(metadata::REQUEST_ID_REJECTED, HeaderValue::from_static("1"));
            }
            Ok(response.map(|body| {
                with_trailers(body, move |trailers| {
                    trailers.insert(metadata::REQUEST_ID, echo.clone());
                })
            }))
        })
    }
}

/// The request id that came with a call.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    Nothing,
    /// Never looked at again, and never logged: it may hold anything.
    Unusable,
    Id(RequestId),
}

impl Sent {
    fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(metadata::REQUEST_ID).iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Nothing,
            (Some(value), None) => value
                .to_str()
                .ok()
                .and_then(RequestId::parse)
                .map_or(Self::Unusable, Self::Id),
            (Some(_), Some(_)) => Self::Unusable,
        }
    }
}

fn context(request: &Request<Body>, sent: Sent) -> RequestContext {
    let headers = request.headers();
    let method = Method::by_path(request.uri().path());
    let peer = request.extensions().get::<Peer>();
    RequestContext {
        request_id: match sent {
            Sent::Id(id) => id,
            Sent::Nothing | Sent::Unusable => RequestId::mint(),
        },
        principal: peer.map_or_else(Principal::loopback, |peer| peer.0.clone()),
        trace_id: traceparent::parse(headers).map(|parent| parent.trace_id().to_string().into()),
        method: Arc::from(method.map_or("unknown", |method| method.path)),
        deadline: timeout::parse(headers)
            .ok()
            .flatten()
            .and_then(|timeout| Instant::now().checked_add(timeout)),
    }
}

fn echo(id: &RequestId) -> HeaderValue {
    HeaderValue::from_str(id.as_str()).unwrap_or(HeaderValue::from_static("unknown"))
}
