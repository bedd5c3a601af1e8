//! Stops: grace periods, joiners, what survives SIGKILL, and signals that end a run.

use super::*;
use crate::backend::FoundState;
use crate::model::State;

const SECOND: Duration = Duration::from_secs(1);

/// A running container that goes on after SIGTERM.
async fn create_stubborn(up: &Up, name: &str) -> crate::model::ContainerId {
    let id = up.create_started(name).await;
    assert!(up.control.ignore_term(id));
    id
}

#[test]
fn after_the_grace_period_everything_is_killed() {
    World::new().run(async |up| {
        let id = create_stubborn(up, "a").await;
        let stop = up.go(up.stop("a", "stop", grace(5))).await;
        up.pass(5 * SECOND - Duration::from_millis(2)).await;
        assert!(!stop.is_finished());
        up.pass(Duration::from_millis(3)).await;
        let stopped = stop.await.unwrap().unwrap();
        assert!(stopped.changed && stopped.killed);
        assert_eq!(
            up.story(id).await[2..],
            [
                "stopping 1 by stop",
                "signaled SIGTERM by stop",
                "signaled SIGKILL by stop",
                "exited 1 with 137 by stop",
            ]
        );
    });
}

#[test]
fn without_grace_it_is_killed_at_once() {
    World::new().run(async |up| {
        let id = create_stubborn(up, "a").await;
        let stopped = up.stop("a", "stop", grace(0)).await.unwrap();
        assert!(stopped.killed);
        assert_eq!(up.story(id).await[3], "signaled SIGKILL by stop");
    });
}

#[test]
fn the_spec_and_the_request_say_what_signal_asks_it_to_stop() {
    World::new().run(async |up| {
        let quit: Signal = "QUIT".parse().unwrap();
        let create = CreateContainer {
            spec: ContainerSpec {
                stop_signal: Some(quit),
                ..spec()
            },
            ..and_start(request("a"))
        };
        let id = up.make(create).await.id;
        let stop = up.go(up.stop("a", "stop", grace(5))).await;
        assert_eq!(up.control.signals(id), [quit]);
        up.pass(6 * SECOND).await;
        stop.await.unwrap().unwrap();

        let id = up.create_started("b").await;
        let stop = StopContainer {
            signal: Some(quit),
            ..grace(5)
        };
        let stop = up.go(up.stop("b", "stop", stop)).await;
        assert_eq!(up.control.signals(id), [quit]);
        up.pass(6 * SECOND).await;
        stop.await.unwrap().unwrap();
    });
}

#[test]
fn of_those_who_stop_it_the_shortest_grace_wins_and_all_are_answered() {
    World::new().run(async |up| {
        let id = create_stubborn(up, "a").await;
        let long = up.go(up.stop("a", "long", grace(60))).await;
        let short = up.go(up.stop("a", "short", grace(3))).await;
        let middle = up.go(up.stop("a", "middle", grace(30))).await;
        up.pass(3 * SECOND + Duration::from_millis(2)).await;
        for stop in [long, short, middle] {
            assert!(stop.await.unwrap().unwrap().killed);
        }
        assert_eq!(up.story(id).await[2], "stopping 1 by long");
        assert_eq!(up.story(id).await.len(), 6);
    });
}

#[test]
fn a_joiner_without_a_grace_of_its_own_brings_the_specs() {
    World::new().run(async |up| {
        create_stubborn(up, "a").await;
        let long = up.go(up.stop("a", "long", grace(3600))).await;
        let plain = up.go(up.stop("a", "plain", StopContainer::default())).await;
        up.pass(11 * SECOND).await;
        assert!(long.await.unwrap().unwrap().killed);
        plain.await.unwrap().unwrap();
    });
}

#[test]
fn a_joiner_with_no_grace_kills_at_once() {
    World::new().run(async |up| {
        create_stubborn(up, "a").await;
        let long = up.go(up.stop("a", "long", grace(3600))).await;
        assert!(up.stop("a", "now", grace(0)).await.unwrap().killed);
        long.await.unwrap().unwrap();
    });
}

#[test]
fn a_stop_of_a_paused_container_thaws_it() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.pause("a", "pause").await.unwrap();
        let stopped = up.stop("a", "stop", grace(10)).await.unwrap();
        assert!(!stopped.killed);
        assert_eq!(
            up.story(id).await[3..],
            [
                "stopping 1 by stop",
                "signaled SIGTERM by stop",
                "exited 1 with 143 by stop",
            ]
        );
    });
}

