//! Lives of containers as a careful client leads them: every call is repeated until it is answered, with
//! the same idempotency key where it has one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep};
use tonic::Code;
use wharf_api::ErrorReason;
use wharf_api::v1::{self, BindMount, ExitStatus, Mount, mount};

use crate::harness::{Client, Refusal, spec};

/// A call that is not answered within this time, over all its repeats, is lost.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was acknowledged about one container.
#[derive(Debug, Clone)]
pub struct Lived {
    pub name: String,
    pub id: String,
    /// The code that its program ends with by itself.
    pub code: i32,
    /// The ends of its runs.
    pub exits: Vec<ExitStatus>,
    pub deleted: bool,
}

/// One worker.
pub struct Life {
    worker: usize,
    client: Client,
    notes: PathBuf,
    random: StdRng,
}

impl Life {
    pub fn new(worker: usize, client: Client, notes: PathBuf, random: StdRng) -> Self {
        Self {
            worker,
            client,
            notes,
            random,
        }
    }

    /// One container after the other.
    pub async fn go_on_until(mut self, over: &AtomicBool) -> Vec<Lived> {
        let mut lives = Vec::new();
        while !over.load(Ordering::Acquire) {
            let name = format!("life-{}-{}", self.worker, lives.len());
            lives.push(self.live(name).await);
        }
        lives
    }

    async fn live(&mut self, name: String) -> Lived {
        let code = self.random.random_range(1..100);
        let client = self.client.clone();
        let create = create_request(&name, code, &self.notes);
        let created = again(async || client.create_with(create.clone()).await).await;
        let mut lived = Lived {
            name,
            id: created.id,
            code,
            exits: Vec::new(),
            deleted: false,
        };
        for run in 1..=self.random.random_range(1..=2) {
            lived.exits.push(self.run(&lived.id, run).await);
        }
        if self.random.random_bool(0.7) {
            again(async || client.delete_container(delete_request(&lived.id)).await).await;
            lived.deleted = true;
        }
        lived
    }

    async fn start(&self, id: &str, run: u64) {
        let start = v1::StartContainerRequest {
            container: id.to_owned(),
            expected_run: Some(run - 1),
            idempotency_key: format!("start-{id}-{run}"),
        };
        let started = again(async || self.client.start_container(start.clone()).await).await;
        assert_eq!(started.container.unwrap().run, run);
    }

    /// A run to its end: by itself, by a signal or by a stop.
    async fn run(&mut self, id: &str, run: u64) -> ExitStatus {
        self.start(id, run).await;
        let client = &self.client;
        if self.random.random_bool(0.3) {
            let stop = v1::StopContainerRequest {
                container: id.to_owned(),
                grace_period: Some(spec::duration(Duration::ZERO)),
                expected_run: Some(run),
                ..Default::default()
            };
            again(async || client.stop_container(stop.clone()).await).await;
        }
        let exit = again(async || client.exit_of(id, run).await).await;
        let repeated = again(async || client.exit_of(id, run).await).await;
        assert_eq!(exit, repeated, "two answers about run {run} of {id}");
        exit
    }
}

/// Notes each start in a file of its own, so that the program's own word counts, and ends soon.
fn create_request(name: &str, code: i32, notes: &Path) -> v1::CreateContainerRequest {
    let script = format!("echo started >> /notes/{name}; sleep 0.1; exit {code}");
    let mut spec = spec::running(&["sh", "-c", &script]);
    spec.mounts.push(Mount {
        target: "/notes".to_owned(),
        source: Some(mount::Source::Bind(BindMount {
            path: notes.to_str().unwrap().to_owned(),
            ..Default::default()
        })),
        ..Default::default()
    });
    v1::CreateContainerRequest {
        name: name.to_owned(),
        spec: Some(spec),
        idempotency_key: format!("create-{name}"),
        ..Default::default()
    }
}

fn delete_request(id: &str) -> v1::DeleteContainerRequest {
    v1::DeleteContainerRequest {
        container: id.to_owned(),
        allow_missing: true,
        ..Default::default()
    }
}

/// Repeats a call that may be repeated until it is answered.
async fn again<T>(mut call: impl AsyncFnMut() -> Result<T, Refusal>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call().await {
            Ok(value) => return value,
            Err(refusal) => {
                assert!(is_of_a_kill(&refusal), "{refusal}");
                assert!(Instant::now() < deadline, "still no answer: {refusal}");
                sleep(Duration::from_millis(30)).await;
            }
        }
    }
}

/// A broken connection, or a server that is just coming up.
fn is_of_a_kill(refusal: &Refusal) -> bool {
    match refusal.reason {
        None => matches!(
            refusal.code,
            Code::Unavailable | Code::Unknown | Code::Cancelled
        ),
        Some(reason) => matches!(
            reason,
            ErrorReason::ServerStarting
                | ErrorReason::BackendUnavailable
                | ErrorReason::OperationInProgress
                | ErrorReason::IdempotentRequestInProgress
        ),
    }
}
