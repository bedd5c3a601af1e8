//! Operations whose end is not known: the caller hears so at once, and what the backend has decides.

use super::*;
use crate::backend::FoundState;
use crate::model::State;

/// A call that fails without telling whether it acted, and did.
fn acts(up: &Up, operation: Operation) {
    up.control
        .inject(operation, When::Next, Fault::ActThenFail(unknown()));
}

/// A call that fails without telling whether it acted, and did not.
fn does_not_act(up: &Up, operation: Operation) {
    up.control.fail_next(operation, unknown());
}

#[test]
fn a_start_in_doubt_that_happened_is_a_run() {
    World::new().run(async |up| {
        let id = up.create("a").await;
        acts(up, Operation::Start);
        assert_unavailable(up.start("a", "start").await, Applied::Unknown);
        up.quiet().await;
        assert_eq!(up.state("a"), State::Running);
        up.exit("a", 2).await;
        assert_eq!(
            up.story(id).await[1..],
            ["started 1 by start", "exited 1 with 2"]
        );
    });
}

#[test]
fn a_start_in_doubt_that_did_not_happen_is_a_failed_start() {
    World::new().run(async |up| {
        let id = up.create("a").await;
        does_not_act(up, Operation::Start);
        assert_unavailable(up.start("a", "start").await, Applied::Unknown);
        up.quiet().await;
        let container = up.get("a");
        assert_eq!((container.state, container.run), (State::Created, Run(0)));
        assert_eq!(up.start("a", "again").await.unwrap().container.run, Run(1));
        assert_eq!(
            up.story(id).await[1..],
            ["start failed 1 by start", "started 1 by again"]
        );
    });
}

#[test]
fn a_start_in_doubt_whose_process_has_ended_is_a_run_with_an_exit() {
    World::new().run(async |up| {
        let id = up.create("a").await;
        up.control.exit_before_start_returns(WaitStatus::Exited(8));
        acts(up, Operation::Start);
        assert_unavailable(up.start("a", "start").await, Applied::Unknown);
        up.quiet().await;
        assert_eq!(
            up.story(id).await[1..],
            ["started 1 by start", "exited 1 with 8"]
        );
        assert_eq!(up.control.tasks(), []);
    });
}

#[test]
fn a_start_in_doubt_that_the_backend_has_cut_off_is_a_failed_start() {
    World::new().run(async |up| {
        let id = up.create("a").await;
        up.control
            .exit_before_start_returns(WaitStatus::Signaled(Signal::KILL));
        acts(up, Operation::Start);
        assert_unavailable(up.start("a", "start").await, Applied::Unknown);
        up.quiet().await;
        assert_eq!(up.start("a", "again").await.unwrap().container.run, Run(1));
        assert_eq!(
            up.story(id).await[1..],
            ["start failed 1 by start", "started 1 by again"]
        );
    });
}

#[test]
fn a_create_and_start_in_doubt_is_settled_either_way() {
    World::new().run(async |up| {
        acts(up, Operation::Start);
        let create = up.engine.create(call("run"), and_start(request("a"))).await;
        assert_unavailable(create, Applied::Unknown);
        up.quiet().await;
        assert_eq!(up.state("a"), State::Running);

        does_not_act(up, Operation::Start);
        let create = up.engine.create(call("run"), and_start(request("b"))).await;
        assert_unavailable(create, Applied::Unknown);
        up.quiet().await;
        assert!(up.is_gone("b"));
        up.delete("a", "delete", force()).await.unwrap();
        up.assert_empty().await;
    });
}

#[test]
fn while_the_doubt_lasts_others_are_refused_and_reads_go_on() {
    World::new().run(async |up| {
        up.create("a").await;
        acts(up, Operation::Start);
        up.control.inject(Operation::Find, When::Always, Fault::Fail(unavailable(Applied::No)));
        assert_unavailable(up.start("a", "start").await, Applied::Unknown);
        for _ in 0..3 {
            let refused = up.stop("a", "stop", grace(0)).await;
            assert_refused!(refused, Error::OperationInProgress { operation: "start", request_id, .. } if request_id == "start");
            let refused = up.delete("a", "delete", force()).await;
            assert_refused!(refused, Error::OperationInProgress { .. });
            assert_eq!(up.state("a"), State::Starting);
            up.pass(Duration::from_secs(7)).await;
        }
        up.control.clear_faults();
        up.pass_until(|up| up.state("a") == State::Running).await;
        up.stop("a", "stop", grace(0)).await.unwrap();
    });
}

#[test]
fn a_pause_in_doubt_is_settled_either_way() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        does_not_act(up, Operation::Pause);
        assert_unavailable(up.pause("a", "one").await, Applied::Unknown);
        up.quiet().await;
        assert_eq!(up.state("a"), State::Running);
        acts(up, Operation::Pause);
        assert_unavailable(up.pause("a", "two").await, Applied::Unknown);
        up.quiet().await;
        assert_eq!(up.state("a"), State::Paused);
        acts(up, Operation::Resume);
        assert_unavailable(up.resume("a", "three").await, Applied::Unknown);
        up.quiet().await;
        assert_eq!(up.state("a"), State::Running);
        assert_eq!(up.story(id).await[2..], ["paused", "resumed"]);
    });
}

