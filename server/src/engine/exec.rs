//! Execs, as the services ask for them.

pub(crate) mod registry;
mod sync;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tracing::Instrument;

use self::registry::ExecSnapshot;
use super::container::command::{Early, Order, ResizeOrder};
use super::container::execs::{ExecOrder, NewExec};
use super::leave::{LeashChange, Start};
use super::query::ExecPosition;
use super::session::{self, Begun, Once, Phase, Session, Subject};
use super::{
    Answer, Attach, Call, CreateContainer, CreateExec, Engine, Error, Follow, StartAt, StartedExec,
    Target,
};
use crate::backend::proc;
use crate::model::exec::Leash;
use crate::model::image::AccountFiles;
use crate::model::spec::Process;
use crate::model::{
    Cause, Container, Exec, ExecId, ExecState, ExitStatus, Run, Signal, State, TerminalSize,
};
use crate::oci::process;

/// A wait for an exec's end. Registers nothing: it looks at snapshots.
#[derive(Debug)]
pub struct ExecWait {
    /// As it was when the wait was registered.
    pub registered: Arc<Exec>,
    snapshot: watch::Receiver<ExecSnapshot>,
}

impl ExecWait {
    /// How it ended.
    ///
    /// # Errors
    /// [`Error::ExecNotRunning`] if it could not be started, [`Error::ExecNotFound`] if it was forgotten.
    pub async fn result(mut self) -> Result<Arc<ExitStatus>, Error> {
        let over = self
            .snapshot
            .wait_for(|now| now.gone || now.exec.state.is_over())
            .await;
        let not_found = || Error::ExecNotFound {
            exec: self.registered.id.to_string(),
        };
        let exec = match over {
            Ok(now) => now.exec.clone(),
            Err(_) => return Err(not_found()),
        };
        match (&exec.exit_status, exec.state) {
            (Some(exit), _) => Ok(exit.clone()),
            (None, ExecState::Failed) => Err(Error::exec_not_running(&exec)),
            (None, _) => Err(not_found()),
        }
    }
}

impl Engine {
    /// Records an exec.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::Paused`], [`Error::TooManyExecs`], what is wrong with its user.
    pub async fn create_exec(
        &self,
        call: Call,
        container: &str,
        create: CreateExec,
    ) -> Result<Answer<Arc<Exec>>, Error> {
        self.once(call, async |cause, claim| {
            let process = self.exec_process(container, &create).await?;
            let order = |reply| {
                Order::Exec(ExecOrder::Create(Box::new(NewExec {
                    cause,
                    create,
                    process,
                    claim,
                    reply,
                })))
            };
            self.core.ask(container, order).await
        })
        .await
    }

    /// What an exec is to be: its user is looked up in the container's own files as they are now.
    async fn exec_process(&self, key: &str, create: &CreateExec) -> Result<Process, Error> {
        let container = self.get(key)?;
        let asked = &create.spec.process;
        let names_accounts = asked.user.is_some() || !asked.supplemental_groups.is_empty();
        let files = match container.pid {
            Some(pid) if names_accounts => {
                tokio::task::spawn_blocking(move || proc::account_files(pid))
                    .await
                    .unwrap_or_default()
            }
            Some(_) | None => None,
        };
        let files = files.map_or_else(|| self.image_accounts(&container), Arc::new);
        Ok(process::exec(asked, &container.process, &files)?)
    }

    fn image_accounts(&self, container: &Container) -> Arc<AccountFiles> {
        let image = self.core.images.find(container.image.id.as_str());
        image.map_or_else(|_| Arc::default(), |image| Arc::clone(&image.accounts))
    }

    /// Starts an exec.
    ///
    /// # Errors
    /// [`Error::ExecNotFound`], [`Error::NotRunning`], [`Error::Paused`], launch, backend.
    pub async fn start_exec(&self, cause: Cause, id: ExecId) -> Result<StartedExec, Error> {
        self.ask_exec(id, |reply| ExecOrder::Start { cause, id, reply })
            .await
    }

