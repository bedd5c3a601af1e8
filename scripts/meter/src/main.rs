//! The client of `make bench`: what calls and streams cost, without a program's start or a slow language in it.
//!
//! One connection, kept open. Reads requests from standard input, each a line with a JSON array of words, and
//! answers each with a line of JSON:
//!
//! ```text
//! run NAME COMMAND...                RunContainer: reads all output to the exit; deletes the container
//! life NAME COMMAND...               creates and starts one, waits for its exit, deletes it
//! lives CONNECTIONS SECONDS COMMAND...   the same, over and over, on so many further connections at once
//! start NAME COMMAND...              creates and starts one
//! stop NAME, delete NAME
//! list                               reads all pages of the list
//! exec CONTAINER COMMAND...          runs it, reads all output (BLOCK)
//! feed CONTAINER BYTES COMMAND...    the same, with so many zeros and then the end as input
//! logs CONTAINER                     reads the log to its present end
//! ```
//!
//! usage: `wharf-meter ADDRESS IMAGE [RUNTIME]`

mod lifecycle;
mod streams;

use std::error::Error;
use std::time::Instant;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use wharf_client::{Client, Output, Session};

use lifecycle::Lifecycle;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What one request took and gave.
#[derive(Debug, Default, Serialize)]
struct Reading {
    seconds: f64,
    /// From the request to the first byte of output.
    first_seconds: Option<f64>,
    /// Of output or of log entries.
    bytes: u64,
    /// Messages of output, log entries, containers, or lifecycles.
    items: u64,
    code: i32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("an address is needed")?;
    let image = arguments.next().ok_or("an image is needed")?;
    let runtime = arguments.next().unwrap_or_default();
    let lifecycle = Lifecycle::new(Client::connect(address).await?, image, runtime);
    let mut requests = BufReader::new(tokio::io::stdin()).lines();
    let mut answers = tokio::io::stdout();
    while let Some(request) = requests.next_line().await? {
        let words: Vec<String> = serde_json::from_str(&request)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let begun = Instant::now();
        let mut reading = measure(&lifecycle, &words).await?;
        reading.seconds = begun.elapsed().as_secs_f64();
        let answer = serde_json::to_string(&reading)? + "\n";
        answers.write_all(answer.as_bytes()).await?;
        answers.flush().await?;
    }
    Ok(())
}

async fn measure(lifecycle: &Lifecycle, words: &[&str]) -> Result<Reading> {
    let client = &lifecycle.client;
    match words {
        ["run", name, command @ ..] => lifecycle.run(name, command).await,
        ["life", name, command @ ..] => lifecycle.life(name, command).await,
        ["lives", connections, seconds, command @ ..] => {
            lifecycle::lives(lifecycle, connections.parse()?, seconds.parse()?, command).await
        }
        ["start", name, command @ ..] => lifecycle.start(name, command).await,
        ["stop", name] => lifecycle.stop(name).await,
        ["delete", name] => lifecycle.delete(name).await,
        ["list"] => lifecycle.list().await,
        ["exec", container, command @ ..] => {
            read(client.run_exec(streams::start(container, command))).await
        }
        ["feed", container, bytes, command @ ..] => {
            streams::feed(client, container, bytes.parse()?, command).await
        }
        ["logs", container] => streams::logs(client, container).await,
        _ => Err("no such request".into()),
    }
}

/// A process's command line, as the API has it.
fn owned(command: &[&str]) -> Vec<String> {
    command.iter().copied().map(str::to_owned).collect()
}

/// Opens a session, and reads it to the exit.
async fn read(mut session: Session) -> Result<Reading> {
    let begun = Instant::now();
    let mut reading = Reading::default();
    while let Some(output) = session.next().await? {
        match output {
            Output::Chunk { data, .. } => {
                reading
                    .first_seconds
                    .get_or_insert_with(|| begun.elapsed().as_secs_f64());
                reading.bytes += data.len() as u64;
                reading.items += 1;
            }
            Output::Exited(status) => reading.code = status.code,
            Output::Gap { .. } | Output::Resumed(_) => return Err("output is missing".into()),
            _ => {}
        }
    }
    Ok(reading)
}
