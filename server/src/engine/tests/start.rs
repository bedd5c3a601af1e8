//! Starts: early exits, launches that fail, and what a failed one leaves.

use super::*;
use crate::model::{Failure, State};

#[test]
fn an_exit_before_the_start_returns_comes_after_the_start() {
    World::new().run(async |up| {
        up.control.exit_before_start_returns(WaitStatus::Exited(5));
        let started = up.make(and_start(request("a"))).await;
        assert_eq!(started.state, State::Running);
        up.quiet().await;
        assert_eq!(
            up.story(started.id).await,
            [
                "created by create",
                "started 1 by create",
                "exited 1 with 5"
            ]
        );
    });
}

#[test]
fn a_launch_that_fails_takes_the_run_back_and_is_remembered() {
    World::new().run(async |up| {
        let id = up.create("a").await;
        up.control.fail_next(Operation::Start, no_such_program());
        let failed = up.start("a", "start").await;
        assert_refused!(
            failed,
            Error::Backend(BackendError::Launch(
                LaunchFailure::ExecutableNotFound { .. }
            ))
        );
        let container = up.get("a");
        assert_eq!((container.state, container.run), (State::Created, Run(0)));
        assert!(matches!(container.failure, Some(Failure::Launch { .. })));
        let again = up.start("a", "again").await.unwrap().container;
        assert_eq!((again.run, &again.failure), (Run(1), &None));
        assert_eq!(
            up.story(id).await[1..],
            ["start failed 1 by start", "started 1 by again"]
        );
    });
}

#[test]
fn a_failed_start_after_a_run_keeps_that_runs_exit() {
    World::new().run(async |up| {
        up.create_started("a").await;
        up.exit("a", 9).await;
        up.control.fail_next(Operation::Start, no_such_program());
        up.start("a", "start").await.unwrap_err();
        let container = up.get("a");
        assert_eq!((container.state, container.run), (State::Exited, Run(1)));
        assert_eq!(container.exit_status.as_ref().unwrap().code, 9);
    });
}

#[test]
fn create_and_start_leaves_nothing_if_the_start_fails() {
    World::new().run(async |up| {
        up.control.fail_next(Operation::Start, no_such_program());
        let failed = up.engine.create(call("run"), and_start(request("a"))).await;
        assert_refused!(
            failed,
            Error::Backend(BackendError::Launch(
                LaunchFailure::ExecutableNotFound { .. }
            ))
        );
        assert!(up.is_gone("a"));
        up.assert_empty().await;
        let story = up.chronicle().await;
        assert_eq!(
            story[1..],
            ["created by run", "start failed 1 by run", "deleted by run"]
        );
        up.create("a").await;
    });
}

#[test]
fn create_and_start_answers_the_launch_error_also_if_the_clean_up_takes_longer() {
    World::new().run(async |up| {
        up.control.fail_next(Operation::Start, no_such_program());
        up.control.fail_next(Operation::Delete, unknown());
        let failed = up.engine.create(call("run"), and_start(request("a"))).await;
        assert_refused!(failed, Error::Backend(BackendError::Launch(_)));
        assert_eq!(up.state("a"), State::Deleting);
        up.pass_until(|up| up.is_gone("a")).await;
        up.assert_empty().await;
    });
}

#[test]
fn a_create_that_fails_leaves_nothing() {
    World::new().run(async |up| {
        for error in [unknown(), unavailable(Applied::No), no_such_program()] {
            up.control
                .inject(Operation::Create, When::Next, Fault::ActThenFail(error));
            up.engine
                .create(call("create"), request("a"))
                .await
                .unwrap_err();
            assert!(up.is_gone("a"), "the name is free at once");
        }
        up.assert_empty().await;
        assert_eq!(up.chronicle().await, ["system started"]);
    });
}

#[test]
fn a_failed_create_is_undone_however_long_that_takes() {
    World::new().run(async |up| {
        up.control
            .inject(Operation::Create, When::Next, Fault::ActThenFail(unknown()));
        for nth in 1..4 {
            up.control
                .inject(Operation::Delete, When::Nth(nth), Fault::Fail(unknown()));
        }
        up.engine
            .create(call("create"), request("a"))
            .await
            .unwrap_err();
        assert_eq!(up.control.containers().len(), 1);
        up.create("a").await;
        up.pass_until(|up| up.control.containers().len() == 1).await;
        up.quiet().await;
        up.delete("a", "delete", plain()).await.unwrap();
        up.assert_empty().await;
    });
}

#[test]
fn anothers_network_is_joined_by_its_main_process() {
    World::new().run(async |up| {
        let first = up.create_started("first").await;
        let pid = up.get("first").pid;
        let create = |name: &str| CreateContainer {
            spec: ContainerSpec {
                network: Network::Container {
                    container: "first".to_owned(),
                },
                ..spec()
            },
            ..request(name)
        };
        let second = up.make(and_start(create("second"))).await.id;
        assert_eq!(up.control.start_of(second).unwrap().network_pid, pid);
        up.exit("first", 0).await;
        up.make(create("third")).await;
        let refused = up.start("third", "start").await;
        assert_refused!(
            refused,
            Error::Backend(BackendError::Launch(
                LaunchFailure::NetworkContainerNotRunning { .. }
            ))
        );
        assert_eq!(up.state("third"), State::Created);
        up.delete(&first.to_string(), "delete", plain())
            .await
            .unwrap();
        let refused = up.engine.create(call("c"), create("fourth")).await;
        assert_refused!(refused, Error::ContainerNotFound { .. });
    });
}

#[test]
fn two_starts_at_once_start_one_run() {
    World::new().run(async |up| {
        up.create("a").await;
        let hold = up.control.hold_next(Operation::Start);
        let one = up.go(up.starting("a", call("one"))).await;
        let two = up.go(up.starting("a", call("two"))).await;
        hold.release();
        assert!(one.await.unwrap().unwrap().value.changed);
        let two = two.await.unwrap().unwrap().value;
        assert!(!two.changed);
        assert_eq!(two.container.run, Run(1));
    });
}

#[test]
fn remains_that_cannot_be_removed_fail_the_start_and_are_removed_later() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.control.inject(
            Operation::DeleteTask,
            When::Always,
            Fault::Fail(unavailable(Applied::No)),
        );
        up.exit("a", 0).await;
        assert_unavailable(up.start("a", "start").await, Applied::No);
        assert_eq!(up.get("a").run, Run(1));
        up.control.clear_faults();
        up.pass_until(|up| up.control.tasks().is_empty()).await;
        assert_eq!(up.start("a", "again").await.unwrap().container.run, Run(2));
        assert_eq!(
            up.story(id).await[3..],
            ["start failed 2 by start", "started 2 by again"]
        );
    });
}
