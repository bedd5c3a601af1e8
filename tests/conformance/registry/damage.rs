//! Registries that send something else than what they should: it is never taken, never followed to no end,
//! and never kept.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;

use super::{Behind, reason, up, with_short_stalls};
use crate::harness::image::{INDEX, MANIFEST};
use crate::harness::registry::{Access, At, Fault, FaultProxy, PASSWORD, credentials};
use crate::harness::{Client, scenario};

/// Long enough for every retry there is.
const BOUND: Duration = Duration::from_secs(120);

const INVALID: &[&str] = &["REGISTRY_RESPONSE_INVALID", "IMAGE_INVALID"];
/// A digest may tell first.
const NOT_THE_SAME: &[&str] = &[
    "DIGEST_MISMATCH",
    "REGISTRY_RESPONSE_INVALID",
    "IMAGE_INVALID",
];
/// A body that is too short may be a break or a damage.
const TOO_SHORT: &[&str] = &["DIGEST_MISMATCH", "REGISTRY_UNAVAILABLE"];

async fn is_refused(behind: &Behind, client: &Client, at: At, fault: Fault, expected: &[&str]) {
    // A body may be large.
    let told = format!("{fault:.80?} at {at:?}");
    behind.proxy.fail(at, fault);
    let refusal = client.with_deadline(BOUND).pull(&behind.image).await;
    let refusal = refusal.unwrap_err();
    assert!(expected.contains(&reason(&refusal)), "{told}: {refusal}");
    assert_eq!(client.every_image().await, [], "{told}");
    behind.is_well(client).await;
}

#[test]
fn content_that_is_not_what_its_digest_says_is_never_taken() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[100_000, 3_000_000]).await;
        let layer = At::Blob(behind.last_layer());
        let config = At::Blob(behind.pushed.config().to_owned());
        let client = up(world).await;
        for (at, fault, expected) in [
            (layer.clone(), Fault::WrongByte, &["DIGEST_MISMATCH"][..]),
            // It cannot be read, which shows long before its digest does.
            (layer.clone(), Fault::WrongStart, &["DIGEST_MISMATCH"]),
            (config.clone(), Fault::WrongByte, &["DIGEST_MISMATCH"]),
            (At::Manifests, Fault::WrongByte, NOT_THE_SAME),
            (layer.clone(), Fault::Half, TOO_SHORT),
            (config, Fault::Half, TOO_SHORT),
            (layer, Fault::CutAfter(0), &["REGISTRY_UNAVAILABLE"]),
        ] {
            is_refused(&behind, &client, at, fault, expected).await;
        }
    });
}

#[test]
fn a_mismatch_tells_both_digests() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[100_000]).await;
        let layer = behind.last_layer();
        let client = up(world).await;
        behind.proxy.fail(At::Blob(layer.clone()), Fault::WrongByte);
        let refusal = client.pull(&behind.image).await.unwrap_err();
        assert_eq!(reason(&refusal), "DIGEST_MISMATCH", "{refusal}");
        assert_eq!(refusal.metadata["expected"], layer);
        assert_ne!(refusal.metadata["actual"], layer);
    });
}

#[test]
fn content_that_comes_damaged_once_is_fetched_again() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[100_000]).await;
        let client = up(world).await;
        for fault in [Fault::WrongByte, Fault::WrongStart, Fault::Half] {
            let layer = At::Blob(behind.last_layer());
            behind.proxy.fail_times(layer, fault, 1);
            let pulled = client.pull(&behind.image).await.unwrap();
            behind.is_what_was_pulled(&pulled);
            behind.noisy.is_right(&client, &behind.image).await;
            client.remove_image(&behind.image).await.unwrap();
        }
    });
}

#[test]
fn bodies_without_end_are_not_read_to_it() {
    scenario(async |world| {
        with_short_stalls(world);
        let behind = Behind::start(world, Access::Open, &[100_000]).await;
        let client = up(world).await;
        let octets = "application/octet-stream";
        for (at, fault, expected) in [
            (At::Manifests, Fault::Endless(MANIFEST), INVALID),
            (
                At::Blob(behind.pushed.config().to_owned()),
                Fault::Endless(octets),
                NOT_THE_SAME,
            ),
            (
                At::Blob(behind.last_layer()),
                Fault::Endless(octets),
                NOT_THE_SAME,
            ),
        ] {
            is_refused(&behind, &client, at, fault, expected).await;
        }
    });
}

#[test]
fn manifests_that_are_none_are_invalid() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[1_000]).await;
        let client = up(world).await;
        let mut large = br#"{"schemaVersion":2,"annotations":{"a":""#.to_vec();
        large.resize(100 << 20, b'a');
        let deep = "[".repeat(100_000);
        let without = json!({"schemaVersion": 2, "mediaType": MANIFEST}).to_string();
        for fault in [
            Fault::Instead("text/html", "<html>sign in</html>".into()),
            Fault::Instead(MANIFEST, Bytes::new()),
            Fault::Instead(MANIFEST, "{}".into()),
            Fault::Instead(MANIFEST, deep.into()),
            Fault::Instead(MANIFEST, without.into()),
            Fault::Instead(MANIFEST, large.into()),
        ] {
            is_refused(&behind, &client, At::Manifests, fault, NOT_THE_SAME).await;
        }
    });
}

#[test]
fn an_index_that_names_itself_is_not_followed_around() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[1_000]).await;
        let client = up(world).await;
        let named = &behind.pushed;
        let platform =
            json!({"os": "linux", "architecture": crate::harness::image::architecture()});
        let itself = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [{
                "mediaType": INDEX,
                "digest": named.digest,
                "size": named.size,
                "platform": platform,
            }],
        });
        let fault = Fault::Instead(INDEX, itself.to_string().into());
        is_refused(&behind, &client, At::Manifests, fault, NOT_THE_SAME).await;
        let asked = behind.proxy.fetched(&At::Manifests).len();
        assert!(asked < 50, "asked {asked} times");
    });
}

#[test]
fn redirects_are_followed_without_credentials_and_not_around() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Password, &[100_000]).await;
        let store = FaultProxy::store(behind.registry.address()).await;
        let client = up(world).await;
        let elsewhere = Fault::Redirect(store.address().to_owned());
        behind.proxy.fail(At::Blobs, elsewhere);
        let pulled = client.pull_by(&behind.image, credentials(PASSWORD)).await;
        behind.is_what_was_pulled(&pulled.unwrap());
        behind.noisy.is_right(&client, &behind.image).await;

        let here = behind.proxy.asked(&At::Blobs);
        assert!(
            here.iter()
                .any(|asked| asked.headers.contains_key("authorization"))
        );
        let there = store.asked(&At::Anything);
        assert!(!there.is_empty(), "nobody was sent there");
        for asked in there {
            assert!(!asked.headers.contains_key("authorization"), "{asked:?}");
            assert!(!asked.headers.contains_key("cookie"), "{asked:?}");
        }

        client.remove_image(&behind.image).await.unwrap();
        behind.proxy.heal();
        let itself = Fault::Redirect(behind.proxy.address().to_owned());
        behind.proxy.fail(At::Blobs, itself);
        let around = client.pull_by(&behind.image, credentials(PASSWORD)).await;
        let refusal = around.unwrap_err();
        let expected = ["REGISTRY_RESPONSE_INVALID", "REGISTRY_UNAVAILABLE"];
        assert!(expected.contains(&reason(&refusal)), "{refusal}");
        assert_eq!(client.every_image().await, []);
    });
}
