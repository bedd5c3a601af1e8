//! What exists in the fake, and what acts on it do.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::Instant;

use super::faults::Faults;
use super::process::Process;
use crate::backend::{
    BackendError, Found, FoundState, FoundTask, Sample, Start, StartExec, WaitStatus, blob,
};
use crate::model::container::RootMount;
use crate::model::image::Descriptor;
use crate::model::{Container, ContainerId, Digest, ExecId, Image, LaunchFailure, Signal, Usage};
use crate::oci::image::ImageContent;

/// The first pid given out: above what a kernel gives by default, so that no test can hit a real one.
const FIRST_PID: u32 = 5_000_000;
/// What every ingested layer is said to take unpacked, for each of its bytes.
const UNPACKED_RATIO: u64 = 2;

/// Everything in the fake.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) faults: Faults,
    /// Records, as last brought in line.
    pub(super) containers: HashMap<ContainerId, Container>,
    pub(super) tasks: HashMap<ContainerId, Arc<Process>>,
    /// Execs, each with its container: they end with its task.
    pub(super) execs: HashMap<ExecId, (ContainerId, Arc<Process>)>,
    /// Execs whose holder does not answer: only that they are there is known.
    pub(super) hidden: HashSet<ExecId>,
    /// What each container was last started with.
    pub(super) starts: HashMap<ContainerId, Start>,
    /// Ids of configs, by reference.
    pub(super) images: BTreeMap<String, Digest>,
    /// Blobs of images that have a name, by the ids of the images.
    blobs: HashMap<Digest, HashMap<Digest, Bytes>>,
    /// What unpacked layers are said to take, by their chain ids.
    layers: HashMap<Digest, u64>,
    /// Chain ids whose content is gone.
    pub(super) missing_content: HashSet<Digest>,
    /// How the next processes end before their start returns.
    pub(super) early_exits: Vec<WaitStatus>,
    /// Processes removed behind the engine's back, for the next connect to settle.
    pub(super) lost: Vec<Arc<Process>>,
    /// What containers are said to use; nothing, unless the control has said so.
    pub(super) usage: HashMap<ContainerId, Usage>,
    pids: u32,
}

impl World {
    pub(super) fn create(&mut self, container: &Container) -> Result<Vec<RootMount>, BackendError> {
        let chain_id = &container.image.chain_id;
        if self.missing_content.contains(chain_id) {
            return Err(BackendError::ImageContentMissing {
                chain_id: chain_id.to_string(),
            });
        }
        self.containers.insert(container.id, container.clone());
        Ok(vec![RootMount {
            kind: "fake".to_owned(),
            source: container.id.to_string(),
            options: Vec::new(),
        }])
    }

    pub(super) fn update(&mut self, container: &Container) -> Result<(), BackendError> {
        let record = self.containers.get_mut(&container.id);
        let record = record.ok_or(BackendError::NotFound {
            backend: "fake",
            what: "container",
        })?;
        *record = container.clone();
        Ok(())
    }

    pub(super) fn start(&mut self, start: Start) -> Result<Arc<Process>, BackendError> {
        let id = start.container.id;
        if !self.containers.contains_key(&id) {
            return Err(BackendError::NotFound {
                backend: "fake",
                what: "container",
            });
        }
        if start.container.process.args.is_empty() {
            let path = String::new();
            return Err(LaunchFailure::ExecutableNotFound { path }.into());
        }
        if self.tasks.get(&id).is_some_and(|old| is_alive(old)) {
            return Err(BackendError::Protocol {
                backend: "fake",
                code: "AlreadyExists".to_owned(),
                message: format!("task {id} runs"),
            });
        }
        let process = Arc::new(Process::new(self.next_pid(), FoundState::Running));
        if !self.early_exits.is_empty() {
            process.end(self.early_exits.remove(0));
            process.publish();
        }
        self.tasks.insert(id, Arc::clone(&process));
        self.starts.insert(id, start);
        Ok(process)
    }

    pub(super) fn start_exec(&mut self, start: StartExec) -> Result<Arc<Process>, BackendError> {
        let process = Arc::new(Process::new(self.next_pid(), FoundState::Running));
        if !self.early_exits.is_empty() {
            process.end(self.early_exits.remove(0));
            process.publish();
        }
        let entry = (start.container.id, Arc::clone(&process));
        self.execs.insert(start.exec.id, entry);
        Ok(process)
    }

    /// The process that is meant, or, if it is gone, one like it that nothing will happen to.
    pub(super) fn attach_exec(&self, id: ExecId, found: FoundTask) -> Arc<Process> {
        match self.execs.get(&id) {
            Some((_, process)) if process.pid() == found.pid => {
                process.publish();
                Arc::clone(process)
            }
            _ => Arc::new(Process::new(found.pid, found.state)),
        }
    }

    pub(super) fn find_exec(&self, id: ExecId) -> Option<FoundTask> {
        let (_, process) = self.execs.get(&id)?;
        Some(if self.hidden.contains(&id) {
            FoundTask {
                pid: 0,
                state: FoundState::Running,
            }
        } else {
            FoundTask {
                pid: process.pid(),
                state: process.state(),
            }
        })
    }

