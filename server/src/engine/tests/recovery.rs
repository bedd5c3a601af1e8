//! Servers that die, and those that take over.

use super::*;
use crate::model::{ContainerId, Failure, State};

/// Lets the server die, and the next one twice: the second time nothing may change.
pub(super) fn crash_twice(world: &mut World) {
    world.crash_and_boot();
    let once = world.run(async |up| {
        up.quiet().await;
        portrait(up).await
    });
    world.crash_and_boot();
    let twice = world.run(async |up| {
        up.quiet().await;
        portrait(up).await
    });
    assert_eq!(once, twice, "a second recovery changes nothing");
}

/// All there is to see: states, backend and story, but for the servers' starts.
async fn portrait(up: &Up) -> (Vec<(ContainerId, State, Run, String)>, Vec<String>, String) {
    let containers = up.engine.list(&ContainerFilter::default(), None, 100);
    let seen = |c: &std::sync::Arc<Container>| (c.id, c.state, c.run, c.etag());
    let mut story = up.chronicle().await;
    story.retain(|event| event != "system started");
    let backend = format!("{:?} {:?}", up.control.containers(), up.control.tasks());
    (containers.iter().map(seen).collect(), story, backend)
}

#[test]
fn a_first_start_tells_that_the_system_started() {
    World::new().run(async |up| {
        assert_eq!(up.chronicle().await, ["system started"]);
    });
}

#[test]
fn what_stands_still_is_as_it_was() {
    let mut world = World::new();
    let before = world.run(async |up| {
        up.create("created").await;
        up.create_started("running").await;
        up.create_started("paused").await;
        up.pause("paused", "pause").await.unwrap();
        up.create_started("exited").await;
        up.exit("exited", 3).await;
        portrait(up).await
    });
    crash_twice(&mut world);
    world.run(async |up| {
        assert_eq!(portrait(up).await, before);
        up.exit("running", 1).await;
        up.resume("paused", "resume").await.unwrap();
        up.start("created", "start").await.unwrap();
        up.start("exited", "start").await.unwrap();
        let story = up.chronicle().await;
        assert_eq!(story.iter().filter(|e| *e == "system started").count(), 3);
        for name in ["created", "running", "paused", "exited"] {
            up.delete(name, "delete", force()).await.unwrap();
        }
        up.assert_empty().await;
    });
}

#[test]
fn the_journal_shows_the_start_first_and_then_what_was_settled() {
    let mut world = World::new();
    let ended = world.run(async |up| up.create_started("a").await);
    world.crash();
    assert!(world.control.exit(ended, WaitStatus::Exited(9)));
    world.boot();
    world.run(async |up| {
        up.quiet().await;
        assert_eq!(
            up.chronicle().await[3..],
            ["system started", "exited 1 with 9"]
        );
        assert_eq!(up.control.tasks(), [], "its remains are removed");
    });
}

#[test]
fn a_crash_while_it_is_created_undoes_the_create() {
    for acts in [false, true] {
        let mut world = World::new();
        world.run(async |up| {
            let held = if acts {
                up.control.hold_next_answer(Operation::Create)
            } else {
                up.control.hold_next(Operation::Create)
            };
            drop(up.go(up.creating(call("create"), request("a"))).await);
            held.reached().await;
            assert_eq!(up.state("a"), State::Creating);
        });
        crash_twice(&mut world);
        world.run(async |up| {
            up.assert_empty().await;
            let story = up.chronicle().await;
            assert!(story.iter().all(|e| e == "system started"), "{story:?}");
            up.create("a").await;
        });
    }
}

#[test]
fn a_crash_between_create_and_start_deletes_the_container_again() {
    let mut world = World::new();
    let id = world.run(async |up| {
        up.break_commits("STARTING");
        let create = up.creating(call("run"), and_start(request("a")));
        let hold = up.control.hold_next(Operation::Delete);
        drop(up.go(create).await);
        hold.reached().await;
        let id = up.control.containers()[0];
        assert_eq!(up.story(id).await, ["created by run"]);
        up.mend_commits();
        id
    });
    crash_twice(&mut world);
    world.run(async |up| {
        assert_eq!(up.story(id).await, ["created by run", "deleted by run"]);
        up.assert_empty().await;
    });
}

