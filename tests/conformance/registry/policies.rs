//! Creating and running pull when they are told to.

use wharf_api::v1::{CreateContainerRequest, PullOptions, PullPolicy, RunContainerStart};

use super::{Behind, Noisy, reason, up};
use crate::harness::registry::{Access, At, Fault, PASSWORD, credentials};
use crate::harness::{Client, Refusal, scenario, spec};

fn pulling(policy: PullPolicy) -> PullOptions {
    PullOptions {
        policy: policy.into(),
        ..Default::default()
    }
}

/// The id of the image that a new container has.
async fn create(client: &Client, image: &str, pull: PullOptions) -> Result<String, Refusal> {
    let request = CreateContainerRequest {
        spec: Some(spec::running_of(image, &["true"])),
        pull: Some(pull),
        ..Default::default()
    };
    let container = client.create_with(request).await?;
    client.delete(&container.id).await?;
    Ok(container.image_id)
}

#[test]
fn an_image_that_is_never_pulled_is_not_found() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[1_000]).await;
        let client = up(world).await;
        for policy in [PullPolicy::Unspecified, PullPolicy::Never] {
            let refusal = create(&client, &behind.image, pulling(policy)).await;
            let refusal = refusal.unwrap_err();
            assert_eq!(reason(&refusal), "IMAGE_NOT_FOUND", "{refusal}");
        }
        assert_eq!(behind.proxy.asked(&At::Anything).len(), 0);
        let listed = client.list().await.unwrap();
        assert!(listed.is_empty(), "{listed:?}");
    });
}

#[test]
fn an_image_that_is_missing_is_pulled_once_and_one_that_is_here_asks_nobody() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[1_000]).await;
        let client = up(world).await;
        let missing = pulling(PullPolicy::IfMissing);
        let id = create(&client, &behind.image, missing.clone())
            .await
            .unwrap();
        assert_eq!(id, behind.pushed.config());
        behind.proxy.forget();
        let id = create(&client, &behind.image, missing.clone())
            .await
            .unwrap();
        assert_eq!(id, behind.pushed.config());
        assert_eq!(behind.proxy.asked(&At::Anything).len(), 0);
        behind.noisy.is_right(&client, &behind.image).await;
    });
}

#[test]
fn an_image_that_is_always_pulled_is_what_the_tag_is_now_and_comes_once() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[1_000]).await;
        let client = up(world).await;
        let always = pulling(PullPolicy::Always);
        let id = create(&client, &behind.image, always.clone())
            .await
            .unwrap();
        assert_eq!(id, behind.pushed.config());
        behind.proxy.forget();
        create(&client, &behind.image, always.clone())
            .await
            .unwrap();
        assert!(
            !behind.proxy.asked(&At::Manifests).is_empty(),
            "nobody asked"
        );
        assert_eq!(behind.proxy.fetched(&At::Blobs).len(), 0, "it was all here");

        let newer = Noisy::of(6, &[2_000]);
        behind.registry.push(&newer.recipe, "app:1").await;
        let missing = pulling(PullPolicy::IfMissing);
        let id = create(&client, &behind.image, missing).await.unwrap();
        assert_eq!(id, behind.pushed.config(), "the old one is not missing");
        let id = create(&client, &behind.image, always).await.unwrap();
        assert_eq!(id, newer.recipe.id());
        newer.is_right(&client, &behind.image).await;
    });
}

#[test]
fn a_create_whose_pull_fails_fails_with_its_reason_and_makes_nothing() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Password, &[1_000]).await;
        let client = up(world).await;
        let missing = pulling(PullPolicy::IfMissing);
        let refusal = create(&client, &behind.image, missing.clone()).await;
        let refusal = refusal.unwrap_err();
        assert_eq!(reason(&refusal), "REGISTRY_AUTH_FAILED", "{refusal}");
        let with_password = PullOptions {
            auth: Some(credentials(PASSWORD)),
            ..missing
        };
        let gone = behind.proxy.reference("gone:1");
        let refusal = create(&client, &gone, with_password.clone()).await;
        let refusal = refusal.unwrap_err();
        assert_eq!(reason(&refusal), "REGISTRY_IMAGE_NOT_FOUND", "{refusal}");
        let listed = client.list().await.unwrap();
        assert!(listed.is_empty(), "{listed:?}");
        create(&client, &behind.image, with_password).await.unwrap();
    });
}

#[test]
fn a_run_tells_where_its_pull_stands_and_then_runs() {
    scenario(async |world| {
        let behind = Behind::start(world, Access::Open, &[200_000]).await;
        behind.proxy.fail(At::Blobs, Fault::Drip(100_000));
        let client = up(world).await;
        let start = RunContainerStart {
            spec: Some(spec::running_of(&behind.image, &["echo", "here"])),
            pull: Some(pulling(PullPolicy::IfMissing)),
            ..Default::default()
        };
        let joined = client.run_container(start).await.unwrap();
        let last = joined.progress.last().expect("it takes two seconds");
        assert_eq!(last.done_bytes, last.total_bytes);
        let made = joined.created.as_ref().unwrap();
        assert_eq!(made.image_id, behind.pushed.config());
        assert_eq!(joined.whole().await.unwrap().out(), "here\n");
    });
}
