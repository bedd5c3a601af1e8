//! Waiting for a container, over interruptions.

use wharf_api::v1::wait_container_response::Response;
use wharf_api::v1::{WaitContainerRequest, WaitResult};

use crate::client::Client;
use crate::error::Error;
use crate::resume::Resuming;
use crate::rpc::ServerStreaming as _;

/// Asks until there is a result. Once the server has said which run is waited for, that run is
/// asked about, so that an exit and a restart during an interruption change nothing.
pub(crate) async fn wait(
    client: &Client,
    mut request: WaitContainerRequest,
) -> Result<WaitResult, Error> {
    let mut stream = Resuming::new(client.clone());
    while let Some(message) = stream.next(&request).await? {
        match message.response {
            Some(Response::Registered(registered)) => request.run = registered.run,
            Some(Response::Result(result)) => return Ok(result),
            // A kind of message that is newer than this client.
            None => {}
        }
    }
    Err(Error::Incomplete {
        method: WaitContainerRequest::METHOD,
    })
}
