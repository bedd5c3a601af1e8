//! A process in a running container: input, output and exit status on one stream, over interruptions.
//!
//! `cargo run --example exec -- CONTAINER`, with `WHARF_HOST` for a server elsewhere. The container
//! must run and have `/bin/sh`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use wharf_client::v1::{AttachOptions, ExecSpec, OutputStream, ProcessSpec, RunExecStart};
use wharf_client::{Client, Input, InputError, Output, Session};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let container = std::env::args().nth(1).unwrap_or("web".to_owned());
    let client = Client::from_env().await?;
    let session = client.run_exec(start(container));
    let input = session.input();
    // Both at once: a process that nobody reads from does not read either.
    let (fed, read) = tokio::join!(feed(input), read(session));
    fed?;
    read?;
    Ok(())
}

fn start(container: String) -> RunExecStart {
    // `wc` answers only after the end of its input, and the shell after that.
    let script = "wc -l; echo done >&2; exit 7";
    let process = ProcessSpec {
        args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        ..Default::default()
    };
    RunExecStart {
        container,
        spec: Some(ExecSpec {
            process: Some(process),
            stdin_open: true,
            ..Default::default()
        }),
        attach: Some(AttachOptions {
            stdin: true,
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Writes as fast as the process reads; the end of the input ends nothing else.
async fn feed(mut input: Input) -> Result<(), InputError> {
    for line in 1..=1000 {
        input.write(format!("line {line}\n")).await?;
    }
    input.close_stdin().await
}

async fn read(mut session: Session) -> Result<(), wharf_client::Error> {
    while let Some(output) = session.next().await? {
        match output {
            Output::Chunk { stream, data, .. } => {
                let text = String::from_utf8_lossy(&data);
                println!("{}: {}", name(stream), text.trim());
            }
            Output::Gap { dropped_bytes, .. } => println!("gap: {dropped_bytes:?}"),
            Output::Resumed(input) => println!("resumed; input sent before is {input:?}"),
            Output::Exited(status) => {
                println!("{} {}", status.reason().as_str_name(), status.code);
            }
            _ => {}
        }
    }
    Ok(())
}

fn name(stream: OutputStream) -> &'static str {
    match stream {
        OutputStream::Stderr => "stderr",
        OutputStream::Stdout | OutputStream::Unspecified => "stdout",
    }
}
