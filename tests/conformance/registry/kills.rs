//! SIGKILL of `wharfd` while it pulls and unpacks: nothing half is ever seen, and the same pull then comes to
//! its end, with what had come.
//!
//! `WHARF_SEED` repeats a run's choices.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::time::sleep;

use super::{Behind, Noisy, up};
use crate::harness::registry::{Access, At, Fault};
use crate::harness::{Client, World, scenario, tier, until, wait::so};

/// Bytes of each blob in a second: most of the pull is its download.
const SLOW: u64 = 300_000;
/// Of a slow blob, what may have been sent and not kept: what was on its way at the kill, and what was sent before
/// the end was noticed. A proxy sends ten drops a second.
const ON_ITS_WAY: u64 = 4 * SLOW / 10;
/// How long a kill takes to be noticed.
const SOON: Duration = Duration::from_secs(30);

/// What most of a pull's time goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mostly {
    Downloads,
    Unpacks,
}

impl Mostly {
    fn begins(self, behind: &Behind) {
        behind.proxy.heal();
        behind.proxy.forget();
        if self == Self::Downloads {
            behind.proxy.fail(At::Blobs, Fault::Drip(SLOW));
        }
    }

    /// How long a pull takes that nothing happens to.
    async fn measured(self, world: &World, behind: &Behind, client: &Client) -> Duration {
        self.begins(behind);
        let before = world.kept().await;
        let begun = Instant::now();
        client.pull(&behind.image).await.unwrap();
        let whole = begun.elapsed();
        client.remove_image(&behind.image).await.unwrap();
        world.nothing_is_left(&before, "a pull").await;
        whole
    }
}

/// Pulls, and kills the server meanwhile. Whether the pull came to its end before.
async fn is_told(world: &mut World, behind: &Behind, client: &Client, moment: Duration) -> bool {
    let kill = async {
        sleep(moment).await;
        world.wharfd.kill();
    };
    let (pulled, ()) = tokio::join!(client.pull(&behind.image), kill);
    until("nothing is sent any more", SOON, async || {
        let sending = behind.proxy.sending();
        so(sending == 0, || format!("{sending} blobs are being sent"))
    })
    .await;
    match pulled {
        Ok(pulled) => {
            behind.is_what_was_pulled(&pulled);
            true
        }
        Err(refusal) => {
            assert_eq!(refusal.reason, None, "only the kill ends it: {refusal}");
            false
        }
    }
}

/// Size, and what was sent so far, of each layer.
fn sent(behind: &Behind) -> Vec<(u64, u64)> {
    let sent = behind.proxy.sent();
    let layers = behind.pushed.layers().into_iter();
    layers
        .map(|(layer, size)| (size, sent.get(&layer).copied().unwrap_or_default()))
        .collect()
}

#[test]
fn chaos_of_sigkills_during_pulls_leaves_the_image_right_or_not_there() {
    let (seed, rounds) = (tier::seed(), tier::kills_of_pulls());
    scenario(async |world| {
        let mut random = StdRng::seed_from_u64(seed);
        let noisy = Noisy::of(1, &[400_000; 6]).and_small_files(3, 3_000);
        let behind = Behind::with(world, Access::Open, noisy).await;
        let mut client = up(world).await;
        let mut kinds = Vec::new();
        for mostly in [Mostly::Downloads, Mostly::Unpacks] {
            let whole = mostly.measured(world, &behind, &client).await;
            kinds.push((mostly, whole));
        }

        let before = world.kept().await;
        let mut completed = 0;
        for (round, (mostly, whole)) in (0..rounds).zip(kinds.iter().copied().cycle()) {
            mostly.begins(&behind);
            // Sometimes just after its end.
            let moment = whole.mul_f64(random.random_range(0.0..1.1));
            let what = format!("round {round}, {mostly:?}, killed after {moment:?} of {whole:?}");
            let told = is_told(world, &behind, &client, moment).await;
            client = world.wharfd.start().await;
            let here = client.every_image().await.len();
            assert!(here <= 1, "{what}: {here} images");
            if told {
                assert_eq!(here, 1, "{what}: what was told is kept");
                completed += 1;
            }
            if here == 1 {
                behind.noisy.is_right(&client, &behind.image).await;
            }

            let again = client.pull(&behind.image).await;
            let again = again.unwrap_or_else(|refusal| panic!("{what}: {refusal}"));
            behind.has_come(&client, &again).await;
            if mostly == Mostly::Downloads {
                let sent = sent(&behind);
                let mut layers = sent.iter();
                let goes_on = layers.all(|(size, sent)| *sent <= size + ON_ITS_WAY);
                assert!(
                    goes_on,
                    "{what}: sizes, and what was sent by both: {sent:?}"
                );
            }
            client.remove_image(&behind.image).await.unwrap();
            assert_eq!(client.every_image().await, [], "{what}");
            // Layers that were unpacked before the kill are not downloaded again, and their downloads stay.
            world.only_downloads_are_left(&before, &what).await;
        }
        eprintln!("{rounds} kills within {kinds:?}, {completed} after the end");
    });
}