    /// Sends an order to the actor of an exec's container.
    async fn ask_exec<T>(
        &self,
        id: ExecId,
        order: impl FnOnce(super::container::command::Reply<T>) -> ExecOrder,
    ) -> Result<T, Error> {
        let container = self.exec(id)?.container.to_string();
        let asked = self
            .core
            .ask(&container, |reply| Order::Exec(order(reply)))
            .await;
        match asked {
            // It went with its container.
            Err(Error::ContainerNotFound { .. } | Error::DeletedConcurrently { .. }) => {
                Err(Error::ExecNotFound {
                    exec: id.to_string(),
                })
            }
            asked => asked,
        }
    }

    /// The exec, by id.
    ///
    /// # Errors
    /// [`Error::ExecNotFound`].
    pub fn exec(&self, id: ExecId) -> Result<Arc<Exec>, Error> {
        Ok(self.core.execs.find(id)?.borrow().exec.clone())
    }

    /// Execs of one container, or of all, in order of creation, after `after`; at most `limit`.
    ///
    /// # Errors
    /// [`Error::ContainerNotFound`].
    pub fn execs(
        &self,
        container: Option<&str>,
        after: Option<ExecPosition>,
        limit: usize,
    ) -> Result<Vec<Arc<Exec>>, Error> {
        let container = container.map(|key| self.get(key)).transpose()?;
        let container = container.map(|container| container.id);
        Ok(self.core.execs.list(container, after, limit))
    }

    /// Waits for an exec's end.
    ///
    /// # Errors
    /// [`Error::ExecNotFound`], [`Error::ExecNotRunning`] if it could not be started.
    pub fn wait_exec(&self, id: ExecId) -> Result<ExecWait, Error> {
        let snapshot = self.core.execs.find(id)?;
        let registered = snapshot.borrow().exec.clone();
        if registered.state == ExecState::Failed {
            return Err(Error::exec_not_running(&registered));
        }
        Ok(ExecWait {
            registered,
            snapshot,
        })
    }

    /// Sends a signal to an exec.
    ///
    /// # Errors
    /// [`Error::ExecNotFound`], [`Error::ExecNotRunning`], backend.
    pub async fn signal_exec(
        &self,
        call: Call,
        id: ExecId,
        signal: Signal,
    ) -> Result<Answer<()>, Error> {
        self.once(call, async |cause, claim| {
            let order = |reply| ExecOrder::Signal {
                cause,
                id,
                signal,
                claim,
                reply,
            };
            self.ask_exec(id, order).await
        })
        .await
    }

    /// Sets the size of an exec's terminal, or the size it is to start with.
    ///
    /// # Errors
    /// [`Error::ExecNotFound`], [`Error::ExecNotRunning`], [`Error::TerminalNotAllocated`], backend.
    pub async fn resize_exec(&self, id: ExecId, size: TerminalSize) -> Result<(), Error> {
        self.ask_exec(id, |reply| ExecOrder::Resize { id, size, reply })
            .await
    }

    /// Forgets an exec; with force, kills it first.
    ///
    /// # Errors
    /// [`Error::ExecNotFound`], [`Error::ExecAlreadyStarted`] while it runs, without force; backend.
    pub async fn delete_exec(&self, cause: Cause, id: ExecId, force: bool) -> Result<(), Error> {
        self.ask_exec(id, |reply| ExecOrder::Delete {
            cause,
            id,
            force,
            reply,
        })
        .await
    }

    /// Writes to a process's stdin; returns when all of it is written. With a key it is written once,
    /// whether or not the caller stays.
    ///
    /// # Errors
    /// [`Error::StdinNotOpen`], [`Error::NotRunning`], [`Error::ExecNotRunning`], [`Error::RunChanged`],
    /// [`Error::IdempotentRequestInProgress`] if it is not known how much of it was written.
    pub async fn write_stdin(
        &self,
        call: Call,
        target: Target,
        data: Bytes,
        close: bool,
    ) -> Result<Answer<()>, Error> {
        let key = call.deduplication.as_ref();
        let key = key.map_or_else(String::new, |request| request.key.key.to_string());
        let written = self.once(call, async |cause, claim| {
            let subject = self.target(target)?;
            if let Some(claim) = claim {
                let once = Once {
                    claim,
                    request_id: cause.request_id,
                    subject,
                    data,
                    close,
                };
                return once.write(&self.core).await;
            }
            let stream = session::open_input(&self.core, &subject).await?;
            let written = session::write(&self.core, &subject, &stream, data, close);
            written.await.map(|()| Begun::None)
        });
        match written.await? {
            Answer {
                value: Some(first_request_id),
                ..
            } => Err(Error::IdempotentRequestInProgress {
                key,
                first_request_id: first_request_id.to_string(),
            }),
            Answer {
                value: None,
                replayed,
            } => Ok(Answer {
                value: (),
                replayed,
            }),
        }
    }

