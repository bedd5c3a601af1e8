//! Deleting what is not used, one image at a time.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::stream;
use tonic::Status;
use wharf_api::v1;

use crate::engine::{Engine, Error};
use crate::model::{Cause, Digest, Image};
use crate::transport::parse::image::ImageFilter;
use crate::transport::services::{Answers, PruneMode};
use crate::transport::{CallError, render};

/// A prune for one caller. It goes on only as long as the caller reads; each deletion that has begun
/// is finished all the same.
#[derive(Debug)]
pub(super) struct Prune {
    pub(super) engine: Engine,
    pub(super) cause: Cause,
    pub(super) mode: PruneMode,
}

impl Prune {
    /// Reports each image that was deleted, or would be.
    pub(super) fn run(self, filter: &ImageFilter) -> Answers<v1::PruneImagesResponse> {
        let users = |image: &Arc<Image>| self.engine.containers_using(image);
        let images = self.engine.images().into_iter();
        let images: Vec<_> = images
            .filter(|image| filter.matches(image, || users(image)))
            .collect();
        let start = (self, images.into_iter(), HashSet::new());
        Box::pin(stream::try_unfold(
            start,
            async |(prune, mut images, mut gone)| {
                for image in images.by_ref() {
                    let freed = prune.one(&image, &gone).await.map_err(CallError::from)?;
                    if let Some(freed) = freed {
                        gone.insert(image.id.clone());
                        return Ok::<_, Status>(Some((
                            report(&image, freed),
                            (prune, images, gone),
                        )));
                    }
                }
                Ok(None)
            },
        ))
    }

    /// What it has freed; `None` if it has gone, was named or came into use meanwhile.
    async fn one(&self, image: &Arc<Image>, gone: &HashSet<Digest>) -> Result<Option<u64>, Error> {
        match self.mode {
            PruneMode::DryRun => Ok(Some(self.engine.would_free(image, gone).await)),
            PruneMode::Delete => {
                let (cause, image) = (self.cause.clone(), Arc::clone(image));
                self.engine.prune_image(cause, image).await
            }
        }
    }
}

fn report(image: &Image, freed: u64) -> v1::PruneImagesResponse {
    v1::PruneImagesResponse {
        image_id: image.id.to_string(),
        references: image.references.iter().cloned().collect(),
        reclaimed_bytes: render::signed(freed),
    }
}
