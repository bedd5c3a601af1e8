//! Streams of messages that bring content: start, data..., end.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tonic::Status;
use wharf_api::v1;

use crate::files::Piece;
use crate::model::{Digest, limits};
use crate::transport::CallError;
use crate::transport::parse::reason;

/// A message of such a stream.
pub(super) trait Upload {
    /// What it starts with.
    type Start;

    /// What it is; none for an empty one.
    fn into_part(self) -> Option<Part<Self::Start>>;
}

/// What a message can be.
#[derive(Debug)]
pub(super) enum Part<S> {
    Start(S),
    Data(Bytes),
    End(v1::TransferEnd),
}

/// What can follow the start.
#[derive(Debug)]
pub(super) enum Content {
    Data(Bytes),
    End(v1::TransferEnd),
}

macro_rules! uploads {
    ($($module:ident: $message:ident, $start:ident;)*) => {$(
        impl Upload for v1::$message {
            type Start = v1::$start;

            fn into_part(self) -> Option<Part<Self::Start>> {
                use v1::$module::Request;
                Some(match self.request? {
                    Request::Start(start) => Part::Start(start),
                    Request::Data(data) => Part::Data(data),
                    Request::End(end) => Part::End(end),
                })
            }
        }
    )*};
}

uploads! {
    import_image_request: ImportImageRequest, ImportImageStart;
    write_archive_request: WriteArchiveRequest, WriteArchiveStart;
    write_file_request: WriteFileRequest, WriteFileStart;
}

/// The first message, which must be the start.
pub(super) async fn start<M: Upload>(
    messages: &mut (impl Stream<Item = Result<M, Status>> + Unpin),
) -> Result<M::Start, CallError> {
    let message = messages.next().await.transpose()?;
    match message.map(M::into_part) {
        Some(Some(Part::Start(start))) => Ok(start),
        other => Err(unexpected("start", other)),
    }
}

/// What comes next: data of an allowed size, or an end of the right form with nothing after it.
pub(super) async fn next<M: Upload>(
    messages: &mut (impl Stream<Item = Result<M, Status>> + Unpin),
) -> Result<Content, CallError> {
    let message = messages.next().await.transpose()?;
    match message.map(M::into_part) {
        Some(Some(Part::Data(data))) => {
            check_piece(&data)?;
            Ok(Content::Data(data))
        }
        Some(Some(Part::End(end))) => {
            check_digest(&end.digest)?;
            match messages.next().await.transpose()? {
                Some(more) => Err(unexpected("end of stream", Some(more.into_part()))),
                None => Ok(Content::End(end)),
            }
        }
        other => Err(unexpected("data or end", other)),
    }
}

/// Passes on what comes after the start, until its end, or until nobody takes it any more: then whoever
/// took it says why. The end is passed on only if all is as it says.
pub(super) async fn feed<M: Upload>(
    messages: &mut (impl Stream<Item = Result<M, Status>> + Unpin),
    pieces: mpsc::Sender<Piece>,
) -> Result<(), CallError> {
    let mut tally = Tally::default();
    loop {
        let content = tokio::select! {
            biased;
            () = pieces.closed() => return Ok(()),
            content = next(messages) => content?,
        };
        // A failure to pass it on is a taker that has left, seen above.
        match content {
            Content::Data(data) => {
                tally.add(&data);
                drop(pieces.send(Piece::Data(data)).await);
            }
            Content::End(end) => {
                tally.check(&end)?;
                drop(pieces.send(Piece::End).await);
                return Ok(());
            }
        }
    }
}

/// Size and digest of what has come, or gone.
#[derive(Debug, Default)]
pub(super) struct Tally {
    hash: Sha256,
    size: u64,
}

impl Tally {
    pub(super) fn add(&mut self, data: &[u8]) {
        self.hash.update(data);
        self.size += data.len() as u64;
    }

    /// What closes an answer.
    pub(super) fn end(self) -> v1::TransferEnd {
        v1::TransferEnd {
            size_bytes: i64::try_from(self.size).unwrap_or(i64::MAX),
            digest: Digest::from_hash(self.hash.finalize().into()).to_string(),
        }
    }

    /// All must be as the client says it is.
    fn check(self, end: &v1::TransferEnd) -> Result<(), CallError> {
        let actual = self.end();
        let mismatch = |expected, actual| Err(CallError::TransferMismatch { expected, actual });
        if end.size_bytes != actual.size_bytes {
            let bytes = |size: i64| format!("{size} bytes");
            return mismatch(bytes(end.size_bytes), bytes(actual.size_bytes));
        }
        if !end.digest.is_empty() && end.digest != actual.digest {
            return mismatch(end.digest.clone(), actual.digest);
        }
        Ok(())
    }
}

fn check_piece(data: &[u8]) -> Result<(), CallError> {
    if data.len() <= limits::MAX_ARCHIVE_CHUNK {
        return Ok(());
    }
    Err(CallError::invalid(
        "data",
        reason::TOO_LONG,
        format!(
            "{} bytes; at most {} are allowed in one message",
            data.len(),
            limits::MAX_ARCHIVE_CHUNK
        ),
    ))
}

fn check_digest(digest: &str) -> Result<(), CallError> {
    if digest.is_empty() || digest.parse::<Digest>().is_ok() {
        return Ok(());
    }
    Err(CallError::invalid(
        "end.digest",
        reason::MALFORMED,
        "must be \"sha256:\" and 64 lower-case hex digits",
    ))
}

fn unexpected<S>(expected: &'static str, message: Option<Option<Part<S>>>) -> CallError {
    let got = match message {
        None => "end of stream",
        Some(None) => "an empty message",
        Some(Some(Part::Start(_))) => "start",
        Some(Some(Part::Data(_))) => "data",
        Some(Some(Part::End(_))) => "end",
    };
    CallError::StreamProtocol { expected, got }
}
