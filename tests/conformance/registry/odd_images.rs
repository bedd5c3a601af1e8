//! Images that registries hold and nobody can run: each is refused for what it is, and nothing of it is kept.

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Behind, Noisy, is_the_image, reason, up};
use crate::harness::image::{CONFIG, INDEX, LAYER, MANIFEST, Recipe, Tar, architecture, digest};
use crate::harness::registry::{Access, Registry};
use crate::harness::scenario;

/// The diff ids of these layers, or whatever an image says they are.
fn config(diff_ids: &[&str]) -> Vec<u8> {
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    config.to_string().into_bytes()
}

/// An image of one layer.
#[derive(Clone)]
struct Odd<'a> {
    layer_type: &'a str,
    layer: &'a [u8],
    config_type: &'a str,
    config: Vec<u8>,
}

impl Odd<'_> {
    async fn put(&self, registry: &Registry, name: &str) {
        let repository = name.split(':').next().unwrap();
        let layer = registry.put_blob(repository, self.layer_type, self.layer);
        let config = registry.put_blob(repository, self.config_type, &self.config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "layers": [layer.await],
            "config": config.await,
        });
        registry.put_manifest(name, &manifest).await;
    }
}

#[test]
fn images_that_cannot_be_are_refused_and_leave_nothing() {
    scenario(async |world| {
        let registry = Registry::start(Access::Open).await;
        registry.known_to(&world.wharfd);
        let tar = Recipe::busybox("").layers.remove(0);
        let cut_off = &tar[..tar.len() / 3];
        let id = digest(&Sha256::digest(&tar));
        let id_of_cut_off = digest(&Sha256::digest(cut_off));

        let sound = Odd {
            layer_type: LAYER,
            layer: &tar,
            config_type: CONFIG,
            config: config(&[&id]),
        };
        let cases = [
            (
                "unknown-layer:1",
                Odd {
                    layer_type: "application/vnd.example.layer",
                    ..sound.clone()
                },
            ),
            (
                "cut-off:1",
                Odd {
                    layer: cut_off,
                    config: config(&[&id_of_cut_off]),
                    ..sound.clone()
                },
            ),
            (
                "too-few-ids:1",
                Odd {
                    config: config(&[]),
                    ..sound.clone()
                },
            ),
            (
                "other-id:1",
                Odd {
                    config: config(&[&digest(&[7; 32])]),
                    ..sound.clone()
                },
            ),
            (
                "not-json:1",
                Odd {
                    config: b"config".to_vec(),
                    ..sound.clone()
                },
            ),
            (
                "no-image:1",
                Odd {
                    config_type: "application/vnd.example.config",
                    config: b"{}".to_vec(),
                    ..sound
                },
            ),
        ];
        for (name, odd) in &cases {
            odd.put(&registry, name).await;
        }
        let client = up(world).await;
        let before = world.kept().await;
        for (name, ..) in &cases {
            let refusal = client.pull(&registry.reference(name)).await.unwrap_err();
            let expected = match *name {
                "other-id:1" => "DIGEST_MISMATCH",
                _ => "IMAGE_INVALID",
            };
            assert_eq!(reason(&refusal), expected, "{name}: {refusal}");
            assert_eq!(client.every_image().await, [], "{name}");
            world.nothing_is_left(&before, name).await;
        }
        registry.push(&Recipe::busybox(""), "good:1").await;
        client.pull(&registry.reference("good:1")).await.unwrap();
    });
}

#[test]
fn indexes_in_indexes_are_not_followed_for_ever() {
    scenario(async |world| {
        let registry = Registry::start(Access::Open).await;
        registry.known_to(&world.wharfd);
        let mut inner = registry.push(&Recipe::busybox(""), "app:1").await;
        for depth in 0..40 {
            let index = json!({
                "schemaVersion": 2,
                "mediaType": INDEX,
                "manifests": [{
                    "mediaType": inner.media_type(),
                    "digest": inner.digest,
                    "size": inner.size,
                    "platform": {"os": "linux", "architecture": architecture()},
                }],
            });
            inner = registry
                .put_manifest(&format!("app:deep-{depth}"), &index)
                .await;
        }
        let client = up(world).await;
        let before = world.kept().await;
        let deepest = registry.reference("app:deep-39");
        let refusal = client.pull(&deepest).await.unwrap_err();
        assert_eq!(reason(&refusal), "IMAGE_INVALID", "{refusal}");
        assert_eq!(client.every_image().await, []);
        world.nothing_is_left(&before, "a deep index").await;
        client.pull(&registry.reference("app:1")).await.unwrap();
    });
}

/// As BuildKit writes them for what changes no file.
fn with_empty_layers(mut noisy: Noisy) -> Noisy {
    for place in [1, 3, 3] {
        let empty = Tar::new().finish();
        noisy.recipe.layers.insert(place, empty);
    }
    noisy
}

#[test]
fn an_image_of_the_same_layer_several_times_comes_goes_and_comes_again() {
    scenario(async |world| {
        let noisy = with_empty_layers(Noisy::of(14, &[50_000, 100_000]));
        let behind = Behind::with(world, Access::Open, noisy).await;
        let layers = behind.pushed.layers();
        let same = layers.iter().filter(|layer| **layer == layers[1]).count();
        assert_eq!((layers.len(), same), (6, 3), "{layers:?}");
        let client = up(world).await;
        let before = world.kept().await;
        for round in ["first", "second"] {
            let pulled = client.pull(&behind.image).await.unwrap();
            behind.has_come(&client, &pulled).await;
            let again = client.pull(&behind.image).await.unwrap();
            assert!(!again.changed, "{round}");
            let archive = client.export(&[&behind.image]).await.unwrap();
            client.remove_image(&behind.image).await.unwrap();
            world.nothing_is_left(&before, round).await;

            client.import(archive).await.unwrap();
            behind.noisy.is_right(&client, &behind.image).await;
            client.remove_image(&behind.image).await.unwrap();
            world.nothing_is_left(&before, round).await;
        }
    });
}

#[test]
fn a_layer_in_the_place_of_another_is_refused_and_changes_nothing_of_the_image_that_has_both() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[50_000, 100_000]).await;
        // It says of its layers what the good one says.
        let mut manifest = behind.pushed.content.clone();
        manifest["mediaType"] = MANIFEST.into();
        manifest["layers"][2] = manifest["layers"][1].clone();
        behind.registry.put_manifest("app:twice", &manifest).await;
        let twice = behind.proxy.reference("app:twice");
        let client = up(world).await;
        let before = world.kept().await;
        let refusal = client.pull(&twice).await.unwrap_err();
        assert_eq!(reason(&refusal), "DIGEST_MISMATCH", "{refusal}");
        assert_eq!(client.every_image().await, []);
        world.nothing_is_left(&before, "the first pull").await;

        let pulled = client.pull(&behind.image).await.unwrap();
        behind.has_come(&client, &pulled).await;
        // Now that all of both is here, too.
        let before = world.kept().await;
        let refusal = client.pull(&twice).await.unwrap_err();
        assert_eq!(reason(&refusal), "DIGEST_MISMATCH", "{refusal}");
        world.nothing_is_left(&before, "the second pull").await;
        let here = client.every_image().await;
        assert_eq!(here.len(), 1, "{here:?}");
        is_the_image(&here[0], &behind.pushed, &behind.image);
        behind.noisy.is_right(&client, &behind.image).await;
    });
}
