//! Imports an image archive (OCI layout or `docker save`, plain or compressed), tags it, lists what
//! is there.
//!
//! `cargo run --example images -- ARCHIVE REFERENCE`, with `WHARF_HOST` for a server elsewhere.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use wharf_client::v1::{ImportImageStart, ListImagesRequest, TagImageRequest};
use wharf_client::{Client, RequestId};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(archive), Some(reference)) = (arguments.next(), arguments.next()) else {
        return Err("usage: images ARCHIVE REFERENCE".into());
    };
    let client = Client::from_env().await?;

    // Streamed as it is read, whatever its size, and checked against its digest at the end.
    let start = ImportImageStart {
        reference: reference.clone(),
        idempotency_key: RequestId::generate().to_string(),
        ..Default::default()
    };
    let file = tokio::fs::File::open(archive).await?;
    for image in client.upload(start, file).await?.images {
        println!("imported {} {:?}", image.id, image.references);
        let tag = TagImageRequest {
            image: image.id,
            reference: reference.clone(),
        };
        client.call(tag).await?;
    }

    let mut pages = client.pages(ListImagesRequest::default());
    while let Some(images) = pages.next().await? {
        for image in images {
            println!(
                "{} {} bytes",
                image.references.join(" "),
                image.content_bytes
            );
        }
    }
    Ok(())
}
