//! Waits: registered before, after or without what they wait for.

use super::*;
use crate::model::{ContainerId, Digest, ExitStatus, State};
use std::sync::Arc;

async fn result(
    up: &Up,
    key: &str,
    condition: Condition,
    run: u64,
) -> Result<(Run, Option<u8>), Error> {
    let wait = up.engine.wait(key, vec![condition], Run(run)).await?;
    let met = wait.result().await?;
    let code = |exit: Arc<ExitStatus>| exit.code;
    Ok((met.run, met.exit.map(code)))
}

fn waiting(
    up: &Up,
    key: &str,
    condition: Condition,
) -> impl Future<Output = Result<wait::WaitResult, Error>> + Send + 'static + use<> {
    let (engine, key) = (up.engine.clone(), key.to_owned());
    async move {
        let wait = engine.wait(&key, vec![condition], Run(0)).await?;
        wait.result().await
    }
}

#[test]
fn a_wait_before_the_first_start_gets_the_first_runs_exit() {
    World::new().run(async |up| {
        up.create("a").await;
        let wait = up.go(waiting(up, "a", Condition::Exited)).await;
        up.start("a", "start").await.unwrap();
        up.quiet().await;
        assert!(!wait.is_finished());
        up.exit("a", 7).await;
        let met = wait.await.unwrap().unwrap();
        assert_eq!((met.run, met.exit.unwrap().code), (Run(1), 7));
    });
}

#[test]
fn a_wait_after_the_exit_is_answered_at_once() {
    World::new().run(async |up| {
        up.create_started("a").await;
        up.exit("a", 7).await;
        assert_eq!(
            result(up, "a", Condition::Exited, 0).await.unwrap(),
            (Run(1), Some(7))
        );
        assert_eq!(
            result(up, "a", Condition::Running, 0).await.unwrap(),
            (Run(1), Some(7))
        );
    });
}

#[test]
fn a_wait_is_answered_by_run_also_while_a_later_one_is_on() {
    World::new().run(async |up| {
        up.create_started("a").await;
        up.exit("a", 7).await;
        up.start("a", "start").await.unwrap();
        assert_eq!(
            result(up, "a", Condition::Exited, 1).await.unwrap(),
            (Run(1), Some(7))
        );
        let wait = up.go(waiting(up, "a", Condition::Exited)).await;
        assert!(!wait.is_finished());
        up.exit("a", 8).await;
        assert_eq!(wait.await.unwrap().unwrap().run, Run(2));
    });
}

#[test]
fn a_wait_outlives_an_auto_delete_and_can_be_asked_again() {
    let mut world = World::new();
    let check = async |up: &Up, id: &ContainerId| {
        let id = id.to_string();
        assert_eq!(
            result(up, &id, Condition::Exited, 1).await.unwrap(),
            (Run(1), Some(9))
        );
        assert_eq!(
            result(up, "a", Condition::Exited, 0).await.unwrap(),
            (Run(1), Some(9))
        );
        assert_eq!(
            result(up, &id, Condition::Deleted, 0).await.unwrap().0,
            Run(1)
        );
        let never = result(up, &id, Condition::Exited, 2).await;
        assert_refused!(never, Error::ContainerNotFound { .. });
    };
    let id = world.run(async |up| {
        let id = up.make(and_start(auto_delete(request("a")))).await.id;
        let exited = up.go(waiting(up, "a", Condition::Exited)).await;
        let deleted = up.go(waiting(up, "a", Condition::Deleted)).await;
        up.exit("a", 9).await;
        assert_eq!(exited.await.unwrap().unwrap().exit.unwrap().code, 9);
        deleted.await.unwrap().unwrap();
        check(up, &id).await;
        id
    });
    world.crash_and_boot();
    world.run(async |up| check(up, &id).await);
}

#[test]
fn a_wait_for_what_cannot_come_any_more_says_so() {
    World::new().run(async |up| {
        up.create("a").await;
        assert_refused!(
            result(up, "a", Condition::Healthy, 0).await,
            Error::ConditionUnreachable { .. }
        );
        let wait = up.go(waiting(up, "a", Condition::Exited)).await;
        up.delete("a", "delete", plain()).await.unwrap();
        assert_refused!(wait.await.unwrap(), Error::ContainerNotFound { .. });
        assert_refused!(
            result(up, "none", Condition::Exited, 0).await,
            Error::ContainerNotFound { .. }
        );
    });
}

#[test]
fn a_wait_for_a_create_that_fails_hears_that_it_is_gone() {
    World::new().run(async |up| {
        let hold = up.control.hold_next(Operation::Create);
        let creating = up.go(up.creating(call("create"), request("a"))).await;
        let exited = up.go(waiting(up, "a", Condition::Exited)).await;
        let deleted = up.go(waiting(up, "a", Condition::Deleted)).await;
        up.control.lose_image_content(Digest::of(b"app"));
        hold.release();
        assert_refused!(
            creating.await.unwrap(),
            Error::Backend(BackendError::ImageContentMissing { .. })
        );
        assert_refused!(exited.await.unwrap(), Error::ContainerNotFound { .. });
        deleted.await.unwrap().unwrap();
        up.assert_empty().await;
    });
}

#[test]
fn a_wait_ends_with_the_server_and_says_so() {
    World::new().run(async |up| {
        up.create("a").await;
        let wait = up.go(waiting(up, "a", Condition::Exited)).await;
        up.engine.shutdown().await;
        assert_refused!(wait.await.unwrap(), Error::Draining);
    });
}

#[test]
fn the_first_condition_of_the_request_counts_if_several_are_met() {
    World::new().run(async |up| {
        up.create_started("a").await;
        up.exit("a", 0).await;
        let both = vec![Condition::Exited, Condition::Running];
        let wait = up.engine.wait("a", both, Run(0)).await.unwrap();
        assert_eq!(wait.state, Some(State::Exited));
        assert_eq!(wait.result().await.unwrap().condition, Condition::Exited);
    });
}

#[test]
fn ten_thousand_cancelled_waits_leave_nothing() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let mut waits = Vec::new();
        for _ in 0..10_000 {
            waits.push(up.calls.spawn(waiting(up, "a", Condition::Exited)));
        }
        up.quiet().await;
        waits.iter().for_each(|wait| wait.abort());
        for wait in waits {
            assert!(wait.await.unwrap_err().is_cancelled());
        }
        assert_eq!(up.engine.core.tasks.len(), IDLE_TASKS + 1);
        assert!(up.calls.is_empty());
        up.exit("a", 0).await;
        assert_eq!(up.state("a"), State::Exited);
    });
}
