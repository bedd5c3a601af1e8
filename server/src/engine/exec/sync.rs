//! Running an exec to its end, with its output in the answer.

use std::sync::Arc;

use crate::engine::session::{Input, Output, Session, SessionInput, SessionOutput};
use crate::engine::{
    Answer, Attach, Backpressure, Call, Captured, Engine, Error, ExecOutput, ExecSync, Follow,
    StartAt,
};
use crate::model::limits::MAX_STDIO_CHUNK;
use crate::model::{ExecId, ExitStatus, OnDisconnect, OutputStream};

impl Engine {
    /// Runs an exec to its end.
    ///
    /// # Errors
    /// As [`Self::create_exec`] and [`Self::start_exec`].
    pub async fn exec_sync(
        &self,
        call: Call,
        container: &str,
        exec: ExecSync,
    ) -> Result<Answer<ExecOutput>, Error> {
        let ExecSync {
            mut create,
            stdin,
            max_output,
        } = exec;
        create.spec.stdin_open = !stdin.is_empty();
        let cause = call.cause.clone();
        let created = self.create_exec(call, container, create).await?;
        let attach = Attach {
            stdin: !stdin.is_empty(),
            output: all(),
            // A repeat with the same key finds it, and its time is limited.
            on_disconnect: OnDisconnect::Detach,
            backpressure: Backpressure::Block,
        };
        let id = created.value.id;
        let session = self.attach_exec(cause, id, attach).await;
        let session = match session {
            // A repeat, after the input was closed.
            Err(Error::StdinNotOpen { .. }) if created.replayed => {
                self.follow_exec(id, all()).await?
            }
            session => session?,
        };
        let Session { input, output, .. } = session;
        let (sent, captured) = tokio::join!(feed(input, &stdin), capture(output, max_output));
        let (stdout, stderr, exit) = captured?;
        // What the process did not read is its own affair.
        drop(sent);
        Ok(Answer {
            value: output_of(id, stdout, stderr, exit),
            replayed: created.replayed,
        })
    }
}

fn all() -> Follow {
    Follow {
        stdout: Some(StartAt::Offset(0)),
        stderr: Some(StartAt::Offset(0)),
    }
}

fn output_of(
    exec: ExecId,
    stdout: Captured,
    stderr: Captured,
    exit: Arc<ExitStatus>,
) -> ExecOutput {
    ExecOutput {
        exec,
        stdout,
        stderr,
        exit,
    }
}

async fn feed(input: SessionInput, stdin: &[u8]) -> Result<(), Error> {
    for chunk in stdin.chunks(MAX_STDIO_CHUNK) {
        input
            .send(Input::Stdin(bytes::Bytes::copy_from_slice(chunk)))
            .await?;
    }
    input.end().await
}

async fn capture(
    mut output: SessionOutput,
    max_output: u64,
) -> Result<(Captured, Captured, Arc<ExitStatus>), Error> {
    let (mut stdout, mut stderr) = (Captured::default(), Captured::default());
    while let Some(next) = output.next().await? {
        match next {
            Output::Chunk { stream, data, .. } => match stream {
                OutputStream::Stdout => stdout.take(&data, max_output),
                OutputStream::Stderr => stderr.take(&data, max_output),
            },
            Output::Gap { stream, dropped } => match stream {
                OutputStream::Stdout => stdout.dropped += dropped,
                OutputStream::Stderr => stderr.dropped += dropped,
            },
            Output::Exited(exit) => return Ok((stdout, stderr, exit)),
            Output::Started { .. } | Output::Detached => {}
        }
    }
    Err(Error::Bug {
        what: "output that ends without an exit",
    })
}

impl Captured {
    fn take(&mut self, data: &[u8], max: u64) {
        let room = max.saturating_sub(self.data.len() as u64);
        let kept = data.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        self.data.extend_from_slice(&data[..kept]);
        self.dropped += (data.len() - kept) as u64;
    }
}
