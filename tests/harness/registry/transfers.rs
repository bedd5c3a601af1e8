//! Pulls and pushes, message by message, by the generated client.

use tonic::Streaming;
use wharf_api::v1::{
    self, Descriptor, Image, PullImageRequest, PullImageResponse, PullResult, PushImageRequest,
    RegistryAuth, TransferProgress, pull_image_response, push_image_response,
};

use crate::harness::client::answer;
use crate::harness::{Client, Refusal};

/// A pull that has come to its end.
#[derive(Debug)]
pub struct Pulled {
    pub resolved: Descriptor,
    pub progress: Vec<TransferProgress>,
    pub changed: bool,
    pub image: Image,
}

/// A pull under way. Dropped, its caller is gone.
#[derive(Debug)]
pub struct Pulling {
    pub resolved: Descriptor,
    messages: Streaming<PullImageResponse>,
}

impl Pulling {
    /// Where it stands next; `Err` with the end.
    pub async fn progress(&mut self) -> Result<Result<TransferProgress, PullResult>, Refusal> {
        use pull_image_response::Response::{Progress, Resolved, Result as Done};
        let message = self.messages.message().await?.expect("a result is last");
        match message.response.expect("a message says something") {
            Progress(progress) => Ok(Ok(progress)),
            Done(result) => {
                let after = self.messages.message().await?;
                assert!(after.is_none(), "the result is last, not {after:?}");
                Ok(Err(result))
            }
            Resolved(again) => panic!("resolved comes first, and once: {again:?}"),
        }
    }

    /// All of it.
    pub async fn end(mut self) -> Result<Pulled, Refusal> {
        let mut progress = Vec::new();
        loop {
            match self.progress().await? {
                Ok(next) => progress.push(next),
                Err(result) => {
                    return Ok(Pulled {
                        resolved: self.resolved,
                        progress,
                        changed: result.changed,
                        image: result.image.expect("an image"),
                    });
                }
            }
        }
    }
}

impl Client {
    pub async fn pull(&self, image: &str) -> Result<Pulled, Refusal> {
        self.pull_by(image, None).await
    }

    /// With credentials.
    pub async fn pull_by(
        &self,
        image: &str,
        auth: impl Into<Option<RegistryAuth>>,
    ) -> Result<Pulled, Refusal> {
        let request = PullImageRequest {
            image: image.to_owned(),
            auth: auth.into(),
            ..Default::default()
        };
        self.pull_with(request).await
    }

    pub async fn pull_with(&self, request: PullImageRequest) -> Result<Pulled, Refusal> {
        self.pulling(request).await?.end().await
    }

    /// A pull that has resolved its reference.
    pub async fn pulling(&self, request: PullImageRequest) -> Result<Pulling, Refusal> {
        use pull_image_response::Response::Resolved;
        let mut messages = answer(self.images().pull_image(self.request(request)).await)?;
        let first = messages.message().await?.expect("a first message").response;
        let Some(Resolved(resolved)) = first else {
            panic!("resolved comes first, not {first:?}");
        };
        Ok(Pulling { resolved, messages })
    }

    pub async fn push(&self, image: &str, destination: &str) -> Result<Descriptor, Refusal> {
        self.push_by(image, destination, None).await
    }

    /// With credentials.
    pub async fn push_by(
        &self,
        image: &str,
        destination: &str,
        auth: impl Into<Option<RegistryAuth>>,
    ) -> Result<Descriptor, Refusal> {
        use push_image_response::Response::{Progress, Result as Done};
        let request = PushImageRequest {
            image: image.to_owned(),
            destination: destination.to_owned(),
            auth: auth.into(),
        };
        let mut messages = answer(self.images().push_image(self.request(request)).await)?;
        let mut result = None;
        while let Some(message) = messages.message().await? {
            assert!(result.is_none(), "the result is last, not {message:?}");
            match message.response.expect("a message says something") {
                Progress(_) => {}
                Done(descriptor) => result = Some(descriptor),
            }
        }
        Ok(result.expect("a result is last"))
    }

    /// Every image, page by page.
    pub async fn every_image(&self) -> Vec<Image> {
        let mut request = v1::ListImagesRequest::default();
        let mut all = Vec::new();
        loop {
            let page = self.list_images(request.clone()).await.unwrap();
            all.extend(page.images);
            if page.next_page_token.is_empty() {
                return all;
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Removes a reference, and the image with its last one.
    pub async fn remove_image(&self, image: &str) -> Result<v1::DeleteImageResponse, Refusal> {
        self.delete_image(v1::DeleteImageRequest {
            image: image.to_owned(),
            ..Default::default()
        })
        .await
    }
}
