//! Registries that are busy, broken or away: what passes is waited out, and what does not is said.

use std::time::Duration;

use super::{BOUND, Behind, reason, up, with_short_stalls};
use crate::harness::registry::{Access, At, Fault, PASSWORD, Registry, credentials};
use crate::harness::{Client, World, scenario};

/// Faults that are over before patience is.
async fn is_waited_out(behind: &Behind, client: &Client, at: At, fault: Fault) {
    let told = format!("{fault:?} at {at:?}");
    behind.proxy.fail_times(at, fault, 2);
    let pulled = client.pull(&behind.image).await;
    let pulled = pulled.unwrap_or_else(|refusal| panic!("{told}: {refusal}"));
    behind.has_come(client, &pulled).await;
    client.remove_image(&behind.image).await.unwrap();
    behind.proxy.heal();
}

/// Faults that are not: one reason, nothing new, and all is well when they are over.
async fn is_refused(
    world: &World,
    behind: &Behind,
    client: &Client,
    at: At,
    fault: Fault,
    expected: &str,
) {
    let told = format!("{fault:?} at {at:?}");
    let refusal = behind.refuses(world, client, at, fault, expected).await;
    let registry = &refusal.metadata["registry"];
    assert_eq!(registry, behind.proxy.address(), "{told}");
    assert!(refusal.retry_after.is_some(), "{told}");
}

#[test]
fn a_registry_that_is_busy_or_broken_for_a_moment_is_waited_for() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[50_000; 2]).await;
        let client = up(world).await;
        for fault in [
            Fault::TooMany(Some(1)),
            Fault::TooMany(None),
            Fault::Status(500),
            Fault::Status(502),
            Fault::Status(503),
            Fault::Cut,
        ] {
            is_waited_out(&behind, &client, At::Manifests, fault.clone()).await;
            is_waited_out(&behind, &client, At::Blob(behind.last_layer()), fault).await;
        }
    });
}

#[test]
fn a_registry_that_stays_busy_is_said_to_be_so_with_its_own_delay() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[50_000]).await;
        let client = up(world).await;
        for at in [At::Manifests, At::Blobs] {
            let busy = Fault::TooMany(Some(3_600));
            is_refused(
                world,
                &behind,
                &client,
                at.clone(),
                busy,
                "REGISTRY_RATE_LIMITED",
            )
            .await;
        }
        behind
            .proxy
            .fail(At::Manifests, Fault::TooMany(Some(3_600)));
        let refusal = client.pull(&behind.image).await.unwrap_err();
        let delay = refusal.retry_after.unwrap();
        assert!(delay > Duration::from_secs(3_000), "{delay:?}");
    });
}

#[test]
fn a_registry_that_stays_broken_is_unavailable() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[50_000]).await;
        let client = up(world).await;
        for fault in [Fault::Status(500), Fault::Status(503), Fault::Cut] {
            for at in [At::Manifests, At::Blob(behind.last_layer())] {
                let expected = "REGISTRY_UNAVAILABLE";
                is_refused(world, &behind, &client, at, fault.clone(), expected).await;
            }
        }
    });
}

#[test]
fn a_registry_that_does_not_answer_or_stalls_is_unavailable() {
    scenario(async |world| {
        with_short_stalls(world);
        let behind = Behind::start(world, Access::Open, &[200_000]).await;
        let layer = At::Blob(behind.last_layer());
        let client = up(world).await;
        for (at, fault) in [
            (At::Manifests, Fault::Hang),
            (layer.clone(), Fault::Hang),
            (At::Manifests, Fault::StallAfter(10)),
            (layer.clone(), Fault::StallAfter(0)),
            (layer, Fault::Drip(20)),
        ] {
            is_refused(world, &behind, &client, at, fault, "REGISTRY_UNAVAILABLE").await;
        }
    });
}

#[test]
fn a_transfer_that_stalls_once_goes_on_where_it_was() {
    scenario(async |world| {
        with_short_stalls(world);
        let behind = Behind::start(world, Access::Open, &[200_000]).await;
        let client = up(world).await;
        let layer = At::Blob(behind.last_layer());
        behind
            .proxy
            .fail_times(layer, Fault::StallAfter(100_000), 1);
        let pulled = client.pull(&behind.image).await.unwrap();
        behind.has_come(&client, &pulled).await;
    });
}

