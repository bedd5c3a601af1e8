//! `wharf kill`.

use clap::Args;
use wharf_client::v1::SignalContainerRequest;

use super::each::each;
use super::failure::Failure;
use super::session::{Session, idempotency_key};

/// Send a signal to containers
#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Signal
    #[arg(short, long, default_value = "KILL")]
    signal: String,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Kill {
    pub(crate) fn request(&self, container: String) -> SignalContainerRequest {
        SignalContainerRequest {
            container,
            signal: self.signal.clone(),
            idempotency_key: idempotency_key(),
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
