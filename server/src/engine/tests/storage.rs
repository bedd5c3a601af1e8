//! A store that fails: what was asked for has not happened, what has happened is told later.

use super::*;
use crate::model::State;
use rusqlite::Connection;

impl Up {
    /// From now on no container in this state can be stored.
    pub(super) fn break_commits(&self, state: &str) {
        self.sql(&format!(
            "CREATE TRIGGER broken BEFORE INSERT ON containers
             WHEN new.record LIKE '%\"state\":\"{state}\"%'
             BEGIN SELECT RAISE(ABORT, 'broken'); END"
        ));
    }

    /// From now on it cannot be stored what is to become of a container without its caller.
    pub(super) fn break_leashes(&self) {
        self.sql(
            "CREATE TRIGGER broken BEFORE INSERT ON containers
             WHEN new.record LIKE '%\"leash\":%'
             BEGIN SELECT RAISE(ABORT, 'broken'); END",
        );
    }

    /// From now on no deletion can be stored.
    fn break_deletions(&self) {
        self.sql(
            "CREATE TRIGGER broken BEFORE INSERT ON deleted
             BEGIN SELECT RAISE(ABORT, 'broken'); END",
        );
    }

    pub(super) fn mend_commits(&self) {
        self.sql("DROP TRIGGER broken");
    }

    /// Nothing can be stored while this is held.
    pub(super) fn lock_store(&self) -> Connection {
        let lock = self.connection();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        lock
    }

    fn sql(&self, sql: &str) {
        self.connection().execute_batch(sql).unwrap();
    }

    fn connection(&self) -> Connection {
        let path = self.engine.core.settings.state_dir.join("wharf.db");
        Connection::open(path).unwrap()
    }
}

#[track_caller]
fn assert_not_stored<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert_refused!(result, Error::Store(_));
}

#[test]
fn a_create_whose_intent_is_not_stored_changes_nothing() {
    World::new().run(async |up| {
        up.break_commits("CREATING");
        let create = keyed("one", "CreateContainer", "key", 1);
        assert_not_stored(up.engine.create(create.clone(), request("a")).await);
        assert!(up.is_gone("a"));
        assert_eq!(up.control.calls(Operation::Create), 0);
        up.mend_commits();
        assert!(
            !up.engine
                .create(create, request("a"))
                .await
                .unwrap()
                .replayed
        );
    });
}

#[test]
fn a_create_that_cannot_be_stored_is_undone() {
    World::new().run(async |up| {
        up.break_commits("CREATED");
        assert_not_stored(up.engine.create(call("one"), request("a")).await);
        up.quiet().await;
        up.assert_empty().await;
        up.mend_commits();
        up.create("a").await;
    });
}

#[test]
fn a_start_whose_intent_is_not_stored_changes_nothing() {
    World::new().run(async |up| {
        up.create("a").await;
        let before = up.get("a");
        up.break_commits("STARTING");
        let start = keyed("one", "StartContainer", "key", 1);
        assert_not_stored(up.engine.start(start.clone(), "a", None).await);
        assert_eq!(up.get("a"), before);
        assert_eq!(up.control.calls(Operation::Start), 0);
        up.mend_commits();
        let start = up.engine.start(start, "a", None).await.unwrap();
        assert!(start.value.changed && !start.replayed);
    });
}

#[test]
fn a_create_and_start_whose_start_is_not_stored_leaves_nothing() {
    World::new().run(async |up| {
        up.break_commits("STARTING");
        let create = up.engine.create(call("run"), and_start(request("a"))).await;
        assert_not_stored(create);
        up.mend_commits();
        up.assert_empty().await;
        assert_eq!(
            up.chronicle().await[1..],
            ["created by run", "deleted by run"]
        );
    });
}

#[test]
fn a_stop_or_restart_whose_intent_is_not_stored_changes_nothing() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.break_commits("STOPPING");
        let before = up.get("a");
        assert_not_stored(up.stop("a", "stop", grace(0)).await);
        assert_not_stored(up.delete("a", "delete", force()).await);
        let restart = keyed("one", "RestartContainer", "key", 1);
        assert_not_stored(up.restart("a", restart.clone(), grace(0)).await);
        assert_eq!(up.get("a"), before);
        assert_eq!(up.control.signals(id), []);
        up.mend_commits();
        let restarted = up.restart("a", restart, grace(0)).await.unwrap();
        assert!(!restarted.replayed, "the key was given back");
    });
}

#[test]
fn a_restart_that_stopped_and_could_not_store_its_start_is_tried_again_by_the_next_server() {
    let mut world = World::new();
    let id = world.run(async |up| {
        let id = up.create_started("a").await;
        up.break_commits("STARTING");
        let restart = keyed("restart", "RestartContainer", "key", 1);
        assert_not_stored(up.restart("a", restart, grace(5)).await);
        up.quiet().await;
        assert_eq!(up.state("a"), State::Exited);
        assert_eq!(up.control.tasks(), []);
        up.mend_commits();
        id
    });
    world.crash_and_boot();
    world.run(async |up| {
        up.quiet().await;
        assert_eq!(up.story(id).await.last().unwrap(), "started 2 by restart");
        let repeat = keyed("repeat", "RestartContainer", "key", 1);
        let repeat = up.restart("a", repeat, grace(5)).await.unwrap();
        assert!(repeat.replayed);
        assert_eq!(repeat.value.run, Run(2));
    });
}