    /// The running process whose input is meant.
    fn target(&self, target: Target) -> Result<Subject, Error> {
        match target {
            Target::Exec(id) => {
                let snapshot = self.core.execs.find(id)?;
                let exec = snapshot.borrow().exec.clone();
                match exec.state {
                    ExecState::Running => Ok(Subject::Exec(snapshot)),
                    _ => Err(Error::exec_not_running(&exec)),
                }
            }
            Target::Container { key, expected_run } => {
                let entry = self.core.registry.find(&key)?;
                let container = entry.container();
                require_run(&container, expected_run)?;
                let subject = Subject::current_or_next(entry.snapshot);
                match subject.phase() {
                    Phase::Running { .. } => Ok(subject),
                    _ => Err(Error::NotRunning {
                        container: container.id.to_string(),
                        state: container.state,
                    }),
                }
            }
        }
    }

    /// Sets the size of a container's terminal.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::RunChanged`], [`Error::TerminalNotAllocated`], backend.
    pub async fn resize_container(
        &self,
        key: &str,
        size: TerminalSize,
        expected_run: Option<Run>,
    ) -> Result<(), Error> {
        let order = |reply| {
            Order::Resize(ResizeOrder {
                size,
                early: Early::Refuse,
                expected_run,
                reply,
            })
        };
        self.core.ask(key, order).await
    }

    /// Records an exec, joins its streams and starts it. A repeat with the same key joins the same exec.
    /// A start that fails is the output's error.
    ///
    /// # Errors
    /// As [`Self::create_exec`].
    pub async fn run_exec(
        &self,
        call: Call,
        container: &str,
        create: CreateExec,
        attach: Attach,
    ) -> Result<Session, Error> {
        let cause = call.cause.clone();
        if attach.stdin && !create.spec.stdin_open {
            let container = self.get(container)?.id.to_string();
            return Err(Error::StdinNotOpen {
                container,
                exec: None,
            });
        }
        let created = self.create_exec(call, container, create).await?;
        // Joined before it starts, so that nothing it writes is missed or unheld.
        self.attach_exec(cause, created.value.id, attach.read_whole())
            .await
    }

    /// Joins an exec's streams, and starts it if it has not started.
    ///
    /// # Errors
    /// [`Error::ExecNotFound`], [`Error::StdinNotOpen`], a position past the end.
    pub async fn attach_exec(
        &self,
        cause: Cause,
        id: ExecId,
        attach: Attach,
    ) -> Result<Session, Error> {
        let subject = Subject::Exec(self.core.execs.find(id)?);
        let by = Some((cause.clone(), &attach));
        let mut session = session::open(&self.core, subject.clone(), attach.output, by).await?;
        if let Phase::Waiting | Phase::Running { .. } = subject.phase() {
            self.leash(&session, LeashChange::Joined).await?;
        }
        if let Phase::Waiting = subject.phase() {
            session
                .output
                .expect_start(self.begin_start(cause, id, Bytes::new()));
        }
        Ok(session)
    }

    /// Notes with the process what is to become of it if the caller leaves. Before it starts, so that the
    /// next server knows it too.
    async fn leash(
        &self,
        session: &Session,
        change: fn(Leash) -> LeashChange,
    ) -> Result<(), Error> {
        let Some(leash) = session.leash() else {
            return Ok(());
        };
        let change = change(leash);
        let noted = match session.attached.exec {
            Some(id) => {
                self.ask_exec(id, |reply| ExecOrder::Leash { id, change, reply })
                    .await
            }
            None => {
                let key = session.attached.container.to_string();
                self.core
                    .ask(&key, |reply| Order::Leash { change, reply })
                    .await
            }
        };
        // Then it is not let in: that is no leaving.
        noted.inspect_err(|_| session.let_go())
    }

