//! What is there after a restart, orderly or not.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use super::*;
use crate::model::limits::{DELETED_KEPT, IDEMPOTENCY_ENTRIES, RUNS_KEPT};
use crate::model::request::IdempotencyKey;

fn key(n: usize) -> IdempotencyKey {
    IdempotencyKey {
        principal: Principal::user(1000),
        method: "/wharf.v1.ContainerService/CreateContainer".into(),
        key: format!("key-{n}").into(),
    }
}

fn key_record(time: SystemTime, answer: Option<&[u8]>) -> IdempotencyRecord {
    IdempotencyRecord {
        request_digest: [9; 32],
        request_id: RequestId::parse("first").unwrap(),
        time,
        container: Some(ContainerId::from_bytes([7; 16])),
        answer: answer.map(Arc::from),
    }
}

#[tokio::test]
async fn everything_is_as_it_was_written() {
    let test = TestStore::new();
    assert!(test.recovered.containers.is_empty());
    let (young, old) = (container("young"), container("old"));
    let young = Container {
        create_time: second(9),
        ..young
    };
    let image = image("app");
    let record = key_record(second(5), Some(b"answer"));
    let changes = [
        Change::PutContainer(Arc::new(young.clone())),
        Change::PutContainer(Arc::new(old.clone())),
        Change::PutImage(Arc::new(image.clone())),
        Change::PutIdempotency(key(1), key_record(second(5), None)),
        Change::PutIdempotency(key(1), record.clone()),
        Change::PutIdempotency(key(2), record.clone()),
        Change::ForgetIdempotency(key(2)),
    ];
    test.store.commit(synced(changes, [])).await.unwrap();
    let test = test.reopen();
    assert_eq!(test.recovered.containers, [old, young.clone()]);
    assert_eq!(test.recovered.images, std::slice::from_ref(&image));
    assert_eq!(test.recovered.idempotency, [(key(1), record)]);

    let changes = [
        Change::DeleteImage(image.id),
        Change::ForgetContainer(young.id),
    ];
    test.store.commit(synced(changes, [])).await.unwrap();
    let test = test.reopen();
    assert_eq!(test.recovered.containers.len(), 1);
    assert!(test.recovered.images.is_empty());
}

#[tokio::test]
async fn a_container_remembers_its_own_newest_event() {
    let test = TestStore::new();
    let (a, b) = (Arc::new(container("a")), Arc::new(container("b")));
    let created = |c: &Container| container_event(1, EventKind::ContainerCreated, c);
    let started = |c: &Container| container_event(2, EventKind::ContainerStarted, c);
    let put = |c: &Arc<Container>| Change::PutContainer(Arc::clone(c));
    let transactions = [
        written([put(&a)], [created(&a), started(&a)]),
        written([put(&b)], [created(&b), system_event(1)]),
        // Neither has an event in this one.
        written([put(&a), put(&b)], [system_event(1)]),
        // Only an event, no record.
        written([], [started(&b), system_event(1)]),
    ];
    for transaction in transactions {
        test.store.commit(transaction).await.unwrap();
    }
    let deleted = container_event(3, EventKind::ContainerDeleted, &a);
    let gone = Change::DeleteContainer(Arc::clone(&a), SystemTime::now());
    test.store.commit(synced([gone], [deleted])).await.unwrap();

    let test = test.reopen();
    assert_eq!(test.recovered.containers[0].last_event, Sequence(6));
    let deleted = test.store.deleted(&a.id.to_string()).await.unwrap();
    assert_eq!(deleted.unwrap().last_event, Sequence(8));
}

#[tokio::test]
async fn the_latest_runs_are_kept() {
    let test = TestStore::new();
    let container = Arc::new(container("a"));
    let runs = RUNS_KEPT as u64 + 20;
    let mut changes = vec![Change::PutContainer(Arc::clone(&container))];
    // A number is missing: a start failed and another took its place later.
    let numbers = (1..=runs).filter(|n| *n != 50);
    changes.extend(numbers.map(|n| Change::PutRun(container.id, exit(n))));
    test.store.commit(written(changes, [])).await.unwrap();
    let test = test.reopen();
    let kept = &test.recovered.containers[0].runs;
    assert_eq!(kept.len(), RUNS_KEPT);
    assert_eq!(kept.back(), Some(&exit(runs)));
    assert!(kept.iter().is_sorted_by_key(|exit| exit.run));
}

#[tokio::test]
async fn a_deleted_container_stays_readable_with_its_runs_until_it_expires() {
    let test = TestStore::new();
    let container = Arc::new(container("a"));
    let time = SystemTime::now() - Duration::from_secs(5);
    let changes = [
        Change::PutContainer(Arc::clone(&container)),
        Change::PutRun(container.id, exit(1)),
    ];
    test.store.commit(written(changes, [])).await.unwrap();
    let gone = Change::DeleteContainer(Arc::clone(&container), time);
    test.store.commit(synced([gone], [])).await.unwrap();

    let test = test.reopen();
    assert!(test.recovered.containers.is_empty());
    for key in [container.id.to_string(), container.name.to_string()] {
        let deleted = test.store.deleted(&key).await.unwrap().unwrap();
        assert_eq!(deleted.id, container.id);
        assert_eq!(deleted.exit_of(Run(1)), Some(&exit(1)));
    }

    let expire = Change::Expire {
        deleted_before: time + Duration::from_secs(1),
        idempotency_before: UNIX_EPOCH,
    };
    test.store.commit(written([expire], [])).await.unwrap();
    let test = test.reopen();
    let found = test.store.deleted(&container.name).await.unwrap();
    assert!(found.is_none());
    let runs: i64 = test
        .connect()
        .query_row("SELECT count(*) FROM runs", [], |row| row.get(0))
        .unwrap();
    assert_eq!(runs, 0);
}

