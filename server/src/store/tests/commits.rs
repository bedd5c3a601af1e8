//! Commits: atomic, grouped, ordered.

use std::sync::mpsc;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::*;

/// Keeps the writer busy in an `on_commit`, so that what comes meanwhile waits together.
pub(super) struct Pause {
    release: mpsc::Sender<()>,
}

impl Pause {
    pub(super) async fn of(store: &Store) -> Self {
        let (release, released) = mpsc::channel();
        let (entered, is_entered) = tokio::sync::oneshot::channel();
        let mut transaction = written([], []);
        transaction.on_commit = Some(Box::new(move |_| {
            entered.send(()).unwrap();
            let _ = released.recv();
        }));
        let store = store.clone();
        let mut committing = JoinSet::new();
        committing.spawn(async move { store.commit(transaction).await });
        is_entered.await.unwrap();
        committing.detach_all();
        Self { release }
    }

    pub(super) fn end(self) {
        self.release.send(()).unwrap();
    }
}

/// Hands transactions over at once; they wait if the writer is paused.
pub(super) async fn commit_all(
    store: &Store,
    transactions: Vec<Transaction>,
) -> JoinSet<Result<Committed, StoreError>> {
    let mut tasks = JoinSet::new();
    let count = transactions.len();
    let (handed, mut all_handed) = tokio::sync::mpsc::channel(count.max(1));
    for transaction in transactions {
        let store = store.clone();
        let handed = handed.clone();
        tasks.spawn(async move {
            let mut commit = Box::pin(store.commit(transaction));
            // The first poll hands over.
            let first = futures_util::poll!(&mut commit);
            handed.send(()).await.unwrap();
            match first {
                std::task::Poll::Ready(result) => result,
                std::task::Poll::Pending => commit.await,
            }
        });
    }
    for _ in 0..count {
        all_handed.recv().await.unwrap();
    }
    tasks
}

#[tokio::test]
async fn changes_and_events_of_a_transaction_come_together() {
    let test = TestStore::new();
    let container = Arc::new(container("a"));
    let event = container_event(1, EventKind::ContainerCreated, &container);
    let put = Change::PutContainer(Arc::clone(&container));
    let committed = test.store.commit(synced([put], [event.clone()])).await;
    assert_eq!(committed.unwrap().last, Sequence(1));

    let events = all_events(test.journal()).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].body, event);
    let test = test.reopen();
    let mut expected = (*container).clone();
    expected.last_event = Sequence(1);
    assert_eq!(test.recovered.containers, [expected]);
    assert_eq!(all_events(test.journal()).await, events);
}

#[tokio::test]
async fn a_transaction_that_fails_keeps_nothing_and_gives_its_numbers_back() {
    let test = TestStore::new();
    test.append([system_event(1)]).await;
    // Somebody makes the second event of a transaction impossible.
    test.connect()
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON events WHEN new.type = 'system_draining'
             BEGIN SELECT raise(ABORT, 'refused'); END",
        )
        .unwrap();
    let mut draining = system_event(3);
    draining.kind = EventKind::SystemDraining;
    let put = Change::PutContainer(Arc::new(container("a")));
    let failed = test
        .store
        .commit(synced([put], [system_event(2), draining]))
        .await;
    assert!(matches!(failed, Err(StoreError::Io { .. })), "{failed:?}");
    assert!(test.store.health().borrow().is_some());

    test.append([system_event(4)]).await;
    assert!(test.store.health().borrow().is_none());
    assert_eq!(assert_dense(test.journal()).await, 2);
    let test = test.reopen();
    assert!(test.recovered.containers.is_empty());
    assert_eq!(assert_dense(test.journal()).await, 2);
}

#[tokio::test]
async fn a_failure_fails_the_whole_group_and_the_next_group_goes_on() {
    let test = TestStore::new();
    test.connect()
        .execute_batch(
            "CREATE TRIGGER refuse BEFORE INSERT ON events WHEN new.type = 'system_draining'
             BEGIN SELECT raise(ABORT, 'refused'); END",
        )
        .unwrap();
    let mut draining = system_event(3);
    draining.kind = EventKind::SystemDraining;
    let pause = Pause::of(&test.store).await;
    let group = vec![written([], [system_event(1)]), written([], [draining])];
    let tasks = commit_all(&test.store, group).await;
    pause.end();
    assert!(tasks.join_all().await.iter().all(Result::is_err));
    test.append([system_event(4)]).await;
    assert_eq!(assert_dense(test.journal()).await, 1);
}