    /// Starts an exec, and feeds it `stdin` to its end if there is any, whether or not whoever asked for it
    /// stays. Only one call that may have started it feeds it: no byte comes twice.
    fn begin_start(&self, cause: Cause, id: ExecId, stdin: Bytes) -> Start {
        let (told, start) = oneshot::channel();
        let engine = self.clone();
        self.core.spawn(async move {
            let started = engine.start_exec(cause, id).await;
            let is_ours = match &started {
                Ok(started) => started.changed,
                Err(error) => error.leaves_doubt(),
            };
            // Whoever asked may have left.
            drop(told.send(started.map(drop)));
            if is_ours && !stdin.is_empty() {
                engine.feed(id, stdin).await;
            }
        });
        start
    }

    /// Ends with the process at the latest. One that is cut off by the server's end does not see the end of
    /// its input: it would take a part for the whole.
    async fn feed(&self, id: ExecId, stdin: Bytes) {
        let Ok(mut snapshot) = self.core.execs.find(id) else {
            return;
        };
        // After a start that left it in doubt. An error means that nothing comes any more.
        let is_clear = |now: &ExecSnapshot| now.gone || now.exec.state != ExecState::Starting;
        drop(snapshot.wait_for(is_clear).await);
        let subject = Subject::Exec(snapshot);
        let stream = subject.stream(&self.core);
        if !stream.claim_feeding() {
            return;
        }
        let fed = session::write(&self.core, &subject, &stream, stdin, true);
        match self.core.shutdown.run_until_cancelled(fed).await {
            // What the process did not read is its own affair.
            Some(Ok(()) | Err(Error::StdinNotOpen { .. } | Error::ExecNotRunning { .. }))
            | None => {}
            Some(Err(error)) => {
                tracing::warn!(exec = %id, %error, "the end of an input is not told")
            }
        }
    }

    /// Reads an exec's output. Its input takes nothing.
    ///
    /// # Errors
    /// As [`Self::attach_exec`].
    pub async fn follow_exec(&self, id: ExecId, follow: Follow) -> Result<Session, Error> {
        let subject = Subject::Exec(self.core.execs.find(id)?);
        session::open(&self.core, subject, follow, None).await
    }

