//! A container's life without faults.

use super::updates::rename;
use super::*;
use crate::model::{ExitReason, State};

#[test]
fn a_container_lives_from_create_to_delete() {
    World::new().run(async |up| {
        let id = up.create("a").await;
        assert_eq!(up.state("a"), State::Created);
        let started = up.start("a", "start").await.unwrap();
        assert!(started.changed);
        assert_eq!(started.container.state, State::Running);
        assert_eq!(started.container.run, Run(1));
        let stopped = up.stop("a", "stop", grace(10)).await.unwrap();
        assert!(stopped.changed && !stopped.killed);
        assert_eq!(up.state("a"), State::Exited);
        up.delete("a", "delete", plain()).await.unwrap();
        assert_eq!(
            up.story(id).await,
            [
                "created by create",
                "started 1 by start",
                "stopping 1 by stop",
                "signaled SIGTERM by stop",
                "exited 1 with 143 by stop",
                "deleted by delete",
            ]
        );
        up.assert_empty().await;
    });
}

#[test]
fn an_exit_that_nobody_asked_for_has_no_cause() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.exit("a", 3).await;
        let container = up.get("a");
        assert_eq!(container.state, State::Exited);
        assert_eq!(container.pid, None);
        let exit = container.exit_status.clone().unwrap();
        assert_eq!(
            (exit.reason, exit.code, exit.cause),
            (ExitReason::Exited, 3, None)
        );
        assert_eq!(
            up.story(id).await,
            [
                "created by create",
                "started 1 by create",
                "exited 1 with 3"
            ]
        );
        assert_eq!(up.control.tasks(), [], "its remains are removed");
    });
}

#[test]
fn the_exit_is_committed_before_the_stop_is_answered() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let stopped = up.stop("a", "stop", grace(10)).await.unwrap();
        let container = up.get("a");
        assert_eq!(container.state, State::Exited);
        assert_eq!(container.exit_status.as_ref(), stopped.exit.as_deref());
    });
}

#[test]
fn a_name_is_free_the_moment_delete_answers() {
    World::new().run(async |up| {
        for _ in 0..5 {
            let id = up.create("a").await;
            up.delete("a", "delete", plain()).await.unwrap();
            assert!(up.is_gone("a") && up.is_gone(&id.to_string()));
        }
    });
}

#[test]
fn a_name_that_is_taken_is_refused_and_nothing_remains() {
    World::new().run(async |up| {
        let first = up.create("a").await;
        let second = up.engine.create(call("again"), request("a")).await;
        assert_refused!(second, Error::NameInUse { existing, .. } if existing == first.to_string());
        assert_eq!(up.control.containers(), [first]);
    });
}

#[test]
fn made_up_names_do_not_clash() {
    World::new().run(async |up| {
        for _ in 0..20 {
            up.make(CreateContainer {
                name: None,
                ..request("")
            })
            .await;
        }
        assert_eq!(
            up.engine.list(&ContainerFilter::default(), None, 100).len(),
            20
        );
    });
}

#[test]
fn more_containers_than_the_limit_are_refused() {
    World::new().run(async |up| {
        for n in 0..100 {
            up.create(&format!("c{n}")).await;
        }
        let refused = up.engine.create(call("more"), request("more")).await;
        assert_refused!(refused, Error::TooManyContainers { limit: 100 });
        up.delete("c0", "delete", plain()).await.unwrap();
        up.create("more").await;
    });
}

#[test]
fn what_runs_is_not_deleted_without_force() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let refused = up.delete("a", "delete", plain()).await;
        assert_refused!(
            refused,
            Error::StillRunning {
                state: State::Running,
                ..
            }
        );
        up.pause("a", "pause").await.unwrap();
        let refused = up.delete("a", "delete", plain()).await;
        assert_refused!(
            refused,
            Error::StillRunning {
                state: State::Paused,
                ..
            }
        );
        up.delete("a", "force", force()).await.unwrap();
        up.assert_empty().await;
    });
}

#[test]
fn a_forced_deletion_stops_first_and_is_the_cause_of_all() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.delete("a", "force", force()).await.unwrap();
        assert_eq!(
            up.story(id).await[2..],
            [
                "stopping 1 by force",
                "signaled SIGTERM by force",
                "exited 1 with 143 by force",
                "deleted by force",
            ]
        );
    });
}

