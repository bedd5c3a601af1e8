//! A backend in memory, for tests: deterministic, with faults to inject.
//!
//! [`Fake`] is what the engine gets; [`FakeControl`] is the test's hand in it: it fails, delays and
//! holds calls, ends processes, breaks the connection, removes things behind the engine's back, and
//! counts. Processes do nothing by themselves: they run until the control, SIGTERM or SIGKILL ends
//! them. What happens while the fake is disconnected is seen once it is connected again.

mod control;
mod exec;
mod faults;
mod process;
#[cfg(test)]
mod tests;
mod world;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

pub use self::control::FakeControl;
pub use self::exec::FakeExec;
use self::faults::After;
pub use self::faults::{Fault, Hold, Operation, When};
use self::process::Process;
use self::world::World;
use super::{
    Applied, BackendError, BlobStream, ContainerBackend, Exit, Found, FoundTask, Sample,
    SignalScope, Start, StartExec, Status, Task, blob,
};
use crate::model::container::RootMount;
use crate::model::image::Descriptor;
use crate::model::spec::Resources;
use crate::model::{Container, ContainerId, Digest, ExecId, Image, Signal, TerminalSize};
use crate::oci::image::ImageContent;

/// What is read of a blob at a time.
const BLOB_CHUNK: u64 = 1 << 10;

/// The backend. Clones are the same.
#[derive(Debug, Clone)]
pub struct Fake {
    world: Arc<Mutex<World>>,
    status: watch::Receiver<Status>,
}

/// The processes of one run.
#[derive(Debug, Clone)]
pub struct FakeTask {
    backend: Fake,
    id: ContainerId,
    process: Arc<Process>,
}

impl Fake {
    /// An empty, connected backend, and the hand in it.
    #[must_use]
    pub fn new() -> (Self, FakeControl) {
        let (sender, status) = watch::channel(control::connected());
        let world = Arc::new(Mutex::new(World::default()));
        let fake = Self { world, status };
        let control = FakeControl::new(fake.clone(), sender);
        (fake, control)
    }

    /// One call: counted, with whatever fault was planned for it.
    async fn call<T>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut World) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let fault = self.world.lock().faults.next(operation);
        self.reachable()?;
        let after = match fault {
            Some(fault) => fault.strike().await?,
            None => After::Nothing,
        };
        let result = act(&mut self.world.lock());
        match after {
            After::Nothing => {}
            After::Fail(error) => return Err(error),
            After::Hang(hold) => hold.wait().await,
        }
        result
    }

    fn reachable(&self) -> Result<(), BackendError> {
        match &*self.status.borrow() {
            Status::Connected { .. } => Ok(()),
            Status::Connecting { detail } | Status::Disconnected { detail } => {
                Err(BackendError::Unavailable {
                    backend: "fake",
                    detail: detail.clone(),
                    applied: Applied::No,
                })
            }
        }
    }
}

fn part(whole: &Bytes, offset: u64, size: u64) -> Bytes {
    let place = |at: u64| usize::try_from(at).map_or(whole.len(), |at| at.min(whole.len()));
    whole.slice(place(offset)..place(offset + size))
}

impl ContainerBackend for Fake {
    type Task = FakeTask;

    async fn create(&self, container: &Container) -> Result<Vec<RootMount>, BackendError> {
        self.call(Operation::Create, |world| world.create(container))
            .await
    }

    async fn update(&self, container: &Container) -> Result<(), BackendError> {
        self.call(Operation::Update, |world| world.update(container))
            .await
    }

    async fn start(&self, start: Start) -> Result<FakeTask, BackendError> {
        let id = start.container.id;
        let process = self
            .call(Operation::Start, |world| world.start(start))
            .await?;
        Ok(FakeTask {
            backend: self.clone(),
            id,
            process,
        })
    }

    fn attach(&self, container: &Container, task: FoundTask) -> FakeTask {
        let process = self.world.lock().attach(container.id, task);
        FakeTask {
            backend: self.clone(),
            id: container.id,
            process,
        }
    }

    async fn delete(&self, id: ContainerId) -> Result<(), BackendError> {
        self.call(Operation::Delete, |world| {
            world.containers.remove(&id);
            Ok(())
        })
        .await
    }

    /// Its roots hold nothing.
    async fn root_bytes(&self, _id: ContainerId) -> Result<u64, BackendError> {
        Ok(0)
    }

    async fn forget_start(&self, container: &Container) -> Result<(), BackendError> {
        self.call(Operation::ForgetStart, |world| {
            world.discard(container.id);
            Ok(())
        })
        .await
    }

    async fn discard_task(&self, id: ContainerId) -> Result<(), BackendError> {
        self.call(Operation::DiscardTask, |world| {
            world.discard(id);
            Ok(())
        })
        .await
    }

