//! A response body whose trailers are edited on their way out.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// Calls `edit` on the trailers of `inner`.
pub(super) fn with_trailers<F>(inner: Body, edit: F) -> Body
where
    F: FnMut(&mut HeaderMap) + Send + Unpin + 'static,
{
    // A response without a body has its trailers among its headers.
    if inner.is_end_stream() {
        return inner;
    }
    Body::new(WithTrailers { inner, edit })
}

struct WithTrailers<F> {
    inner: Body,
    edit: F,
}

impl<F: FnMut(&mut HeaderMap) + Unpin> HttpBody for WithTrailers<F> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            (self.edit)(trailers);
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

/// The last frame of a response that ends with `status`.
pub(super) fn trailers_of(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // Only metadata that is no header value fails, and ours always is; the code remains.
        trailers.insert(Status::GRPC_STATUS, i32::from(status.code()).into());
    }
    Frame::trailers(trailers)
}
