//! What others have removed behind the engine's back, and what has no record.

use super::recovery::crash_twice;
use super::*;
use crate::backend::FoundState;
use crate::model::{ContainerId, Failure, State};

#[test]
fn a_container_removed_behind_our_back_can_only_be_deleted() {
    let mut world = World::new();
    let (idle, running) =
        world.run(async |up| (up.create("idle").await, up.create_started("running").await));
    world.crash();
    assert!(world.control.lose_container(idle));
    assert!(world.control.lose_container(running));
    assert!(world.control.lose_task(running));
    world.boot();
    crash_twice(&mut world);
    world.run(async |up| {
        assert_eq!(up.story(idle).await[1..], ["failed"]);
        assert_eq!(up.story(running).await[2..], ["lost 1", "failed"]);
        for name in ["idle", "running"] {
            assert_eq!(up.state(name), State::Failed);
            assert!(matches!(
                up.get(name).failure,
                Some(Failure::ControlLost { .. })
            ));
            assert_refused!(up.start(name, "s").await, Error::ControlLost { .. });
            assert_refused!(up.pause(name, "p").await, Error::ControlLost { .. });
            assert_refused!(
                up.restart(name, call("r"), grace(0)).await,
                Error::ControlLost { .. }
            );
            up.delete(name, "delete", plain()).await.unwrap();
        }
        up.assert_empty().await;
    });
}

#[test]
fn a_process_that_outlives_its_record_still_has_its_one_exit() {
    for dies_first in [false, true] {
        let mut world = World::new();
        let id = world.run(async |up| up.create_started("a").await);
        world.crash();
        assert!(world.control.lose_container(id));
        world.boot();
        crash_twice(&mut world);
        world.run(async |up| {
            assert_eq!(up.state("a"), State::Failed);
            assert_eq!(up.control.tasks(), [(id, FoundState::Running)]);
            let wait = up
                .engine
                .wait("a", vec![Condition::Exited], Run(0))
                .await
                .unwrap();
            let wait = up.go(wait.result()).await;
            if dies_first {
                up.exit("a", 5).await;
                assert_eq!(up.state("a"), State::Failed);
            }
            up.delete("a", "delete", plain()).await.unwrap();
            assert_eq!(wait.await.unwrap().unwrap().run, Run(1));
            let exit = if dies_first {
                "exited 1 with 5"
            } else {
                "exited 1 with 137"
            };
            assert_eq!(
                up.story(id).await[2..],
                ["failed", exit, "deleted by delete"]
            );
            up.assert_empty().await;
        });
    }
}

#[test]
fn control_that_is_lost_during_an_outage_is_found_out_after_it() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.control.disconnect();
        up.quiet().await;
        assert!(up.control.lose_container(id));
        up.control.connect();
        up.quiet().await;
        assert_eq!(up.state("a"), State::Failed);
        up.delete("a", "delete", plain()).await.unwrap();
        up.assert_empty().await;
    });
}

#[test]
fn what_the_backend_has_without_a_record_is_removed() {
    let mut world = World::new();
    world.run(async |up| {
        up.create_started("kept").await;
        let id = up.create_started("stray").await;
        let engine = &up.engine;
        let forget = crate::store::Change::ForgetContainer(id);
        engine
            .core
            .store
            .commit(world::change(vec![forget]))
            .await
            .unwrap();
    });
    crash_twice(&mut world);
    world.run(async |up| {
        up.quiet().await;
        assert_eq!(up.control.containers(), [up.get("kept").id]);
        assert_eq!(
            up.control.tasks(),
            [(up.get("kept").id, FoundState::Running)]
        );
        up.delete("kept", "delete", force()).await.unwrap();
        up.assert_empty().await;
    });
}

#[test]
fn leftovers_are_also_looked_for_while_the_server_runs() {
    World::new().run(async |up| {
        let kept = up.create_started("kept").await;
        let stray = Container {
            id: ContainerId::generate(),
            ..Container::clone(&up.get("kept"))
        };
        up.engine.core.backend.create(&stray).await.unwrap();
        let files = up.engine.core.container_dir(stray.id);
        std::fs::create_dir_all(&files).unwrap();
        std::fs::create_dir_all(up.engine.core.container_dir(kept)).unwrap();
        up.pass(limits::SWEEP_INTERVAL).await;
        up.pass(limits::SWEEP_INTERVAL).await;
        assert_eq!(up.control.containers(), [kept]);
        assert!(!files.exists());
        assert!(up.engine.core.container_dir(kept).exists());
    });
}

#[test]
fn an_exit_does_not_hide_that_the_container_is_gone() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        let hold = up.control.hold_next(Operation::Pause);
        let engine = up.engine.clone();
        let pause = up
            .go(async move { engine.pause(cause("p"), "a", None).await })
            .await;
        hold.reached().await;
        assert!(up.control.lose_container(id));
        // All is listed again while the actor is busy.
        up.control.connect();
        up.exit("a", 5).await;
        hold.release();
        pause.await.unwrap().unwrap_err();
        up.quiet().await;
        assert_eq!(up.state("a"), State::Failed);
        assert_eq!(up.story(id).await[2..], ["failed", "exited 1 with 5"]);
    });
}

#[test]
fn a_start_whose_container_went_missing_meanwhile_is_settled_to_its_end() {
    for happened in [false, true] {
        let mut world = World::new();
        let id = world.run(async |up| {
            let id = up.create("a").await;
            let held = if happened {
                up.control.hold_next_answer(Operation::Start)
            } else {
                up.control.hold_next(Operation::Start)
            };
            drop(up.go(up.starting("a", call("start"))).await);
            held.reached().await;
            id
        });
        world.crash();
        assert!(world.control.lose_container(id));
        world.boot();
        crash_twice(&mut world);
        world.run(async |up| {
            let outcome = if happened {
                "started 1 by start"
            } else {
                "start failed 1 by start"
            };
            assert_eq!(up.story(id).await[1..], [outcome, "failed"]);
            up.delete("a", "delete", plain()).await.unwrap();
            up.assert_empty().await;
        });
    }
}

#[test]
fn whoever_waits_for_a_stop_hears_that_control_was_lost() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        assert!(up.control.ignore_term(id));
        let restart = keyed("restart", "RestartContainer", "key", 1);
        let restart = up.go(up.restart("a", restart, grace(600))).await;
        let stop = up.go(up.stop("a", "stop", grace(600))).await;
        assert!(up.control.lose_container(id));
        up.control.connect();
        assert_refused!(stop.await.unwrap(), Error::ControlLost { .. });
        assert_refused!(restart.await.unwrap(), Error::ControlLost { .. });
        assert_eq!(up.state("a"), State::Failed);
        let again = keyed("again", "RestartContainer", "key", 1);
        assert_refused!(
            up.restart("a", again, grace(0)).await,
            Error::ControlLost { .. }
        );
        up.delete("a", "delete", plain()).await.unwrap();
        up.assert_empty().await;
    });
}

#[test]
fn a_forced_deletion_goes_on_when_control_is_lost_in_its_midst() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        assert!(up.control.ignore_term(id));
        let delete = up.go(up.delete("a", "delete", force())).await;
        assert!(up.control.lose_container(id));
        up.control.connect();
        delete.await.unwrap().unwrap();
        assert_eq!(
            up.story(id).await[4..],
            ["failed", "exited 1 with 137 by delete", "deleted by delete"]
        );
        up.assert_empty().await;
    });
}