#[test]
fn a_kill_in_doubt_that_happened_is_the_exits_cause() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        acts(up, Operation::Kill);
        assert_unavailable(up.signal("a", "kill", "KILL").await, Applied::Unknown);
        up.quiet().await;
        assert_eq!(up.story(id).await[2..], ["exited 1 with 137 by kill"]);
    });
}

#[test]
fn a_kill_in_doubt_that_did_not_happen_changes_nothing() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        does_not_act(up, Operation::Kill);
        assert_unavailable(up.signal("a", "kill", "KILL").await, Applied::Unknown);
        up.quiet().await;
        assert_eq!(up.state("a"), State::Running);
        assert_eq!(up.story(id).await.len(), 2);
        up.pause("a", "pause").await.unwrap();
    });
}

#[test]
fn a_kill_that_arrived_without_its_thaw_is_settled() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.pause("a", "pause").await.unwrap();
        acts(up, Operation::Resume);
        assert_unavailable(up.signal("a", "kill", "KILL").await, Applied::Unknown);
        up.quiet().await;
        assert_eq!(up.state("a"), State::Exited);
        assert_eq!(
            up.story(id).await.last().unwrap(),
            "exited 1 with 137 by kill"
        );
    });
}

#[test]
fn a_stop_whose_signal_is_in_doubt_answers_and_goes_on() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        does_not_act(up, Operation::Kill);
        let stop = up.stop("a", "stop", grace(5)).await;
        assert_unavailable(stop, Applied::Unknown);
        assert_eq!(up.state("a"), State::Stopping);
        up.pass_until(|up| up.state("a") == State::Exited).await;
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
fn a_stop_whose_signal_arrived_unseen_ends_in_its_exit() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        acts(up, Operation::Kill);
        let stop = up.stop("a", "stop", grace(5)).await;
        assert_unavailable(stop, Applied::Unknown);
        up.quiet().await;
        assert_eq!(up.state("a"), State::Exited);
        assert_eq!(
            up.story(id).await.last().unwrap(),
            "exited 1 with 143 by stop"
        );
    });
}

#[test]
fn a_restart_in_doubt_goes_on_without_its_caller() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        does_not_act(up, Operation::Kill);
        let restart = up.restart("a", call("restart"), grace(5)).await;
        assert_unavailable(restart, Applied::Unknown);
        up.pass_until(|up| up.get("a").run == Run(2)).await;
        assert_eq!(up.story(id).await.last().unwrap(), "started 2 by restart");
    });
}

#[test]
fn a_deletion_in_doubt_answers_and_is_gone_on_with() {
    World::new().run(async |up| {
        for operation in [Operation::Delete, Operation::DeleteTask] {
            let id = up.create_started("a").await;
            up.control.inject(
                Operation::DeleteTask,
                When::Next,
                Fault::Fail(unavailable(Applied::No)),
            );
            up.exit("a", 0).await;
            up.control
                .inject(operation, When::Always, Fault::Fail(unknown()));
            let delete = up.delete("a", "delete", plain()).await;
            assert_unavailable(delete, Applied::Unknown);
            assert_eq!(up.state("a"), State::Deleting);
            up.control.clear_faults();
            let joined = up.go(up.delete("a", "again", plain())).await;
            up.pass_until(|up| up.is_gone("a")).await;
            joined.await.unwrap().unwrap();
            assert_eq!(up.story(id).await.last().unwrap(), "deleted by delete");
            up.assert_empty().await;
        }
    });
}

#[test]
fn a_task_that_was_made_but_never_started_is_removed_however_long_it_takes() {
    World::new().run(async |up| {
        up.create("a").await;
        up.control.leave_created_task(up.get("a").id);
        does_not_act(up, Operation::Start);
        up.control.inject(
            Operation::ForgetStart,
            When::Next,
            Fault::Fail(unavailable(Applied::No)),
        );
        assert_unavailable(up.start("a", "start").await, Applied::Unknown);
        up.quiet().await;
        assert_eq!(up.control.tasks().len(), 1);
        up.pass_until(|up| up.control.tasks().is_empty()).await;
        assert_eq!(up.start("a", "again").await.unwrap().container.run, Run(1));
    });
}

#[test]
fn a_task_removed_behind_our_back_is_found_lost_by_the_next_signal() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        assert!(up.control.lose_task(id));
        up.control.fail_next(
            Operation::Kill,
            BackendError::NotFound {
                backend: "fake",
                what: "task",
            },
        );
        assert_refused!(
            up.signal("a", "signal", "HUP").await,
            Error::NotRunning { .. }
        );
        up.pass_until(|up| up.state("a") == State::Exited).await;
        assert_eq!(up.story(id).await.last().unwrap(), "lost 1");
        assert_eq!(up.start("a", "start").await.unwrap().container.run, Run(2));
    });
}

