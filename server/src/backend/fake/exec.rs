//! Further processes in the fake's containers.

use std::sync::Arc;

use tokio::sync::watch;

use super::faults::Operation;
use super::process::Process as FakeProcess;
use super::{Fake, FakeTask};
use crate::backend::{BackendError, Exit, FoundTask, Process, StartExec};
use crate::model::{ExecId, Signal, TerminalSize};

/// A further process.
#[derive(Debug, Clone)]
pub struct FakeExec {
    backend: Fake,
    id: ExecId,
    process: Arc<FakeProcess>,
}

impl FakeTask {
    pub(super) async fn start_exec(&self, start: StartExec) -> Result<FakeExec, BackendError> {
        let id = start.exec.id;
        let process = self
            .backend
            .call(Operation::StartExec, |world| {
                self.process.pids()?;
                world.start_exec(start)
            })
            .await?;
        Ok(self.handle(id, process))
    }

    pub(super) fn found_exec(&self, id: ExecId, found: FoundTask) -> FakeExec {
        let process = self.backend.world.lock().attach_exec(id, found);
        self.handle(id, process)
    }

    fn handle(&self, id: ExecId, process: Arc<FakeProcess>) -> FakeExec {
        FakeExec {
            backend: self.backend.clone(),
            id,
            process,
        }
    }
}

impl Process for FakeExec {
    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.process.exit()
    }

    async fn kill(&self, signal: Signal) -> Result<(), BackendError> {
        self.backend
            .call(Operation::KillExec, |_| self.process.signal(signal))
            .await
    }

    async fn resize(&self, size: TerminalSize) -> Result<(), BackendError> {
        self.backend
            .call(Operation::ResizeExec, |_| self.process.resize(size))
            .await
    }

    async fn close_stdin(&self) -> Result<(), BackendError> {
        self.backend
            .call(Operation::CloseStdin, |_| self.process.close_stdin())
            .await
    }

    async fn delete(&self) -> Result<(), BackendError> {
        self.backend
            .call(Operation::DeleteExec, |world| {
                world.execs.remove(&self.id);
                Ok(())
            })
            .await
    }
}
