//! `wharf pause` and `wharf unpause`.

use clap::Args;
use wharf_client::v1::{PauseContainerRequest, ResumeContainerRequest};

use super::each::each;
use super::failure::Failure;
use super::session::Session;

/// Freeze all processes of containers
#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Thaw all processes of containers
#[derive(Debug, Args)]
pub(crate) struct Unpause {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Pause {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        each(self.containers, session, |client, container| async move {
            let request = PauseContainerRequest {
                container: container.clone(),
                ..Default::default()
            };
            client.call(request).await?;
            Ok(vec![container])
        })
        .await
    }
}

impl Unpause {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        each(self.containers, session, |client, container| async move {
            let request = ResumeContainerRequest {
                container: container.clone(),
                ..Default::default()
            };
            client.call(request).await?;
            Ok(vec![container])
        })
        .await
    }
}
