//! SIGKILL of `wharfd` while it pulls and unpacks: nothing half is ever seen, and the same pull then comes to
//! its end.
//!
//! `WHARF_SEED` repeats a run's choices.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{Behind, up};
use crate::harness::registry::{Access, At, Fault};
use crate::harness::{scenario, tier};

#[test]
fn chaos_of_sigkills_during_pulls_leaves_the_image_right_or_not_there() {
    let (seed, rounds) = (tier::seed(), tier::kills_of_pulls());
    scenario(async |world| {
        let mut random = StdRng::seed_from_u64(seed);
        let behind = Behind::start(world, Access::Open, &[400_000; 6]).await;
        behind.proxy.fail(At::Blobs, Fault::Drip(1_000_000));
        let mut client = up(world).await;
        let begun = Instant::now();
        client.pull(&behind.image).await.unwrap();
        let whole = begun.elapsed();
        client.remove_image(&behind.image).await.unwrap();

        let mut completed = 0;
        for round in 0..rounds {
            // Sometimes just after its end.
            let window = whole + Duration::from_millis(200);
            let moment = window.mul_f64(random.random_range(0.0..1.0));
            let cut_off = {
                let pull = client.pull(&behind.image);
                tokio::time::timeout(moment, pull).await
            };
            world.wharfd.kill();
            client = world.wharfd.start().await;
            let here = client.every_image().await;
            match cut_off {
                Ok(pulled) => {
                    behind.is_what_was_pulled(&pulled.unwrap());
                    assert_eq!(here.len(), 1, "round {round}: what was told is kept");
                    completed += 1;
                }
                Err(_) => assert!(here.len() <= 1, "round {round}: {here:?}"),
            }
            let again = client.pull(&behind.image).await;
            let again = again.unwrap_or_else(|refusal| panic!("round {round}: {refusal}"));
            behind.is_what_was_pulled(&again);
            behind.noisy.is_right(&client, &behind.image).await;
            client.remove_image(&behind.image).await.unwrap();
            assert_eq!(client.every_image().await, [], "round {round}");
        }
        eprintln!("{rounds} kills within {whole:?}, {completed} after the end");
    });
}