#[test]
fn commands_to_a_container_that_does_not_run_are_refused() {
    World::new().run(async |up| {
        up.create("created").await;
        up.create_started("exited").await;
        up.exit("exited", 0).await;
        for name in ["created", "exited"] {
            assert_refused!(up.pause(name, "p").await, Error::NotRunning { .. });
            assert_refused!(up.resume(name, "r").await, Error::NotRunning { .. });
            assert_refused!(up.signal(name, "s", "HUP").await, Error::NotRunning { .. });
            assert_refused!(up.engine.processes(name).await, Error::NotRunning { .. });
            let stopped = up.stop(name, "stop", grace(1)).await.unwrap();
            assert!(!stopped.changed);
            assert_eq!(stopped.exit.is_some(), name == "exited");
        }
    });
}

#[test]
fn what_is_so_already_changes_nothing() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        assert!(!up.start("a", "again").await.unwrap().changed);
        assert!(!up.resume("a", "again").await.unwrap());
        assert!(up.pause("a", "pause").await.unwrap());
        assert!(!up.pause("a", "again").await.unwrap());
        assert_refused!(up.start("a", "again").await, Error::Paused { .. });
        assert!(up.resume("a", "resume").await.unwrap());
        assert_eq!(
            up.story(id).await[2..],
            ["paused by pause", "resumed by resume"]
        );
    });
}

#[test]
fn what_is_under_way_is_named_in_the_refusal() {
    World::new().run(async |up| {
        up.create("a").await;
        let hold = up.control.hold_next(Operation::Start);
        let going = up.go(up.starting("a", call("slow"))).await;
        hold.reached().await;
        for refused in [
            up.pause("a", "p").await.map(drop),
            up.engine
                .update(cause("u"), "a", rename("b"))
                .await
                .map(drop),
        ] {
            assert_refused!(
                refused,
                Error::OperationInProgress { operation: "start", request_id, .. } if request_id == "slow"
            );
        }
        hold.release();
        assert!(going.await.unwrap().unwrap().value.changed);
    });
}

#[test]
fn nothing_but_a_deletion_waits_for_a_create() {
    World::new().run(async |up| {
        let hold = up.control.hold_next(Operation::Create);
        let creating = up.go(up.creating(call("create"), request("a"))).await;
        hold.reached().await;
        assert_eq!(up.state("a"), State::Creating);
        assert_refused!(
            up.start("a", "s").await,
            Error::OperationInProgress {
                operation: "create",
                ..
            }
        );
        assert_refused!(
            up.stop("a", "s", grace(0)).await,
            Error::OperationInProgress { .. }
        );
        let deleting = up.go(up.delete("a", "delete", plain())).await;
        hold.release();
        let created = creating.await.unwrap().unwrap().value;
        deleting.await.unwrap().unwrap();
        assert_eq!(
            up.story(created.id).await,
            ["created by create", "deleted by delete"]
        );
        up.assert_empty().await;
    });
}

#[test]
fn while_it_stops_or_is_deleted_what_would_interfere_is_refused() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        assert!(up.control.ignore_term(id));
        drop(up.go(up.stop("a", "stop", grace(5))).await);
        let busy = |result: Result<(), Error>, what: &str| {
            assert_refused!(result, Error::OperationInProgress { operation, .. } if operation == what);
        };
        busy(up.start("a", "c").await.map(drop), "stop");
        busy(up.restart("a", call("c"), grace(0)).await.map(drop), "stop");
        busy(up.pause("a", "c").await.map(drop), "stop");
        busy(up.engine.update(cause("c"), "a", rename("b")).await.map(drop), "stop");
        assert!(!up.resume("a", "c").await.unwrap());
        assert_refused!(up.delete("a", "c", plain()).await, Error::StillRunning { .. });
        up.signal("a", "hup", "HUP").await.unwrap();
        up.pass(Duration::from_secs(6)).await;

        let hold = up.control.hold_next(Operation::Delete);
        let delete = up.go(up.delete("a", "delete", plain())).await;
        hold.reached().await;
        assert_eq!(up.state("a"), State::Deleting);
        busy(up.start("a", "c").await.map(drop), "delete");
        busy(up.restart("a", call("c"), grace(0)).await.map(drop), "delete");
        busy(up.pause("a", "c").await.map(drop), "delete");
        busy(up.resume("a", "c").await.map(drop), "delete");
        busy(up.engine.update(cause("c"), "a", rename("b")).await.map(drop), "delete");
        assert_refused!(up.signal("a", "c", "HUP").await, Error::NotRunning { .. });
        assert!(!up.stop("a", "c", grace(0)).await.unwrap().changed);
        let joined = up.go(up.delete("a", "joined", plain())).await;
        hold.release();
        delete.await.unwrap().unwrap();
        joined.await.unwrap().unwrap();
        assert_eq!(up.story(id).await.last().unwrap(), "deleted by delete");
        assert_eq!(up.control.calls(Operation::Delete), 1);
    });
}

