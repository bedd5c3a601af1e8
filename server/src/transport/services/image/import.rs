//! Importing an archive: received as a whole, checked, then taken in.

use std::path::Path;
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use tokio_util::task::TaskTracker;
use tonic::Status;
use tracing::Instrument;
use wharf_api::v1;
use wharf_api::v1::import_image_request::Request as Message;

use super::spool::{Spool, Spooled};
use super::{Images, parsed};
use crate::engine::{Answer, ImportImage};
use crate::model::{Digest, Image, limits};
use crate::transport::parse::{idempotency, reason};
use crate::transport::{CallError, RequestContext, parse};

impl Images {
    /// Receives an archive and imports it. Once it is here, it is imported also if the caller leaves.
    pub(super) async fn import(
        &self,
        context: &RequestContext,
        mut messages: impl Stream<Item = Result<v1::ImportImageRequest, Status>> + Unpin,
    ) -> Result<Answer<Vec<Arc<Image>>>, CallError> {
        let start = start(&mut messages).await?;
        let import = parsed(&self.engine, |out| parse::image::import(&start, out))?;
        let Spooled { file, digest } = receive(&mut messages, &self.spool, &self.tasks).await?;

        let call = idempotency::call_with_content(context, &start, digest.as_str().as_bytes());
        let import = ImportImage {
            archive: file.path().to_owned(),
            reference: import.reference,
            platform: import.platform,
        };
        let engine = self.engine.clone();
        let work = async move {
            let answer = engine.import_image(call, import).await;
            drop(file);
            answer
        };
        let answer = self.tasks.spawn(work.in_current_span()).await;
        answer
            .map_err(|_| CallError::Bug {
                what: "an import ended without an answer",
            })?
            .map_err(CallError::from)
    }
}

/// The next message, or what came instead of one.
async fn next(
    messages: &mut (impl Stream<Item = Result<v1::ImportImageRequest, Status>> + Unpin),
) -> Result<Option<v1::ImportImageRequest>, CallError> {
    Ok(messages.next().await.transpose()?)
}

pub(super) async fn start(
    messages: &mut (impl Stream<Item = Result<v1::ImportImageRequest, Status>> + Unpin),
) -> Result<v1::ImportImageStart, CallError> {
    match next(messages).await? {
        Some(v1::ImportImageRequest {
            request: Some(Message::Start(start)),
        }) => Ok(start),
        other => Err(unexpected("start", other.as_ref())),
    }
}

pub(super) async fn receive(
    messages: &mut (impl Stream<Item = Result<v1::ImportImageRequest, Status>> + Unpin),
    dir: &Path,
    tasks: &TaskTracker,
) -> Result<Spooled, CallError> {
    let mut spool = Spool::create(dir, tasks).await?;
    loop {
        let message = next(messages).await?;
        match message
            .as_ref()
            .and_then(|message| message.request.as_ref())
        {
            Some(Message::Data(data)) => {
                check_piece(data)?;
                spool.write(data).await?;
            }
            Some(Message::End(end)) => {
                check_digest(&end.digest)?;
                if let Some(more) = next(messages).await? {
                    return Err(unexpected("end of stream", Some(&more)));
                }
                return spool.finish(end).await;
            }
            Some(Message::Start(_)) | None => {
                return Err(unexpected("data or end", message.as_ref()));
            }
        }
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

fn unexpected(expected: &'static str, message: Option<&v1::ImportImageRequest>) -> CallError {
    let got = match message.map(|message| &message.request) {
        None => "end of stream",
        Some(None) => "an empty message",
        Some(Some(Message::Start(_))) => "start",
        Some(Some(Message::Data(_))) => "data",
        Some(Some(Message::End(_))) => "end",
    };
    CallError::StreamProtocol { expected, got }
}
