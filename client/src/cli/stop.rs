//! `wharf stop`.

use std::time::Duration;

use clap::Args;
use wharf_client::v1::StopContainerRequest;

use super::each::each;
use super::failure::Failure;
use super::session::Session;
use super::values;

/// Stop containers
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// Time before it is killed; 0 kills at once
    #[arg(short, long, value_name = "SECONDS", value_parser = values::duration)]
    time: Option<Duration>,
    /// Signal that asks it to stop
    #[arg(short, long)]
    signal: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Stop {
    pub(crate) fn request(&self, container: String) -> StopContainerRequest {
        StopContainerRequest {
            container,
            signal: self.signal.clone().unwrap_or_default(),
            grace_period: self.time.map(values::proto_duration),
            ..Default::default()
        }
    }

    pub(crate) async fn execute(self, session: &mut Session) -> Result<(), Failure> {
        each(self.containers.clone(), session, |client, container| {
            let request = self.request(container.clone());
            async move {
                client.call(request).await?;
                Ok(vec![container])
            }
        })
        .await
    }
}