#[test]
fn a_stop_while_it_starts_is_done_after_the_start() {
    World::new().run(async |up| {
        let id = up.create("a").await;
        let hold = up.control.hold_next(Operation::Start);
        let start = up.go(up.starting("a", call("start"))).await;
        hold.reached().await;
        let stop = up.go(up.stop("a", "stop", grace(5))).await;
        hold.release();
        assert!(start.await.unwrap().unwrap().value.changed);
        assert!(stop.await.unwrap().unwrap().changed);
        assert_eq!(
            up.story(id).await[1..],
            [
                "started 1 by start",
                "stopping 1 by stop",
                "signaled SIGTERM by stop",
                "exited 1 with 143 by stop",
            ]
        );
    });
}

#[test]
fn a_stop_while_it_fails_to_start_finds_nothing_to_stop() {
    World::new().run(async |up| {
        up.create("a").await;
        let hold = up.control.hold_next(Operation::Start);
        let start = up.go(up.starting("a", call("start"))).await;
        hold.reached().await;
        let stop = up.go(up.stop("a", "stop", grace(5))).await;
        assert!(up.control.lose_container(up.get("a").id));
        hold.release();
        start.await.unwrap().unwrap_err();
        // The record is looked up, and so control is found lost.
        drop(stop.await.unwrap());
        up.quiet().await;
        assert_eq!(up.state("a"), State::Failed);
    });
}

/// SIGKILL is sent and does nothing: the process sleeps in the kernel.
fn survive_signals(up: &Up) {
    // A frozen process gets no signal in the fake.
    up.control.inject(
        Operation::Resume,
        When::Always,
        Fault::Fail(BackendError::NotFound {
            backend: "fake",
            what: "process",
        }),
    );
}

#[test]
fn what_survives_sigkill_is_given_up_and_settled_whenever_it_ends() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.pause("a", "pause").await.unwrap();
        survive_signals(up);
        let stop = up.go(up.stop("a", "stop", grace(2))).await;
        up.pass(2 * SECOND).await;
        up.pass(limits::KILL_TIMEOUT - SECOND).await;
        assert!(!stop.is_finished());
        up.pass(2 * SECOND).await;
        assert_refused!(stop.await.unwrap(), Error::StopTimedOut { .. });
        assert_eq!(up.state("a"), State::Stopping);
        up.exit("a", 137).await;
        assert_eq!(up.state("a"), State::Exited);
        assert_eq!(
            up.story(id).await.last().unwrap(),
            "exited 1 with 137 by stop"
        );
    });
}

#[test]
fn a_stop_after_one_that_was_given_up_tries_again_and_ends() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.pause("a", "pause").await.unwrap();
        survive_signals(up);
        let first = up.go(up.stop("a", "first", grace(0))).await;
        up.pass(limits::KILL_TIMEOUT + SECOND).await;
        first.await.unwrap().unwrap_err();
        let second = up.go(up.stop("a", "second", grace(5))).await;
        assert_eq!(up.control.signals(id).len(), 2, "killed once more");
        up.pass(limits::KILL_TIMEOUT + SECOND).await;
        assert_refused!(second.await.unwrap(), Error::StopTimedOut { .. });
        let delete = up.go(up.delete("a", "delete", force())).await;
        up.pass(limits::KILL_TIMEOUT + SECOND).await;
        assert_refused!(delete.await.unwrap(), Error::StopTimedOut { .. });
        up.exit("a", 137).await;
        assert!(up.is_gone("a"), "the deletion that was asked for follows");
        up.assert_empty().await;
    });
}

#[test]
fn a_forced_deletion_during_a_stop_follows_it_and_shortens_it() {
    World::new().run(async |up| {
        let id = create_stubborn(up, "a").await;
        let stop = up.go(up.stop("a", "stop", grace(3600))).await;
        let delete = up.go(up.delete("a", "delete", force())).await;
        up.pass(11 * SECOND).await;
        assert!(stop.await.unwrap().unwrap().killed);
        delete.await.unwrap().unwrap();
        assert_eq!(
            up.story(id).await[5..],
            ["exited 1 with 137 by stop", "deleted by delete"]
        );
        up.assert_empty().await;
    });
}

#[test]
fn a_forced_deletion_during_a_restart_ends_it() {
    World::new().run(async |up| {
        let id = create_stubborn(up, "a").await;
        let restart = up.go(up.restart("a", call("restart"), grace(30))).await;
        let delete = up.go(up.delete("a", "delete", force())).await;
        assert_refused!(restart.await.unwrap(), Error::DeletedConcurrently { .. });
        up.pass(11 * SECOND).await;
        delete.await.unwrap().unwrap();
        assert_eq!(up.story(id).await.last().unwrap(), "deleted by delete");
        assert_eq!(up.get_started(id), 1);
        up.assert_empty().await;
    });
}

