//! Importing an archive: received as a whole, checked, then taken in.

use std::path::Path;
use std::sync::Arc;

use futures_util::Stream;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tracing::Instrument;
use wharf_api::v1;

use super::spool::{Spool, Spooled};
use super::{Images, parsed};
use crate::engine::{Answer, ImportImage};
use crate::model::Image;
use crate::transport::parse::idempotency;
use crate::transport::services::upload::{self, Content};
use crate::transport::{CallError, RequestContext, parse};

impl Images {
    /// Receives an archive and imports it. Once it is here, it is imported also if the caller leaves.
    pub(super) async fn import(
        &self,
        context: &RequestContext,
        mut messages: impl Stream<Item = Result<v1::ImportImageRequest, Status>> + Unpin,
    ) -> Result<Answer<Vec<Arc<Image>>>, CallError> {
        let start = upload::start(&mut messages).await?;
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

pub(super) async fn receive(
    messages: &mut (impl Stream<Item = Result<v1::ImportImageRequest, Status>> + Unpin),
    dir: &Path,
    tasks: &TaskTracker,
) -> Result<Spooled, CallError> {
    let mut spool = Spool::create(dir, tasks).await?;
    loop {
        match upload::next(messages).await? {
            Content::Data(data) => spool.write(&data).await?,
            Content::End(end) => return spool.finish(&end).await,
        }
    }
}
