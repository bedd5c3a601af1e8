//! Downloads that break: they go on where they were, if the registry lets them, and are whole either way.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use wharf_api::v1::PullImageRequest;

use super::{Behind, reason, up};
use crate::harness::registry::{Access, At, Fault};
use crate::harness::{scenario, tier};

const SIZE: usize = 2_000_000;

#[test]
fn a_download_that_breaks_goes_on_where_it_was_and_no_byte_comes_twice() {
    let seed = tier::seed();
    scenario(async |world| {
        let mut random = StdRng::seed_from_u64(seed);
        let behind = Behind::start(world, Access::Open, &[SIZE]).await;
        let (layer, size) = behind.pushed.layers().pop().unwrap();
        let client = up(world).await;
        let first = random.random_range(1..size / 2);
        let second = random.random_range(1..size / 2);
        for offset in [first, second] {
            let cut = Fault::CutAfter(offset);
            behind.proxy.fail_times(At::Blob(layer.clone()), cut, 1);
        }
        let pulled = client.pull(&behind.image).await.unwrap();
        behind.has_come(&client, &pulled).await;

        let asked = behind.proxy.fetched(&At::Blob(layer));
        let ranges: Vec<_> = asked
            .iter()
            .map(|asked| asked.range().map(str::to_owned))
            .collect();
        let from = |offset: u64| format!("bytes={offset}-");
        let starts_at = |range: &Option<String>, offset: u64| {
            range
                .as_ref()
                .is_some_and(|range| range.starts_with(&from(offset)))
        };
        assert_eq!(ranges.len(), 3, "{ranges:?}");
        assert_eq!(ranges[0], None);
        assert!(
            starts_at(&ranges[1], first),
            "{ranges:?}, cut after {first}"
        );
        assert!(
            starts_at(&ranges[2], first + second),
            "{ranges:?}, and {second}"
        );
        let sizes: BTreeMap<_, _> = behind.pushed.blobs().into_iter().collect();
        assert_eq!(behind.proxy.sent(), sizes, "each byte once");
    });
}

#[test]
fn downloads_that_break_at_random_offsets_are_whole_in_the_end() {
    let seed = tier::seed();
    scenario(async |world| {
        let mut random = StdRng::seed_from_u64(seed);
        let behind = Behind::start(world, Access::Open, &[SIZE / 4; 3]).await;
        let client = up(world).await;
        for _ in 0..5 {
            for (layer, size) in behind.pushed.layers() {
                let offset = random.random_range(0..size);
                behind
                    .proxy
                    .fail_times(At::Blob(layer), Fault::CutAfter(offset), 1);
            }
            let pulled = client.pull(&behind.image).await.unwrap();
            behind.has_come(&client, &pulled).await;
            client.remove_image(&behind.image).await.unwrap();
            behind.proxy.heal();
        }
    });
}

#[test]
fn a_registry_that_does_not_mind_ranges_or_sends_others_gives_the_image_all_the_same() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[SIZE / 4]).await;
        let layer = At::Blob(behind.last_layer());
        let client = up(world).await;
        for fault in [Fault::WholeForRange, Fault::OtherRange, Fault::Status(416)] {
            behind
                .proxy
                .fail_times(layer.clone(), Fault::CutAfter(100_000), 1);
            behind.proxy.fail_times(layer.clone(), fault.clone(), 1);
            let pulled = client.pull(&behind.image).await;
            let pulled = pulled.unwrap_or_else(|refusal| panic!("{fault:?}: {refusal}"));
            behind.has_come(&client, &pulled).await;
            client.remove_image(&behind.image).await.unwrap();
            behind.proxy.heal();
        }
    });
}

#[test]
fn a_pull_that_was_refused_is_continued_by_the_next_one_and_no_layer_comes_twice() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[SIZE / 4; 4]).await;
        let last = behind.last_layer();
        let client = up(world).await;
        // It is asked for again a little later, and by then everything else is here.
        let busy = Fault::TooMany(Some(3));
        behind.proxy.fail(At::Blob(last.clone()), busy);
        let request = PullImageRequest {
            image: behind.image.clone(),
            ..Default::default()
        };
        let mut pulling = client.pulling(request).await.unwrap();
        let mut coming: BTreeSet<_> = behind.pushed.layers().into_iter().collect();
        coming.retain(|(digest, _)| *digest != last);
        while !coming.is_empty() {
            let told = pulling.progress().await.unwrap().expect("it goes on");
            for layer in told.layers {
                let done = u64::try_from(layer.done_bytes).unwrap();
                coming.remove(&(layer.digest, done));
            }
        }
        behind.proxy.heal();
        behind
            .proxy
            .fail(At::Blob(last.clone()), Fault::Status(404));
        let refusal = pulling.end().await.unwrap_err();
        assert_eq!(reason(&refusal), "REGISTRY_IMAGE_NOT_FOUND", "{refusal}");
        assert_eq!(client.every_image().await, []);

        behind.proxy.heal();
        behind.proxy.forget();
        let pulled = client.pull(&behind.image).await.unwrap();
        behind.has_come(&client, &pulled).await;
        let mut missing: BTreeMap<_, _> = behind.pushed.blobs().into_iter().collect();
        missing.retain(|digest, _| *digest == last || digest == behind.pushed.config());
        assert_eq!(behind.proxy.sent(), missing);
    });
}
