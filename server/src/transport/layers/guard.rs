//! Keeps out what handlers must not see: calls that are not gRPC with Protobuf, which tonic would try to
//! read as if they were, and messages over the size limit, which it would refuse by a code that says
//! nothing.

use std::convert::Infallible;
use std::future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::Either;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tower::Service;

use super::{Handler, refuse};
use crate::model::limits::MAX_MESSAGE_BYTES;
use crate::transport::error::CallError;

#[derive(Debug, Clone)]
pub(super) struct Guard<S> {
    inner: S,
}

impl<S> Guard<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S: Handler> Service<Request<Body>> for Guard<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<S::Future, future::Ready<Result<Response<Body>, Infallible>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !is_grpc(request.headers()) {
            return Either::Right(future::ready(Ok(not_grpc())));
        }
        let guarded = |inner| GuardBody {
            inner,
            frames: Frames::default(),
        };
        let guarded = request.map(|body| Body::new(guarded(body)));
        Either::Left(self.inner.call(guarded))
    }
}

/// Whether the messages are Protobuf in gRPC's framing; other codecs and grpc-web are not spoken.
fn is_grpc(headers: &HeaderMap) -> bool {
    let media_type = headers.get(header::CONTENT_TYPE);
    let media_type = media_type.and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|text| text.split(';').next());
    essence.is_some_and(|essence| {
        matches!(
            essence.trim().to_ascii_lowercase().as_str(),
            "application/grpc" | "application/grpc+proto"
        )
    })
}

/// As the protocol wants it: a status for HTTP clients too, which look at nothing else.
fn not_grpc() -> Response<Body> {
    let description = "must be application/grpc or application/grpc+proto";
    let error = CallError::invalid(header::CONTENT_TYPE.as_str(), "UNKNOWN_VALUE", description);
    let mut response = refuse(error);
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

struct GuardBody {
    inner: Body,
    frames: Frames,
}

impl HttpBody for GuardBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(error) = self.frames.see(data)
        {
            return Poll::Ready(Some(Err(error.into())));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Follows the length-prefixed messages of a gRPC stream, in pieces of any size.
#[derive(Debug, Default)]
struct Frames {
    /// The message's prefix: a flag and four bytes of length; how much of it came.
    prefix: [u8; 5],
    filled: usize,
    /// What is left of the message.
    message: usize,
}

impl Frames {
    fn see(&mut self, mut data: &[u8]) -> Result<(), CallError> {
        while !data.is_empty() {
            let skipped = self.message.min(data.len());
            self.message -= skipped;
            data = &data[skipped..];
            let taken = (self.prefix.len() - self.filled).min(data.len());
            self.prefix[self.filled..self.filled + taken].copy_from_slice(&data[..taken]);
            self.filled += taken;
            data = &data[taken..];
            if self.filled == self.prefix.len() {
                self.filled = 0;
                self.message = self.length()?;
            }
        }
        Ok(())
    }

    fn length(&self) -> Result<usize, CallError> {
        let [_, length @ ..] = self.prefix;
        let length = u32::from_be_bytes(length);
        match usize::try_from(length) {
            Ok(length) if length <= MAX_MESSAGE_BYTES => Ok(length),
            _ => Err(CallError::TooLarge {
                limit: MAX_MESSAGE_BYTES as u64,
                actual: length.into(),
            }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(length: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
        bytes
    }

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = prefix(length);
        bytes.resize(5 + length, 7);
        bytes
    }

    #[test]
    fn a_message_one_byte_too_long_is_refused_by_its_prefix() {
        let mut frames = Frames::default();
        frames.see(&message(3)).unwrap();
        frames.see(&message(MAX_MESSAGE_BYTES)).unwrap();
        let error = frames.see(&prefix(MAX_MESSAGE_BYTES + 1)).unwrap_err();
        assert!(
            matches!(error, CallError::TooLarge { actual, .. } if actual == MAX_MESSAGE_BYTES as u64 + 1)
        );
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_are_read_as_one_stream(
            lengths in prop::collection::vec(0_usize..64, 0..8),
            cut in 1_usize..32,
        ) {
            let mut stream: Vec<u8> = lengths.into_iter().flat_map(message).collect();
            stream.extend(prefix(MAX_MESSAGE_BYTES + 1));
            let (last, before) = stream.split_last().unwrap();
            let mut frames = Frames::default();
            for piece in before.chunks(cut) {
                prop_assert!(frames.see(piece).is_ok());
            }
            prop_assert!(frames.see(&[*last]).is_err());
        }
    }
}