#[test]
fn a_slow_transfer_that_is_fast_enough_comes_to_its_end() {
    scenario(async |world| {
        with_short_stalls(world);
        let behind = Behind::start(world, Access::Open, &[50_000]).await;
        let client = up(world).await;
        // Twice as long as a stall may take, and ten times as fast as one.
        let layer = At::Blob(behind.last_layer());
        behind.proxy.fail(layer, Fault::Drip(8_000));
        let pulled = client.pull(&behind.image).await.unwrap();
        behind.has_come(&client, &pulled).await;
    });
}

#[test]
fn a_registry_that_is_not_there_is_unavailable_and_one_that_comes_back_is_not() {
    scenario(async |world| {
        let mut behind = Behind::start(world, Access::Open, &[50_000]).await;
        let gone = Registry::start(Access::Open).await;
        gone.known_to(&world.wharfd);
        let there = gone.reference("app:1");
        let client = up(world).await;
        drop(gone);
        let refusal = client.pull(&there).await.unwrap_err();
        assert_eq!(reason(&refusal), "REGISTRY_UNAVAILABLE", "{refusal}");

        client.pull(&behind.image).await.unwrap();
        behind.registry.kill();
        let other = behind.proxy.reference("other:1");
        let refusal = client.push(&behind.image, &other).await.unwrap_err();
        assert_eq!(reason(&refusal), "REGISTRY_UNAVAILABLE", "{refusal}");
        // What is here already needs no registry.
        behind.noisy.is_right(&client, &behind.image).await;
    });
}

#[test]
fn tokens_that_do_not_come_are_as_a_registry_that_does_not_answer() {
    scenario(async |world| {
        with_short_stalls(world);
        let registry = Registry::start(Access::Token).await;
        registry.known_to(&world.wharfd);
        let noisy = super::Noisy::of(5, &[1_000]);
        registry.push(&noisy.recipe, "app:1").await;
        let image = registry.reference("app:1");
        let client = up(world).await.with_deadline(BOUND);
        let tokens = registry.tokens();
        for (fault, expected) in [
            (Fault::Status(503), &["REGISTRY_UNAVAILABLE"][..]),
            (Fault::Cut, &["REGISTRY_UNAVAILABLE"]),
            (Fault::Hang, &["REGISTRY_UNAVAILABLE"]),
            (Fault::TooMany(Some(3_600)), &["REGISTRY_RATE_LIMITED"]),
            (
                Fault::Instead("text/html", "<html>".into()),
                &["REGISTRY_RESPONSE_INVALID"],
            ),
            (
                Fault::Endless("application/json"),
                &["REGISTRY_RESPONSE_INVALID"],
            ),
        ] {
            tokens.fail(At::Tokens, fault.clone());
            let refusal = client.pull_by(&image, credentials(PASSWORD)).await;
            let refusal = refusal.unwrap_err();
            assert!(expected.contains(&reason(&refusal)), "{fault:?}: {refusal}");
            assert_eq!(client.every_image().await, [], "{fault:?}");
            tokens.heal();
        }
        tokens.fail_times(At::Tokens, Fault::Status(500), 1);
        client.pull_by(&image, credentials(PASSWORD)).await.unwrap();
        noisy.is_right(&client, &image).await;
    });
}

#[test]
fn a_push_waits_out_what_passes() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[200_000; 2]).await;
        let client = up(world).await;
        client.pull(&behind.image).await.unwrap();
        for (number, fault) in [Fault::Status(500), Fault::TooMany(Some(1)), Fault::Cut]
            .into_iter()
            .enumerate()
        {
            let name = format!("copy:{number}");
            behind.proxy.fail_times(At::Uploads, fault.clone(), 1);
            behind.proxy.fail_times(At::Manifests, fault, 1);
            let destination = behind.proxy.reference(&name);
            let sent = client.push(&behind.image, &destination).await.unwrap();
            assert_eq!(sent.digest, behind.pushed.digest);
            assert_eq!(behind.registry.manifest(&name).await, behind.pushed);
        }
        behind.proxy.fail(At::Manifests, Fault::Status(500));
        let destination = behind.proxy.reference("copy:no");
        let refusal = client.push(&behind.image, &destination).await.unwrap_err();
        assert_eq!(reason(&refusal), "REGISTRY_UNAVAILABLE", "{refusal}");
    });
}
