//! Running an exec to its end, with its output in the answer.

use std::sync::Arc;

use crate::engine::session::{self, Output, Phase, Session, SessionOutput, Subject};
use crate::engine::{
    Answer, Attach, Backpressure, Call, Captured, Engine, Error, ExecOutput, ExecSync, Follow,
    StartAt,
};
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
            // Fed with its start, whoever stays.
            stdin: false,
            output: all(),
            // A repeat with the same key finds it, and its time is limited.
            on_disconnect: OnDisconnect::Detach,
            backpressure: Backpressure::Block,
        };
        let id = created.value.id;
        let subject = Subject::Exec(self.core.execs.find(id)?);
        let by = Some((cause.clone(), &attach));
        let Session { mut output, .. } =
            session::open(&self.core, subject.clone(), attach.output, by).await?;
        if let Phase::Waiting = subject.phase() {
            output.expect_start(self.begin_start(cause, id, stdin));
        }
        let (stdout, stderr, exit) = capture(output, max_output).await?;
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
