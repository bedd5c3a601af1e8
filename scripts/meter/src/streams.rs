//! What goes through streams.

use bytes::Bytes;
use wharf_client::v1::stream_logs_response::Response;
use wharf_client::v1::{AttachOptions, ExecSpec, ProcessSpec, RunExecStart, StreamLogsRequest};
use wharf_client::{Client, Input};

use crate::{Reading, Result, owned, read};

/// As much as one message of input may have.
const PIECE_BYTES: usize = 64 << 10;

pub(crate) fn start(container: &str, command: &[&str]) -> RunExecStart {
    RunExecStart {
        container: container.to_owned(),
        spec: Some(ExecSpec {
            process: Some(ProcessSpec {
                args: owned(command),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) async fn feed(
    client: &Client,
    container: &str,
    bytes: usize,
    command: &[&str],
) -> Result<Reading> {
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

pub(crate) async fn logs(client: &Client, container: &str) -> Result<Reading> {
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