/// A world that dies while a start is under way.
fn crash_in_start(acts: bool, create_too: bool) -> World {
    let mut world = World::new();
    world.run(async |up| {
        if !create_too {
            up.create("a").await;
        }
        let held = if acts {
            up.control.hold_next_answer(Operation::Start)
        } else {
            up.control.hold_next(Operation::Start)
        };
        if create_too {
            drop(
                up.go(up.creating(call("start"), and_start(request("a"))))
                    .await,
            );
        } else {
            drop(up.go(up.starting("a", call("start"))).await);
        }
        held.reached().await;
        assert_eq!(up.state("a"), State::Starting);
    });
    world.crash();
    world
}

#[test]
fn a_crash_in_a_start_that_happened_finds_the_run() {
    for create_too in [false, true] {
        let mut world = crash_in_start(true, create_too);
        world.boot();
        crash_twice(&mut world);
        world.run(async |up| {
            let container = up.get("a");
            assert_eq!((container.state, container.run), (State::Running, Run(1)));
            assert_eq!(up.story(container.id).await[1..], ["started 1 by start"]);
        });
    }
}

#[test]
fn a_crash_in_a_start_whose_process_has_ended_finds_run_and_exit() {
    let mut world = crash_in_start(true, false);
    let id = world.control.containers()[0];
    assert!(world.control.exit(id, WaitStatus::Exited(4)));
    world.boot();
    crash_twice(&mut world);
    world.run(async |up| {
        assert_eq!(
            up.story(id).await[1..],
            ["started 1 by start", "exited 1 with 4"]
        );
        assert_eq!(up.control.tasks(), []);
    });
}

#[test]
fn a_crash_in_a_start_that_did_not_happen_takes_it_back() {
    let mut world = crash_in_start(false, false);
    world.boot();
    crash_twice(&mut world);
    world.run(async |up| {
        let container = up.get("a");
        assert_eq!((container.state, container.run), (State::Created, Run(0)));
        assert_eq!(container.failure, Some(Failure::StartInterrupted));
        assert_eq!(
            up.story(container.id).await[1..],
            ["start failed 1 by start"]
        );
        assert_eq!(up.start("a", "again").await.unwrap().container.run, Run(1));
    });
}

#[test]
fn a_crash_in_a_create_and_start_that_did_not_happen_leaves_nothing() {
    let mut world = crash_in_start(false, true);
    world.boot();
    crash_twice(&mut world);
    world.run(async |up| up.assert_empty().await);
}

#[test]
fn a_crash_in_a_start_between_making_and_starting_the_task_removes_it() {
    let mut world = crash_in_start(false, false);
    let id = world.control.containers()[0];
    world.control.leave_created_task(id);
    world.boot();
    crash_twice(&mut world);
    world.run(async |up| {
        assert_eq!(up.control.tasks(), []);
        assert_eq!(up.start("a", "again").await.unwrap().container.run, Run(1));
    });
}

#[test]
fn a_crash_in_a_restart_does_not_take_the_old_run_for_the_new_one() {
    let mut world = World::new();
    let id = world.run(async |up| {
        let id = up.create_started("a").await;
        let hold = up.control.hold_next(Operation::DeleteTask);
        drop(up.go(up.restart("a", call("restart"), grace(5))).await);
        hold.reached().await;
        assert_eq!(up.get("a").run, Run(2));
        id
    });
    crash_twice(&mut world);
    world.run(async |up| {
        assert_eq!(
            up.story(id).await[4..],
            ["exited 1 with 143 by restart", "start failed 2 by restart"]
        );
        assert_eq!(up.control.tasks(), []);
        assert_eq!(up.start("a", "again").await.unwrap().container.run, Run(2));
    });
}

#[test]
fn an_exit_while_the_server_was_dead_is_told_once() {
    let mut world = World::new();
    let ids = world.run(async |up| {
        let mut ids = Vec::new();
        for name in ["running", "paused", "stopping"] {
            let id = up.create_started(name).await;
            assert!(up.control.ignore_term(id));
            ids.push(id);
        }
        up.pause("paused", "pause").await.unwrap();
        drop(up.go(up.stop("stopping", "stop", grace(60))).await);
        ids
    });
    world.crash();
    for id in &ids {
        assert!(world.control.exit(*id, WaitStatus::Exited(7)));
    }
    world.boot();
    crash_twice(&mut world);
    world.run(async |up| {
        assert_eq!(up.story(ids[0]).await[2..], ["exited 1 with 7"]);
        assert_eq!(
            up.story(ids[1]).await[2..],
            ["paused by pause", "exited 1 with 7"]
        );
        assert_eq!(up.story(ids[2]).await[4..], ["exited 1 with 7 by stop"]);
        assert_eq!(up.control.tasks(), []);
    });
}

