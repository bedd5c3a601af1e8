//! `wharf pull`.

use clap::{Args, ValueEnum};
use wharf_client::Client;
use wharf_client::v1::pull_image_response::Response;
use wharf_client::v1::{OutputStream, Platform, PullImageRequest, PullResult};

use super::failure::Failure;
use super::output::Output;
use super::progress::{Direction, Progress, ProgressFlags};
use super::registry_auth::registry_auth;
use super::session::Session;
use super::values;

/// Pull an image, and print it with its digest
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// For this platform instead of the server's
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = values::platform)]
    platform: Option<Platform>,
    /// What becomes of the pull when this command is interrupted
    #[arg(long, value_name = "ACTION", value_enum, default_value_t)]
    on_disconnect: OnDisconnect,
    #[command(flatten)]
    progress: ProgressFlags,
    /// Reference; the tag's default is latest
    image: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum OnDisconnect {
    /// It ends, unless others wait for it too
    #[default]
    Stop,
    /// The server goes on with it
    Continue,
}

impl Pull {
    pub(crate) fn request(&self) -> PullImageRequest {
        PullImageRequest {
            image: self.image.clone(),
            platform: self.platform.clone(),
            continue_on_disconnect: self.on_disconnect == OnDisconnect::Continue,
            ..Default::default()
        }
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let progress = self
            .progress
            .progress(Direction::Pull, OutputStream::Stdout)?;
        let is_answer = progress.is_answer();
        let client = session.connect().await?;
        let result = pull(&client, self.request(), progress, &mut session.output).await?;
        match is_answer {
            true => Ok(()),
            false => session.output.line(pinned(&self.image, &result)),
        }
    }
}

/// Pulls, with the credentials of the image's registry, and tells of it.
pub(crate) async fn pull(
    client: &Client,
    mut request: PullImageRequest,
    mut progress: Progress,
    output: &mut Output,
) -> Result<PullResult, Failure> {
    request.auth = registry_auth(&request.image, output).await;
    let mut pull = client.pull(request);
    let mut result = PullResult::default();
    while let Some(message) = pull.next().await? {
        progress.message(&message, output)?;
        match message.response {
            Some(Response::Progress(at)) => progress.show(&at, output)?,
            Some(Response::Result(last)) => result = last,
            Some(Response::Resolved(_)) | None => {}
        }
    }
    Ok(result)
}

/// The image as it was asked for, with the digest that it has now.
fn pinned(image: &str, result: &PullResult) -> String {
    let target = result.image.as_ref().and_then(|it| it.target.as_ref());
    match target {
        Some(target) if !image.contains('@') => format!("{image}@{}", target.digest),
        Some(_) | None => image.to_owned(),
    }
}
