//! When things reach the disk.

use super::*;

#[tokio::test]
async fn what_is_only_written_is_synced_soon_after() {
    let test = TestStore::new();
    test.append([system_event(1)]).await;
    let wait_for_sync = async {
        while test.store.counts().delayed_syncs == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let limit = Duration::from_secs(10);
    tokio::time::timeout(limit, wait_for_sync).await.unwrap();
    let counts = test.store.counts();
    assert_eq!((counts.commits, counts.synced_commits), (1, 0));
}

#[tokio::test]
async fn what_is_only_written_is_synced_under_steady_load_too() {
    let test = TestStore::new();
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        test.append([system_event(1)]).await;
    }
    let counts = test.store.counts();
    assert_eq!(counts.synced_commits, 0);
    // Half a second holds ten of SYNC_DELAY; a slow machine gets fewer, but never none.
    assert!(counts.delayed_syncs >= 3, "{counts:?}");
    assert!(counts.delayed_syncs < counts.commits, "{counts:?}");
}

#[tokio::test]
async fn a_synced_commit_syncs_what_was_written_before_it() {
    let mut wal_file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut wal_file, b"log").unwrap();
    let mut wal = Wal::open(wal_file.path()).unwrap();
    wal.written();
    let due = wal.deadline().unwrap();
    wal.written();
    assert_eq!(wal.deadline(), Some(due), "the oldest counts");
    assert!(due < tokio::time::Instant::now() + limits::SYNC_DELAY);
    wal.synced();
    assert_eq!(wal.deadline(), None);
    assert!(!wal.sync().unwrap());
}

#[tokio::test]
async fn files_can_be_read_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("deep/state");
    let (store, _) = open(&dir).unwrap();
    store.commit(synced([], [system_event(1)])).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let files = std::fs::read_dir(&dir).unwrap();
    let modes: Vec<u32> = files.map(|file| mode(&file.unwrap().path())).collect();
    assert!(modes.len() >= 3, "database, log, lock: {modes:?}");
    assert!(modes.iter().all(|mode| *mode == 0o600), "{modes:?}");
}