    /// Creates a container, joins its streams and starts it. A repeat with the same key joins the same run.
    /// A start that fails is the output's error; nothing remains of the container then.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub async fn run_container(
        &self,
        call: Call,
        create: CreateContainer,
        attach: Attach,
    ) -> Result<(Arc<Container>, Session), Error> {
        if attach.stdin && !create.spec.stdin_open {
            return Err(Error::StdinNotOpen {
                container: create.name.unwrap_or_default(),
                exec: None,
            });
        }
        let (told, joined) = oneshot::channel();
        let engine = self.clone();
        let run = async move { engine.create_and_run(call, create, attach, told).await };
        self.core.spawn(run.instrument(tracing::Span::current()));
        joined.await.unwrap_or(Err(Error::Bug {
            what: "a run that was interrupted",
        }))
    }

    /// Goes on whether or not whoever asked for it stays. To one that has left the session is sent in vain:
    /// its end is that caller's leaving.
    async fn create_and_run(
        &self,
        call: Call,
        create: CreateContainer,
        attach: Attach,
        told: oneshot::Sender<Result<(Arc<Container>, Session), Error>>,
    ) {
        let cause = call.cause.clone();
        let create = CreateContainer {
            start: false,
            ..create
        };
        let Answer {
            value: container,
            replayed,
        } = match self.create(call, create).await {
            Ok(created) => created,
            Err(error) => return drop(told.send(Err(error))),
        };
        if replayed && told.is_closed() {
            // It has joined nothing, and must not end what the first call has.
            return;
        }
        let key = container.id.to_string();
        let change = if told.is_closed() {
            LeashChange::Left
        } else {
            LeashChange::Joined
        };
        let joined = self.join_new(cause.clone(), &key, attach, change).await;
        if joined.is_err() && !replayed {
            self.discard_new(cause, &key).await;
        }
        drop(told.send(joined.map(|session| (container, session))));
    }

    /// Joins the first run of a container that was made to be run, and starts it.
    async fn join_new(
        &self,
        cause: Cause,
        key: &str,
        attach: Attach,
        change: fn(Leash) -> LeashChange,
    ) -> Result<Session, Error> {
        let attach = attach.read_whole();
        let subject = Subject::Run {
            container: self.core.registry.find(key)?.snapshot,
            run: Run::default().next(),
        };
        let by = Some((cause.clone(), &attach));
        let mut session = session::open(&self.core, subject.clone(), attach.output, by).await?;
        self.leash(&session, change).await?;
        if let Phase::Waiting = subject.phase() {
            let start = self.begin_run(cause, key.to_owned());
            session.output.expect_start(start);
        }
        Ok(session)
    }

    /// Starts a container that was made to be run, whether or not whoever asked for it stays. Nothing
    /// remains of it if that fails.
    fn begin_run(&self, cause: Cause, key: String) -> Start {
        let (told, start) = oneshot::channel();
        let engine = self.clone();
        self.core.spawn(async move {
            let call = Call {
                cause: cause.clone(),
                deduplication: None,
                deadline: None,
            };
            let started = engine.start(call, &key, None).await;
            if let Err(error) = &started
                && !error.leaves_doubt()
            {
                engine.discard_new(cause, &key).await;
            }
            // Whoever asked may have left.
            drop(told.send(started.map(drop)));
        });
        start
    }

    async fn discard_new(&self, cause: Cause, key: &str) {
        let deleted = self.delete(cause, key, super::DeleteContainer::default());
        if let Err(error) = deleted.await {
            tracing::warn!(container = key, %error, "a container that did not start stays");
        }
    }

    /// Joins the streams of a container's main process, or of its next one.
    ///
    /// # Errors
    /// [`Error::ContainerNotFound`], [`Error::StdinNotOpen`], [`Error::RunChanged`], [`Error::ControlLost`],
    /// [`Error::OperationInProgress`] while it is deleted, a position past the end.
    pub async fn attach_container(
        &self,
        cause: Cause,
        key: &str,
        expected_run: Option<Run>,
        attach: Attach,
    ) -> Result<Session, Error> {
        let subject = self.joinable(key, expected_run)?;
        let by = Some((cause, &attach));
        let session = session::open(&self.core, subject, attach.output, by).await?;
        self.leash(&session, LeashChange::Joined).await?;
        Ok(session)
    }

    /// Reads the output of a container's main process. Its input takes nothing.
    ///
    /// # Errors
    /// As [`Self::attach_container`].
    pub async fn follow_container(
        &self,
        key: &str,
        expected_run: Option<Run>,
        follow: Follow,
    ) -> Result<Session, Error> {
        let subject = self.joinable(key, expected_run)?;
        session::open(&self.core, subject, follow, None).await
    }

    /// The run that a caller joins: the one it means, the current one, or the next.
    fn joinable(&self, key: &str, expected_run: Option<Run>) -> Result<Subject, Error> {
        let entry = self.core.registry.find(key)?;
        let container = entry.container();
        let id = container.id.to_string();
        match container.state {
            State::Failed => return Err(Error::ControlLost { container: id }),
            State::Creating | State::Deleting => {
                let operation = if container.state == State::Creating {
                    "create"
                } else {
                    "delete"
                };
                let cause = container.cause();
                return Err(Error::OperationInProgress {
                    container: id,
                    operation,
                    request_id: cause.map_or_else(String::new, |c| c.request_id.to_string()),
                });
            }
            _ => {}
        }
        let Some(run) = expected_run else {
            return Ok(Subject::current_or_next(entry.snapshot));
        };
        require_run(&container, Some(run))?;
        Ok(Subject::Run {
            container: entry.snapshot,
            run,
        })
    }
}

impl Attach {
    /// For a process that is made for its caller: also a repeat of the call gets all of its output.
    fn read_whole(self) -> Self {
        let all = |at: Option<StartAt>| at.map(|_| StartAt::Offset(0));
        let output = Follow {
            stdout: all(self.output.stdout),
            stderr: all(self.output.stderr),
        };
        Self { output, ..self }
    }
}

fn require_run(container: &Container, expected: Option<Run>) -> Result<(), Error> {
    match expected {
        Some(expected) if expected != container.run => Err(Error::RunChanged {
            container: container.id.to_string(),
            expected,
            run: container.run,
        }),
        Some(_) | None => Ok(()),
    }
}
