//! `wharf create`.

use clap::Args;
use wharf_client::v1::{
    ContainerSpec, CreateContainerRequest, OutputStream, PullImageRequest, PullOptions, PullPolicy,
};
use wharf_client::{Error, ErrorReason};

use super::container_flags::{ContainerFlags, Then};
use super::failure::Failure;
use super::progress::{Direction, Progress, ProgressFlags};
use super::pull::pull;
use super::session::Session;

/// Create a container without starting it
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "wharf create [OPTIONS] IMAGE [COMMAND]..."
)]
pub(crate) struct Create {
    #[command(flatten)]
    progress: ProgressFlags,
    #[command(flatten)]
    flags: ContainerFlags,
}

impl Create {
    pub(crate) fn request(self) -> Result<CreateContainerRequest, Failure> {
        self.flags.request(Then::Leave)
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let progress = self
            .progress
            .progress(Direction::Pull, OutputStream::Stderr)?;
        create(self.request()?, progress, session).await.map(drop)
    }
}

/// Creates a container and prints its id. If the image is to be pulled, that is a call of its own: only
/// so can be told how it goes.
pub(crate) async fn create(
    mut request: CreateContainerRequest,
    progress: Progress,
    session: &mut Session,
) -> Result<String, Failure> {
    let wanted = request.pull.take().unwrap_or_default();
    let pull_request = PullImageRequest {
        image: image_of(request.spec.as_ref()).to_owned(),
        platform: wanted.platform.clone(),
        ..Default::default()
    };
    request.pull = wanted.platform.is_some().then(|| PullOptions {
        policy: PullPolicy::Never.into(),
        platform: wanted.platform.clone(),
        auth: None,
    });
    let client = session.connect().await?;
    let output = &mut session.output;
    let created = match wanted.policy() {
        PullPolicy::Unspecified | PullPolicy::Never => client.call(request).await?,
        PullPolicy::Always => {
            pull(&client, pull_request, progress, output).await?;
            client.call(request).await?
        }
        PullPolicy::IfMissing => match client.call(request.clone()).await {
            Err(error) if is_missing(&error) => {
                pull(&client, pull_request, progress, output).await?;
                client.call(request).await?
            }
            answer => answer?,
        },
    };
    for warning in created.warnings {
        output.warning(&warning.message);
    }
    let id = created.container.unwrap_or_default().id;
    output.line(&id)?;
    Ok(id)
}

/// Whether the image that was asked for is what is not here.
fn is_missing(error: &Error) -> bool {
    matches!(
        error.reason(),
        Some(ErrorReason::ImageNotFound | ErrorReason::PlatformNotFound)
    )
}

/// What a container is made of.
pub(crate) fn image_of(spec: Option<&ContainerSpec>) -> &str {
    spec.map_or("", |spec| &spec.image)
}