#[test]
fn another_run_than_the_expected_one_is_refused() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let stop = StopContainer {
            expected_run: Some(Run(2)),
            ..grace(0)
        };
        let refused = up.stop("a", "stop", stop).await;
        assert_refused!(
            refused,
            Error::RunChanged {
                expected: Run(2),
                run: Run(1),
                ..
            }
        );
        let refused = up.engine.pause(cause("p"), "a", Some(Run(7))).await;
        assert_refused!(refused, Error::RunChanged { .. });
        let start = up.engine.start(call("s"), "a", Some(Run(1))).await.unwrap();
        assert!(!start.value.changed);
    });
}

#[test]
fn an_etag_guards_updates_and_deletions() {
    World::new().run(async |up| {
        up.create("a").await;
        let old = up.get("a").etag();
        up.engine
            .update(cause("u"), "a", rename("b"))
            .await
            .unwrap();
        let update = UpdateContainer {
            etag: Some(old.clone()),
            ..rename("c")
        };
        let refused = up.engine.update(cause("u"), "b", update).await;
        let now = up.get("b").etag();
        assert_refused!(refused, Error::EtagMismatch { etag, .. } if etag == now);
        let delete = DeleteContainer {
            etag: Some(old),
            ..plain()
        };
        assert_refused!(
            up.delete("b", "d", delete).await,
            Error::EtagMismatch { .. }
        );
        let delete = DeleteContainer {
            etag: Some(now),
            ..plain()
        };
        up.delete("b", "d", delete).await.unwrap();
    });
}

#[test]
fn auto_delete_deletes_after_the_exit_and_with_its_cause() {
    World::new().run(async |up| {
        let by_itself = up.make(and_start(auto_delete(request("a")))).await.id;
        up.exit("a", 0).await;
        assert!(up.is_gone("a"));
        assert_eq!(
            up.story(by_itself).await[2..],
            ["exited 1 with 0", "deleted"]
        );

        let stopped = up.make(and_start(auto_delete(request("a")))).await.id;
        assert!(up.stop("a", "stop", grace(1)).await.unwrap().changed);
        up.quiet().await;
        assert_eq!(
            up.story(stopped).await[4..],
            ["exited 1 with 143 by stop", "deleted by stop"]
        );
        up.assert_empty().await;
    });
}

#[test]
fn a_restart_is_a_stop_and_a_start_by_one_call() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        let again = up
            .restart("a", call("restart"), grace(5))
            .await
            .unwrap()
            .value;
        assert_eq!((again.run, again.state), (Run(2), State::Running));
        assert_eq!(
            up.story(id).await[2..],
            [
                "stopping 1 by restart",
                "signaled SIGTERM by restart",
                "exited 1 with 143 by restart",
                "started 2 by restart",
            ]
        );
        assert_eq!(up.control.tasks().len(), 1);
    });
}

#[test]
fn a_restart_only_starts_what_does_not_run() {
    World::new().run(async |up| {
        let id = up.create("a").await;
        let one = up.restart("a", call("one"), grace(5)).await.unwrap().value;
        assert_eq!(one.run, Run(1));
        up.exit("a", 0).await;
        let two = up.restart("a", call("two"), grace(5)).await.unwrap().value;
        assert_eq!(two.run, Run(2));
        assert_eq!(
            up.story(id).await[1..],
            ["started 1 by one", "exited 1 with 0", "started 2 by two"]
        );
    });
}

#[test]
fn a_restart_of_a_paused_container_thaws_it() {
    World::new().run(async |up| {
        up.create_started("a").await;
        up.pause("a", "pause").await.unwrap();
        let again = up
            .restart("a", call("restart"), grace(5))
            .await
            .unwrap()
            .value;
        assert_eq!((again.run, again.state), (Run(2), State::Running));
    });
}

#[test]
fn runs_are_numbered_and_the_last_hundred_are_remembered() {
    let mut world = World::new();
    let check = |up: &Up| {
        let container = up.get("a");
        let runs: Vec<u64> = container.runs.iter().map(|exit| exit.run.0).collect();
        assert_eq!(runs, (4..=103).collect::<Vec<_>>());
        assert_eq!(container.run, Run(103));
    };
    world.run(async |up| {
        up.create("a").await;
        for _ in 1..=103 {
            up.control.exit_before_start_returns(WaitStatus::Exited(0));
            up.start("a", "start").await.unwrap();
            up.quiet().await;
        }
        check(up);
    });
    world.crash_and_boot();
    world.run(async |up| check(up));
}

