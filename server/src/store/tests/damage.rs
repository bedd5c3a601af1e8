//! Databases that cannot be used.

use std::fs;

use super::*;

/// A closed store with records and events, and its database.
async fn filled() -> (TempDir, std::path::PathBuf) {
    let test = TestStore::new();
    for n in 0..40 {
        let container = Arc::new(container(&format!("c{n}")));
        let event = container_event(n, EventKind::ContainerCreated, &container);
        let changes = [
            Change::PutRun(container.id, exit(1)),
            Change::PutContainer(container),
        ];
        test.store.commit(written(changes, [event])).await.unwrap();
    }
    test.store.close().await.unwrap();
    let path = test.database();
    (test.dir, path)
}

fn assert_corrupt(result: Result<(Store, Recovered), StoreError>) {
    let error = result.map(drop).expect_err("it is damaged");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(!error.to_string().contains('\n'), "{error}");
}

#[tokio::test]
async fn what_is_no_database_is_damaged() {
    let (dir, path) = filled().await;
    for garbage in [
        &b""[..],
        b"x",
        &[0; 100],
        &[7; 100_000],
        b"SQLite format 3\0",
    ] {
        fs::write(&path, garbage).unwrap();
        assert_corrupt(open(dir.path()));
        assert_eq!(fs::read(&path).unwrap(), garbage, "it is left alone");
    }
}

#[tokio::test]
async fn a_truncated_database_is_damaged() {
    let (dir, path) = filled().await;
    let whole = fs::read(&path).unwrap();
    for eighths in 1..8 {
        fs::write(&path, &whole[..whole.len() * eighths / 8]).unwrap();
        assert_corrupt(open(dir.path()));
    }
}

#[tokio::test]
async fn another_programs_database_is_not_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wharf.db");
    let other = Connection::open(path).unwrap();
    other.execute_batch("CREATE TABLE t (x)").unwrap();
    drop(other);
    assert_corrupt(open(dir.path()));
}

#[tokio::test]
async fn no_damaged_page_makes_the_store_panic_or_lie() {
    let (dir, path) = filled().await;
    let whole = fs::read(&path).unwrap();
    let mut refused = 0;
    for page in 0..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[page * 4096..(page + 1) * 4096].fill(0xa5);
        fs::write(&path, &damaged).unwrap();
        match open(dir.path()) {
            Err(error) => {
                assert!(
                    matches!(error, StoreError::Corrupt { .. }),
                    "{page}: {error}"
                );
                refused += 1;
            }
            // A page of the journal: records are whole, and reading there says what is wrong.
            Ok((store, recovered)) => {
                assert_eq!(recovered.containers.len(), 40);
                assert!(recovered.containers.iter().all(|c| c.runs.len() == 1));
                let _ = store.journal().read(Sequence(0), 100).await;
                let _ = store.commit(written([], [system_event(1)])).await;
            }
        }
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(dir.path().join(format!("wharf.db{suffix}")));
        }
    }
    assert!(refused > 10, "{refused}");
}

#[tokio::test]
async fn a_record_that_cannot_be_decoded_is_damage() {
    let (dir, path) = filled().await;
    let connection = Connection::open(path).unwrap();
    connection
        .execute("UPDATE containers SET record = '{\"id\": 1}'", [])
        .unwrap();
    drop(connection);
    assert_corrupt(open(dir.path()));
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let (dir, path) = filled().await;
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    for _ in 0..2 {
        let error = open(dir.path()).map(drop).expect_err("it is newer");
        assert!(
            matches!(
                error,
                StoreError::NewerFormat {
                    found: 99,
                    known: 3,
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_state_in_use_is_refused() {
    let test = TestStore::new();
    let refused = open(test.dir.path()).map(drop);
    assert!(matches!(refused, Err(StoreError::InUse { .. })));
    test.store.close().await.unwrap();
    open(test.dir.path()).map(drop).unwrap();
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = open(&file.join("state")).map(drop);
    assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_first_start_that_was_cut_short_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("wharf.db.new"), "half").unwrap();
    fs::write(dir.path().join("wharf.db-wal"), "stale").unwrap();
    let (store, recovered) = open(dir.path()).unwrap();
    assert!(recovered.containers.is_empty());
    store.commit(synced([], [system_event(1)])).await.unwrap();
}
