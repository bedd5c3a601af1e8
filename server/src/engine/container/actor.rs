//! The owner of one container.
//!
//! ```text
//!  commands ──► policy ──► operation in flight ──► commit (state + events) ──► snapshot, answer
//!                 ▲               │ one at most
//!  exit, OOM ─────┘               └──► finished: commands deferred meanwhile are decided again
//!  timer ──► SIGKILL after the grace period; give up on a kill; try again
//! ```
//!
//! Execs (`execs`) and what only concerns streams (`streams`) go on beside that operation.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::Instrument;

use super::command::{Command, Reply};
use super::control::Controlled;
use super::execs::{self, Execs};
use super::lend::{Loan, Loans};
use super::record::Record;
use super::start::{Launched, Starting};
use crate::backend::{BackendError, Exit, Found, Task, TaskHandle};
use crate::engine::core::Core;
use crate::engine::idempotency::Claim;
use crate::engine::registry::{Entry, Snapshot};
use crate::engine::{Error, Stopped};
use crate::files::{FileError, Root};
use crate::model::container::RootMount;
use crate::model::{Cause, Container, Exec, Signal, State, limits};
use crate::stdio::Stream;

/// A container's actor.
pub(super) struct Actor {
    pub(super) core: Arc<Core>,
    /// The committed record, and the only way to change it.
    pub(super) record: Record,
    /// The current run's processes, or those of a run that is over and not yet removed.
    pub(super) task: Option<TaskHandle>,
    /// The standard streams of that run.
    pub(super) stream: Option<Arc<Stream>>,
    /// Further processes, and what goes on beside the operation.
    pub(super) execs: Execs,
    /// Whether the streams that a caller had before the server's restart have not been taken up.
    pub(super) is_cut: bool,
    /// Whether `task`'s run is over (its exit is committed) and only its remains are to be removed.
    pub(super) remains: bool,
    /// The one operation in flight.
    operation: Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>,
    /// Commands to be decided again when the operation is over.
    pub(super) deferred: VecDeque<Command>,
    /// Those who wait for the run's end.
    pub(super) stops: Vec<Reply<Stopped>>,
    /// Those who wait for the deletion.
    pub(super) deletions: Vec<Reply<()>>,
    /// Who waits for the start after a create or a stop.
    pub(super) starting: Option<Starting>,
    /// The idempotency key of the intent under way.
    pub(super) claim: Option<Claim>,
    /// The span of the command that all that is done now goes back to. A span ends with its last holder:
    /// see `rest`.
    pub(super) span: tracing::Span,
    /// Whether this run was sent SIGKILL because its grace period passed.
    pub(super) killed: bool,
    /// When to kill, while a stop is under way.
    pub(super) kill_at: Option<Instant>,
    /// Whether the processes are frozen and must be thawed to get a signal.
    pub(super) frozen: bool,
    /// OOM kills of this run that were reported.
    pub(super) oom_seen: u64,
    /// Whether the backend may have, or may yet make, a task that no run knows of.
    pub(super) unknown_task: bool,
    /// Whether the start under way has not led to a run, and is to be given up.
    pub(super) interrupted: bool,
    /// Who is to hear why a create with a start failed, once nothing is left of it.
    pub(super) failed_create: Option<(Reply<Arc<Container>>, Error)>,
    pub(super) timer: Option<(Instant, Timer)>,
    /// How often in a row the operation to be tried again has failed.
    pub(super) failures: u32,
    /// What must be looked up in the backend before anything else can be done.
    pub(super) doubt: Doubt,
    /// Who waits until it is known what the backend has.
    pub(super) settling: Option<oneshot::Sender<()>>,
    /// What is lent of the root.
    pub(super) loans: Loans,
    /// Whether the container is gone, and with it the actor.
    pub(super) gone: bool,
}

/// What to do when the time comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// The grace period is over.
    Kill,
    /// The killed process should be gone.
    GiveUp,
    /// Try again what failed: see `Actor::retry`.
    Retry,
}

/// What must be looked up before anything else can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    None,
    /// What became of the process; its exit tells that, too.
    Process,
    /// What there is of the container at all.
    Container,
}

/// What an operation ended in.
pub(super) enum Outcome {
    Created(Result<Vec<RootMount>, BackendError>),
    /// A create was undone.
    Undone(Result<(), BackendError>),
    Started(Result<Launched, BackendError>),
    /// A signal of a stop was sent.
    StopSignaled(Signal, Result<(), BackendError>),
    /// What one command asked of the running container was done.
    Controlled(Box<Controlled>),
    /// What was left of a run was removed.
    Reaped(Result<(), BackendError>),
    /// A task that belongs to no run was removed.
    StartForgotten(Result<(), BackendError>),
    /// What there was of the container was removed.
    Removed(Result<(), BackendError>),
    /// What there is of the container was looked up.
    Found(Result<Found, BackendError>),
    /// The root was opened, for who asked for it.
    RootOpened(Reply<Loan>, Result<Root, FileError>),
}

impl Outcome {
    pub(super) fn controlled(controlled: Controlled) -> Self {
        Self::Controlled(Box::new(controlled))
    }
}

