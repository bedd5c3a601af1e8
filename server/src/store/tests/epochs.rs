//! Identity over restarts of the server and of the machine.

use super::*;

fn boot(name: &str) -> BootId {
    BootId::from(Some(name.to_owned()))
}

fn open_at(dir: &TempDir, name: &str) -> Store {
    let (store, _) = Store::open_at_boot(dir.path(), &options(), &boot(name)).unwrap();
    store
}

#[tokio::test]
async fn a_killed_server_goes_on_with_its_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let first = open_at(&dir, "one");
    let (server, epoch) = (first.server_id(), first.journal().epoch());
    drop(first);
    let second = open_at(&dir, "one");
    assert_eq!(second.server_id(), server);
    assert_eq!(second.journal().epoch(), epoch);
}

#[tokio::test]
async fn a_clean_shutdown_keeps_the_epoch_over_a_restart_of_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let first = open_at(&dir, "one");
    let epoch = first.journal().epoch();
    first.close().await.unwrap();
    let second = open_at(&dir, "two");
    assert_eq!(second.journal().epoch(), epoch);
}

#[tokio::test]
async fn a_machine_that_stopped_uncleanly_begins_a_new_epoch_and_keeps_rows_and_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let first = open_at(&dir, "one");
    let (server, epoch) = (first.server_id(), first.journal().epoch());
    first.commit(synced([], [system_event(1)])).await.unwrap();
    drop(first);

    let second = open_at(&dir, "two");
    let new_epoch = second.journal().epoch();
    assert_eq!(second.server_id(), server);
    assert_ne!(new_epoch, epoch);
    let committed = second.commit(synced([], [system_event(2)])).await.unwrap();
    assert_eq!(committed.last, Sequence(2));
    assert_eq!(assert_dense(second.journal()).await, 2);
    drop(second);
    assert_eq!(open_at(&dir, "two").journal().epoch(), new_epoch);
}

#[tokio::test]
async fn a_clean_shutdown_counts_once_only() {
    let dir = tempfile::tempdir().unwrap();
    let first = open_at(&dir, "one");
    let epoch = first.journal().epoch();
    first.close().await.unwrap();
    drop(open_at(&dir, "one"));
    assert_ne!(open_at(&dir, "two").journal().epoch(), epoch);
}

#[tokio::test]
async fn a_start_of_the_machine_that_cannot_be_told_counts_as_another() {
    let dir = tempfile::tempdir().unwrap();
    let unknown = BootId::from(None);
    let open = || {
        Store::open_at_boot(dir.path(), &options(), &unknown)
            .unwrap()
            .0
    };
    let first = open().journal().epoch();
    assert_ne!(open().journal().epoch(), first);
}

#[test]
fn this_machine_tells_its_start() {
    assert_eq!(BootId::read(), BootId::read());
    assert_ne!(BootId::read(), BootId::from(None));
}