    async fn find(&self, id: ContainerId) -> Result<Found, BackendError> {
        self.call(Operation::Find, |world| Ok(world.find(id))).await
    }

    async fn inventory(&self) -> Result<HashMap<ContainerId, Found>, BackendError> {
        self.call(Operation::Inventory, |world| Ok(world.inventory()))
            .await
    }

    async fn usage(
        &self,
        containers: &[Arc<Container>],
    ) -> Result<Vec<Option<Sample>>, BackendError> {
        self.call(Operation::Usage, |world| {
            let samples = containers
                .iter()
                .map(|container| world.sample(container.id));
            Ok(samples.collect())
        })
        .await
    }

    async fn ingest(&self, image: &Image, content: Arc<ImageContent>) -> Result<u64, BackendError> {
        self.call(Operation::Ingest, |world| Ok(world.ingest(image, &content)))
            .await
    }

    async fn tag(&self, image: &Image, reference: &str) -> Result<(), BackendError> {
        self.call(Operation::Tag, |world| {
            world.images.insert(reference.to_owned(), image.id.clone());
            world.drop_nameless_blobs();
            Ok(())
        })
        .await
    }

    async fn untag(&self, reference: &str) -> Result<(), BackendError> {
        self.call(Operation::Untag, |world| {
            world.images.remove(reference);
            world.drop_nameless_blobs();
            Ok(())
        })
        .await
    }

    async fn names(&self) -> Result<Vec<String>, BackendError> {
        self.call(Operation::Names, |world| {
            Ok(world.images.keys().cloned().collect())
        })
        .await
    }

    async fn layer_bytes(&self, chain_id: &Digest) -> Result<u64, BackendError> {
        self.call(Operation::LayerBytes, |world| world.layer_bytes(chain_id))
            .await
    }

    async fn open_blob(&self, blob: &Descriptor) -> Result<BlobStream, BackendError> {
        self.call(Operation::OpenBlob, |world| world.blob(blob).map(drop))
            .await?;
        let (fake, wanted) = (self.clone(), blob.clone());
        Ok(blob::chunks(blob, BLOB_CHUNK, move |offset, size| {
            let (fake, wanted) = (fake.clone(), wanted.clone());
            async move {
                let whole = fake.call(Operation::ReadBlob, |world| world.blob(&wanted));
                Ok(part(&whole.await?, offset, size))
            }
        }))
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }
}

impl FakeTask {
    /// One call about the processes of this run.
    async fn act<T>(
        &self,
        operation: Operation,
        act: impl FnOnce(&Process) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        self.backend.call(operation, |_| act(&self.process)).await
    }
}

impl Task for FakeTask {
    type Process = FakeExec;

    fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn exit(&self) -> watch::Receiver<Option<Exit>> {
        self.process.exit()
    }

    fn oom_kills(&self) -> watch::Receiver<u64> {
        self.process.oom_kills()
    }

    async fn kill(&self, signal: Signal, _scope: SignalScope) -> Result<(), BackendError> {
        self.act(Operation::Kill, |process| process.signal(signal))
            .await
    }

    async fn pause(&self) -> Result<(), BackendError> {
        self.act(Operation::Pause, Process::pause).await
    }

    async fn resume(&self) -> Result<(), BackendError> {
        self.act(Operation::Resume, Process::resume).await
    }

    async fn update(&self, resources: &Resources) -> Result<(), BackendError> {
        self.act(Operation::UpdateTask, |process| process.limit(resources))
            .await
    }

    async fn pids(&self) -> Result<Vec<u32>, BackendError> {
        self.act(Operation::Pids, Process::pids).await
    }

    async fn delete(&self) -> Result<(), BackendError> {
        self.backend
            .call(Operation::DeleteTask, |world| {
                world.delete_task(self.id, &self.process)
            })
            .await
    }

    async fn resize(&self, size: TerminalSize) -> Result<(), BackendError> {
        self.act(Operation::Resize, |process| process.resize(size))
            .await
    }

    async fn close_stdin(&self) -> Result<(), BackendError> {
        self.act(Operation::CloseStdin, Process::close_stdin).await
    }

    async fn exec(&self, start: StartExec) -> Result<FakeExec, BackendError> {
        self.start_exec(start).await
    }

    fn attach_exec(&self, exec: ExecId, found: FoundTask) -> FakeExec {
        self.found_exec(exec, found)
    }

    async fn find_exec(&self, exec: ExecId) -> Result<Option<FoundTask>, BackendError> {
        self.backend
            .call(Operation::FindExec, |world| Ok(world.find_exec(exec)))
            .await
    }

    async fn discard_exec(&self, exec: ExecId) -> Result<(), BackendError> {
        self.backend
            .call(Operation::DiscardExec, |world| {
                world.discard_exec(exec);
                Ok(())
            })
            .await
    }
}
