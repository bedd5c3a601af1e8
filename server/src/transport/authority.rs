//! Lets clients in that send a socket's path as `:authority`.
//!
//! Over a Unix socket there is no host to name, and many gRPC clients (C-core and with it Python,
//! Ruby and PHP; Java; Swift) name the socket's path instead, percent-encoded or not. That is no
//! authority by RFC 3986, and the `h2` crate resets such a stream before any layer sees it. So this
//! wrapper reads along: if the first request's authority is valid, it never looks again; otherwise it
//! puts letters in its place, in every header block of the connection, since the literal returns
//! whenever the client's header table has lost it.
//!
//! The replacement has the same decoded length, because entries of the header table are evicted by
//! size on both ends alike. It is never longer on the wire. What is malformed or too large goes on as
//! it is: the server is who answers that.

mod frames;
mod hpack;
mod huffman;

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) use frames::MAX_FRAME_BYTES;
use frames::Repair;

/// Bytes read at once while reading along.
const PIECE: usize = 4_096;

/// A stream whose `:authority` fields are valid.
#[derive(Debug)]
pub(super) struct AuthorityRepair<S> {
    inner: S,
    repair: Repair,
}

impl<S> AuthorityRepair<S> {
    /// Reads along from the client's first frame on; `preface`, which came before it, is read again.
    pub(super) fn new(inner: S, preface: &[u8]) -> Self {
        Self {
            inner,
            repair: Repair::new(preface),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AuthorityRepair<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let output = this.repair.output();
            if !output.is_empty() {
                let length = output.len().min(buf.remaining());
                buf.put_slice(&output[..length]);
                output.advance(length);
                return Poll::Ready(Ok(()));
            }
            if this.repair.is_untouched() {
                return Pin::new(&mut this.inner).poll_read(cx, buf);
            }
            let mut piece = [MaybeUninit::uninit(); PIECE];
            let mut piece = ReadBuf::uninit(&mut piece);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                this.repair.flush();
            } else {
                this.repair.feed(piece.filled());
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AuthorityRepair<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
