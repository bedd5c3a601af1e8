//! Puts a file into a container, reads it back, and copies a directory out as tar.
//!
//! `cargo run --example files -- CONTAINER`, with `WHARF_HOST` for a server elsewhere.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use wharf_client::v1::{ReadArchiveRequest, ReadFileRequest, StatPathRequest, WriteFileStart};
use wharf_client::{Client, ErrorReason};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let Some(container) = std::env::args().nth(1) else {
        return Err("usage: files CONTAINER".into());
    };
    let client = Client::from_env().await?;

    // It is there as a whole or not at all, running or not.
    let start = WriteFileStart {
        container: container.clone(),
        path: "/etc/example/settings".into(),
        mode: Some(0o640),
        create_parents: true,
        ..Default::default()
    };
    let written = client.upload(start, &b"colour = blue\n"[..]).await?;
    let stat = written.stat.unwrap_or_default();
    println!("wrote {} bytes, mode {:o}", stat.size_bytes, stat.mode);

    let file = ReadFileRequest {
        container: container.clone(),
        path: "/etc/example/settings".into(),
    };
    let mut content = Vec::new();
    client.download(file).await?.write_to(&mut content).await?;
    print!("read {}", String::from_utf8_lossy(&content));

    // Streamed, and checked against its digest at the end.
    let archive = ReadArchiveRequest {
        container: container.clone(),
        path: "/etc/example".into(),
        ..Default::default()
    };
    let mut tar = Vec::new();
    client.download(archive).await?.write_to(&mut tar).await?;
    println!("archived {} bytes of tar", tar.len());

    let missing = StatPathRequest {
        container,
        path: "/no/such/file".into(),
    };
    match client.call(missing).await {
        Err(error) if error.reason() == Some(ErrorReason::PathNotFound) => {
            println!("not there: {error}");
        }
        Err(error) => return Err(error.into()),
        Ok(_) => println!("there"),
    }
    Ok(())
}
