//! Images that nothing uses go, and what everything takes is told.

use std::collections::HashSet;

use super::images::{archive_of, import};
use super::*;
use crate::model::Image;

/// What the tar of one small file takes; the fake says that it is twice that unpacked.
const LAYER: u64 = 2 << 10;
const UNPACKED: u64 = 2 * LAYER;

/// Two images on one base.
async fn siblings(up: &Up) -> (Arc<Image>, Arc<Image>) {
    let one = import(
        up,
        "one",
        archive_of(up, &["one:1", "one:2"], &["base", "one"]),
    );
    let one = one.await.unwrap();
    let two = import(up, "two", archive_of(up, &["two:1"], &["base", "two"]));
    (one, two.await.unwrap())
}

fn documents(image: &Image) -> u64 {
    image.target.size_bytes + image.config_json.len() as u64
}

#[test]
fn a_prune_frees_what_no_other_image_has() {
    World::new().run(async |up| {
        let (one, two) = siblings(up).await;
        let alone = |image: &Image| documents(image) + LAYER + UNPACKED;
        let with_base = |image: &Image| alone(image) + LAYER + UNPACKED;
        let gone = HashSet::new();
        assert_eq!(up.engine.would_free(&one, &gone).await, alone(&one));
        assert_eq!(up.engine.would_free(&two, &gone).await, alone(&two));
        let gone = HashSet::from([one.id.clone()]);
        assert_eq!(up.engine.would_free(&two, &gone).await, with_base(&two));

        let freed = up.engine.prune_image(cause("p"), one.clone()).await;
        assert_eq!(freed.unwrap(), Some(alone(&one)));
        let freed = up.engine.prune_image(cause("p"), two.clone()).await;
        assert_eq!(freed.unwrap(), Some(with_base(&two)));
        assert_eq!(up.engine.images().len(), 1);
        assert_eq!(up.control.images(), []);
        let story = up.chronicle().await;
        let told = [
            "untagged by p",
            "untagged by p",
            "image deleted by p",
            "untagged by p",
            "image deleted by p",
        ];
        assert_eq!(story[story.len() - told.len()..], told);
        let again = up.engine.prune_image(cause("p"), one).await;
        assert_eq!(again.unwrap(), None);
    });
}

#[test]
fn an_image_that_came_into_use_or_was_named_since_it_was_chosen_stays() {
    World::new().run(async |up| {
        let (one, two) = siblings(up).await;
        let mut create = request("a");
        create.spec.image = "one:1".to_owned();
        up.make(create).await;
        let tagged = up.engine.tag_image(cause("t"), "two:1", "two:2").await;
        tagged.unwrap();
        for image in [one, two] {
            let pruned = up.engine.prune_image(cause("p"), image).await;
            assert_eq!(pruned.unwrap(), None);
        }
        assert_eq!(up.engine.images().len(), 3);
    });
}

#[test]
fn layers_that_a_root_stands_on_are_not_freed_with_another_image() {
    World::new().run(async |up| {
        let base = import(up, "base", archive_of(up, &["base:1"], &["base"]));
        base.await.unwrap();
        let mut create = request("a");
        create.spec.image = "base:1".to_owned();
        up.make(create).await;
        let forced = up.engine.delete_image(cause("d"), "base:1", true);
        forced.await.unwrap();
        let one = import(up, "one", archive_of(up, &["one:1"], &["base", "one"]));
        let one = one.await.unwrap();
        let freed = up.engine.would_free(&one, &HashSet::new()).await;
        assert_eq!(freed, documents(&one) + 2 * LAYER + UNPACKED);
    });
}

#[test]
fn disk_use_counts_what_is_shared_once() {
    World::new().run(async |up| {
        let (one, two) = siblings(up).await;
        let mut create = request("a");
        create.spec.image = "one:1".to_owned();
        up.make(create).await;
        let usage = up.engine.disk_usage().await.unwrap();
        let all = documents(&one) + documents(&two) + 3 * (LAYER + UNPACKED);
        let of_two = documents(&two) + LAYER + UNPACKED;
        let images = usage.images;
        assert_eq!(
            (images.count, images.size_bytes, images.reclaimable_bytes),
            (3, all, of_two)
        );
        assert_eq!(usage.containers.count, 1);
        assert_eq!(usage.containers.reclaimable_bytes, 0, "it is not over");
        assert!(usage.state.count > 0 && usage.state.size_bytes > 0);
        assert_eq!(usage.state.reclaimable_bytes, 0);

        up.control.disconnect();
        assert_unavailable(up.engine.disk_usage().await, Applied::No);
    });
}
