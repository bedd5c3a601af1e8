//! Calls that are repeated with an idempotency key.

use super::super::idempotency::Claimed;
use super::*;
use crate::backend::SignalScope;
use crate::model::State;

fn create_call(request: &str, body: u8) -> Call {
    keyed(request, "CreateContainer", "key", body)
}

fn start_call(request: &str) -> Call {
    keyed(request, "StartContainer", "key", 1)
}

fn restart_call(request: &str) -> Call {
    keyed(request, "RestartContainer", "key", 1)
}

/// Two snapshots are the same to a caller: the newest event's number is not part of an answer.
#[track_caller]
fn assert_same(a: &Container, b: &Container) {
    let plain = |c: &Container| Container {
        last_event: crate::model::Sequence(0),
        runs: std::sync::Arc::default(),
        ..c.clone()
    };
    assert_eq!(plain(a), plain(b));
}

#[test]
fn a_repeated_create_gets_the_first_answer_also_after_a_crash() {
    let mut world = World::new();
    let first = world.run(async |up| {
        let first = up
            .engine
            .create(create_call("one", 1), request("a"))
            .await
            .unwrap();
        assert!(!first.replayed);
        let again = up
            .engine
            .create(create_call("two", 1), request("a"))
            .await
            .unwrap();
        assert!(again.replayed);
        assert_same(&again.value, &first.value);
        first.value
    });
    world.crash_and_boot();
    world.run(async |up| {
        let again = up
            .engine
            .create(create_call("three", 1), request("a"))
            .await
            .unwrap();
        assert!(again.replayed);
        assert_same(&again.value, &first);
        assert_eq!(up.control.containers(), [first.id]);
    });
}

#[test]
fn the_answer_of_a_repeat_is_the_first_ones_whatever_happened_since() {
    World::new().run(async |up| {
        let first = up
            .engine
            .create(create_call("one", 1), and_start(request("a")))
            .await
            .unwrap();
        assert_eq!(first.value.state, State::Running);
        up.delete("a", "delete", force()).await.unwrap();
        let again = up
            .engine
            .create(create_call("two", 1), and_start(request("a")))
            .await
            .unwrap();
        assert!(again.replayed);
        assert_same(&again.value, &first.value);
        assert!(up.is_gone("a"));
    });
}

#[test]
fn the_etag_in_a_stored_answer_is_the_containers() {
    World::new().run(async |up| {
        let first = up
            .engine
            .create(create_call("one", 1), request("a"))
            .await
            .unwrap();
        assert_eq!(first.value.etag(), up.get("a").etag());
        let again = up
            .engine
            .create(create_call("two", 1), request("a"))
            .await
            .unwrap();
        assert_eq!(again.value.etag(), up.get("a").etag());
    });
}

#[test]
fn another_request_with_the_same_key_is_refused() {
    let mut world = World::new();
    let mismatch = async |up: &Up| {
        let other = up.engine.create(create_call("two", 2), request("b")).await;
        assert_refused!(other, Error::IdempotencyKeyMismatch { first_request_id, .. } if first_request_id == "one");
    };
    world.run(async |up| {
        let hold = up.control.hold_next(Operation::Create);
        let first = up
            .go(up.creating(create_call("one", 1), request("a")))
            .await;
        mismatch(up).await;
        hold.release();
        first.await.unwrap().unwrap();
        mismatch(up).await;
    });
    world.crash_and_boot();
    world.run(async |up| mismatch(up).await);
}

#[test]
fn keys_of_others_and_of_other_methods_never_meet() {
    World::new().run(async |up| {
        up.engine
            .create(create_call("one", 1), request("a"))
            .await
            .unwrap();
        let mut others = create_call("two", 2);
        others.deduplication.as_mut().unwrap().key.principal = Principal::user(1001);
        assert!(
            !up.engine
                .create(others, request("b"))
                .await
                .unwrap()
                .replayed
        );
        let start = up
            .engine
            .start(start_call("three"), "a", None)
            .await
            .unwrap();
        assert!(!start.replayed && start.value.changed);
    });
}

#[test]
fn a_repeat_while_the_first_runs_joins_it() {
    World::new().run(async |up| {
        up.create("a").await;
        let hold = up.control.hold_next(Operation::Start);
        let one = up.go(up.starting("a", start_call("one"))).await;
        let two = up.go(up.starting("a", start_call("two"))).await;
        assert!(!two.is_finished());
        hold.release();
        let one = one.await.unwrap().unwrap();
        let two = two.await.unwrap().unwrap();
        assert!(!one.replayed && two.replayed && two.value.changed);
        assert_same(&one.value.container, &two.value.container);
        assert_eq!(up.control.calls(Operation::Start), 1);
    });
}

