//! Waiting for a container, over interruptions.

use wharf_api::v1::wait_container_response::Response;
use wharf_api::v1::{WaitContainerRequest, WaitResult};

use crate::client::Client;
use crate::error::Error;
use crate::resume::Interruptions;
use crate::rpc::ServerStreaming as _;

/// Asks until there is a result. Once the server has said which run is waited for, that run is
/// asked about, so that an exit and a restart during an interruption change nothing.
pub(crate) async fn wait(
    client: &Client,
    mut request: WaitContainerRequest,
) -> Result<WaitResult, Error> {
    let mut interruptions = Interruptions::default();
    loop {
        match ask(client, &mut request, &mut interruptions).await {
            Ok(result) => return Ok(result),
            Err(error) => interruptions.bridge(error).await?,
        }
    }
}

async fn ask(
    client: &Client,
    request: &mut WaitContainerRequest,
    interruptions: &mut Interruptions,
) -> Result<WaitResult, Error> {
    let mut messages = client.stream(request.clone()).await?;
    while let Some(message) = messages.next().await? {
        match message.response {
            Some(Response::Registered(registered)) => {
                request.run = registered.run;
                interruptions.over();
            }
            Some(Response::Result(result)) => return Ok(result),
            // A kind of message that is newer than this client.
            None => {}
        }
    }
    Err(Error::Incomplete {
        method: WaitContainerRequest::METHOD,
    })
}
