//! `wharf run`.

use clap::Args;
use wharf_client::v1::CreateContainerRequest;

use super::container_flags::{ContainerFlags, Then};
use super::create::create;
use super::failure::Failure;
use super::session::Session;

/// Create a container and start it
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    override_usage = "wharf run -d [OPTIONS] IMAGE [COMMAND]..."
)]
pub(crate) struct Run {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    flags: ContainerFlags,
}

impl Run {
    /// The request; attached runs need more than this version has.
    pub(crate) fn request(self) -> Result<CreateContainerRequest, Failure> {
        if !self.detach {
            return Err(Failure::Usage(
                "attached runs come with a later version; use -d to run in the background"
                    .to_owned(),
            ));
        }
        self.flags.request(Then::Start)
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        create(self.request()?, session).await
    }
}
