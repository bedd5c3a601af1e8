//! Content that the server streams: what it is, its bytes, and an end that proves them whole.

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use wharf_api::v1::{
    self, PathStat, ReadArchiveRequest, ReadArchiveResponse, ReadFileRequest, ReadFileResponse,
    TransferEnd,
};

use crate::client::{Client, Messages};
use crate::error::Error;
use crate::rpc::ServerStreaming;
use crate::upload::Tally;

/// A request for content: its type says which method is meant.
pub trait Content: ServerStreaming {
    /// What a message is.
    fn part(message: Self::Response) -> Option<Part>;
}

/// What a message of a download can be.
#[derive(Debug)]
pub enum Part {
    /// What is read; always first.
    Stat(PathStat),
    /// Bytes.
    Data(Bytes),
    /// Size and digest of all bytes; always last.
    End(TransferEnd),
}

macro_rules! contents {
    ($($request:ident: $module:ident::$response:ident;)*) => {$(
        impl Content for $request {
            fn part(message: $response) -> Option<Part> {
                use v1::$module::Response;
                Some(match message.response? {
                    Response::Stat(stat) => Part::Stat(stat),
                    Response::Data(data) => Part::Data(data),
                    Response::End(end) => Part::End(end),
                })
            }
        }
    )*};
}

contents! {
    ReadFileRequest: read_file_response::ReadFileResponse;
    ReadArchiveRequest: read_archive_response::ReadArchiveResponse;
}

/// A file or an archive that is being read. Dropping it ends the call.
#[derive(Debug)]
pub struct Download<R: Content> {
    stat: PathStat,
    messages: Messages<R::Response>,
    tally: Tally,
    is_over: bool,
}

impl<R: Content> Download<R> {
    pub(crate) async fn open(client: &Client, request: R) -> Result<Self, Error> {
        let mut messages = client.stream(request).await?;
        let Some(Part::Stat(stat)) = messages.next().await?.and_then(R::part) else {
            return Err(incomplete::<R>());
        };
        Ok(Self {
            stat,
            messages,
            tally: Tally::default(),
            is_over: false,
        })
    }

    /// What is read: the file itself, or the top of the archive.
    #[must_use]
    pub fn stat(&self) -> &PathStat {
        &self.stat
    }

    /// The next bytes, at most 256 KiB; `None` once all have come and are what the server sent. Safe to
    /// drop and call again.
    ///
    /// # Errors
    /// As [`Messages::next`]; [`Error::Incomplete`], [`Error::Mismatch`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.is_over {
            return Ok(None);
        }
        match self.messages.next().await?.and_then(R::part) {
            Some(Part::Data(data)) => {
                self.tally.add(&data);
                Ok(Some(data))
            }
            Some(Part::End(end)) if end == self.tally.end() => {
                self.is_over = true;
                Ok(None)
            }
            Some(Part::End(_)) => Err(Error::Mismatch { method: R::METHOD }),
            Some(Part::Stat(_)) | None => Err(incomplete::<R>()),
        }
    }

    /// Writes all that is left to `out`, as it comes.
    ///
    /// # Errors
    /// As [`Self::next`]; [`Error::Write`] if `out` fails.
    pub async fn write_to(&mut self, out: &mut (impl AsyncWrite + Unpin)) -> Result<(), Error> {
        while let Some(data) = self.next().await? {
            out.write_all(&data).await.map_err(Error::Write)?;
        }
        out.flush().await.map_err(Error::Write)
    }
}

fn incomplete<R: Content>() -> Error {
    Error::Incomplete { method: R::METHOD }
}
