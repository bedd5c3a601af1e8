//! The client of `make bench`: what streams cost, without a program's start or a slow language in it.
//!
//! One connection, kept open. Reads requests from standard input, one a line, and answers each with a
//! line of JSON:
//!
//! ```text
//! exec CONTAINER COMMAND...          runs it, reads all output (BLOCK)
//! feed CONTAINER BYTES COMMAND...    the same, with so many zeros and then the end as input
//! logs CONTAINER                     reads the log to its present end
//! ```
//!
//! usage: `wharf-meter ADDRESS`

use std::error::Error;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use wharf_client::v1::stream_logs_response::Response;
use wharf_client::v1::{AttachOptions, ExecSpec, ProcessSpec, RunExecStart, StreamLogsRequest};
use wharf_client::{Client, Input, Output, Session};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// As much as one message of input may have.
const PIECE_BYTES: usize = 64 << 10;

/// What one request took and gave.
#[derive(Debug, Default, Serialize)]
struct Reading {
    seconds: f64,
    /// Of output or of log entries.
    bytes: u64,
    /// Messages of output, or log entries.
    items: u64,
    code: i32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let address = std::env::args().nth(1).ok_or("an address is needed")?;
    let client = Client::connect(address).await?;
    let mut requests = BufReader::new(tokio::io::stdin()).lines();
    let mut answers = tokio::io::stdout();
    while let Some(request) = requests.next_line().await? {
        let words: Vec<&str> = request.split_whitespace().collect();
        let begun = Instant::now();
        let mut reading = measure(&client, &words).await?;
        reading.seconds = begun.elapsed().as_secs_f64();
        let answer = serde_json::to_string(&reading)? + "\n";
        answers.write_all(answer.as_bytes()).await?;
        answers.flush().await?;
    }
    Ok(())
}

async fn measure(client: &Client, words: &[&str]) -> Result<Reading> {
    match words {
        ["exec", container, command @ ..] => read(client.run_exec(start(container, command))).await,
        ["feed", container, bytes, command @ ..] => {
            feed(client, container, bytes.parse()?, command).await
        }
        ["logs", container] => logs(client, container).await,
        _ => Err("no such request".into()),
    }
}

fn start(container: &str, command: &[&str]) -> RunExecStart {
    let args = command.iter().copied().map(str::to_owned).collect();
    RunExecStart {
        container: container.to_owned(),
        spec: Some(ExecSpec {
            process: Some(ProcessSpec {
                args,
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn read(mut session: Session) -> Result<Reading> {
    let mut reading = Reading::default();
    while let Some(output) = session.next().await? {
        match output {
            Output::Chunk { data, .. } => {
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

async fn feed(client: &Client, container: &str, bytes: usize, command: &[&str]) -> Result<Reading> {
    let mut start = start(container, command);
    if let Some(spec) = &mut start.spec {
        spec.stdin_open = true;
    }
    start.attach = Some(AttachOptions {
        stdin: true,
        ..Default::default()
    });
    let session = client.run_exec(start);
    let input = session.input();
    let (written, reading) = tokio::join!(write(input, bytes), read(session));
    written?;
    reading
}

async fn write(mut input: Input, bytes: usize) -> Result<()> {
    let piece = Bytes::from(vec![0; PIECE_BYTES]);
    for from in (0..bytes).step_by(PIECE_BYTES) {
        let length = PIECE_BYTES.min(bytes - from);
        input.write(piece.slice(..length)).await?;
    }
    Ok(input.close_stdin().await?)
}

async fn logs(client: &Client, container: &str) -> Result<Reading> {
    let mut logs = client.logs(StreamLogsRequest {
        container: container.to_owned(),
        ..Default::default()
    });
    let mut reading = Reading::default();
    while let Some(message) = logs.next().await? {
        if let Some(Response::Entries(batch)) = message.response {
            let bytes = batch.entries.iter().map(|entry| entry.data.len() as u64);
            reading.bytes += bytes.sum::<u64>();
            reading.items += batch.entries.len() as u64;
        }
    }
    Ok(reading)
}
