//! A container's log, followed until its run ends; by a saved cursor, from where this program stopped.
//!
//! `cargo run --example logs -- CONTAINER [CURSOR_FILE]`, with `WHARF_HOST` for a server elsewhere.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::fs;

use wharf_client::Client;
use wharf_client::v1::StreamLogsRequest;
use wharf_client::v1::stream_logs_request::Start;
use wharf_client::v1::stream_logs_response::Response;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let container = std::env::args().nth(1).unwrap_or("web".to_owned());
    let file = std::env::args().nth(2);
    let saved = file.as_ref().and_then(|file| fs::read_to_string(file).ok());
    let request = StreamLogsRequest {
        container,
        start: saved.map(Start::Cursor),
        follow: true,
        stop_at_exit: true,
        ..Default::default()
    };
    // Interruptions are bridged inside: `next` goes on after the last message.
    let mut logs = Client::from_env().await?.logs(request);
    while let Some(message) = logs.next().await? {
        show(message.response);
        // Only now is the message handled; a cursor saved earlier could lose it.
        if let (Some(file), Some(cursor)) = (&file, logs.cursor()) {
            fs::write(file, cursor)?;
        }
    }
    Ok(())
}

fn show(response: Option<Response>) {
    match response {
        Some(Response::Entries(batch)) => {
            for entry in batch.entries {
                // Bytes, not text: nothing is altered on the way.
                print!("{}", String::from_utf8_lossy(&entry.data));
            }
        }
        Some(Response::Gap(gap)) => println!("-- {} bytes are missing", gap.missed_bytes),
        Some(Response::RunStarted(_)) => println!("-- a run began"),
        Some(Response::RunExited(status)) => println!("-- it ended with {}", status.code),
        Some(Response::Idle(_)) | None => {}
    }
}
