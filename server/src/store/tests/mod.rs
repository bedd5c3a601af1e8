//! The store's tests, and what the tests of its neighbours need to have a store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod commits;
mod damage;
mod epochs;
mod recovery;
mod syncing;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use super::*;
use crate::model::event::ContainerSubject;
use crate::model::image::{AccountFiles, Descriptor, ImageConfig, Platform};
use crate::model::spec::TextMap;
use crate::model::{
    Cause, Container, ContainerId, Digest, EventKind, ExitReason, ExitStatus, Image, NewEvent,
    Principal, RequestId, Run, Sequence, limits, samples,
};

/// A store in a directory of its own.
pub(crate) struct TestStore {
    pub(crate) store: Store,
    pub(crate) recovered: Recovered,
    pub(crate) dir: TempDir,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        Self::with(options())
    }

    pub(crate) fn with(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (store, recovered) = Store::open(dir.path(), options).unwrap();
        Self {
            store,
            recovered,
            dir,
        }
    }

    /// Drops the store without closing it, and opens it again.
    pub(crate) fn reopen(self) -> Self {
        let Self { store, dir, .. } = self;
        drop(store);
        let (store, recovered) = Store::open(dir.path(), options()).unwrap();
        Self {
            store,
            recovered,
            dir,
        }
    }

    pub(crate) fn journal(&self) -> &Journal {
        self.store.journal()
    }

    /// Commits events, each in a transaction of its own.
    pub(crate) async fn append(&self, events: impl IntoIterator<Item = NewEvent>) {
        for event in events {
            self.store.commit(written([], [event])).await.unwrap();
        }
    }

    /// Waits until retention has done what the commits so far ask for: it follows each commit that
    /// has events, and comes before the next one.
    pub(crate) async fn settle(&self) {
        self.store.commit(written([], [])).await.unwrap();
    }

    pub(crate) fn database(&self) -> std::path::PathBuf {
        self.dir.path().join("wharf.db")
    }

    /// A second connection, as somebody with `sqlite3` has it.
    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.database()).unwrap()
    }
}

pub(crate) fn options() -> Options {
    Options {
        journal_bytes: limits::JOURNAL_BYTES,
        journal_age: limits::JOURNAL_AGE,
    }
}

pub(crate) fn synced(
    changes: impl IntoIterator<Item = Change>,
    events: impl IntoIterator<Item = NewEvent>,
) -> Transaction {
    Transaction {
        changes: changes.into_iter().collect(),
        events: events.into_iter().collect(),
        durability: Durability::Synced,
        on_commit: None,
    }
}

pub(crate) fn written(
    changes: impl IntoIterator<Item = Change>,
    events: impl IntoIterator<Item = NewEvent>,
) -> Transaction {
    Transaction {
        durability: Durability::Written,
        ..synced(changes, events)
    }
}

/// Second `n` of the tests' time.
pub(crate) fn second(n: u64) -> SystemTime {
    // Not far in the past: retention looks at the real clock.
    static START: std::sync::OnceLock<SystemTime> = std::sync::OnceLock::new();
    let start = START.get_or_init(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        UNIX_EPOCH + Duration::from_secs(now.as_secs() - 3600)
    });
    *start + Duration::from_secs(n)
}

/// An event that is about nothing, at second `n`.
pub(crate) fn system_event(n: u64) -> NewEvent {
    NewEvent {
        time: second(n),
        kind: EventKind::SystemStarted,
        cause: None,
        container: None,
        image: None,
    }
}

/// An event about a container, at second `n`.
pub(crate) fn container_event(n: u64, kind: EventKind, container: &Container) -> NewEvent {
    NewEvent {
        time: second(n),
        kind,
        cause: None,
        container: Some(ContainerSubject {
            id: container.id,
            name: Arc::clone(&container.name),
            labels: Arc::clone(&container.labels),
            run: container.run,
        }),
        image: Some("example.org/app:1".into()),
    }
}

pub(crate) fn cause(request: &str) -> Cause {
    Cause {
        request_id: RequestId::parse(request).unwrap(),
        trace_id: None,
        method: "/wharf.v1.ContainerService/CreateContainer".into(),
        principal: Principal::user(1000),
    }
}

pub(crate) fn exit(run: u64) -> Arc<ExitStatus> {
    Arc::new(ExitStatus {
        reason: ExitReason::Exited,
        code: 3,
        signal: None,
        exit_time: second(run),
        cause: Some(cause("stopper")),
        run: Run(run),
        output_truncated: false,
    })
}

pub(crate) fn container(name: &str) -> Container {
    Container {
        name: name.into(),
        labels: Arc::new(TextMap::from([("app".to_owned(), name.to_owned())])),
        create_time: second(1),
        update_time: second(1),
        ..samples::container(samples::spec())
    }
}

pub(crate) fn image(name: &str) -> Image {
    let id = Digest::of(name.as_bytes());
    Image {
        id: id.clone(),
        references: [format!("example.org/{name}:1")].into(),
        target: Descriptor {
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            digest: id.clone(),
            size_bytes: 2,
        },
        platform: Platform::host(),
        content_bytes: 1,
        unpacked_bytes: 2,
        layers: Vec::new(),
        chain_id: id,
        create_time: second(1),
        config: Arc::new(ImageConfig::default()),
        accounts: Arc::new(AccountFiles::default()),
        config_json: "{}".into(),
    }
}

/// All events of a journal.
pub(crate) async fn all_events(journal: &Journal) -> Vec<Arc<crate::model::Event>> {
    let mut after = journal.oldest();
    let mut events = Vec::new();
    loop {
        let batch = journal.read(after, 100).await.unwrap();
        match batch.last() {
            None => return events,
            Some(last) => after = last.sequence,
        }
        events.extend(batch);
    }
}

/// The sequences of a whole journal, which must be dense from 1.
pub(crate) async fn assert_dense(journal: &Journal) -> usize {
    let events = all_events(journal).await;
    let expected = (1..).take(events.len()).map(Sequence);
    assert!(events.iter().map(|e| e.sequence).eq(expected));
    events.len()
}

fn open(dir: &Path) -> Result<(Store, Recovered), StoreError> {
    Store::open(dir, options())
}
