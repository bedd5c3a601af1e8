//! `wharf restart`.

use std::time::Duration;

use clap::Args;
use wharf_client::v1::RestartContainerRequest;

use super::each::each;
use super::failure::Failure;
use super::session::{Session, idempotency_key};
use super::values;

/// Stop containers and start them again
#[derive(Debug, Args)]
pub(crate) struct Restart {
    /// Time before it is killed; 0 kills at once
    #[arg(short, long, value_name = "SECONDS", value_parser = values::duration)]
    time: Option<Duration>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Restart {
    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        let grace_period = self.time.map(values::proto_duration);
        each(self.containers, session, |client, container| async move {
            let request = RestartContainerRequest {
                container: container.clone(),
                grace_period,
                idempotency_key: idempotency_key(),
                ..Default::default()
            };
            client.call(request).await?;
            Ok(vec![container])
        })
        .await
    }
}
