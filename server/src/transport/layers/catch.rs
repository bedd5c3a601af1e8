//! A panic in a handler, or in the stream that it answered with, ends its own call only.

use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::{FutureExt as _, Map};
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tower::Service;
use tower_http::catch_panic::{CatchPanic, ResponseForPanic};

use super::body::trailers_of;
use super::{Handler, refuse};
use crate::transport::error::CallError;

#[derive(Debug, Clone)]
pub(super) struct Catch<S> {
    inner: CatchPanic<S, Bug>,
}

impl<S> Catch<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner: CatchPanic::custom(inner, Bug),
        }
    }
}

impl<S: Handler> Service<Request<Body>> for Catch<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Map<
        <CatchPanic<S, Bug> as Service<Request<Body>>>::Future,
        fn(Result<CaughtResponse<S>, Infallible>) -> Result<Response<Body>, Infallible>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.inner.call(request).map(|response| {
            response.map(|response| {
                response.map(|body| {
                    Body::new(CatchBody {
                        inner: Some(Body::new(body)),
                    })
                })
            })
        })
    }
}

type CaughtResponse<S> = <CatchPanic<S, Bug> as Service<Request<Body>>>::Response;

/// Answers in the place of whatever panicked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bug;

impl ResponseForPanic for Bug {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, panic: Box<dyn Any + Send>) -> Response<Body> {
        log(&*panic);
        refuse(bug())
    }
}

fn bug() -> CallError {
    CallError::Bug {
        what: "a handler panicked",
    }
}

/// The span says which call it was.
fn log(panic: &(dyn Any + Send)) {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&'static str>().copied());
    tracing::error!(panic = text.unwrap_or("not text"), "handler panicked");
}

/// A body that ends with INTERNAL_BUG if the one inside panics.
struct CatchBody {
    inner: Option<Body>,
}

impl HttpBody for CatchBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        // What panicked is dropped and never polled again, so no broken state is seen.
        match catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx))) {
            Ok(poll) => poll,
            Err(panic) => {
                log(&*panic);
                self.inner = None;
                Poll::Ready(Some(Ok(trailers_of(&bug().into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}