#[tokio::test]
async fn transactions_that_wait_together_share_one_commit() {
    let test = TestStore::new();
    let pause = Pause::of(&test.store).await;
    let before = test.store.counts();
    let group = (0..64).map(|n| synced([], [system_event(n)])).collect();
    let tasks = commit_all(&test.store, group).await;
    pause.end();
    assert!(tasks.join_all().await.iter().all(Result::is_ok));

    let after = test.store.counts();
    assert_eq!(after.transactions - before.transactions, 64);
    assert_eq!(after.commits - before.commits, 1);
    assert_eq!(after.synced_commits - before.synced_commits, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_are_dense_under_concurrent_committers() {
    let test = TestStore::new();
    let mut tasks = JoinSet::new();
    for n in 0..64 {
        let store = test.store.clone();
        tasks.spawn(async move {
            let mut own = Vec::new();
            for _ in 0..10 {
                let events = [system_event(n), system_event(n)];
                own.push(store.commit(written([], events)).await.unwrap().last);
            }
            own
        });
    }
    let mut lasts: Vec<Sequence> = tasks.join_all().await.concat();
    lasts.sort_unstable();
    assert!(lasts.iter().copied().eq((1..=640).map(|n| Sequence(2 * n))));
    assert_eq!(assert_dense(test.journal()).await, 1280);
    assert_eq!(assert_dense(test.reopen().journal()).await, 1280);
}

#[tokio::test]
async fn on_commit_runs_before_its_event_can_be_seen() {
    let test = TestStore::new();
    let journal = test.journal().clone();
    let seen = Arc::new(Mutex::new(None));
    let mut transaction = written([], [system_event(1), system_event(2)]);
    let runtime = tokio::runtime::Handle::current();
    transaction.on_commit = Some(Box::new({
        let seen = Arc::clone(&seen);
        move |committed| {
            // The rows are there, but must not be read yet.
            let events = runtime.block_on(journal.read(Sequence(0), 10)).unwrap();
            *seen.lock() = Some((committed, events.len(), *journal.newest().borrow()));
        }
    }));
    let committed = test.store.commit(transaction).await.unwrap();
    assert_eq!(committed.last, Sequence(2));
    assert_eq!(*seen.lock(), Some((committed, 0, Sequence(0))));
    assert_eq!(*test.journal().newest().borrow(), Sequence(2));
}

#[tokio::test]
async fn what_is_committed_but_not_yet_visible_is_not_read_from_disk_either() {
    let test = TestStore::new();
    test.append([system_event(1), system_event(2)]).await;
    let test = test.reopen();
    let journal = test.journal().clone();
    let (seen, was_seen) = mpsc::channel();
    let mut transaction = written([], [system_event(3)]);
    let runtime = tokio::runtime::Handle::current();
    transaction.on_commit = Some(Box::new(move |_| {
        let read = runtime.block_on(journal.read(Sequence(0), 10)).unwrap();
        let query = journal::Query {
            filter: journal::Filter::default(),
            since: None,
            until: None,
            direction: journal::Direction::Descending,
            from: None,
            limit: 10,
            max_bytes: usize::MAX,
        };
        let (page, _) = runtime.block_on(journal.page(query)).unwrap();
        let position = runtime.block_on(journal.position_at(second(3))).unwrap();
        seen.send((read.len(), page.len(), position)).unwrap();
    }));
    test.store.commit(transaction).await.unwrap();
    assert_eq!(was_seen.recv().unwrap(), (2, 2, Sequence(2)));
    assert_eq!(assert_dense(test.journal()).await, 3);
}

#[tokio::test]
async fn a_writer_that_panics_is_not_healthy() {
    let test = TestStore::new();
    let mut transaction = written([], []);
    transaction.on_commit = Some(Box::new(|_| panic!("expected by this test")));
    let closed = test.store.commit(transaction).await;
    assert!(matches!(closed, Err(StoreError::Closed)));
    let mut health = test.store.health();
    health.wait_for(Option::is_some).await.unwrap();
    let refused = test.store.commit(written([], [])).await;
    assert!(matches!(refused, Err(StoreError::Closed)));
    // Another may take over.
    test.reopen();
}

#[tokio::test]
async fn a_commit_is_made_although_its_caller_went_away() {
    let test = TestStore::new();
    let pause = Pause::of(&test.store).await;
    let mut tasks = commit_all(&test.store, vec![synced([], [system_event(1)])]).await;
    tasks.shutdown().await;
    pause.end();
    test.append([system_event(2)]).await;
    assert_eq!(assert_dense(test.journal()).await, 2);
}

#[tokio::test]
async fn the_last_handle_may_go_on_the_writers_own_thread() {
    let TestStore { store, dir, .. } = TestStore::new();
    let mut transaction = written([], [system_event(1)]);
    let own = store.clone();
    transaction.on_commit = Some(Box::new(move |_| drop(own)));
    let tasks = commit_all(&store, vec![transaction]).await;
    drop(store);
    drop(tasks);
    // The writer ends by itself, soon.
    tokio::time::timeout(Duration::from_secs(10), async {
        while open(dir.path()).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let test = TestStore::new();
    test.append([system_event(1)]).await;
    test.store.close().await.unwrap();
    let refused = test.store.commit(synced([], [system_event(2)])).await;
    assert!(matches!(refused, Err(StoreError::Closed)));
    assert!(matches!(test.store.close().await, Err(StoreError::Closed)));
    assert_eq!(
        assert_dense(test.journal()).await,
        1,
        "it can still be read"
    );
}
