//! One container's life: create, start, wait, read its exit status, delete.
//!
//! `cargo run --example lifecycle -- IMAGE`, with `WHARF_HOST` for a server elsewhere. The image must
//! be there (`wharf import`) and have `/bin/sh`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use wharf_client::v1::{
    ContainerSpec, CreateContainerRequest, DeleteContainerRequest, ProcessSpec,
    StartContainerRequest, WaitContainerRequest,
};
use wharf_client::{CallOptions, Client, Error, RequestId};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let image = std::env::args().nth(1).unwrap_or("busybox".to_owned());
    // One request id for all calls: `wharf trace ID` shows what they did together.
    let id = RequestId::generate();
    let client = Client::from_env().await?;
    let client = client.with(CallOptions::new().request_id(id.clone()));

    let created = client.call(create(image)).await?;
    let container = created.container.unwrap_or_default().id;
    println!("created {container}");

    let start = StartContainerRequest {
        container: container.clone(),
        // Makes the call safe to repeat, so the client does so if the server is restarting.
        idempotency_key: RequestId::generate().to_string(),
        ..Default::default()
    };
    let run = client.call(start).await?.container.unwrap_or_default().run;
    println!("started run {run}");

    // Naming the run asks about this one, whatever happens to the container meanwhile.
    let wait = WaitContainerRequest {
        container: container.clone(),
        run,
        ..Default::default()
    };
    let status = client.wait(wait).await?.exit_status.unwrap_or_default();
    println!("{} {}", status.reason().as_str_name(), status.code);

    let delete = DeleteContainerRequest {
        container,
        ..Default::default()
    };
    client.call(delete).await?;
    println!("deleted; see `wharf trace {id}`");
    Ok(())
}

fn create(image: String) -> CreateContainerRequest {
    CreateContainerRequest {
        spec: Some(ContainerSpec {
            image,
            process: Some(ProcessSpec {
                entrypoint: ["/bin/sh", "-c", "exit 7"].map(str::to_owned).to_vec(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        labels: [("example".to_owned(), "lifecycle".to_owned())].into(),
        idempotency_key: RequestId::generate().to_string(),
        ..Default::default()
    }
}
