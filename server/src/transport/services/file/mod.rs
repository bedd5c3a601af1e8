//! `FileService`.

mod download;

use tonic::{Request, Response, Status, Streaming};
use wharf_api::v1;
use wharf_api::v1::file_service_server::FileService;

use super::{Answers, complete, keyed, parsed_of, upload};
use crate::engine::{self, Answer, Engine};
use crate::files::{self, LastLink};
use crate::transport::parse::idempotency;
use crate::transport::{CallError, RequestContext, parse, render};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Files {
    engine: Engine,
}

impl Files {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl FileService for Files {
    async fn stat_path(
        &self,
        request: Request<v1::StatPathRequest>,
    ) -> Result<Response<v1::StatPathResponse>, Status> {
        let request = request.into_inner();
        let key = request.container.clone();
        let path = complete(parsed_of(&self.engine, request, parse::file::stat)?)?;
        let stat = self.engine.stat_path(&key, &path).await;
        let stat = stat.map_err(CallError::of(&key))?;
        Ok(Response::new(v1::StatPathResponse {
            stat: Some(render::file::stat(stat)),
        }))
    }

    type ReadArchiveStream = Answers<v1::ReadArchiveResponse>;

    async fn read_archive(
        &self,
        request: Request<v1::ReadArchiveRequest>,
    ) -> Result<Response<Self::ReadArchiveStream>, Status> {
        let request = request.into_inner();
        let key = request.container.clone();
        let link = if request.follow_link {
            LastLink::Followed
        } else {
            LastLink::Itself
        };
        let path = complete(parsed_of(&self.engine, request, parse::file::read_archive)?)?;
        let archive = self.engine.read_archive(&key, &path, link).await;
        let archive = archive.map_err(CallError::of(&key))?;
        Ok(Response::new(download::messages(key, archive)))
    }

    async fn write_archive(
        &self,
        request: Request<Streaming<v1::WriteArchiveRequest>>,
    ) -> Result<Response<v1::WriteArchiveResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let mut messages = request.into_inner();
        let start = upload::start(&mut messages).await?;
        let (key, call) = (start.container.clone(), idempotency::call(&context, &start));
        let what = complete(parsed_of(&self.engine, start, parse::file::write_archive)?)?;
        let (pieces, pending) = files::inlet();
        let (fed, written) = tokio::join!(
            upload::feed(&mut messages, pieces),
            self.engine.write_archive(call, &key, what, pending)
        );
        Ok(keyed(outcome(&key, fed, written)?, |unpacked| {
            v1::WriteArchiveResponse {
                entries: unpacked.entries,
                content_bytes: i64::try_from(unpacked.content_bytes).unwrap_or(i64::MAX),
            }
        }))
    }

    type ReadFileStream = Answers<v1::ReadFileResponse>;

    async fn read_file(
        &self,
        request: Request<v1::ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let request = request.into_inner();
        let key = request.container.clone();
        let path = complete(parsed_of(&self.engine, request, parse::file::read_file)?)?;
        let file = self.engine.read_file(&key, &path).await;
        let file = file.map_err(CallError::of(&key))?;
        Ok(Response::new(download::messages(key, file)))
    }

    async fn write_file(
        &self,
        request: Request<Streaming<v1::WriteFileRequest>>,
    ) -> Result<Response<v1::WriteFileResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let mut messages = request.into_inner();
        let start = upload::start(&mut messages).await?;
        let (key, call) = (start.container.clone(), idempotency::call(&context, &start));
        let what = complete(parsed_of(&self.engine, start, parse::file::write_file)?)?;
        let (pieces, pending) = files::inlet();
        let (fed, written) = tokio::join!(
            upload::feed(&mut messages, pieces),
            self.engine.write_file(call, &key, what, pending)
        );
        Ok(keyed(outcome(&key, fed, written)?, |stat| {
            v1::WriteFileResponse {
                stat: Some(render::file::stat(stat)),
            }
        }))
    }
}

/// What came of an upload. What was wrong with the stream comes first: for the engine it only stopped.
fn outcome<T>(
    key: &str,
    fed: Result<(), CallError>,
    written: Result<Answer<T>, engine::Error>,
) -> Result<Answer<T>, CallError> {
    match (fed, written) {
        (Ok(()), written) => written.map_err(CallError::of(key)),
        (Err(error), Err(engine::Error::PartialWrite { entries, .. })) => {
            Err(error.after_entries(entries))
        }
        (Err(error), _) => Err(error),
    }
}
