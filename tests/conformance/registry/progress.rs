//! What a pull says of itself while it goes on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wharf_api::v1::PullImageRequest;
use wharf_api::v1::layer_progress::Phase;

use super::{Behind, reason, up};
use crate::harness::registry::{Access, At, Fault, Pulled};
use crate::harness::{scenario, spec};

fn at_interval(image: &str, interval: Duration) -> PullImageRequest {
    PullImageRequest {
        image: image.to_owned(),
        progress_interval: Some(spec::duration(interval)),
        ..Default::default()
    }
}

/// Totals that never shrink, and parts that are never more than their whole.
fn is_plausible(pulled: &Pulled) {
    let mut last = (0, 0);
    for progress in &pulled.progress {
        let now = (progress.done_bytes, progress.total_bytes);
        assert!(now.0 >= last.0 && now.1 >= last.1, "{now:?} after {last:?}");
        assert!(now.0 <= now.1, "{now:?}");
        last = now;
        for layer in &progress.layers {
            assert!(layer.done_bytes <= layer.total_bytes, "{layer:?}");
            assert_ne!(layer.phase(), Phase::Unspecified, "{layer:?}");
        }
    }
}

/// The phases of each blob, in order.
fn phases(pulled: &Pulled) -> BTreeMap<String, Vec<Phase>> {
    let mut phases: BTreeMap<String, Vec<Phase>> = BTreeMap::new();
    let layers = pulled.progress.iter().flat_map(|progress| &progress.layers);
    for layer in layers {
        let of_one = phases.entry(layer.digest.clone()).or_default();
        of_one.push(layer.phase());
    }
    phases
}

#[test]
fn a_pull_tells_its_totals_and_every_layer_to_the_end() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[300_000; 3]).await;
        behind.proxy.fail(At::Blobs, Fault::Drip(200_000));
        let client = up(world).await;
        let request = at_interval(&behind.image, Duration::from_millis(50));
        let pulled = client.pull_with(request).await.unwrap();
        behind.is_what_was_pulled(&pulled);
        is_plausible(&pulled);

        let layers: BTreeMap<_, _> = behind.pushed.layers().into_iter().collect();
        let size: u64 = layers.values().sum();
        let last = pulled.progress.last().expect("it takes more than a second");
        let total = u64::try_from(last.total_bytes).unwrap();
        let of_blobs: u64 = behind.pushed.blobs().iter().map(|(_, size)| size).sum();
        assert!(
            (size..=of_blobs + 100_000).contains(&total),
            "{total} of {size}"
        );
        assert_eq!(last.done_bytes, last.total_bytes);
        let phases = phases(&pulled);
        for digest in layers.keys() {
            let phases = phases
                .get(digest)
                .unwrap_or_else(|| panic!("nothing of {digest}"));
            assert!(phases.contains(&Phase::Transferring), "{phases:?}");
            assert_eq!(phases.last(), Some(&Phase::Done), "{phases:?}");
        }
        let told = pulled.progress.iter().flat_map(|progress| &progress.layers);
        for layer in told.filter(|layer| layers.contains_key(&layer.digest)) {
            let size = i64::try_from(layers[&layer.digest]).unwrap();
            assert_eq!(layer.total_bytes, size);
        }

        let again = client.pull(&behind.image).await.unwrap();
        assert!(!again.changed);
        for (digest, phases) in self::phases(&again) {
            assert_eq!(phases, [Phase::Exists], "{digest}");
        }
    });
}

#[test]
fn what_is_tried_again_says_so() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[300_000]).await;
        let layer = behind.last_layer();
        behind
            .proxy
            .fail_times(At::Blob(layer.clone()), Fault::Status(503), 2);
        let client = up(world).await;
        let request = at_interval(&behind.image, Duration::from_millis(50));
        let pulled = client.pull_with(request).await.unwrap();
        is_plausible(&pulled);
        let phases = &phases(&pulled)[&layer];
        assert!(phases.contains(&Phase::Retrying), "{phases:?}");
    });
}

#[test]
fn messages_are_as_far_apart_as_was_asked_for() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[300_000]).await;
        behind.proxy.fail(At::Blobs, Fault::Drip(100_000));
        let client = up(world).await;
        let mut counts = Vec::new();
        for interval in [Duration::from_millis(50), Duration::from_secs(1)] {
            let begun = Instant::now();
            let request = at_interval(&behind.image, interval);
            let pulled = client.pull_with(request).await.unwrap();
            let count = pulled.progress.len();
            // The first and the last need not wait for the interval.
            let most = begun.elapsed().as_millis() / interval.as_millis() + 2;
            assert!(count as u128 <= most, "{count} in {:?}", begun.elapsed());
            counts.push(count);
            client.remove_image(&behind.image).await.unwrap();
        }
        assert!(counts[0] > counts[1], "{counts:?}");

        let hasty = at_interval(&behind.image, Duration::from_millis(10));
        let refusal = client.pull_with(hasty).await.unwrap_err();
        assert_eq!(reason(&refusal), "INVALID_FIELD", "{refusal}");
        assert_eq!(refusal.fields(), ["progress_interval"].into());
    });
}