#[test]
fn only_a_task_that_is_gone_is_lost() {
    let mut world = World::new();
    let id = world.run(async |up| up.create_started("a").await);
    world.crash();
    assert!(world.control.lose_task(id));
    world.boot();
    crash_twice(&mut world);
    world.run(async |up| {
        assert_eq!(up.story(id).await[2..], ["lost 1"]);
        let exit = up.get("a").exit_status.clone().unwrap();
        assert_eq!((exit.code, exit.cause), (255, None));
        assert_eq!(up.start("a", "start").await.unwrap().container.run, Run(2));
    });
}

#[test]
fn a_pause_or_resume_that_the_dead_server_did_not_tell_is_found_out() {
    let mut world = World::new();
    world.run(async |up| {
        up.create_started("a").await;
        let held = up.control.hold_next_answer(Operation::Pause);
        let engine = up.engine.clone();
        drop(
            up.go(async move { engine.pause(cause("p"), "a", None).await })
                .await,
        );
        held.reached().await;
    });
    crash_twice(&mut world);
    world.run(async |up| {
        assert_eq!(up.state("a"), State::Paused);
        assert_eq!(up.story(up.get("a").id).await[2..], ["paused"]);
    });
}

#[test]
fn a_stop_goes_on_after_a_crash_before_its_signal() {
    let mut world = World::new();
    let id = world.run(async |up| {
        let id = up.create_started("a").await;
        let hold = up.control.hold_next(Operation::Kill);
        drop(up.go(up.stop("a", "stop", grace(60))).await);
        hold.reached().await;
        id
    });
    crash_twice(&mut world);
    world.run(async |up| {
        assert_eq!(
            up.story(id).await[2..],
            [
                "stopping 1 by stop",
                "signaled SIGTERM by stop",
                "exited 1 with 143 by stop",
            ]
        );
    });
}

#[test]
fn the_grace_period_goes_on_after_a_crash() {
    let mut world = World::new();
    let id = world.run(async |up| {
        let id = up.create_started("a").await;
        assert!(up.control.ignore_term(id));
        drop(up.go(up.stop("a", "stop", grace(3600))).await);
        drop(up.go(up.stop("a", "joined", grace(600))).await);
        id
    });
    world.crash_and_boot();
    world.run(async |up| {
        up.quiet().await;
        assert_eq!(up.state("a"), State::Stopping);
        let joined = up.go(up.stop("a", "again", grace(3600))).await;
        up.pass(Duration::from_secs(590)).await;
        assert!(!joined.is_finished());
        up.pass(Duration::from_secs(11)).await;
        assert!(joined.await.unwrap().unwrap().killed);
        let story = up.story(id).await;
        let terms = story
            .iter()
            .filter(|event| event.starts_with("signaled SIGTERM"));
        assert_eq!(terms.count(), 1, "it was asked once");
        assert_eq!(
            up.story(id).await.last().unwrap(),
            "exited 1 with 137 by stop"
        );
    });
}

#[test]
fn a_stop_of_a_paused_container_goes_on_after_a_crash() {
    let mut world = World::new();
    let id = world.run(async |up| {
        let id = up.create_started("a").await;
        up.pause("a", "pause").await.unwrap();
        let hold = up.control.hold_next(Operation::Resume);
        drop(up.go(up.stop("a", "stop", grace(60))).await);
        hold.reached().await;
        id
    });
    crash_twice(&mut world);
    world.run(async |up| {
        assert_eq!(
            up.story(id).await.last().unwrap(),
            "exited 1 with 143 by stop"
        );
    });
}

