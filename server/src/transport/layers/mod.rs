//! What every call passes on its way to a handler and back.
//!
//! ```text
//! identify   request id and context; echoes the id in headers and trailers
//! trace      span; one log line at the end
//! finish     tonic's own errors become ours; RequestInfo; retry pushback
//! catch      a panic becomes INTERNAL_BUG
//! admit      nothing comes in before the state is recovered, or while draining
//! lifetime   deadline and drain end calls and streams
//! guard      oversize messages
//! routes     tonic
//! ```
//!
//! The order matters: whatever an inner layer answers gets its request id and its log line from the
//! outer ones. No layer decides anything about containers.

mod admit;
mod body;
mod catch;
mod finish;
mod guard;
mod identify;
mod lifetime;
#[cfg(test)]
mod tests;
mod timeout;
mod trace;
mod traceparent;

use std::convert::Infallible;
use std::pin::Pin;

use http::{Request, Response, header};
use tonic::Status;
use tonic::body::Body;
use tower::{Service, ServiceBuilder};
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;

pub use identify::Peer;

use super::error::CallError;
use super::gate::Gate;

/// What the layers need to know.
#[derive(Debug, Clone)]
pub struct LayerOptions {
    /// Whether calls are let in.
    pub gate: Gate,
    /// Name of the backend, for errors that name it.
    pub backend: &'static str,
}

/// A service that answers calls: tonic's routes, or a layer around them.
pub trait Handler:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
}

impl<S> Handler for S where
    S: Service<
            Request<Body>,
            Response = Response<Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static
{
}

/// The answer of a layer.
type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Puts all layers around `routes`.
pub fn around<S: Handler>(routes: S, options: &LayerOptions) -> impl Handler + use<S> {
    ServiceBuilder::new()
        .layer(SetSensitiveRequestHeadersLayer::new([
            header::AUTHORIZATION,
        ]))
        .layer_fn(identify::Identify::new)
        .layer_fn(trace::Trace::new)
        .layer_fn(|inner| finish::Finish::new(inner, options.backend))
        .layer_fn(catch::Catch::new)
        .layer_fn(|inner| admit::Admit::new(inner, options.gate.clone()))
        .layer_fn(|inner| lifetime::Lifetime::new(inner, options.gate.clone()))
        .layer_fn(guard::Guard::new)
        .service(routes)
}

/// The whole answer to a call that no handler gets.
fn refuse(error: CallError) -> Response<Body> {
    Status::from(error).into_http()
}
