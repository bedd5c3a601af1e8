//! One download for all who ask, for as long as one of them is there.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use wharf_api::v1::PullImageRequest;

use super::{Behind, Noisy, up};
use crate::harness::registry::{Access, At, Fault};
use crate::harness::wait::so;
use crate::harness::{scenario, until};

const SOON: Duration = Duration::from_secs(30);

fn pull(image: &str, continue_on_disconnect: bool) -> PullImageRequest {
    PullImageRequest {
        image: image.to_owned(),
        continue_on_disconnect,
        ..Default::default()
    }
}

#[test]
fn ten_clients_pull_one_image_and_each_byte_comes_once() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[500_000; 3]).await;
        // Slow enough that all ten are there before the first has it.
        behind.proxy.fail(At::Blobs, Fault::Drip(200_000));
        up(world).await;
        let clients: Vec<_> = (0..10).map(|_| world.wharfd.client()).collect();
        let pulls = clients.iter().map(|client| client.pull(&behind.image));
        for pulled in join_all(pulls).await {
            behind.is_what_was_pulled(&pulled.unwrap());
        }
        let sizes: BTreeMap<_, _> = behind.pushed.blobs().into_iter().collect();
        assert_eq!(behind.proxy.sent(), sizes);
        behind.noisy.is_right(&clients[0], &behind.image).await;
    });
}

#[test]
fn images_that_share_layers_share_their_downloads() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[300_000; 2]).await;
        let more = Noisy::of(1, &[300_000, 300_000, 1_000]);
        let other = behind.registry.push(&more.recipe, "other:1").await;
        behind.proxy.fail(At::Blobs, Fault::Drip(200_000));
        let client = up(world).await;
        let others_image = behind.proxy.reference("other:1");
        let (one, two) = tokio::join!(client.pull(&behind.image), client.pull(&others_image));
        behind.is_what_was_pulled(&one.unwrap());
        assert_eq!(two.unwrap().image.id, other.config());
        let both = behind.pushed.blobs().into_iter().chain(other.blobs());
        assert_eq!(behind.proxy.sent(), both.collect::<BTreeMap<_, _>>());
        more.is_right(&client, &others_image).await;
    });
}

#[test]
fn a_pull_ends_with_its_last_caller_and_not_before() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[200_000; 2]).await;
        behind.proxy.fail(At::Blobs, Fault::Drip(20_000));
        let client = up(world).await;
        let other = world.wharfd.client();
        let mut leaves = client.pulling(pull(&behind.image, false)).await.unwrap();
        let stays = other.pulling(pull(&behind.image, false)).await.unwrap();
        leaves.progress().await.unwrap().expect("it has just begun");
        drop(leaves);
        behind.is_what_was_pulled(&stays.end().await.unwrap());
        client.remove_image(&behind.image).await.unwrap();

        let only = client.pulling(pull(&behind.image, false)).await.unwrap();
        until("it downloads", SOON, async || {
            so(behind.proxy.sending() > 0, || "it does not".to_owned())
        })
        .await;
        drop(only);
        until("the download has ended", SOON, async || {
            let sending = behind.proxy.sending();
            so(sending == 0, || format!("{sending} are being sent"))
        })
        .await;
        assert_eq!(client.every_image().await, []);
        behind.is_well(&client).await;
    });
}

#[test]
fn a_pull_that_is_to_continue_needs_no_caller() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[200_000]).await;
        behind.proxy.fail(At::Blobs, Fault::Drip(100_000));
        let client = up(world).await;
        let mut pulling = client.pulling(pull(&behind.image, true)).await.unwrap();
        pulling
            .progress()
            .await
            .unwrap()
            .expect("it has just begun");
        drop(pulling);
        until("the image is here", SOON, async || {
            let here = client.every_image().await.len();
            so(here == 1, || format!("{here} images"))
        })
        .await;
        behind.noisy.is_right(&client, &behind.image).await;
    });
}
