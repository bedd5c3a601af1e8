//! The test's hand in the fake.

use std::sync::Arc;

use tokio::sync::watch;

use super::process::Process;
use super::world::is_alive;
use super::{Fake, Fault, Hold, Operation, When};
use crate::backend::{BackendError, FoundState, Start, Status, WaitStatus};
use crate::model::spec::Resources;
use crate::model::{Container, ContainerId, Digest, ExecId, Signal, TerminalSize, Usage};

/// Makes things happen in a [`Fake`], and shows what is in it. Clones are the same.
#[derive(Debug, Clone)]
pub struct FakeControl {
    fake: Fake,
    status: watch::Sender<Status>,
}

/// The status of a fake that is reachable.
pub(super) fn connected() -> Status {
    Status::Connected {
        version: "fake".to_owned(),
    }
}

impl FakeControl {
    pub(super) fn new(fake: Fake, status: watch::Sender<Status>) -> Self {
        Self { fake, status }
    }

    /// Plans a fault.
    pub fn inject(&self, operation: Operation, when: When, fault: Fault) {
        let mut world = self.fake.world.lock();
        world.faults.plan(operation, when, fault);
    }

    /// Makes the next call fail without acting.
    pub fn fail_next(&self, operation: Operation, error: BackendError) {
        self.inject(operation, When::Next, Fault::Fail(error));
    }

    /// Makes the next call hang until it is released.
    #[must_use]
    pub fn hold_next(&self, operation: Operation) -> Hold {
        let hold = Hold::default();
        self.inject(operation, When::Next, Fault::Hang(hold.clone()));
        hold
    }

    /// Makes the next call act, and then hang until it is released.
    #[must_use]
    pub fn hold_next_answer(&self, operation: Operation) -> Hold {
        let hold = Hold::default();
        self.inject(operation, When::Next, Fault::ActThenHang(hold.clone()));
        hold
    }

    /// Forgets all faults that are planned.
    pub fn clear_faults(&self) {
        self.fake.world.lock().faults.clear();
    }