#[test]
fn what_was_to_follow_a_stop_follows_it_after_a_crash() {
    for forced in [false, true] {
        let mut world = World::new();
        let id = world.run(async |up| {
            let id = up.create_started("a").await;
            let hold = up.control.hold_next(Operation::Kill);
            if forced {
                drop(up.go(up.delete("a", "then", force())).await);
            } else {
                drop(up.go(up.restart("a", call("then"), grace(60))).await);
            }
            hold.reached().await;
            id
        });
        crash_twice(&mut world);
        world.run(async |up| {
            let last = up.story(id).await.pop().unwrap();
            if forced {
                assert_eq!(last, "deleted by then");
                up.assert_empty().await;
            } else {
                assert_eq!(last, "started 2 by then");
            }
        });
    }
}

#[test]
fn a_deletion_is_finished_after_a_crash_at_each_of_its_steps() {
    for operation in [Operation::DeleteTask, Operation::Delete] {
        for acts in [false, true] {
            let mut world = World::new();
            let id = world.run(async |up| {
                let id = up.create_started("a").await;
                let held = if acts {
                    up.control.hold_next_answer(operation)
                } else {
                    up.control.hold_next(operation)
                };
                drop(up.go(up.delete("a", "delete", force())).await);
                held.reached().await;
                assert_eq!(up.state("a"), State::Deleting);
                id
            });
            crash_twice(&mut world);
            world.run(async |up| {
                assert_eq!(
                    up.story(id).await[4..],
                    ["exited 1 with 143 by delete", "deleted by delete"]
                );
                up.assert_empty().await;
            });
        }
    }
}

#[test]
fn an_auto_delete_is_finished_after_a_crash() {
    let mut world = World::new();
    let id = world.run(async |up| up.make(and_start(auto_delete(request("a")))).await.id);
    world.crash();
    assert!(world.control.exit(id, WaitStatus::Exited(0)));
    world.boot();
    crash_twice(&mut world);
    world.run(async |up| {
        assert_eq!(up.story(id).await[2..], ["exited 1 with 0", "deleted"]);
        up.assert_empty().await;
    });
}

#[test]
fn a_server_whose_backend_is_away_serves_reads_and_connects_when_it_comes() {
    let mut world = World::new();
    world.run(async |up| {
        up.create_started("a").await;
    });
    world.crash();
    world.control.never_connected();
    world.boot();
    world.run(async |up| {
        assert_eq!(up.state("a"), State::Running);
        assert_unavailable(up.stop("a", "stop", grace(0)).await, Applied::No);
        assert!(matches!(
            up.engine.health().backend,
            Status::Connecting { .. }
        ));
        up.control.connect();
        up.quiet().await;
        assert!(matches!(
            up.engine.health().backend,
            Status::Connected { .. }
        ));
        up.stop("a", "stop", grace(0)).await.unwrap();
        assert_eq!(
            up.chronicle().await[3..5],
            ["system started", "backend away"]
        );
    });
}

#[test]
fn a_stop_joined_before_the_state_is_settled_is_answered() {
    let mut world = World::new();
    world.run(async |up| {
        let id = up.create_started("a").await;
        assert!(up.control.ignore_term(id));
        drop(up.go(up.stop("a", "stop", grace(600))).await);
    });
    world.crash();
    let hold = world.control.hold_next(Operation::Inventory);
    world.boot_unready();
    world.run(async |up| {
        hold.reached().await;
        let stop = up.go(up.stop("a", "joined", grace(0))).await;
        hold.release();
        up.pass_until(|_| stop.is_finished()).await;
        stop.await.unwrap().unwrap();
    });
}

#[test]
fn a_listing_that_fails_is_tried_again() {
    let mut world = World::new();
    world.run(async |up| {
        up.create_started("a").await;
    });
    world.crash();
    for nth in 1..4 {
        world
            .control
            .inject(Operation::Inventory, When::Nth(nth), Fault::Fail(unknown()));
    }
    world.boot_unready();
    world.run(async |up| {
        assert!(!up.is_ready());
        up.pass_until(Up::is_ready).await;
        assert!(matches!(
            up.engine.health().backend,
            Status::Connected { .. }
        ));
        up.stop("a", "stop", grace(0)).await.unwrap();
    });
}

#[test]
fn an_oom_that_was_told_is_not_told_again_after_a_crash() {
    let mut world = World::new();
    let id = world.run(async |up| {
        let id = up.create_started("a").await;
        assert!(up.control.oom(id));
        up.quiet().await;
        id
    });
    crash_twice(&mut world);
    world.run(async |up| assert_eq!(up.story(id).await[2..], ["oom"]));
}
