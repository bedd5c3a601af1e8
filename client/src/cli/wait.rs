//! `wharf wait`.

use clap::Args;
use wharf_client::v1::WaitContainerRequest;

use super::each::each;
use super::failure::Failure;
use super::session::Session;

/// Wait until containers exit, and print their exit codes
#[derive(Debug, Args)]
pub(crate) struct Wait {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Wait {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        each(self.containers, session, |client, container| async move {
            let request = WaitContainerRequest {
                container,
                ..Default::default()
            };
            let status = client.wait(request).await?.exit_status;
            // Always there for this condition; nothing is better than a code that nobody saw.
            Ok(status
                .map(|status| status.code.to_string())
                .into_iter()
                .collect())
        })
        .await
    }
}
