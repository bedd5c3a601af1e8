//! `wharf pull`.

use clap::{Args, ValueEnum};
use wharf_client::Client;
use wharf_client::v1::pull_image_response::Response;
use wharf_client::v1::{Descriptor, OutputStream, Platform, PullImageRequest};

use super::failure::Failure;
use super::output::Output;
use super::progress::{Direction, Progress, ProgressFlags};
use super::registry_auth::registry_auth;
use super::session::Session;
use super::values;

/// Pull an image, and print it with the digest that its tag has in the registry
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
        let resolved = pull(&client, self.request(), progress, &mut session.output).await?;
        match is_answer {
            true => Ok(()),
            false => session.output.line(pinned(&self.image, &resolved)),
        }
    }
}

/// Pulls, with the credentials of the image's registry, and tells of it. Returns what the reference resolved to.
pub(crate) async fn pull(
    client: &Client,
    mut request: PullImageRequest,
    mut progress: Progress,
    output: &mut Output,
) -> Result<Descriptor, Failure> {
    request.auth = registry_auth(&request.image, output).await;
    let mut pull = client.pull(request);
    let mut resolved = Descriptor::default();
    while let Some(message) = pull.next().await? {
        progress.message(&message, output)?;
        match message.response {
            Some(Response::Progress(at)) => progress.show(&at, output)?,
            Some(Response::Resolved(target)) => resolved = target,
            Some(Response::Result(_)) | None => {}
        }
    }
    Ok(resolved)
}

/// The image as it was asked for, with what pins it: of an index the index's digest, which is good on every platform.
fn pinned(image: &str, resolved: &Descriptor) -> String {
    match image.contains('@') || resolved.digest.is_empty() {
        true => image.to_owned(),
        false => format!("{image}@{}", resolved.digest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_pinned_by_what_its_tag_resolved_to() {
        let resolved = Descriptor {
            digest: "sha256:00".into(),
            ..Default::default()
        };
        assert_eq!(pinned("a:1", &resolved), "a:1@sha256:00");
        assert_eq!(pinned("a@sha256:00", &resolved), "a@sha256:00");
    }
}
