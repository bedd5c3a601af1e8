//! Pulls an image from its registry, and tells how it goes.
//!
//! `cargo run --example pull -- IMAGE`, with `WHARF_HOST` for a server elsewhere.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use wharf_client::Client;
use wharf_client::credentials::{DockerConfig, registry_of};
use wharf_client::v1::pull_image_response::Response;
use wharf_client::v1::{PullImageRequest, RegistryAuth};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Some(image) = std::env::args().nth(1) else {
        return Err("usage: pull IMAGE".into());
    };
    let client = Client::from_env().await?;

    // Goes on over restarts of the server; layers that are here are not pulled again.
    let mut pull = client.pull(PullImageRequest {
        auth: credentials(&image).await,
        image,
        ..Default::default()
    });
    while let Some(message) = pull.next().await? {
        match message.response {
            Some(Response::Resolved(target)) => println!("resolved {}", target.digest),
            Some(Response::Progress(at)) => {
                println!("{} of {} bytes", at.done_bytes, at.total_bytes)
            }
            Some(Response::Result(result)) => {
                let pulled = result.image.unwrap_or_default();
                println!("pulled {} {:?}", pulled.id, pulled.references);
            }
            None => {}
        }
    }
    Ok(())
}

/// What `wharf login` or `docker login` has kept. Many registries ask for none.
async fn credentials(image: &str) -> Option<RegistryAuth> {
    let config = DockerConfig::from_env().ok()?;
    config.get(registry_of(image)).await.ok()?
}
