//! What a server is, what it can do for this caller, and how it feels.
//!
//! `cargo run --example system`, with `WHARF_HOST` for a server elsewhere.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use wharf_client::v1::{GetCapabilitiesRequest, GetInfoRequest, GetVersionRequest};
use wharf_client::{Client, Error};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let client = Client::from_env().await?;

    let version = client.call(GetVersionRequest {}).await?;
    println!("wharfd {} on {}", version.version, version.backend);

    // Ask what can be done; never conclude it from a version.
    let capabilities = client.call(GetCapabilitiesRequest {}).await?;
    for capability in capabilities.capabilities {
        match capability.available {
            true => println!("can {}", capability.name),
            false => println!("cannot {} ({})", capability.name, capability.reason),
        }
    }
    for (name, limit) in capabilities.limits {
        println!("limit {name} = {limit}");
    }

    let info = client.call(GetInfoRequest {}).await?;
    println!("you are {}", info.principal);
    for condition in info.conditions {
        println!("{} is {}", condition.r#type, condition.status);
    }
    Ok(())
}
