//! Registries that send something else than what they should: it is never taken, never followed to no end,
//! and never kept.

use bytes::Bytes;
use serde_json::json;

use super::{Behind, reason, up, with_short_stalls};
use crate::harness::image::{INDEX, MANIFEST};
use crate::harness::registry::{Access, At, Fault, FaultProxy, PASSWORD, credentials};
use crate::harness::scenario;

#[test]
fn content_that_is_not_what_its_digest_says_is_never_taken() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[100_000, 3_000_000]).await;
        let layer = At::Blob(behind.last_layer());
        let config = At::Blob(behind.pushed.config().to_owned());
        let client = up(world).await;
        for (at, fault, expected) in [
            (layer.clone(), Fault::WrongByte, "DIGEST_MISMATCH"),
            // It cannot be read, which shows long before its digest does.
            (layer.clone(), Fault::WrongStart, "DIGEST_MISMATCH"),
            (config.clone(), Fault::WrongByte, "DIGEST_MISMATCH"),
            // By the header that the registry sends with it.
            (At::Manifests, Fault::WrongByte, "DIGEST_MISMATCH"),
            // A layer is gone on with, and always breaks off; a config is taken for all there is.
            (layer.clone(), Fault::Half, "REGISTRY_UNAVAILABLE"),
            (config, Fault::Half, "DIGEST_MISMATCH"),
            (layer, Fault::CutAfter(0), "REGISTRY_UNAVAILABLE"),
        ] {
            behind.refuses(world, &client, at, fault, expected).await;
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
            behind.has_come(&client, &pulled).await;
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
            (
                At::Manifests,
                Fault::Endless(MANIFEST),
                "REGISTRY_RESPONSE_INVALID",
            ),
            (
                At::Blob(behind.pushed.config().to_owned()),
                Fault::Endless(octets),
                "REGISTRY_RESPONSE_INVALID",
            ),
            // It is read to where the layer should end.
            (
                At::Blob(behind.last_layer()),
                Fault::Endless(octets),
                "DIGEST_MISMATCH",
            ),
        ] {
            behind.refuses(world, &client, at, fault, expected).await;
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
        let invalid = "REGISTRY_RESPONSE_INVALID";
        for (media_type, body, expected) in [
            ("text/html", "<html>sign in</html>".into(), invalid),
            (MANIFEST, Bytes::new(), invalid),
            (MANIFEST, deep.into(), invalid),
            (MANIFEST, large.into(), invalid),
            // These are what they are said to be, as far as that goes.
            (MANIFEST, "{}".into(), "IMAGE_INVALID"),
            (MANIFEST, without.into(), "IMAGE_INVALID"),
        ] {
            let fault = Fault::Instead(media_type, body);
            behind
                .refuses(world, &client, At::Manifests, fault, expected)
                .await;
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
        // By its digest the registry sends the same again, which is not what has that digest.
        let expected = "DIGEST_MISMATCH";
        behind
            .refuses(world, &client, At::Manifests, fault, expected)
            .await;
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
        behind.has_come(&client, &pulled.unwrap()).await;

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
        assert_eq!(reason(&refusal), "REGISTRY_RESPONSE_INVALID", "{refusal}");
        assert_eq!(client.every_image().await, []);
    });
}

#[test]
fn a_store_that_asks_for_credentials_of_its_own_gets_none() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Password, &[100_000]).await;
        let store = FaultProxy::store(behind.registry.address()).await;
        let elsewhere = Fault::Redirect(store.address().to_owned());
        behind.proxy.fail(At::Blobs, elsewhere);
        let client = up(world).await;
        let layer = At::Blob(behind.last_layer());
        let address = store.address();
        for challenge in [
            format!(r#"Bearer realm="http://{address}/token",service="mine""#),
            r#"Basic realm="mine""#.to_owned(),
        ] {
            store.heal();
            store.forget();
            store.fail(layer.clone(), Fault::Challenge(challenge.clone()));
            // It would take the password for one.
            let token = r#"{"token":"of mine"}"#.into();
            store.fail(At::Tokens, Fault::Instead("application/json", token));
            let pulled = client.pull_by(&behind.image, credentials(PASSWORD)).await;
            let refusal = pulled.unwrap_err();
            assert_eq!(reason(&refusal), "REGISTRY_AUTH_FAILED", "{refusal}");
            assert_eq!(client.every_image().await, [], "{challenge}");

            assert!(!store.fetched(&layer).is_empty(), "nobody was sent there");
            for asked in store.asked(&At::Anything) {
                // Blobs and nothing else: no body, and no query.
                assert!(At::Blobs.is(&asked.path), "{asked:?}");
                assert_eq!(asked.method, "GET", "{asked:?}");
                assert!(!asked.headers.contains_key("authorization"), "{asked:?}");
            }
        }
    });
}