#[test]
fn a_restart_that_could_not_be_stored_is_forgotten_with_the_next_change() {
    let mut world = World::new();
    world.run(async |up| {
        up.create_started("a").await;
        up.break_commits("STARTING");
        assert_not_stored(up.restart("a", call("restart"), grace(5)).await);
        up.mend_commits();
        up.start("a", "start").await.unwrap();
        up.exit("a", 0).await;
    });
    world.crash_and_boot();
    world.run(async |up| {
        up.quiet().await;
        assert_eq!(up.state("a"), State::Exited);
    });
}

#[test]
fn a_deletion_whose_intent_is_not_stored_changes_nothing() {
    World::new().run(async |up| {
        let id = up.create("a").await;
        up.break_commits("DELETING");
        assert_not_stored(up.delete("a", "delete", plain()).await);
        assert_eq!(up.state("a"), State::Created);
        assert_eq!(up.control.containers(), [id]);
        up.mend_commits();
        up.delete("a", "delete", plain()).await.unwrap();
    });
}

#[test]
fn a_rename_that_is_not_stored_changes_nothing() {
    World::new().run(async |up| {
        up.create("a").await;
        up.break_commits("CREATED");
        let rename = UpdateContainer {
            name: Some("b".to_owned()),
            ..UpdateContainer::default()
        };
        assert_not_stored(up.engine.update(cause("u"), "a", rename).await);
        up.mend_commits();
        assert_eq!(&*up.get("a").name, "a");
        up.create("b").await;
    });
}

#[test]
fn a_start_that_happened_is_told_as_soon_as_it_can_be_stored() {
    World::new().run(async |up| {
        let id = up.create("a").await;
        up.break_commits("RUNNING");
        let start = up.go(up.starting("a", call("start"))).await;
        up.pass(Duration::from_secs(20)).await;
        assert!(!start.is_finished());
        assert_eq!(up.state("a"), State::Starting);
        up.mend_commits();
        up.pass_until(|_| start.is_finished()).await;
        assert!(start.await.unwrap().unwrap().value.changed);
        assert_eq!(up.story(id).await[1..], ["started 1 by start"]);
    });
}

#[test]
fn an_exit_is_told_as_soon_as_it_can_be_stored() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.break_commits("EXITED");
        let stop = up.go(up.stop("a", "stop", grace(5))).await;
        up.pass(Duration::from_secs(20)).await;
        assert!(!stop.is_finished());
        up.mend_commits();
        up.pass_until(|_| stop.is_finished()).await;
        assert!(stop.await.unwrap().unwrap().changed);
        assert_eq!(
            up.story(id).await.last().unwrap(),
            "exited 1 with 143 by stop"
        );
    });
}

#[test]
fn what_is_not_stored_is_never_answered_not_even_by_a_server_that_ends() {
    let mut world = World::new();
    world.run(async |up| {
        up.create("deleted").await;
        up.create_started("stopped").await;
        up.break_deletions();
        let delete = up.go(up.delete("deleted", "delete", plain())).await;
        up.sql("DROP TRIGGER broken");
        up.break_commits("EXITED");
        let stop = up.go(up.stop("stopped", "stop", grace(5))).await;
        let engine = up.engine.clone();
        let ending = up.go(async move { engine.shutdown().await }).await;
        up.pass(Duration::from_secs(20)).await;
        ending.await.unwrap();
        assert_refused!(stop.await.unwrap(), Error::Draining);
        drop(delete.await.unwrap());
        up.mend_commits();
    });
    world.crash_and_boot();
    world.run(async |up| {
        up.quiet().await;
        assert_eq!(up.state("stopped"), State::Exited);
        assert!(up.is_gone("deleted"));
    });
}

#[test]
fn a_server_that_cannot_store_what_it_finds_serves_what_it_knows() {
    let mut world = World::new();
    let id = world.run(async |up| {
        up.create_started("b").await;
        let id = up.create_started("a").await;
        up.break_commits("EXITED");
        id
    });
    world.crash();
    assert!(world.control.exit(id, WaitStatus::Exited(3)));
    world.boot();
    world.run(async |up| {
        up.quiet().await;
        assert_eq!(up.state("a"), State::Running, "as it was known");
        up.pause("b", "pause").await.unwrap();
        up.mend_commits();
        up.pass_until(|up| up.state("a") == State::Exited).await;
        assert_eq!(up.story(id).await[2..], ["exited 1 with 3"]);
    });
}

#[test]
fn others_are_served_while_one_containers_commits_fail() {
    World::new().run(async |up| {
        up.create("a").await;
        up.create_started("b").await;
        up.break_commits("RUNNING");
        let start = up.go(up.starting("a", call("start"))).await;
        assert_eq!(up.state("b"), State::Running);
        up.create("c").await;
        up.stop("b", "stop", grace(0)).await.unwrap();
        up.mend_commits();
        up.pass_until(|_| start.is_finished()).await;
    });
}
