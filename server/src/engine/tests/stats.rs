//! What is read of running containers, by page and by round.

use super::*;
use crate::model::Usage;
use crate::model::usage::CpuUsage;

const SECOND: Duration = Duration::from_secs(1);

fn used(cpu: Duration) -> Usage {
    Usage {
        cpu: CpuUsage {
            total: cpu,
            ..CpuUsage::default()
        },
        ..Usage::default()
    }
}

async fn page(up: &Up, after: Option<ContainerPosition>, limit: usize) -> StatsPage {
    let filter = ContainerFilter::default();
    up.engine.stats(&filter, after, limit).await.unwrap()
}

fn names(samples: &[ContainerSample]) -> Vec<&str> {
    samples.iter().map(|it| &*it.container.name).collect()
}

fn rounds(up: &Up, interval: Duration) -> StatsRounds {
    let all = ContainerFilter::default();
    up.engine.stats_rounds(all, interval).unwrap()
}

/// A round that is one part, in short: its number, names, and cores.
async fn next(rounds: &mut StatsRounds) -> String {
    let part = rounds.next().await.unwrap();
    assert!(part.is_last);
    let samples = part.samples.iter().map(|it| match it.cores {
        Some(cores) => format!(" {}={cores:.2}", it.container.name),
        None => format!(" {}", it.container.name),
    });
    format!("{}:{}", part.round, samples.collect::<String>())
}

#[test]
fn only_what_runs_has_stats_and_all_of_it_is_one_call() {
    World::new().run(async |up| {
        up.create("created").await;
        for name in ["running", "paused", "exited"] {
            up.create_started(name).await;
        }
        up.pause("paused", "p").await.unwrap();
        up.exit("exited", 0).await;
        let read = page(up, None, 10).await;
        assert_eq!(names(&read.samples), ["running", "paused"]);
        assert_eq!(read.next, None);
        assert_eq!(up.control.calls(Operation::Usage), 1);
        let exited = ContainerFilter {
            states: [State::Exited, State::Created].into(),
            ..ContainerFilter::default()
        };
        let read = up.engine.stats(&exited, None, 10).await.unwrap();
        assert!(read.samples.is_empty());
        let paused = ContainerFilter {
            states: [State::Exited, State::Paused].into(),
            ..ContainerFilter::default()
        };
        let read = up.engine.stats(&paused, None, 10).await.unwrap();
        assert_eq!(names(&read.samples), ["paused"]);
        // Nothing runs that is wanted: nothing was asked.
        assert_eq!(up.control.calls(Operation::Usage), 2);
    });
}

#[test]
fn pages_hold_each_running_container_once() {
    World::new().run(async |up| {
        for name in ["a", "b", "c", "d", "e"] {
            up.create_started(name).await;
        }
        up.exit("b", 0).await;
        let (mut after, mut seen) = (None, Vec::new());
        loop {
            let read = page(up, after, 2).await;
            seen.push(names(&read.samples).concat());
            after = read.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, ["ac", "de"]);
    });
}

#[test]
fn a_container_that_ends_while_it_is_read_is_left_out() {
    World::new().run(async |up| {
        up.create_started("ends").await;
        up.create_started("stays").await;
        let hold = up.control.hold_next_answer(Operation::Usage);
        let engine = up.engine.clone();
        let all = ContainerFilter::default();
        let reading = up
            .go(async move { engine.stats(&all, None, 10).await })
            .await;
        hold.reached().await;
        up.exit("ends", 0).await;
        // The next run of the same container is not the one that was read.
        up.start("ends", "again").await.unwrap();
        hold.release();
        let read = reading.await.unwrap().unwrap();
        assert_eq!(names(&read.samples), ["stays"]);
    });
}

#[test]
fn cores_are_what_was_used_since_the_last_sample() {
    World::new().run(async |up| {
        let a = up.create_started("a").await;
        let mut rounds = rounds(up, SECOND);
        assert_eq!(next(&mut rounds).await, "1: a");
        up.control.uses(a, used(SECOND * 3 / 2));
        tokio::time::advance(SECOND).await;
        assert_eq!(next(&mut rounds).await, "2: a=1.50");
        // A later container joins, and a new run begins anew.
        up.create_started("b").await;
        up.exit("a", 0).await;
        up.control.uses(a, used(SECOND / 2));
        up.start("a", "again").await.unwrap();
        tokio::time::advance(SECOND).await;
        assert_eq!(next(&mut rounds).await, "3: a b");
        tokio::time::advance(SECOND).await;
        assert_eq!(next(&mut rounds).await, "4: a=0.00 b=0.00");
    });
}

#[test]
fn a_round_without_containers_is_a_round() {
    World::new().run(async |up| {
        let mut rounds = rounds(up, SECOND);
        assert_eq!(next(&mut rounds).await, "1:");
        tokio::time::advance(SECOND).await;
        assert_eq!(next(&mut rounds).await, "2:");
        assert_eq!(up.control.calls(Operation::Usage), 0);
    });
}

#[test]
fn who_does_not_read_misses_rounds_and_makes_none_pile_up() {
    World::new().run(async |up| {
        let a = up.create_started("a").await;
        let mut rounds = rounds(up, SECOND);
        assert_eq!(next(&mut rounds).await, "1: a");
        up.control.uses(a, used(SECOND * 30));
        up.pass(SECOND * 60 + SECOND / 2).await;
        assert_eq!(up.control.calls(Operation::Usage), 1);
        // The average is over all the time, and the next round a whole interval later.
        assert_eq!(next(&mut rounds).await, "2: a=0.50");
        assert_eq!(up.control.calls(Operation::Usage), 2);
        let third = up.go(async move { next(&mut rounds).await }).await;
        up.pass(SECOND - Duration::from_millis(1)).await;
        assert!(!third.is_finished());
        up.pass(Duration::from_millis(2)).await;
        assert_eq!(third.await.unwrap(), "3: a=0.00");
    });
}

#[test]
fn without_the_backend_there_are_no_stats_and_a_stream_ends_with_that() {
    World::new().run(async |up| {
        up.create_started("a").await;
        let mut rounds = rounds(up, SECOND);
        assert_eq!(next(&mut rounds).await, "1: a");
        up.control.disconnect();
        let all = ContainerFilter::default();
        let refused = up.engine.stats(&all, None, 10).await.map(drop);
        assert_refused!(refused, Error::Backend(BackendError::Unavailable { .. }));
        let refused = up.engine.stats_rounds(all, SECOND).map(drop);
        assert_refused!(refused, Error::Backend(BackendError::Unavailable { .. }));
        tokio::time::advance(SECOND).await;
        let refused = rounds.next().await.map(drop);
        assert_refused!(refused, Error::Backend(BackendError::Unavailable { .. }));
    });
}
