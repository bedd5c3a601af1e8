//! The messages that bring an archive of images: data..., end.

use futures_util::stream;
use tonic::Status;
use wharf_api::v1;
use wharf_api::v1::export_image_response::Response;

use crate::engine::Export;
use crate::transport::CallError;
use crate::transport::services::Answers;
use crate::transport::services::upload::Tally;

/// Reads as fast as the client does, and no faster.
pub(super) fn messages(export: Export) -> Answers<v1::ExportImageResponse> {
    let start = Some((export, Tally::default()));
    Box::pin(stream::try_unfold(start, async |state| {
        let Some((mut export, mut tally)) = state else {
            return Ok::<_, Status>(None);
        };
        let next = export.next().await.map_err(CallError::from)?;
        let (response, state) = match next {
            Some(data) => {
                tally.add(&data);
                (Response::Data(data), Some((export, tally)))
            }
            None => (Response::End(tally.end()), None),
        };
        let response = Some(response);
        Ok(Some((v1::ExportImageResponse { response }, state)))
    }))
}
