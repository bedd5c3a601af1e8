//! Content that the server streams: what it is, its bytes, and an end that proves them whole.

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use wharf_api::v1::{
    self, ExportImageRequest, ExportImageResponse, PathStat, ReadArchiveRequest,
    ReadArchiveResponse, ReadFileRequest, ReadFileResponse, TransferEnd,
};

use crate::client::{Client, Messages};
use crate::error::Error;
use crate::rpc::ServerStreaming;
use crate::upload::Tally;

/// A request for content: its type says which method is meant.
pub trait Content: ServerStreaming {
    /// What the first message says of the content.
    type Head;
    /// What stands for it where the content comes at once.
    const NO_HEAD: Option<Self::Head>;

    /// What a message is.
    fn part(message: Self::Response) -> Option<Part<Self::Head>>;
}

/// What a message of a download can be.
#[derive(Debug)]
pub enum Part<H> {
    /// What is read; always first, where there is one.
    Head(H),
    /// Bytes.
    Data(Bytes),
    /// Size and digest of all bytes; always last.
    End(TransferEnd),
}

macro_rules! contents {
    ($($request:ident: $module:ident::$response:ident;)*) => {$(
        impl Content for $request {
            type Head = PathStat;
            const NO_HEAD: Option<PathStat> = None;

            fn part(message: $response) -> Option<Part<PathStat>> {
                use v1::$module::Response;
                Some(match message.response? {
                    Response::Stat(stat) => Part::Head(stat),
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

impl Content for ExportImageRequest {
    type Head = ();
    const NO_HEAD: Option<()> = Some(());

    fn part(message: ExportImageResponse) -> Option<Part<()>> {
        use v1::export_image_response::Response;
        Some(match message.response? {
            Response::Data(data) => Part::Data(data),
            Response::End(end) => Part::End(end),
        })
    }
}

/// A file, an archive of files or one of images that is being read. Dropping it ends the call.
#[derive(Debug)]
pub struct Download<R: Content> {
    head: R::Head,
    messages: Messages<R::Response>,
    tally: Tally,
    is_over: bool,
}

impl<R: Content> Download<R> {
    pub(crate) async fn open(client: &Client, request: R) -> Result<Self, Error> {
        let mut messages = client.stream(request).await?;
        let head = match R::NO_HEAD {
            Some(nothing) => nothing,
            None => match messages.next().await?.and_then(R::part) {
                Some(Part::Head(head)) => head,
                Some(Part::Data(_) | Part::End(_)) | None => return Err(incomplete::<R>()),
            },
        };
        Ok(Self {
            head,
            messages,
            tally: Tally::default(),
            is_over: false,
        })
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
            Some(Part::Head(_)) | None => Err(incomplete::<R>()),
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

impl<R: Content<Head = PathStat>> Download<R> {
    /// What is read: the file itself, or the top of the archive.
    #[must_use]
    pub fn stat(&self) -> &PathStat {
        &self.head
    }
}

fn incomplete<R: Content>() -> Error {
    Error::Incomplete { method: R::METHOD }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::testing::{Server, Step, ok, send};
    use v1::export_image_response::Response;

    fn message(response: Response) -> Step {
        send(&ExportImageResponse {
            response: Some(response),
        })
    }

    #[tokio::test]
    async fn images_come_at_once_and_only_whole() {
        let data = || message(Response::Data("archive".into()));
        let end = |digest: &str| {
            message(Response::End(TransferEnd {
                size_bytes: 7,
                digest: digest.into(),
            }))
        };
        // printf archive | sha256sum
        let digest = "sha256:0eb3e36bfb24dcd9bb1d1bece1531216b59539a8fde17ee80224af0653c92aa3";
        let server = Server::start(vec![
            vec![data(), end(digest), ok()],
            vec![data(), end("sha256:00"), ok()],
            vec![data(), ok()],
        ]);
        let client = server.client().await;
        let export = async || {
            let request = ExportImageRequest::default();
            let mut content = Vec::new();
            let mut download = client.download(request).await?;
            download.write_to(&mut content).await.map(|()| content)
        };
        assert_eq!(export().await.unwrap(), b"archive");
        let error = export().await.unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }), "{error:?}");
        let error = export().await.unwrap_err();
        assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
    }
}
