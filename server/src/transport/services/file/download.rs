//! The messages that bring a file or an archive: stat, data..., end.

use bytes::Bytes;
use futures_util::stream;
use tonic::Status;
use wharf_api::v1;

use super::Answers;
use crate::engine::Download;
use crate::files::PathStat;
use crate::transport::services::upload::Tally;
use crate::transport::{CallError, render};

/// A message of such a stream.
pub(super) trait Message: Sized + Send + 'static {
    fn stat(stat: v1::PathStat) -> Self;
    fn data(data: Bytes) -> Self;
    fn end(end: v1::TransferEnd) -> Self;
}

macro_rules! downloads {
    ($($module:ident: $message:ident;)*) => {$(
        impl Message for v1::$message {
            fn stat(stat: v1::PathStat) -> Self {
                Self { response: Some(v1::$module::Response::Stat(stat)) }
            }

            fn data(data: Bytes) -> Self {
                Self { response: Some(v1::$module::Response::Data(data)) }
            }

            fn end(end: v1::TransferEnd) -> Self {
                Self { response: Some(v1::$module::Response::End(end)) }
            }
        }
    )*};
}

downloads! {
    read_archive_response: ReadArchiveResponse;
    read_file_response: ReadFileResponse;
}

/// Where such a stream stands.
enum Stage {
    Stat(PathStat),
    Data(Tally),
    Over,
}

/// Reads as fast as the client does, and no faster.
pub(super) fn messages<M: Message>(container: String, download: Download) -> Answers<M> {
    let stage = Stage::Stat(download.stat.clone());
    Box::pin(stream::try_unfold(
        (stage, download),
        move |(stage, mut download)| {
            let container = container.clone();
            async move {
                let next = next(&container, stage, &mut download).await?;
                Ok::<_, Status>(next.map(|(message, stage)| (message, (stage, download))))
            }
        },
    ))
}

async fn next<M: Message>(
    container: &str,
    stage: Stage,
    download: &mut Download,
) -> Result<Option<(M, Stage)>, CallError> {
    let mut tally = match stage {
        Stage::Stat(stat) => {
            let message = M::stat(render::file::stat(stat));
            return Ok(Some((message, Stage::Data(Tally::default()))));
        }
        Stage::Data(tally) => tally,
        Stage::Over => return Ok(None),
    };
    let chunk = download.next().await.map_err(CallError::of(container))?;
    Ok(Some(match chunk {
        Some(data) => {
            tally.add(&data);
            (M::data(data), Stage::Data(tally))
        }
        None => (M::end(tally.end()), Stage::Over),
    }))
}