#[test]
fn a_repeat_that_cannot_wait_any_longer_hears_what_it_waits_for() {
    World::new().run(async |up| {
        up.create("a").await;
        let hold = up.control.hold_next(Operation::Start);
        let one = up.go(up.starting("a", start_call("one"))).await;
        let hasty = Call {
            deadline: Some(tokio::time::Instant::now() + Duration::from_secs(2)),
            ..start_call("two")
        };
        let two = up.go(up.starting("a", hasty)).await;
        up.pass(Duration::from_secs(1)).await;
        assert!(!two.is_finished());
        up.pass(Duration::from_millis(999)).await;
        assert_refused!(
            two.await.unwrap(),
            Error::IdempotentRequestInProgress { first_request_id, .. } if first_request_id == "one"
        );
        hold.release();
        one.await.unwrap().unwrap();
    });
}

#[test]
fn a_repeat_goes_first_if_the_first_changed_nothing() {
    World::new().run(async |up| {
        up.control
            .lose_image_content(crate::model::Digest::of(b"app"));
        let hold = up.control.hold_next(Operation::Create);
        let one = up
            .go(up.creating(create_call("one", 1), request("a")))
            .await;
        let two = up
            .go(up.creating(create_call("two", 1), request("a")))
            .await;
        hold.release();
        one.await.unwrap().unwrap_err();
        assert_refused!(
            two.await.unwrap(),
            Error::Backend(BackendError::ImageContentMissing { .. })
        );
        assert_eq!(up.control.calls(Operation::Create), 2);
    });
}

#[test]
fn refusals_that_changed_nothing_are_not_stored() {
    let mut world = World::new();
    world.run(async |up| {
        up.create("a").await;
        let taken = up.engine.create(create_call("one", 1), request("a")).await;
        assert_refused!(taken, Error::NameInUse { .. });
        up.pause("a", "p").await.unwrap_err();
        let signal = keyed("one", "SignalContainer", "key", 1);
        let refused = up
            .engine
            .signal(signal, "a", Signal::TERM, SignalScope::Main, None)
            .await;
        assert_refused!(refused, Error::NotRunning { .. });
        up.delete("a", "delete", plain()).await.unwrap();
        // Another request may take the key: the first one left nothing.
        assert!(
            !up.engine
                .create(create_call("two", 2), request("a"))
                .await
                .unwrap()
                .replayed
        );
        up.control.fail_next(Operation::Start, no_such_program());
        up.engine
            .start(start_call("three"), "a", None)
            .await
            .unwrap_err();
    });
    world.crash_and_boot();
    world.run(async |up| {
        let start = up
            .engine
            .start(start_call("four"), "a", None)
            .await
            .unwrap();
        assert!(!start.replayed && start.value.changed);
    });
}

#[test]
fn a_repeat_of_a_start_in_doubt_gets_its_answer_once_it_is_settled() {
    World::new().run(async |up| {
        up.create("a").await;
        up.control
            .inject(Operation::Start, When::Next, Fault::ActThenFail(unknown()));
        let hold = up.control.hold_next(Operation::Find);
        assert_unavailable(
            up.engine.start(start_call("one"), "a", None).await,
            Applied::Unknown,
        );
        let two = up.go(up.starting("a", start_call("two"))).await;
        assert!(!two.is_finished());
        hold.release();
        let two = two.await.unwrap().unwrap();
        assert!(two.replayed && two.value.changed);
        assert_eq!(two.value.container.run, Run(1));
    });
}

#[test]
fn a_signal_with_a_key_is_sent_once() {
    let mut world = World::new();
    let signal = async |up: &Up, request: &str| {
        let call = keyed(request, "SignalContainer", "key", 1);
        let hup = "HUP".parse().unwrap();
        up.engine
            .signal(call, "a", hup, SignalScope::Main, None)
            .await
            .unwrap()
    };
    let id = world.run(async |up| {
        let id = up.create_started("a").await;
        assert!(!signal(up, "one").await.replayed);
        assert!(signal(up, "two").await.replayed);
        id
    });
    world.crash_and_boot();
    world.run(async |up| {
        assert!(signal(up, "three").await.replayed);
        assert_eq!(up.control.signals(id).len(), 1);
    });
}

#[test]
fn a_signal_with_a_key_that_failed_can_be_sent_again() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        let hup: Signal = "HUP".parse().unwrap();
        let send = || keyed("one", "SignalContainer", "key", 1);
        up.control
            .fail_next(Operation::Kill, unavailable(Applied::No));
        up.engine
            .signal(send(), "a", hup, SignalScope::Main, None)
            .await
            .unwrap_err();
        let again = up
            .engine
            .signal(send(), "a", hup, SignalScope::Main, None)
            .await
            .unwrap();
        assert!(!again.replayed);
        assert_eq!(up.control.signals(id), [hup]);
    });
}

