//! `wharf create`.

use clap::Args;
use wharf_client::v1::CreateContainerRequest;

use super::container_flags::{ContainerFlags, Then};
use super::failure::Failure;
use super::session::Session;

/// Create a container without starting it
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "wharf create [OPTIONS] IMAGE [COMMAND]..."
)]
pub(crate) struct Create {
    #[command(flatten)]
    flags: ContainerFlags,
}

impl Create {
    pub(crate) fn request(self) -> Result<CreateContainerRequest, Failure> {
        self.flags.request(Then::Leave)
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        create(self.request()?, session).await.map(drop)
    }
}

/// Creates a container and prints its id.
pub(crate) async fn create(
    request: CreateContainerRequest,
    session: &mut Session,
) -> Result<String, Failure> {
    let client = session.connect().await?;
    let created = client.call(request).await?;
    for warning in created.warnings {
        session.output.warning(&warning.message);
    }
    let id = created.container.unwrap_or_default().id;
    session.output.line(&id)?;
    Ok(id)
}