#[test]
fn containers_are_listed_in_order_of_creation_page_by_page() {
    World::new().run(async |up| {
        let mut ids = Vec::new();
        for n in 0..7 {
            ids.push(up.create(&format!("c{n}")).await);
        }
        up.delete("c3", "delete", plain()).await.unwrap();
        ids.remove(3);
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = up.engine.list(&ContainerFilter::default(), after, 2);
            let Some(last) = page.last() else { break };
            after = Some(ContainerPosition::of(last));
            listed.extend(page.iter().map(|c| c.id));
        }
        assert_eq!(listed, ids);
    });
}

#[test]
fn a_filter_selects_by_state_label_and_prefix() {
    World::new().run(async |up| {
        let labelled = CreateContainer {
            labels: TextMap::from([("app".to_owned(), "web".to_owned())]),
            ..request("a")
        };
        let a = up.make(labelled).await.id;
        let b = up.create_started("b").await;
        let select = |filter| {
            let found = up.engine.list(&filter, None, 10);
            found.iter().map(|c| c.id).collect::<Vec<_>>()
        };
        let by_label = ContainerFilter {
            labels: TextMap::from([("app".to_owned(), "web".to_owned())]),
            ..ContainerFilter::default()
        };
        assert_eq!(select(by_label), [a]);
        let by_state = ContainerFilter {
            states: [State::Running].into(),
            ..ContainerFilter::default()
        };
        assert_eq!(select(by_state), [b]);
        let by_prefix = ContainerFilter {
            id_prefixes: vec![a.to_string()[..8].to_owned()],
            ..ContainerFilter::default()
        };
        assert_eq!(select(by_prefix), [a]);
    });
}

#[test]
fn an_oom_kill_of_the_main_process_is_told_from_one_elsewhere() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        assert!(up.control.oom(id));
        up.quiet().await;
        assert_eq!(up.state("a"), State::Running);
        assert!(up.control.oom_kill(id));
        up.quiet().await;
        assert_eq!(up.story(id).await[2..], ["oom", "oom killed 1"]);
    });
}

#[test]
fn an_oom_kill_elsewhere_is_told_also_if_the_exit_follows_at_once() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        assert!(up.control.oom(id));
        assert!(up.control.exit(id, WaitStatus::Exited(1)));
        up.quiet().await;
        assert_eq!(up.story(id).await[2..], ["oom", "exited 1 with 1"]);
    });
}

#[test]
fn a_kill_that_somebody_sent_is_no_oom_kill() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        assert!(up.control.oom(id));
        up.signal("a", "kill", "KILL").await.unwrap();
        up.quiet().await;
        assert_eq!(
            up.story(id).await.last().unwrap(),
            "exited 1 with 137 by kill"
        );
    });
}

#[test]
fn only_what_is_over_is_prunable() {
    World::new().run(async |up| {
        up.create("created").await;
        up.create_started("running").await;
        let exited = up.create_started("exited").await;
        up.exit("exited", 1).await;
        assert_eq!(up.engine.prunable(&ContainerFilter::default()), [exited]);
    });
}

#[test]
fn validation_checks_all_and_changes_nothing() {
    World::new().run(async |up| {
        up.create("a").await;
        assert_refused!(up.engine.validate(request("a")), Error::NameInUse { .. });
        let no_image = CreateContainer {
            spec: ContainerSpec {
                image: "example.org/none:1".to_owned(),
                ..spec()
            },
            ..request("b")
        };
        assert_refused!(up.engine.validate(no_image), Error::ImageNotFound { .. });
        up.engine.validate(request("b")).unwrap();
        assert!(up.is_gone("b"));
        assert_eq!(up.control.calls(Operation::Create), 1);
    });
}

#[test]
fn a_shutdown_leaves_containers_running_and_no_task() {
    let mut world = World::new();
    world.run(async |up| {
        up.create_started("a").await;
    });
    world.restart();
    world.run(async |up| {
        assert_eq!(up.state("a"), State::Running);
        up.exit("a", 4).await;
        let story = up.chronicle().await;
        assert_eq!(
            story,
            [
                "system started",
                "created by create",
                "started 1 by create",
                "system started",
                "exited 1 with 4",
            ]
        );
    });
}

#[test]
fn an_operation_in_flight_is_finished_before_a_shutdown() {
    let mut world = World::new();
    world.run(async |up| {
        up.create("a").await;
        let hold = up.control.hold_next(Operation::Start);
        let starting = up.go(up.starting("a", call("start"))).await;
        hold.reached().await;
        let engine = up.engine.clone();
        let ending = up.go(async move { engine.shutdown().await }).await;
        assert!(!ending.is_finished());
        hold.release();
        assert!(starting.await.unwrap().unwrap().value.changed);
        ending.await.unwrap();
    });
    world.crash_and_boot();
    world.run(async |up| assert_eq!(up.state("a"), State::Running));
}