#[test]
fn a_signal_during_a_restart_leaves_the_restarts_key_alone() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        assert!(up.control.ignore_term(id));
        let restart = up
            .go(up.restart("a", restart_call("restart"), grace(5)))
            .await;
        let usr1 = "USR1".parse().unwrap();
        let signal = keyed("signal", "SignalContainer", "other", 1);
        up.engine
            .signal(signal, "a", usr1, SignalScope::Main, None)
            .await
            .unwrap();
        let repeat = up
            .go(up.restart("a", restart_call("repeat"), grace(5)))
            .await;
        assert!(!repeat.is_finished(), "it joins");
        up.pass(Duration::from_secs(6)).await;
        let restarted = restart.await.unwrap().unwrap().value;
        let repeated = repeat.await.unwrap().unwrap();
        assert!(repeated.replayed);
        assert_same(&repeated.value, &restarted);
    });
}

#[test]
fn a_crash_in_a_create_gives_the_key_back() {
    for start in [false, true] {
        let mut world = World::new();
        world.run(async |up| {
            let hold = up.control.hold_next(Operation::Create);
            let create = CreateContainer {
                start,
                ..request("a")
            };
            drop(up.go(up.creating(create_call("one", 1), create)).await);
            hold.reached().await;
        });
        world.crash_and_boot();
        world.run(async |up| {
            let again = up
                .engine
                .create(create_call("two", 2), request("a"))
                .await
                .unwrap();
            assert!(!again.replayed);
            assert_eq!(up.control.containers(), [again.value.id]);
        });
    }
}

#[test]
fn a_crash_after_a_start_happened_answers_its_repeat() {
    let mut world = World::new();
    world.run(async |up| {
        up.create("a").await;
        let held = up.control.hold_next_answer(Operation::Start);
        drop(up.go(up.starting("a", start_call("one"))).await);
        held.reached().await;
    });
    world.crash_and_boot();
    world.run(async |up| {
        let again = up.engine.start(start_call("two"), "a", None).await.unwrap();
        assert!(again.replayed && again.value.changed);
        assert_eq!(again.value.container.run, Run(1));
        assert_eq!(again.value.container.state, State::Running);
    });
}

#[test]
fn a_crash_before_a_start_happened_gives_the_key_back() {
    let mut world = World::new();
    world.run(async |up| {
        up.create("a").await;
        let hold = up.control.hold_next(Operation::Start);
        drop(up.go(up.starting("a", start_call("one"))).await);
        hold.reached().await;
    });
    world.crash_and_boot();
    world.run(async |up| {
        let again = up.engine.start(start_call("two"), "a", None).await.unwrap();
        assert!(!again.replayed && again.value.changed);
    });
}

#[test]
fn a_crash_after_create_and_start_happened_answers_its_repeat() {
    let mut world = World::new();
    world.run(async |up| {
        let held = up.control.hold_next_answer(Operation::Start);
        drop(
            up.go(up.creating(create_call("one", 1), and_start(request("a"))))
                .await,
        );
        held.reached().await;
    });
    world.crash_and_boot();
    world.run(async |up| {
        let again = up
            .engine
            .create(create_call("two", 1), and_start(request("a")))
            .await
            .unwrap();
        assert!(again.replayed);
        assert_eq!(again.value.id, up.get("a").id);
        assert_eq!(again.value.state, State::Running);
    });
}

#[test]
fn a_crash_in_a_restart_goes_on_and_answers_its_repeat() {
    let mut world = World::new();
    world.run(async |up| {
        up.create_started("a").await;
        let hold = up.control.hold_next(Operation::Kill);
        drop(up.go(up.restart("a", restart_call("one"), grace(5))).await);
        hold.reached().await;
    });
    world.crash_and_boot();
    world.run(async |up| {
        let again = up
            .restart("a", restart_call("two"), grace(5))
            .await
            .unwrap();
        assert!(again.replayed);
        assert_eq!(again.value.run, Run(2));
        assert_eq!(up.get("a").run, Run(2));
    });
}

#[test]
fn keys_are_given_up_when_they_are_too_many_the_oldest_first() {
    World::new().run(async |up| {
        let book = &up.engine.core.idempotency;
        let claim = |n: usize| {
            let call = keyed("r", "M", &format!("k{n}"), 1);
            book.claim(call.deduplication.as_ref().unwrap(), &call.cause.request_id)
                .unwrap()
        };
        for n in 0..2 * limits::IDEMPOTENCY_ENTRIES {
            let Claimed::New(mut claim) = claim(n) else {
                panic!("a key is known already");
            };
            drop(claim.answered(&n).unwrap());
            claim.complete();
        }
        let is_known = |n| !matches!(claim(n), Claimed::New(_));
        assert!(!is_known(0));
        assert!(is_known(2 * limits::IDEMPOTENCY_ENTRIES - 1));
        assert!(is_known(limits::IDEMPOTENCY_ENTRIES + 1));
    });
}
