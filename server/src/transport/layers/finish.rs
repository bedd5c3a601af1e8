//! Makes every error that leaves the server one of ours.
//!
//! tonic answers some calls before a handler runs (an unknown path, a message that is none) and some
//! after it ended (an answer that is too large). Such a status has no details; it gets our reason by
//! its code and by where it arose, never by its text. Every error gets its `RequestInfo` here, and
//! those that can be retried their pushback: handlers need not know the call's id.

use std::convert::Infallible;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderValue, Request, Response};
use prost::Message as _;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{StatusExt as _, pb};
use tower::Service;
use wharf_api::{Idempotency, Method, metadata};

use super::body::with_trailers;
use super::{Answer, Handler};
use crate::backend::Applied;
use crate::model::RequestId;
use crate::transport::context::RequestContext;
use crate::transport::error::{CallError, Violations};

const REQUEST_INFO_TYPE: &str = "type.googleapis.com/google.rpc.RequestInfo";
const GRPC_ENCODING: &str = "grpc-encoding";

#[derive(Debug, Clone)]
pub(super) struct Finish<S> {
    inner: S,
    backend: &'static str,
}

impl<S> Finish<S> {
    pub(super) fn new(inner: S, backend: &'static str) -> Self {
        Self { inner, backend }
    }
}

impl<S: Handler> Service<Request<Body>> for Finish<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Answer {
        let call = Call::of(&request, self.backend);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            call.finish(response.headers_mut(), Origin::Request);
            Ok(response.map(|body| {
                with_trailers(body, move |trailers| call.finish(trailers, Origin::Answer))
            }))
        })
    }
}

/// Where a status arose that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Before a handler answered: the request is to blame.
    Request,
    /// While its answer was sent: nobody but us is.
    Answer,
}

/// What is known of a call, whatever became of it.
#[derive(Debug)]
struct Call {
    request_id: Option<RequestId>,
    method: Option<&'static Method>,
    /// Health and reflection have a contract of their own.
    foreign: bool,
    compressed: bool,
    backend: &'static str,
}

impl Call {
    fn of(request: &Request<Body>, backend: &'static str) -> Self {
        let path = request.uri().path();
        let context = request.extensions().get::<RequestContext>();
        let encoding = request.headers().get(GRPC_ENCODING);
        Self {
            request_id: context.map(|context| context.request_id.clone()),
            method: Method::by_path(path),
            foreign: path.starts_with("/grpc."),
            compressed: encoding.is_some_and(|encoding| encoding != "identity"),
            backend,
        }
    }

    fn finish(&self, headers: &mut HeaderMap, origin: Origin) {
        let failed = |status: &HeaderValue| status != "0";
        if !headers.get(Status::GRPC_STATUS).is_some_and(failed) {
            return;
        }
        if let Some(status) = Status::from_header_map(headers) {
            let status = self.ours(status, origin);
            self.write(&status, headers);
        }
    }

    fn ours(&self, status: Status, origin: Origin) -> Status {
        let theirs = self.foreign && status.code() != Code::Unimplemented;
        if theirs || !status.details().is_empty() {
            return status;
        }
        let error = match origin {
            Origin::Request => self.refused(status),
            Origin::Answer => self.broken(&status),
        };
        Status::from(error)
    }

    /// tonic could not read the request.
    fn refused(&self, status: Status) -> CallError {
        match status.code() {
            Code::Unimplemented if !self.compressed => CallError::MethodNotSupported {
                method: self.method.map_or("unknown", |method| method.path),
                backend: self.backend,
            },
            Code::Unimplemented => self.unknown_encoding(),
            Code::Cancelled => self.cancelled(),
            Code::Internal | Code::OutOfRange | Code::ResourceExhausted => status.into(),
            Code::Ok
            | Code::Unknown
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => self.broken(&status),
        }
    }

    /// The request is compressed, in whatever way.
    fn unknown_encoding(&self) -> CallError {
        let mut violations = Violations::new();
        violations.unsupported(GRPC_ENCODING);
        CallError::OptionsNotSupported {
            violations,
            backend: self.backend,
        }
    }

    /// A handler, or tonic on its behalf, made a status that says nothing.
    fn broken(&self, status: &Status) -> CallError {
        if status.code() == Code::Cancelled {
            return self.cancelled();
        }
        tracing::error!(code = ?status.code(), message = status.message(), "status without a reason");
        CallError::Bug {
            what: "a status without a reason",
        }
    }

    fn cancelled(&self) -> CallError {
        let reads = |method: &Method| method.idempotency == Idempotency::NoSideEffects;
        CallError::Cancelled {
            applied: if self.method.is_none_or(reads) {
                Applied::No
            } else {
                Applied::Unknown
            },
        }
    }

    fn write(&self, status: &Status, headers: &mut HeaderMap) {
        let details = self.with_request_info(status);
        let pushback = status.get_details_retry_info();
        let sealed = Status::with_details(status.code(), status.message(), details.into());
        if sealed.add_header(headers).is_err() {
            tracing::error!(code = ?status.code(), "status cannot be written");
        }
        if let Some(delay) = pushback.and_then(|retry| retry.retry_delay) {
            let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            headers.insert(metadata::RETRY_PUSHBACK, millis.into());
        }
    }

    /// The status's details and the request's id. Encoded messages add up: appending the encoding of
    /// a `google.rpc.Status` with one detail adds that detail.
    fn with_request_info(&self, status: &Status) -> Vec<u8> {
        let mut details = status.details().to_vec();
        if details.is_empty() {
            let bare = pb::Status {
                code: status.code().into(),
                message: status.message().to_owned(),
                details: Vec::new(),
            };
            details = bare.encode_to_vec();
        }
        if let Some(id) = &self.request_id {
            details.extend(request_info(id).encode_to_vec());
        }
        details
    }
}

fn request_info(id: &RequestId) -> pb::Status {
    let info = pb::RequestInfo {
        request_id: id.as_str().to_owned(),
        serving_data: String::new(),
    };
    pb::Status {
        details: vec![prost_types::Any {
            type_url: REQUEST_INFO_TYPE.to_owned(),
            value: info.encode_to_vec(),
        }],
        ..pb::Status::default()
    }
}