#[test]
fn a_stop_during_a_restart_joins_the_stop_and_the_start_follows() {
    World::new().run(async |up| {
        create_stubborn(up, "a").await;
        let restart = up.go(up.restart("a", call("restart"), grace(5))).await;
        let stop = up.go(up.stop("a", "stop", grace(5))).await;
        up.pass(6 * SECOND).await;
        assert!(stop.await.unwrap().unwrap().changed);
        assert_eq!(restart.await.unwrap().unwrap().value.run, Run(2));
    });
}

#[test]
fn a_signal_that_is_meant_to_end_it_is_the_exits_cause() {
    World::new().run(async |up| {
        for signal in ["KILL", "TERM"] {
            let id = up.create_started(signal).await;
            up.signal(signal, "signal", signal).await.unwrap();
            up.quiet().await;
            let story = up.story(id).await;
            assert_eq!(story[2], format!("signaled SIG{signal} by signal"));
            assert!(story[3].ends_with("by signal"), "{story:?}");
        }
    });
}

#[test]
fn a_program_that_ends_itself_after_a_sighup_was_not_ended_by_it() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.signal("a", "signal", "HUP").await.unwrap();
        up.exit("a", 0).await;
        assert_eq!(up.story(id).await.last().unwrap(), "exited 1 with 0");
    });
}

#[test]
fn a_sighup_that_ends_it_is_the_exits_cause() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.signal("a", "signal", "HUP").await.unwrap();
        let hup = WaitStatus::Signaled("HUP".parse().unwrap());
        assert!(up.control.exit(id, hup));
        up.quiet().await;
        assert_eq!(
            up.story(id).await.last().unwrap(),
            "exited 1 with 129 by signal"
        );
    });
}

#[test]
fn a_later_signal_does_not_take_the_cause_from_the_one_that_ends_it() {
    World::new().run(async |up| {
        let id = create_stubborn(up, "a").await;
        up.signal("a", "term", "TERM").await.unwrap();
        up.signal("a", "usr1", "USR1").await.unwrap();
        up.exit("a", 0).await;
        assert_eq!(
            up.story(id).await.last().unwrap(),
            "exited 1 with 0 by term"
        );
    });
}

#[test]
fn a_signal_of_the_last_run_does_not_cause_the_exit_of_the_next() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.signal("a", "kill", "KILL").await.unwrap();
        up.quiet().await;
        up.start("a", "start").await.unwrap();
        up.exit("a", 1).await;
        assert_eq!(up.story(id).await.last().unwrap(), "exited 2 with 1");
    });
}

#[test]
fn sigkill_thaws_a_paused_container_and_other_signals_do_not() {
    World::new().run(async |up| {
        let id = up.create_started("a").await;
        up.pause("a", "pause").await.unwrap();
        up.signal("a", "usr1", "USR1").await.unwrap();
        assert_eq!(up.state("a"), State::Paused);
        assert_eq!(up.control.tasks(), [(id, FoundState::Paused)]);
        up.signal("a", "kill", "KILL").await.unwrap();
        up.quiet().await;
        assert_eq!(
            up.story(id).await[3..],
            [
                "signaled SIGUSR1 by usr1",
                "signaled SIGKILL by kill",
                "resumed by kill",
                "exited 1 with 137 by kill",
            ]
        );
    });
}

#[test]
fn a_stop_whose_caller_leaves_goes_on() {
    World::new().run(async |up| {
        create_stubborn(up, "a").await;
        let stop = up.go(up.stop("a", "stop", grace(5))).await;
        stop.abort();
        up.pass(6 * SECOND).await;
        assert_eq!(up.state("a"), State::Exited);
    });
}

#[test]
fn ten_thousand_cancelled_stops_leave_nothing() {
    World::new().run(async |up| {
        let id = create_stubborn(up, "a").await;
        for round in 0..100 {
            let mut calls = Vec::new();
            for n in 0..100 {
                let request = format!("r{round}-{n}");
                calls.push(up.calls.spawn(up.stop("a", &request, grace(3600))));
            }
            up.quiet().await;
            calls.iter().for_each(|call| call.abort());
            for call in calls {
                assert!(call.await.unwrap_err().is_cancelled());
            }
        }
        assert_eq!(up.engine.core.tasks.len(), IDLE_TASKS + 1);
        assert_eq!(up.control.signals(id).len(), 1, "the signal was sent once");
        assert_eq!(up.story(id).await.len(), 4, "and nothing else happened");
        assert!(up.stop("a", "last", grace(0)).await.unwrap().killed);
        assert_eq!(up.state("a"), State::Exited);
    });
}

impl Up {
    /// How often a container's start reached the backend.
    fn get_started(&self, id: crate::model::ContainerId) -> u64 {
        let run = self.control.start_of(id).map(|start| start.run);
        run.map_or(0, |run| run.0)
    }
}