#[test]
fn mutations_are_refused_while_the_backend_is_away_and_change_nothing() {
    World::new().run(async |up| {
        up.create("idle").await;
        up.create_started("running").await;
        up.create_started("paused").await;
        up.pause("paused", "pause").await.unwrap();
        up.control.disconnect();
        up.quiet().await;
        let before = up.chronicle().await;
        assert_eq!(before.last().unwrap(), "backend away");
        let etags = |up: &Up| ["idle", "running", "paused"].map(|name| up.get(name).etag());
        let unchanged = etags(up);
        assert_unavailable(
            up.engine.create(call("c"), request("new")).await,
            Applied::No,
        );
        for name in ["idle", "running", "paused"] {
            assert_unavailable(up.restart(name, call("c"), grace(0)).await, Applied::No);
            assert_unavailable(up.delete(name, "c", force()).await, Applied::No);
        }
        assert_unavailable(up.start("idle", "c").await, Applied::No);
        assert_unavailable(up.start("running", "c").await, Applied::No);
        for name in ["running", "paused"] {
            assert_unavailable(up.stop(name, "c", grace(0)).await, Applied::No);
            assert_unavailable(up.signal(name, "c", "HUP").await, Applied::No);
            assert_unavailable(up.pause(name, "c").await, Applied::No);
            assert_unavailable(up.resume(name, "c").await, Applied::No);
            assert_unavailable(up.engine.processes(name).await, Applied::No);
        }
        assert_eq!(etags(up), unchanged);
        assert_eq!(up.chronicle().await, before);
        assert!(up.is_gone("new"));
        assert_eq!(
            up.engine.list(&ContainerFilter::default(), None, 10).len(),
            3
        );
        up.control.connect();
        up.quiet().await;
        assert_eq!(up.chronicle().await.last().unwrap(), "backend back");
        up.stop("running", "stop", grace(0)).await.unwrap();
    });
}

#[test]
fn exits_during_an_outage_are_settled_when_it_ends() {
    World::new().run(async |up| {
        let ended = up.create_started("ended").await;
        let lost = up.create_started("lost").await;
        let frozen = up.create_started("frozen").await;
        up.control.disconnect();
        up.quiet().await;
        assert!(up.control.exit(ended, WaitStatus::Exited(6)));
        assert!(up.control.lose_task(lost));
        up.quiet().await;
        assert_eq!(up.state("ended"), State::Running);
        up.control.connect();
        up.quiet().await;
        assert_eq!(up.story(ended).await[2..], ["exited 1 with 6"]);
        assert_eq!(up.story(lost).await[2..], ["lost 1"]);
        assert_eq!(up.story(frozen).await.len(), 2);
        assert_eq!(
            up.engine.health().backend,
            up.engine.core.backend.status().borrow().clone()
        );
    });
}

#[test]
fn a_stop_during_which_the_backend_goes_away_is_gone_on_with() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        assert!(up.control.ignore_term(id));
        let stop = up.go(up.stop("a", "stop", grace(5))).await;
        up.control.disconnect();
        up.pass(Duration::from_secs(6)).await;
        assert_unavailable(stop.await.unwrap(), Applied::No);
        assert_eq!(up.state("a"), State::Stopping);
        up.control.connect();
        up.pass_until(|up| up.state("a") == State::Exited).await;
        assert_eq!(
            up.story(id).await[3..],
            [
                "signaled SIGTERM by stop",
                "signaled SIGKILL by stop",
                "exited 1 with 137 by stop",
            ]
        );
    });
}

#[test]
fn an_old_listing_does_not_undo_what_has_been_done_since() {
    World::new().run(async |up| {
        up.create("a").await;
        up.create_started("b").await;
        up.control.disconnect();
        up.quiet().await;
        let listing = up.control.hold_next_answer(Operation::Inventory);
        up.control.connect();
        listing.reached().await;
        // The listing is made; it is on its way while these are done.
        up.start("a", "start").await.unwrap();
        up.create_started("c").await;
        up.exit("b", 0).await;
        up.start("b", "start").await.unwrap();
        listing.release();
        up.quiet().await;
        for name in ["a", "b", "c"] {
            assert_eq!(up.state(name), State::Running, "{name}");
        }
        assert_eq!(up.control.tasks().len(), 3);
    });
}

#[test]
fn a_backend_that_goes_away_again_while_it_is_listed_is_not_said_to_be_back() {
    World::new().run(async |up| {
        up.create_started("a").await;
        up.control.disconnect();
        up.quiet().await;
        up.control.fail_next(Operation::Inventory, unknown());
        up.control.connect();
        up.quiet().await;
        up.control.disconnect();
        up.pass(Duration::from_secs(1)).await;
        let story = up.chronicle().await;
        assert!(
            !story.iter().any(|event| event == "backend back"),
            "{story:?}"
        );
        up.control.connect();
        up.pass(Duration::from_secs(5)).await;
        assert_eq!(up.chronicle().await.last().unwrap(), "backend back");
        assert_eq!(up.control.tasks(), [(up.get("a").id, FoundState::Running)]);
    });
}
