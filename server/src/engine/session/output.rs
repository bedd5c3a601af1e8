//! What a caller gets of a process, and what its leaving means.

use std::sync::Arc;

use super::{Caller, Output, Phase, Subject};
use crate::engine::Error;
use crate::engine::leave::{Start, leave};
use crate::model::exec::Leash;
use crate::model::{ExitStatus, OutputStream};
use crate::stdio::{Ended, Item, Reader, StdioError};

/// What a caller gets.
#[derive(Debug)]
pub struct SessionOutput {
    caller: Caller,
    subject: Subject,
    reader: Reader,
    stage: Stage,
    /// How the start ends that was asked for together with these streams.
    start: Option<Start>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The process has not started, as far as the caller knows.
    Waiting,
    /// Output comes.
    Running,
    /// All output is told.
    Drained(Ended),
    /// All is told.
    Over,
}

impl SessionOutput {
    pub(super) fn new(caller: Caller, subject: Subject, reader: Reader) -> Self {
        Self {
            caller,
            subject,
            reader,
            stage: Stage::Waiting,
            start: None,
        }
    }

    pub(super) fn leash(&self) -> Option<Leash> {
        self.caller.leash.lock().clone()
    }

    pub(super) fn let_go(&self) {
        self.caller.let_go(&self.subject);
    }

    /// The start that was asked for together with these streams fails them if it fails.
    pub(in crate::engine) fn expect_start(&mut self, start: Start) {
        self.start = Some(start);
    }

    /// The next thing; `None` after the last. May be cancelled.
    ///
    /// # Errors
    /// Why the process could not be started, or its output cannot be read.
    pub async fn next(&mut self) -> Result<Option<Output>, Error> {
        let detached = self.caller.detached.clone();
        tokio::select! {
            biased;
            () = detached.cancelled(), if self.stage != Stage::Over => {
                self.stage = Stage::Over;
                Ok(Some(Output::Detached))
            }
            next = self.advance() => next.inspect_err(|_| {
                self.stage = Stage::Over;
                self.let_go();
            }),
        }
    }

    async fn advance(&mut self) -> Result<Option<Output>, Error> {
        loop {
            match self.stage {
                Stage::Waiting => return self.await_start().await.map(Some),
                Stage::Running => match output(self.reader.next().await.map_err(unreadable)?) {
                    Ok(output) => return Ok(Some(output)),
                    Err(ended) => self.stage = Stage::Drained(ended),
                },
                Stage::Drained(ended) => return self.await_exit(ended).await.map(Some),
                Stage::Over => return Ok(None),
            }
        }
    }

    async fn await_start(&mut self) -> Result<Output, Error> {
        loop {
            self.subject.mark_seen();
            let (run, pid, time) = match self.subject.phase() {
                Phase::Running { run, pid, time } => (run, pid, time),
                Phase::Ended { run, time, .. } => (run, 0, time),
                Phase::Failed(error) => return Err(error),
                Phase::Gone => return Err(self.why_gone().await),
                Phase::Waiting => {
                    self.wait().await?;
                    continue;
                }
            };
            self.stage = Stage::Running;
            // From now on nobody but another caller can take the process over.
            self.start = None;
            return Ok(Output::Started { run, pid, time });
        }
    }

    /// Until something changes, or the start fails.
    async fn wait(&mut self) -> Result<(), Error> {
        let Some(start) = &mut self.start else {
            self.subject.changed().await;
            return Ok(());
        };
        tokio::select! {
            biased;
            started = start => {
                self.start = None;
                // Whoever started it has left: then the state tells.
                started.unwrap_or(Ok(()))
            }
            () = self.subject.changed() => Ok(()),
        }
    }

    /// A start that failed takes the container with it, and says why.
    async fn why_gone(&mut self) -> Error {
        if let Some(start) = self.start.take()
            && let Ok(Err(error)) = start.await
        {
            return error;
        }
        self.subject.gone()
    }

    async fn await_exit(&mut self, ended: Ended) -> Result<Output, Error> {
        loop {
            self.subject.mark_seen();
            match self.subject.phase() {
                Phase::Ended { exit, .. } => {
                    self.stage = Stage::Over;
                    return Ok(Output::Exited(with_end(exit, ended)));
                }
                Phase::Failed(error) => return Err(error),
                Phase::Gone => return Err(self.subject.gone()),
                Phase::Waiting | Phase::Running { .. } => self.subject.changed().await,
            }
        }
    }
}

impl Drop for SessionOutput {
    /// The caller leaves.
    fn drop(&mut self) {
        let leash = self.caller.leash.lock().take().and_then(Leash::kept);
        let by_us = self.caller.core.draining.is_cancelled();
        if let Some(leash) = leash
            && !self.is_over()
            && !by_us
        {
            let attached = self.subject.attached();
            leave(
                &self.caller.core,
                attached.container,
                attached.exec,
                leash,
                self.start.take(),
            );
        }
    }
}

impl SessionOutput {
    /// Whether there is no process any more that something could be done to.
    fn is_over(&self) -> bool {
        match self.subject.phase() {
            Phase::Ended { .. } | Phase::Failed(_) | Phase::Gone => true,
            Phase::Waiting | Phase::Running { .. } => false,
        }
    }
}

/// What the caller gets of an item; the end is none.
fn output(item: Item) -> Result<Output, Ended> {
    match item {
        Item::Chunk {
            stream,
            offset,
            data,
        } => Ok(Output::Chunk {
            stream,
            offset,
            data,
        }),
        Item::Gap { stream, dropped } => Ok(Output::Gap {
            stream: stream.unwrap_or(OutputStream::Stdout),
            dropped,
        }),
        Item::End(ended) => Err(ended),
    }
}

fn with_end(exit: Arc<ExitStatus>, ended: Ended) -> Arc<ExitStatus> {
    match ended {
        Ended::Whole => exit,
        Ended::Truncated => Arc::new(ExitStatus {
            output_truncated: true,
            ..ExitStatus::clone(&exit)
        }),
    }
}

/// The recording cannot be read.
pub(super) fn unreadable(error: StdioError) -> Error {
    tracing::error!(%error, "output cannot be read");
    Error::Store(crate::store::StoreError::Io {
        path: "output".to_owned(),
        detail: error.to_string(),
    })
}
