//! Images that registries hold and nobody can run: each is refused for what it is, and nothing of it is kept.

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{reason, up};
use crate::harness::image::{CONFIG, INDEX, LAYER, MANIFEST, Recipe, architecture, digest};
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
        for (name, ..) in &cases {
            let refusal = client.pull(&registry.reference(name)).await.unwrap_err();
            let expected = match *name {
                // A digest tells.
                "other-id:1" => &["IMAGE_INVALID", "DIGEST_MISMATCH"][..],
                _ => &["IMAGE_INVALID"],
            };
            assert!(expected.contains(&reason(&refusal)), "{name}: {refusal}");
            assert_eq!(client.every_image().await, [], "{name}");
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
        let deepest = registry.reference("app:deep-39");
        let refusal = client.pull(&deepest).await.unwrap_err();
        let expected = ["IMAGE_INVALID", "REGISTRY_RESPONSE_INVALID"];
        assert!(expected.contains(&reason(&refusal)), "{refusal}");
        assert_eq!(client.every_image().await, []);
        client.pull(&registry.reference("app:1")).await.unwrap();
    });
}
