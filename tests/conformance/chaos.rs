//! SIGKILL of `wharfd` at random moments while containers live and die. What it acknowledged is checked
//! against its records, its journal, containerd, and what the programs themselves wrote down.
//!
//! `WHARF_SEED` repeats a run's choices, `WHARF_CHAOS_ROUNDS` says how many kills (`make chaos`: 100).

mod life;
mod verdict;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use wharf_api::v1::{Container, Event, WatchEventsRequest, watch_events_request::Start};

use crate::harness::{Client, World, scenario, tier};
use life::Life;

const WORKERS: usize = 4;
const SURVIVORS: usize = 3;
/// Made when all is over, so that a watcher knows when it has seen everything.
const LAST: &str = "the-last";

#[test]
fn chaos_of_sigkills_loses_nothing_doubles_nothing_and_ends_nothing() {
    let (seed, rounds) = (tier::seed(), tier::kills());
    scenario(async |world| {
        world.containerd_may_lose_shims();
        let client = world.up().await;
        let notes = world.directory().join("notes");
        fs::create_dir_all(&notes).unwrap();
        let survivors = start_survivors(&client).await;
        let over = AtomicBool::new(false);

        let lives = (0..WORKERS).map(|worker| {
            let random = StdRng::seed_from_u64(seed.wrapping_add(worker as u64 + 1));
            Life::new(worker, client.clone(), notes.clone(), random).go_on_until(&over)
        });
        let story = async {
            let (done, ()) = tokio::join!(join_all(lives), async {
                kill_again_and_again(world, rounds, StdRng::seed_from_u64(seed)).await;
                over.store(true, Ordering::Release);
            });
            client.create(LAST, &["true"]).await.unwrap();
            done.concat()
        };
        let (done, watched) = tokio::join!(story, follow(&client));
        eprintln!("{} containers lived through {rounds} kills", done.len());

        let journal = client.every_event().await;
        verdict::on_the_journal(&journal);
        verdict::on_lives(&client, &journal, &done, &notes).await;
        verdict::on_survivors(&client, &survivors).await;
        verdict::on_the_backend(&client, world).await;
        verdict::on_the_watch(&watched, &journal, LAST);
    });
}

async fn start_survivors(client: &Client) -> Vec<Container> {
    let mut survivors = Vec::new();
    for number in 0..SURVIVORS {
        let name = format!("survivor-{number}");
        survivors.push(client.run_patient(&name).await.unwrap());
    }
    survivors
}

async fn kill_again_and_again(world: &mut World, rounds: u64, mut random: StdRng) {
    for _ in 0..rounds {
        let moment = Duration::from_millis(random.random_range(0..1_200));
        tokio::time::sleep(moment).await;
        world.wharfd.kill();
        let away = Duration::from_millis(random.random_range(0..100));
        tokio::time::sleep(away).await;
        world.wharfd.launch();
        // Some are killed while they still recover.
        if random.random_range(0..4) > 0 {
            world.wharfd.ready().await;
        }
    }
    world.wharfd.ready().await;
}

/// A watcher that takes up its watch again after each break, from where it was.
async fn follow(client: &Client) -> Vec<Event> {
    let mut events = Vec::new();
    let mut cursor = String::new();
    loop {
        let start = match cursor.as_str() {
            "" => Start::SinceTime(prost_types::Timestamp::default()),
            cursor => Start::Cursor(cursor.to_owned()),
        };
        let request = WatchEventsRequest {
            start: Some(start),
            ..Default::default()
        };
        if let Ok(mut watch) = client.watch(request).await {
            while let Ok(Some(event)) = watch.event_or_break().await {
                let is_last = event.container_name == LAST;
                cursor.clone_from(&watch.cursor);
                events.push(event);
                if is_last {
                    return events;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
