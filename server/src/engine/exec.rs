//! Execs, as the services ask for them.

use std::sync::Arc;

use bytes::Bytes;

use super::session::Session;
use super::{
    Answer, Attach, Call, CreateContainer, CreateExec, Engine, Error, ExecOutput, ExecSync, Follow,
    StartedExec, Target,
};
use crate::model::{Cause, Container, Exec, ExecId, ExitStatus, Run, Signal, TerminalSize};

const NOT_BUILT: Error = Error::Bug { what: "not built" };

/// Where a page of execs ended: they are ordered by time of creation and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExecPosition {
    /// Time of creation.
    pub create_time: std::time::SystemTime,
    /// Identity.
    pub id: ExecId,
}

impl ExecPosition {
    /// An exec's place in the order.
    #[must_use]
    pub fn of(exec: &Exec) -> Self {
        Self {
            create_time: exec.create_time,
            id: exec.id,
        }
    }
}

/// A wait for an exec's end.
#[derive(Debug)]
pub struct ExecWait {
    /// As it was when the wait was registered.
    pub registered: Arc<Exec>,
}

impl ExecWait {
    /// How it ended.
    ///
    /// # Errors
    /// [`Error::ExecNotRunning`] if it could not be started, [`Error::ExecNotFound`] if it was forgotten.
    pub async fn result(self) -> Result<Arc<ExitStatus>, Error> {
        Err(NOT_BUILT)
    }
}

impl Engine {
    /// Records an exec.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Paused`], [`Error::TooManyExecs`], what is wrong with its user.
    pub async fn create_exec(
        &self,
        _call: Call,
        _container: &str,
        _create: CreateExec,
    ) -> Result<Answer<Arc<Exec>>, Error> {
        Err(NOT_BUILT)
    }

    /// Starts an exec.
    ///
    /// # Errors
    /// [`Error::ExecNotFound`], [`Error::NotRunning`], [`Error::Paused`], launch, backend.
    pub async fn start_exec(&self, _cause: Cause, _id: ExecId) -> Result<StartedExec, Error> {
        Err(NOT_BUILT)
    }

    /// The exec, by id.
    ///
    /// # Errors
    /// [`Error::ExecNotFound`].
    pub fn exec(&self, _id: ExecId) -> Result<Arc<Exec>, Error> {
        Err(NOT_BUILT)
    }

    /// Execs of one container, or of all, in order of creation, after `after`; at most `limit`.
    ///
    /// # Errors
    /// [`Error::ContainerNotFound`].
    pub fn execs(
        &self,
        _container: Option<&str>,
        _after: Option<ExecPosition>,
        _limit: usize,
    ) -> Result<Vec<Arc<Exec>>, Error> {
        Err(NOT_BUILT)
    }

    /// Waits for an exec's end.
    ///
    /// # Errors
    /// [`Error::ExecNotFound`], [`Error::ExecNotRunning`] if it could not be started.
    pub fn wait_exec(&self, _id: ExecId) -> Result<ExecWait, Error> {
        Err(NOT_BUILT)
    }

    /// Sends a signal to an exec.
    ///
    /// # Errors
    /// [`Error::ExecNotFound`], [`Error::ExecNotRunning`], backend.
    pub async fn signal_exec(
        &self,
        _call: Call,
        _id: ExecId,
        _signal: Signal,
    ) -> Result<Answer<()>, Error> {
        Err(NOT_BUILT)
    }

    /// Sets the size of an exec's terminal, or the size it is to start with.
    ///
    /// # Errors
    /// [`Error::ExecNotFound`], [`Error::ExecNotRunning`], [`Error::TerminalNotAllocated`], backend.
    pub async fn resize_exec(&self, _id: ExecId, _size: TerminalSize) -> Result<(), Error> {
        Err(NOT_BUILT)
    }

    /// Forgets an exec; with force, kills it first.
    ///
    /// # Errors
    /// [`Error::ExecNotFound`], [`Error::ExecAlreadyStarted`] while it runs, without force; backend.
    pub async fn delete_exec(&self, _cause: Cause, _id: ExecId, _force: bool) -> Result<(), Error> {
        Err(NOT_BUILT)
    }

    /// Runs an exec to its end.
    ///
    /// # Errors
    /// As [`Self::create_exec`] and [`Self::start_exec`].
    pub async fn exec_sync(
        &self,
        _call: Call,
        _container: &str,
        _exec: ExecSync,
    ) -> Result<Answer<ExecOutput>, Error> {
        Err(NOT_BUILT)
    }

    /// Writes to a process's stdin; returns when all of it is written.
    ///
    /// # Errors
    /// [`Error::StdinNotOpen`], [`Error::NotRunning`], [`Error::ExecNotRunning`], [`Error::RunChanged`].
    pub async fn write_stdin(
        &self,
        _call: Call,
        _target: Target,
        _data: Bytes,
        _close: bool,
    ) -> Result<Answer<()>, Error> {
        Err(NOT_BUILT)
    }

    /// Sets the size of a container's terminal.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::RunChanged`], [`Error::TerminalNotAllocated`], backend.
    pub async fn resize_container(
        &self,
        _key: &str,
        _size: TerminalSize,
        _expected_run: Option<Run>,
    ) -> Result<(), Error> {
        Err(NOT_BUILT)
    }

    /// Records an exec, joins its streams and starts it. A repeat with the same key joins the same exec.
    /// A start that fails is the output's error.
    ///
    /// # Errors
    /// As [`Self::create_exec`].
    pub async fn run_exec(
        &self,
        _call: Call,
        _container: &str,
        _create: CreateExec,
        _attach: Attach,
    ) -> Result<Session, Error> {
        Err(NOT_BUILT)
    }

    /// Joins an exec's streams, and starts it if it has not started.
    ///
    /// # Errors
    /// [`Error::ExecNotFound`], [`Error::StdinNotOpen`], a position past the end.
    pub async fn attach_exec(
        &self,
        _cause: Cause,
        _id: ExecId,
        _attach: Attach,
    ) -> Result<Session, Error> {
        Err(NOT_BUILT)
    }

    /// Reads an exec's output. Its input takes nothing.
    ///
    /// # Errors
    /// As [`Self::attach_exec`].
    pub async fn follow_exec(&self, _id: ExecId, _follow: Follow) -> Result<Session, Error> {
        Err(NOT_BUILT)
    }

    /// Creates a container, joins its streams and starts it. A repeat with the same key joins the same run.
    /// A start that fails is the output's error; nothing remains of the container then.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn run_container(
        &self,
        _call: Call,
        _create: CreateContainer,
        _attach: Attach,
    ) -> Result<(Arc<Container>, Session), Error> {
        Err(NOT_BUILT)
    }

    /// Joins the streams of a container's main process, or of its next one.
    ///
    /// # Errors
    /// [`Error::ContainerNotFound`], [`Error::StdinNotOpen`], [`Error::RunChanged`], [`Error::ControlLost`],
    /// [`Error::OperationInProgress`] while it is deleted, a position past the end.
    pub async fn attach_container(
        &self,
        _cause: Cause,
        _key: &str,
        _expected_run: Option<Run>,
        _attach: Attach,
    ) -> Result<Session, Error> {
        Err(NOT_BUILT)
    }

    /// Reads the output of a container's main process. Its input takes nothing.
    ///
    /// # Errors
    /// As [`Self::attach_container`].
    pub async fn follow_container(
        &self,
        _key: &str,
        _expected_run: Option<Run>,
        _follow: Follow,
    ) -> Result<Session, Error> {
        Err(NOT_BUILT)
    }
}