/// The actor's own work besides commands, in order of urgency.
enum Event {
    Finished(Outcome),
    Beside(execs::Outcome),
    Exited(Exit),
    Oom,
    Time(Timer),
    Command(Box<Command>),
}

/// Makes an actor's mailbox and its snapshots' channel; the entry goes to the registry.
pub(crate) fn channels(container: &Container) -> (Entry, Mailbox) {
    let snapshot = Snapshot {
        container: Arc::new(container.clone()),
        gone: false,
    };
    let (publish, snapshot) = watch::channel(snapshot);
    let (commands, inbox) = mpsc::channel(limits::ACTOR_QUEUE);
    (Entry { snapshot, commands }, Mailbox { inbox, publish })
}

/// The actor's ends of its channels.
pub(crate) struct Mailbox {
    inbox: mpsc::Receiver<Command>,
    publish: watch::Sender<Snapshot>,
}

impl Actor {
    pub(super) fn new(
        core: Arc<Core>,
        container: Container,
        publish: watch::Sender<Snapshot>,
    ) -> Self {
        let record = Record::new(core.clone(), container, publish);
        let loans = Loans::new(&core.shutdown);
        Self {
            core,
            record,
            task: None,
            stream: None,
            execs: Execs::default(),
            is_cut: false,
            remains: false,
            operation: None,
            deferred: VecDeque::new(),
            stops: Vec::new(),
            deletions: Vec::new(),
            starting: None,
            claim: None,
            span: tracing::Span::none(),
            killed: false,
            kill_at: None,
            frozen: false,
            oom_seen: 0,
            unknown_task: false,
            interrupted: false,
            failed_create: None,
            timer: None,
            failures: 0,
            doubt: Doubt::None,
            settling: None,
            loans,
            gone: false,
        }
    }

    /// Lives until the container is gone or the server ends. An operation in flight is finished first.
    async fn live(&mut self, mut inbox: mpsc::Receiver<Command>) {
        while !self.gone
            && let Some(event) = self.next_event(&mut inbox).await
        {
            // An actor mostly waits; what it needs for anything else would be thousands of bytes of each.
            Box::pin(self.handle(event)).await;
            self.rest();
        }
    }

    async fn handle(&mut self, event: Event) {
        let span = self.span.clone();
        match event {
            Event::Finished(outcome) => {
                self.operation = None;
                self.finish(outcome).instrument(span).await;
                self.decide_deferred().await;
            }
            Event::Beside(outcome) => self.exec_outcome(outcome).await,
            Event::Exited(exit) => self.run_ended(exit).instrument(span).await,
            Event::Oom => self.report_oom().await,
            Event::Time(timer) => self.time_has_come(timer).instrument(span).await,
            Event::Command(command) => self.take(*command).await,
        }
    }

    /// Lets go of the last command's span once all that it led to is done.
    fn rest(&mut self) {
        if !self.is_busy() && self.timer.is_none() {
            self.span = tracing::Span::none();
        }
    }

    /// None once the server ends.
    async fn next_event(&mut self, inbox: &mut mpsc::Receiver<Command>) -> Option<Event> {
        let run_is_on = !self.remains;
        let (mut exit, mut oom) = match self.task.as_ref().filter(|_| run_is_on) {
            Some(task) => (Some(task.exit()), Some(task.oom_kills())),
            None => (None, None),
        };
        let busy = self.operation.is_some();
        let room = self.deferred.len() < limits::ACTOR_QUEUE;
        let timer = self.timer;
        let event = tokio::select! {
            biased;
            outcome = flight(&mut self.operation), if busy => Event::Finished(outcome),
            outcome = self.execs.next_outcome() => Event::Beside(outcome),
            // After the operation in flight, so that a signal is announced before the exit it caused.
            Some(exit) = ended(&mut exit), if !busy => Event::Exited(exit),
            () = grew(&mut oom, &mut self.oom_seen) => Event::Oom,
            timer = elapsed(timer), if !busy => Event::Time(timer),
            // `room` bounds what is deferred; senders wait in line meanwhile.
            Some(command) = inbox.recv(), if room => Event::Command(Box::new(command)),
            () = self.core.shutdown.cancelled(), if !busy => return None,
        };
        Some(event)
    }

    /// Puts an operation in flight, below the span of whoever asked for it; without one, below that of
    /// the command which led to it.
    pub(super) fn begin(
        &mut self,
        span: &tracing::Span,
        operation: impl Future<Output = Outcome> + Send + 'static,
    ) {
        debug_assert!(self.operation.is_none(), "one operation at a time");
        if !span.is_none() {
            self.span = span.clone();
        }
        self.operation = Some(Box::pin(operation.instrument(self.span.clone())));
    }

    pub(super) fn is_in_doubt(&self) -> bool {
        self.doubt != Doubt::None
    }

    /// Something must be looked up. What is in doubt already stays so.
    pub(super) fn raise(&mut self, doubt: Doubt) {
        self.doubt = self.doubt.max(doubt);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.operation.is_some()
    }

