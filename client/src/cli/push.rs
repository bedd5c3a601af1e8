//! `wharf push`.

use clap::Args;
use wharf_client::v1::push_image_response::Response;
use wharf_client::v1::{OutputStream, PushImageRequest};

use super::failure::Failure;
use super::progress::{Direction, ProgressFlags};
use super::registry_auth::registry_auth;
use super::session::Session;

/// Push an image to its registry, and print the digest that it has there
#[derive(Debug, Args)]
pub(crate) struct Push {
    #[command(flatten)]
    progress: ProgressFlags,
    /// Local reference
    image: String,
    /// Where to; the image's own reference by default
    destination: Option<String>,
}

impl Push {
    pub(crate) fn request(&self) -> PushImageRequest {
        PushImageRequest {
            image: self.image.clone(),
            destination: self.destination.clone().unwrap_or_default(),
            auth: None,
        }
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let mut progress = self
            .progress
            .progress(Direction::Push, OutputStream::Stdout)?;
        let client = session.connect().await?;
        let output = &mut session.output;
        let mut request = self.request();
        let destination = self.destination.as_ref().unwrap_or(&self.image);
        request.auth = registry_auth(destination, output).await;
        let mut push = client.push(request);
        let mut digest = String::new();
        while let Some(message) = push.next().await? {
            progress.message(&message, output)?;
            match message.response {
                Some(Response::Progress(at)) => progress.show(&at, output)?,
                Some(Response::Result(pushed)) => digest = pushed.digest,
                None => {}
            }
        }
        match progress.is_answer() {
            true => Ok(()),
            false => {
                // The screen is clear again before the answer stands on it.
                drop(progress);
                output.line(digest)
            }
        }
    }
}
