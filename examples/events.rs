//! What exists, then everything that happens, without a gap: also over restarts of the server, and,
//! by a saved cursor, over restarts of this program. ^C ends it.
//!
//! `cargo run --example events [-- CURSOR_FILE]`, with `WHARF_HOST` for a server elsewhere. Stop it,
//! run some containers, start it again with the same file: it goes on where it stopped.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::fs;

use wharf_client::v1::watch_events_request::{GapPolicy, Start};
use wharf_client::v1::watch_events_response::Response;
use wharf_client::v1::{Event, InitialState, WatchEventsRequest, WatchEventsResponse};
use wharf_client::{Client, EventWatch};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1);
    let saved = file.as_ref().and_then(|file| fs::read_to_string(file).ok());
    let client = Client::from_env().await?;
    let mut watch = client.watch(request(saved));
    // Interruptions are bridged inside: `next` goes on after the last event.
    while let Some(message) = next(&mut watch).await? {
        show(message.response);
        // Only now is the message handled; a cursor saved earlier could lose it.
        if let (Some(file), Some(cursor)) = (&file, watch.cursor()) {
            fs::write(file, cursor)?;
        }
    }
    Ok(())
}

/// The next message; nothing more after ^C.
async fn next(watch: &mut EventWatch) -> Result<Option<WatchEventsResponse>, wharf_client::Error> {
    tokio::select! {
        message = watch.next() => message,
        _ = tokio::signal::ctrl_c() => Ok(None),
    }
}

/// From the cursor if there is one, else from what exists now.
fn request(cursor: Option<String>) -> WatchEventsRequest {
    let state = || Start::InitialState(InitialState::default());
    WatchEventsRequest {
        start: Some(cursor.map_or_else(state, Start::Cursor)),
        // If the journal no longer reaches back to the cursor: say so, then send the state again.
        gap_policy: GapPolicy::Resync.into(),
        ..Default::default()
    }
}

fn show(response: Option<Response>) {
    match response {
        Some(Response::InitialContainer(container)) => {
            println!("there is {} ({:?})", container.name, container.state());
        }
        Some(Response::Synced(synced)) => println!("{} containers", synced.containers),
        Some(Response::Event(event)) => println!("{}", line(&event)),
        Some(Response::Gap(gap)) => println!("{} events are missing here", gap.missed),
        Some(Response::Started(_) | Response::InitialExec(_) | Response::Progress(_)) | None => {}
    }
}

/// An event says which request caused it; what nobody asked for has no cause.
fn line(event: &Event) -> String {
    let kind = event.r#type().as_str_name();
    let cause = event.cause.as_ref();
    let request = cause.map_or("nobody", |cause| &cause.request_id);
    format!(
        "{} {kind} {} by {request}",
        event.sequence, event.container_name
    )
}
