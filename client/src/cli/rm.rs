//! `wharf rm`.

use clap::Args;
use wharf_client::v1::DeleteContainerRequest;

use super::each::each;
use super::failure::Failure;
use super::session::Session;

/// Delete containers
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// Kill those that run; those that do not exist are no error
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Rm {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let force = self.force;
        each(self.containers, session, |client, container| async move {
            let request = DeleteContainerRequest {
                container: container.clone(),
                force,
                allow_missing: force,
                ..Default::default()
            };
            client.call(request).await?;
            Ok(vec![container])
        })
        .await
    }
}