    pub(super) fn discard_exec(&mut self, id: ExecId) {
        if let Some((_, process)) = self.execs.remove(&id) {
            process.end(WaitStatus::Signaled(Signal::KILL));
            process.publish();
        }
    }

    pub(super) fn leave_created_task(&mut self, id: ContainerId) {
        let process = Process::new(self.next_pid(), FoundState::Created);
        self.tasks.insert(id, Arc::new(process));
    }

    pub(super) fn sample(&self, id: ContainerId) -> Option<Sample> {
        let process = self.tasks.get(&id)?;
        is_alive(process).then(|| Sample {
            time: SystemTime::now(),
            instant: Instant::now(),
            usage: self.usage.get(&id).copied().unwrap_or_default(),
            networks: Vec::new(),
        })
    }

    /// The process that is meant, or, if it is gone, one like it that nothing will happen to.
    pub(super) fn attach(&self, id: ContainerId, task: FoundTask) -> Arc<Process> {
        match self.tasks.get(&id) {
            Some(process) if process.pid() == task.pid => Arc::clone(process),
            _ => Arc::new(Process::new(task.pid, task.state)),
        }
    }

    pub(super) fn discard(&mut self, id: ContainerId) {
        if let Some(process) = self.tasks.remove(&id) {
            process.end(WaitStatus::Signaled(Signal::KILL));
            process.publish();
        }
    }

    pub(super) fn delete_task(
        &mut self,
        id: ContainerId,
        process: &Arc<Process>,
    ) -> Result<(), BackendError> {
        let ours = self.tasks.get(&id);
        if !ours.is_some_and(|found| Arc::ptr_eq(found, process)) {
            return Ok(());
        }
        if is_alive(process) {
            return Err(BackendError::Protocol {
                backend: "fake",
                code: "FailedPrecondition".to_owned(),
                message: format!("task {id} must be stopped before deletion"),
            });
        }
        self.tasks.remove(&id);
        Ok(())
    }

    pub(super) fn find(&self, id: ContainerId) -> Found {
        Found {
            container: self.containers.contains_key(&id),
            task: self.tasks.get(&id).map(|process| FoundTask {
                pid: process.pid(),
                state: process.state(),
            }),
        }
    }

    pub(super) fn inventory(&self) -> HashMap<ContainerId, Found> {
        let ids = self.containers.keys();
        ids.map(|id| (*id, self.find(*id))).collect()
    }

    pub(super) fn ingest(&mut self, image: &Image, content: &ImageContent) -> u64 {
        self.missing_content.remove(&image.chain_id);
        for reference in &image.references {
            self.images.insert(reference.clone(), image.id.clone());
        }
        if image.references.is_empty() {
            self.images.insert(image.dangling_name(), image.id.clone());
        }
        self.blobs.insert(image.id.clone(), blobs(content));
        let sizes = content.layers.iter().map(|layer| {
            let size = layer.descriptor.size_bytes.saturating_mul(UNPACKED_RATIO);
            (layer.chain_id.clone(), size)
        });
        let sizes: Vec<_> = sizes.collect();
        self.layers.extend(sizes.iter().cloned());
        sizes.into_iter().map(|(_, size)| size).sum()
    }

    pub(super) fn layer_bytes(&self, chain_id: &Digest) -> Result<u64, BackendError> {
        let bytes = self.layers.get(chain_id).copied();
        bytes.ok_or_else(|| BackendError::ImageContentMissing {
            chain_id: chain_id.to_string(),
        })
    }

    pub(super) fn blob(&self, wanted: &Descriptor) -> Result<Bytes, BackendError> {
        let mut images = self.blobs.values();
        let found = images.find_map(|blobs| blobs.get(&wanted.digest));
        found.cloned().ok_or_else(|| blob::missing(wanted))
    }

    /// As when garbage is collected after a name has gone or moved.
    pub(super) fn drop_nameless_blobs(&mut self) {
        let Self { images, blobs, .. } = self;
        blobs.retain(|image, _| images.values().any(|named| named == image));
    }

    /// Shows the handles of runs what happened while nobody could see it. What happened to execs is seen
    /// once they are looked for.
    pub(super) fn settle(&mut self) {
        for process in self.lost.drain(..) {
            process.end(WaitStatus::Lost);
            process.publish();
        }
        for process in self.tasks.values() {
            process.publish();
        }
    }

    fn next_pid(&mut self) -> u32 {
        self.pids += 1;
        FIRST_PID + self.pids
    }
}

/// What can be read of an image: scenarios may have removed their files.
fn blobs(content: &ImageContent) -> HashMap<Digest, Bytes> {
    let manifest = Bytes::copy_from_slice(&content.manifest);
    let config = Bytes::copy_from_slice(content.config_json.as_bytes());
    let layers = content.layers.iter().filter_map(|layer| {
        let mut data = Vec::new();
        let mut blob = content.source.open(layer).ok()?;
        blob.read_to_end(&mut data).ok()?;
        Some((layer.descriptor.digest.clone(), data.into()))
    });
    let documents = [
        (content.target.digest.clone(), manifest),
        (content.config.digest.clone(), config),
    ];
    layers.chain(documents).collect()
}

pub(super) fn is_alive(process: &Process) -> bool {
    !matches!(process.state(), FoundState::Stopped(_))
}
