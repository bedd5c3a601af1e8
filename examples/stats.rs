//! What running containers use, round by round.
//!
//! `cargo run --example stats -- [ROUNDS]`, with `WHARF_HOST` for a server elsewhere.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use wharf_client::Client;
use wharf_client::v1::{ContainerStats, StreamStatsRequest};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).unwrap_or("5".to_owned()).parse()?;
    // A round a second, of all containers that run, also of later ones. Interruptions are bridged inside.
    let mut rounds = Client::from_env()
        .await?
        .stats(StreamStatsRequest::default());
    for number in 1..=count {
        let Some(round) = rounds.next().await? else {
            break;
        };
        println!("round {number} of {count}");
        round.iter().for_each(show);
    }
    Ok(())
}

fn show(stats: &ContainerStats) {
    let memory = stats.memory.unwrap_or_default();
    // The first sample has none to be compared with.
    let cores = match stats.cpu.and_then(|cpu| cpu.cores) {
        Some(cores) => format!("{cores:.2} cores"),
        None => "since its start".to_owned(),
    };
    println!(
        "{}: {cores}, {} bytes of memory, {} processes and threads",
        stats.container_name, memory.working_set_bytes, stats.pids
    );
}
