//! Keeps calls out while the state is recovered and once the server drains.

use std::convert::Infallible;
use std::future;
use std::task::{Context, Poll};

use futures_util::future::Either;
use http::{Request, Response};
use tonic::body::Body;
use tower::Service;

use super::{Handler, refuse};
use crate::engine;
use crate::transport::gate::Gate;

/// Answered as soon as the server listens: it needs no state.
const ALWAYS_STARTED: &str = "/wharf.v1.SystemService/GetVersion";

#[derive(Debug, Clone)]
pub(super) struct Admit<S> {
    inner: S,
    gate: Gate,
}

impl<S> Admit<S> {
    pub(super) fn new(inner: S, gate: Gate) -> Self {
        Self { inner, gate }
    }

    /// Health and reflection belong to other packages and are never refused.
    fn refusal(&self, path: &str) -> Option<engine::Error> {
        if !path.starts_with("/wharf.v1.") {
            return None;
        }
        let refusal = self.gate.refusal()?;
        let starting = matches!(refusal, engine::Error::Starting { .. });
        (path != ALWAYS_STARTED || !starting).then_some(refusal)
    }
}

impl<S: Handler> Service<Request<Body>> for Admit<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, future::Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.refusal(request.uri().path()) {
            None => Either::Left(self.inner.call(request)),
            Some(refusal) => Either::Right(future::ready(Ok(refuse(refusal.into())))),
        }
    }
}
