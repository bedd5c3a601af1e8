//! `ImageService`.

mod export;
mod import;
mod list;
mod prune;
mod pull;
mod push;
mod spool;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};
use wharf_api::v1;
use wharf_api::v1::image_service_server::ImageService;

use super::{Answers, PruneMode, complete, keyed, parsed};
use crate::engine::{DeletedImage, Engine, Error};
use crate::model::Image;
use crate::transport::{CallError, RequestContext, parse, render};

/// The service.
#[derive(Debug, Clone)]
pub(super) struct Images {
    engine: Engine,
    spool: PathBuf,
    tasks: TaskTracker,
}

impl Images {
    /// Archives are received into `spool`, which is this server's alone; imports go on in `tasks` once
    /// they are here.
    pub(super) async fn new(engine: Engine, spool: PathBuf, tasks: TaskTracker) -> Self {
        spool::clear(&spool).await;
        Self {
            engine,
            spool,
            tasks,
        }
    }

    fn show(&self, image: &Image) -> v1::Image {
        render::image::image(image, self.engine.containers_using(image))
    }
}

#[tonic::async_trait]
impl ImageService for Images {
    async fn get_image(
        &self,
        request: Request<v1::GetImageRequest>,
    ) -> Result<Response<v1::GetImageResponse>, Status> {
        let key = request.into_inner().image;
        parsed(&self.engine, |out| parse::image::key(&key, out))?;
        let image = self.engine.image(&key).map_err(CallError::from)?;
        Ok(Response::new(v1::GetImageResponse {
            image: Some(self.show(&image)),
            config_json: image.config_json.as_bytes().to_vec().into(),
        }))
    }

    async fn list_images(
        &self,
        request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let page = list::images(&self.engine, request.into_inner())?;
        Ok(Response::new(page))
    }

    async fn tag_image(
        &self,
        request: Request<v1::TagImageRequest>,
    ) -> Result<Response<v1::TagImageResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let reference = parsed(&self.engine, |out| {
            parse::image::key(&request.image, out);
            parse::image::new_reference(&request.reference, out)
        })?;
        let image = self
            .engine
            .tag_image(context.cause(), &request.image, &reference)
            .await
            .map_err(CallError::from)?;
        Ok(Response::new(v1::TagImageResponse {
            image: Some(self.show(&image)),
        }))
    }

    async fn delete_image(
        &self,
        request: Request<v1::DeleteImageRequest>,
    ) -> Result<Response<v1::DeleteImageResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        parsed(&self.engine, |out| parse::image::key(&request.image, out))?;
        let deleted = match self
            .engine
            .delete_image(context.cause(), &request.image, request.force)
            .await
        {
            Err(Error::ImageNotFound { .. }) if request.allow_missing => DeletedImage::default(),
            deleted => deleted.map_err(CallError::from)?,
        };
        Ok(Response::new(v1::DeleteImageResponse {
            untagged: deleted.untagged,
            deleted: deleted.deleted,
        }))
    }

    async fn import_image(
        &self,
        request: Request<Streaming<v1::ImportImageRequest>>,
    ) -> Result<Response<v1::ImportImageResponse>, Status> {
        let context = RequestContext::of(&request)?;
        let answer = self.import(&context, request.into_inner()).await?;
        Ok(keyed(answer, |images| v1::ImportImageResponse {
            images: images.iter().map(|image| self.show(image)).collect(),
        }))
    }

    type PullImageStream = Answers<v1::PullImageResponse>;

    async fn pull_image(
        &self,
        request: Request<v1::PullImageRequest>,
    ) -> Result<Response<Self::PullImageStream>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let wanted = parsed(&self.engine, |out| parse::image::pull_image(request, out))?;
        let (wanted, interval) = complete(wanted)?;
        let messages = pull::pull(&self.engine, context.cause(), wanted, interval)?;
        Ok(Response::new(messages))
    }

    type PushImageStream = Answers<v1::PushImageResponse>;

    async fn push_image(
        &self,
        request: Request<v1::PushImageRequest>,
    ) -> Result<Response<Self::PushImageStream>, Status> {
        let request = request.into_inner();
        let wanted = parsed(&self.engine, |out| parse::image::push_image(request, out))?;
        let messages = push::push(&self.engine, wanted)?;
        Ok(Response::new(messages))
    }

    type PruneImagesStream = Answers<v1::PruneImagesResponse>;

    async fn prune_images(
        &self,
        request: Request<v1::PruneImagesRequest>,
    ) -> Result<Response<Self::PruneImagesStream>, Status> {
        let context = RequestContext::of(&request)?;
        let request = request.into_inner();
        let mode = PruneMode::of(request.dry_run);
        let filter = parsed(&self.engine, |out| parse::image::prune(request, out))?;
        let prune = prune::Prune {
            engine: self.engine.clone(),
            cause: context.cause(),
            mode,
        };
        Ok(Response::new(prune.run(&filter)))
    }

    type ExportImageStream = Answers<v1::ExportImageResponse>;

    async fn export_image(
        &self,
        request: Request<v1::ExportImageRequest>,
    ) -> Result<Response<Self::ExportImageStream>, Status> {
        let request = request.into_inner();
        let (images, platform) = parsed(&self.engine, |out| parse::image::export(request, out))?;
        let export = self.engine.export_images(&images, platform.as_ref()).await;
        Ok(Response::new(export::messages(
            export.map_err(CallError::from)?,
        )))
    }
}