#[tokio::test]
async fn what_was_deleted_long_ago_is_not_found() {
    let test = TestStore::new();
    let time = SystemTime::now() - DELETED_KEPT - Duration::from_secs(1);
    let gone = Change::DeleteContainer(Arc::new(container("a")), time);
    test.store.commit(synced([gone], [])).await.unwrap();
    assert!(test.store.deleted("a").await.unwrap().is_none());
}

#[tokio::test]
async fn the_latest_of_a_name_is_found_among_the_deleted_and_an_id_is_no_name() {
    let test = TestStore::new();
    let (first, second) = (Arc::new(container("a")), Arc::new(container("a")));
    let third = Arc::new(container(&first.id.to_string()));
    let now = SystemTime::now();
    // Not in the order of their ends.
    for (container, age) in [(&second, 1), (&first, 2), (&third, 0)] {
        let time = now - Duration::from_secs(age);
        let gone = Change::DeleteContainer(Arc::clone(container), time);
        test.store.commit(written([gone], [])).await.unwrap();
    }
    let found = async |key: &str| test.store.deleted(key).await.unwrap().map(|found| found.id);
    assert_eq!(found("a").await, Some(second.id));
    assert_eq!(found(&first.id.to_string()).await, Some(first.id));
    assert_eq!(found("b").await, None);
}

#[tokio::test]
async fn old_keys_and_keys_beyond_the_limit_expire() {
    let test = TestStore::new();
    let more = IDEMPOTENCY_ENTRIES + 5;
    let time = |n: usize| second(n as u64);
    let puts = (0..more).map(|n| Change::PutIdempotency(key(n), key_record(time(n), None)));
    test.store.commit(written(puts, [])).await.unwrap();
    let expire = |n| Change::Expire {
        deleted_before: UNIX_EPOCH,
        idempotency_before: time(n),
    };
    test.store.commit(written([expire(2)], [])).await.unwrap();
    let test = test.reopen();
    assert_eq!(test.recovered.idempotency.len(), IDEMPOTENCY_ENTRIES);
    assert_eq!(test.recovered.idempotency[0].0, key(5));
    test.store
        .commit(written([expire(more - 1)], []))
        .await
        .unwrap();
    let test = test.reopen();
    assert_eq!(test.recovered.idempotency[0].0, key(more - 1));
    assert_eq!(test.recovered.idempotency.len(), 1);
}

#[tokio::test]
async fn a_copy_of_the_files_at_any_commit_opens_with_exactly_what_was_committed() {
    let test = TestStore::new();
    let copies = tempfile::tempdir().unwrap();
    for n in 1..=20 {
        let (source, target) = (
            test.dir.path().to_owned(),
            copies.path().join(n.to_string()),
        );
        let put = Change::PutContainer(Arc::new(container(&format!("c{n}"))));
        let mut transaction = written([put], [system_event(n)]);
        // Nothing is written meanwhile: the files are as a kill at this moment leaves them.
        transaction.on_commit = Some(Box::new(move |_| {
            fs::create_dir(&target).unwrap();
            for file in ["wharf.db", "wharf.db-wal"] {
                fs::copy(source.join(file), target.join(file)).unwrap();
            }
        }));
        test.store.commit(transaction).await.unwrap();
    }
    for n in 1..=20 {
        let (store, recovered) = open(&copies.path().join(n.to_string())).unwrap();
        assert_eq!(recovered.containers.len(), n);
        assert_eq!(assert_dense(store.journal()).await, n);
    }
}

const CHILD_DIR: &str = "WHARF_STORE_TEST_DIR";

/// Not a test of its own: the process that the next one kills.
#[tokio::test]
async fn child_that_commits_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let (store, recovered) = open(Path::new(&dir)).unwrap();
    let mut n = recovered.containers.len();
    loop {
        let put = Change::PutContainer(Arc::new(container(&format!("c{n}"))));
        store
            .commit(written([put], [system_event(1)]))
            .await
            .unwrap();
        n += 1;
        // Straight to the pipe: the harness keeps what is printed.
        writeln!(std::io::stdout(), "done {n}").unwrap();
    }
}

#[tokio::test]
async fn a_killed_server_loses_nothing_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=5 {
        let name = "store::tests::recovery::child_that_commits_until_it_is_killed";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let enough = lines.by_ref().map_while(Result::ok);
        let enough = enough
            .filter(|line| line.starts_with("done "))
            .nth(20 * round);
        child.kill().unwrap();
        let rest = lines
            .map_while(Result::ok)
            .filter(|line| line.starts_with("done "));
        let last = rest.last().or(enough).unwrap();
        child.wait().unwrap();

        let answered: usize = last.trim_start_matches("done ").parse().unwrap();
        let (store, recovered) = open(dir.path()).unwrap();
        let kept = recovered.containers.len();
        // The one under way may be there, too.
        assert!(
            kept == answered || kept == answered + 1,
            "{kept} {answered}"
        );
        assert_eq!(assert_dense(store.journal()).await, kept);
    }
}