    /// How often an operation was called, with success or without.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        self.fake.world.lock().faults.calls(operation)
    }

    /// Calls fail from now on, and what happens is not seen.
    pub fn disconnect(&self) {
        self.status.send_replace(Status::Disconnected {
            detail: "the fake was told to".to_owned(),
        });
    }

    /// As at the start of a server whose backend is not there.
    pub fn never_connected(&self) {
        self.status.send_replace(Status::Connecting {
            detail: "the fake was told to".to_owned(),
        });
    }

    /// What happened meanwhile is seen; then calls work again.
    pub fn connect(&self) {
        self.fake.world.lock().settle();
        self.status.send_replace(connected());
    }

    /// Ends a container's main process. `false` if there is none that lives.
    #[must_use]
    pub fn exit(&self, id: ContainerId, status: WaitStatus) -> bool {
        let Some(process) = self.living(id) else {
            return false;
        };
        process.end(status);
        self.show(&process);
        true
    }

    /// What a container is said to use from now on.
    pub fn uses(&self, id: ContainerId, usage: Usage) {
        self.fake.world.lock().usage.insert(id, usage);
    }

    /// The next process to be started ends like this before its start returns; called repeatedly,
    /// the ones after it.
    pub fn exit_before_start_returns(&self, status: WaitStatus) {
        self.fake.world.lock().early_exits.push(status);
    }

    /// The OOM killer acts in a container, on a process that is not the main one. `false` if the
    /// container does not run.
    #[must_use]
    pub fn oom(&self, id: ContainerId) -> bool {
        let Some(process) = self.living(id) else {
            return false;
        };
        process.oom();
        self.show(&process);
        true
    }

    /// The OOM killer ends a container's main process. `false` if it does not run.
    #[must_use]
    pub fn oom_kill(&self, id: ContainerId) -> bool {
        self.oom(id) && self.exit(id, WaitStatus::Signaled(Signal::KILL))
    }

    /// The container's main process goes on after SIGTERM. `false` if it does not run.
    #[must_use]
    pub fn ignore_term(&self, id: ContainerId) -> bool {
        let process = self.living(id);
        if let Some(process) = &process {
            process.ignore_term();
        }
        process.is_some()
    }

    /// Ends an exec. `false` if there is none that lives.
    #[must_use]
    pub fn exit_exec(&self, id: ExecId, status: WaitStatus) -> bool {
        let Some(process) = self.exec(id).filter(|process| is_alive(process)) else {
            return false;
        };
        process.end(status);
        self.show(&process);
        true
    }

    /// The signals that an exec was sent, in order.
    #[must_use]
    pub fn exec_signals(&self, id: ExecId) -> Vec<Signal> {
        let exec = self.exec(id);
        exec.map_or_else(Vec::new, |process| process.signals())
    }

    /// The sizes that an exec's terminal was given since its start, in order.
    #[must_use]
    pub fn exec_sizes(&self, id: ExecId) -> Vec<TerminalSize> {
        let exec = self.exec(id);
        exec.map_or_else(Vec::new, |process| process.sizes())
    }

    /// Whoever holds an exec does not answer, until [`Self::show_exec`].
    pub fn hide_exec(&self, id: ExecId) {
        self.fake.world.lock().hidden.insert(id);
    }

    /// Whoever holds an exec answers again.
    pub fn show_exec(&self, id: ExecId) {
        self.fake.world.lock().hidden.remove(&id);
    }

    /// Removes a task behind everybody's back. Its end is seen as lost at the next connect.
    /// `false` if there is none.
    #[must_use]
    pub fn lose_task(&self, id: ContainerId) -> bool {
        let mut world = self.fake.world.lock();
        let removed = world.tasks.remove(&id);
        let found = removed.is_some();
        world.lost.extend(removed);
        found
    }

    /// Leaves a task that was made and never started, as a start that was cut off does.
    pub fn leave_created_task(&self, id: ContainerId) {
        self.fake.world.lock().leave_created_task(id);
    }

    /// Removes a container's record behind everybody's back. `false` if there is none.
    #[must_use]
    pub fn lose_container(&self, id: ContainerId) -> bool {
        self.fake.world.lock().containers.remove(&id).is_some()
    }

    /// The unpacked layers of an image are gone, until it is ingested again.
    pub fn lose_image_content(&self, chain_id: Digest) {
        self.fake.world.lock().missing_content.insert(chain_id);
    }

    /// The containers there are, sorted.
    #[must_use]
    pub fn containers(&self) -> Vec<ContainerId> {
        let mut ids: Vec<_> = self.fake.world.lock().containers.keys().copied().collect();
        ids.sort();
        ids
    }

    /// A container's record as last brought in line.
    #[must_use]
    pub fn container(&self, id: ContainerId) -> Option<Container> {
        self.fake.world.lock().containers.get(&id).cloned()
    }

    /// The tasks there are, sorted, with where they are.
    #[must_use]
    pub fn tasks(&self) -> Vec<(ContainerId, FoundState)> {
        let world = self.fake.world.lock();
        let tasks = world.tasks.iter();
        let mut tasks: Vec<_> = tasks.map(|(id, task)| (*id, task.state())).collect();
        tasks.sort_by_key(|(id, _)| *id);
        tasks
    }

    /// References of images there are, with the ids of the images.
    #[must_use]
    pub fn images(&self) -> Vec<(String, Digest)> {
        self.fake.world.lock().images.clone().into_iter().collect()
    }

    /// What a container was last started with.
    #[must_use]
    pub fn start_of(&self, id: ContainerId) -> Option<Start> {
        self.fake.world.lock().starts.get(&id).cloned()
    }

    /// The signals that the container's present task was sent, in order.
    #[must_use]
    pub fn signals(&self, id: ContainerId) -> Vec<Signal> {
        let process = self.process(id);
        process.map_or_else(Vec::new, |process| process.signals())
    }

    /// The sizes that the terminal of the container's present task was given since its start, in order.
    #[must_use]
    pub fn sizes(&self, id: ContainerId) -> Vec<TerminalSize> {
        let process = self.process(id);
        process.map_or_else(Vec::new, |process| process.sizes())
    }

    /// The limits that the container's present task was given last.
    #[must_use]
    pub fn limits(&self, id: ContainerId) -> Option<Resources> {
        self.process(id)?.limits()
    }

    fn process(&self, id: ContainerId) -> Option<Arc<Process>> {
        self.fake.world.lock().tasks.get(&id).cloned()
    }

    fn exec(&self, id: ExecId) -> Option<Arc<Process>> {
        let world = self.fake.world.lock();
        world.execs.get(&id).map(|(_, process)| Arc::clone(process))
    }

    fn living(&self, id: ContainerId) -> Option<Arc<Process>> {
        self.process(id).filter(|process| is_alive(process))
    }

    /// Lets the handles see what happened, unless nobody can.
    fn show(&self, process: &Process) {
        if self.fake.reachable().is_ok() {
            process.publish();
        }
    }
}
