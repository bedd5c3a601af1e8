//! `wharf start`.

use clap::Args;
use wharf_client::v1::StartContainerRequest;

use super::each::each;
use super::failure::Failure;
use super::session::{Session, idempotency_key};

/// Start containers
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Start {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        each(self.containers, session, |client, container| async move {
            let request = StartContainerRequest {
                container: container.clone(),
                idempotency_key: idempotency_key(),
                ..Default::default()
            };
            client.call(request).await?;
            Ok(vec![container])
        })
        .await
    }
}