    async fn finish(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Created(result) => self.created(result).await,
            Outcome::Undone(result) => self.undone(result).await,
            Outcome::Started(result) => self.started(result).await,
            Outcome::StopSignaled(signal, result) => self.stop_signaled(signal, result).await,
            Outcome::Controlled(controlled) => self.controlled(*controlled).await,
            Outcome::Reaped(result) => self.reaped(result),
            Outcome::StartForgotten(result) => self.start_forgotten(result).await,
            Outcome::Removed(result) => self.removed(result).await,
            Outcome::Found(result) => self.found(result).await,
            Outcome::RootOpened(reply, result) => self.root_opened(reply, result),
        }
        self.next_step();
    }

    /// Starts what is to be done by itself, once nothing is in flight: removing the remains of a run,
    /// looking up what is in doubt.
    pub(super) fn next_step(&mut self) {
        if self.is_busy() || self.gone || self.timer.is_some_and(|(_, timer)| timer == Timer::Retry)
        {
            return;
        }
        if self.is_in_doubt() {
            self.look_up();
        } else if self.record.state() == State::Deleting {
            self.remove();
        } else if self.remains {
            self.reap();
        } else if self.unknown_task && (self.interrupted || self.record.is_idle()) {
            self.forget_start();
        }
    }

    async fn time_has_come(&mut self, timer: Timer) {
        self.timer = None;
        match timer {
            Timer::Kill => self.grace_is_over(),
            Timer::GiveUp => self.give_up_on_stop(),
            Timer::Retry => self.retry().await,
        }
    }

    /// Tries again later what the backend could not do, ever less often.
    pub(super) fn retry_later(&mut self) {
        let delay = limits::RETRY_FIRST * 2u32.pow(self.failures.min(10));
        self.failures += 1;
        self.timer = Some((Instant::now() + delay.min(limits::RETRY_MAX), Timer::Retry));
    }

    async fn retry(&mut self) {
        if self.record.state() == State::Creating && self.record.intent().is_none() {
            self.undo_create();
        } else if self.record.state() == State::Stopping && !self.is_in_doubt() {
            self.signal_stop();
        }
        self.next_step();
    }

    /// The cause of what happens by itself to this run: whoever asked for its end.
    pub(super) fn cause_of_end(&self) -> Option<Cause> {
        let container = self.record.container();
        container.stop.as_ref().and_then(|stop| stop.cause.clone())
    }
}

async fn flight(operation: &mut Option<Pin<Box<dyn Future<Output = Outcome> + Send>>>) -> Outcome {
    match operation {
        Some(operation) => operation.await,
        None => std::future::pending().await,
    }
}

async fn ended(exit: &mut Option<watch::Receiver<Option<Exit>>>) -> Option<Exit> {
    if let Some(exit) = exit
        && let Ok(exit) = exit
            .wait_for(Option::is_some)
            .await
            .map(|exit| exit.clone())
    {
        return exit;
    }
    // Nothing runs, or the backend is gone and with it whoever could tell.
    std::future::pending().await
}

async fn grew(oom: &mut Option<watch::Receiver<u64>>, seen: &mut u64) {
    if let Some(oom) = oom
        && let Ok(count) = oom
            .wait_for(|count| *count > *seen)
            .await
            .map(|count| *count)
    {
        *seen = count;
        return;
    }
    std::future::pending().await
}

async fn elapsed(timer: Option<(Instant, Timer)>) -> Timer {
    match timer {
        Some((when, timer)) => {
            tokio::time::sleep_until(when).await;
            timer
        }
        None => std::future::pending().await,
    }
}

/// Starts the actor of a container that is in the store already.
pub(crate) fn resume(
    core: &Arc<Core>,
    container: Container,
    mailbox: Mailbox,
    execs: Vec<Exec>,
    claim: Option<Claim>,
) {
    let mut actor = Actor::new(core.clone(), container, mailbox.publish);
    actor.claim = claim;
    actor.doubt = Doubt::Container;
    actor.restore_execs(execs);
    actor.restore_leash();
    spawn(core, actor, mailbox.inbox, None);
}

/// Starts the actor of a container that is to be made.
pub(crate) fn create(
    core: &Arc<Core>,
    container: Container,
    mailbox: Mailbox,
    creation: super::create::Creation,
) {
    let actor = Actor::new(core.clone(), container, mailbox.publish);
    spawn(core, actor, mailbox.inbox, Some(creation));
}

/// A task is moved as a whole when it is spawned, and lives as long as the container: what is large in it, or needed
/// only once, is on the heap.
fn spawn(
    core: &Arc<Core>,
    actor: Actor,
    inbox: mpsc::Receiver<Command>,
    creation: Option<super::create::Creation>,
) {
    let (mut actor, creation) = (Box::new(actor), creation.map(Box::new));
    let abandoned = actor.record.abandoned();
    core.spawn(async move {
        let life = async {
            if let Some(creation) = creation
                && !Box::pin(actor.create(*creation)).await
            {
                return;
            }
            actor.live(inbox).await;
        };
        abandoned.run_until_cancelled(life).await;
    });
}
