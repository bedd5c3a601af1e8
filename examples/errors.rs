//! Errors are typed: a reason to decide by, metadata to build on, every wrong field at once. No
//! program needs to read a message.
//!
//! `cargo run --example errors`, with `WHARF_HOST` for a server elsewhere.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use wharf_client::v1::{
    ContainerSpec, CreateContainerRequest, GetContainerRequest, Mount, ProcessSpec,
};
use wharf_client::{Client, Error, ErrorReason};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_env().await?;

    let missing = GetContainerRequest {
        container: "no-such-container".to_owned(),
        ..Default::default()
    };
    match client.call(missing).await {
        Err(error) if error.reason() == Some(ErrorReason::ContainerNotFound) => show(&error),
        other => println!("unexpected: {other:?}"),
    }

    match client.call(wrong_in_three_places()).await {
        Err(error) if error.reason() == Some(ErrorReason::InvalidField) => show(&error),
        other => println!("unexpected: {other:?}"),
    }
    Ok(())
}

/// `validate_only` checks everything and changes nothing.
fn wrong_in_three_places() -> CreateContainerRequest {
    CreateContainerRequest {
        name: "Not A Name".to_owned(),
        spec: Some(ContainerSpec {
            process: Some(ProcessSpec {
                working_dir: "not/absolute".to_owned(),
                ..Default::default()
            }),
            mounts: vec![Mount::default()],
            ..Default::default()
        }),
        validate_only: true,
        ..Default::default()
    }
}

fn show(error: &Error) {
    let Some(call) = error.call() else {
        return;
    };
    println!("{} ({:?}): {}", call.reason_name, call.code, call.message);
    println!("  request {}", call.request_id);
    for (key, value) in &call.metadata {
        println!("  {key} = {value}");
    }
    for violation in &call.violations {
        println!("  {}: {}", violation.field, violation.description);
    }
    if let Some(delay) = call.retry_after {
        println!("  try again in {delay:?}");
    }
}
