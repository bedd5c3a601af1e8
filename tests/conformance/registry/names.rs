//! What references mean: tags, digests, platforms, short names, and names of nothing.

use wharf_api::v1::{Platform, PullImageRequest};

use super::{Noisy, is_the_image, reason, up};
use crate::harness::image::{Recipe, architecture};
use crate::harness::registry::{Access, At, FaultProxy, Registry};
use crate::harness::{scenario, spec};

fn foreign(architecture: &str) -> Recipe {
    Recipe {
        architecture: architecture.to_owned(),
        ..Recipe::busybox("")
    }
}

fn for_platform(image: &str, architecture: &str) -> PullImageRequest {
    PullImageRequest {
        image: image.to_owned(),
        platform: Some(Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[test]
fn names_of_nothing_are_not_found_and_bad_ones_are_bad_fields() {
    scenario(async |world| {
        let registry = Registry::start(Access::Open).await;
        registry.known_to(&world.wharfd);
        registry.push(&Recipe::busybox(""), "app:1").await;
        let client = up(world).await;
        let nothing = format!("app@sha256:{}", "0".repeat(64));
        for name in ["app:2", "app", "other:1", &nothing] {
            let image = registry.reference(name);
            let refusal = client.pull(&image).await.unwrap_err();
            assert_eq!(
                reason(&refusal),
                "REGISTRY_IMAGE_NOT_FOUND",
                "{name}: {refusal}"
            );
            assert_eq!(refusal.metadata["registry"], registry.address());
        }
        for name in ["", "App", "app:", "app@sha256:12", "a b", "http://app"] {
            let refusal = client.pull(name).await.unwrap_err();
            assert_eq!(reason(&refusal), "INVALID_FIELD", "{name}: {refusal}");
            assert_eq!(refusal.fields(), ["image"].into(), "{name}");
        }
        assert_eq!(client.every_image().await, []);
        let refusal = client.push("not-here:1", "").await.unwrap_err();
        assert_eq!(reason(&refusal), "IMAGE_NOT_FOUND", "{refusal}");
    });
}

#[test]
fn an_index_gives_the_hosts_platform_or_the_one_asked_for_or_says_which_there_are() {
    scenario(async |world| {
        let registry = Registry::start(Access::Open).await;
        registry.known_to(&world.wharfd);
        let own = Noisy::of(2, &[1_000]);
        let recipes = [foreign("s390x"), own.recipe.clone(), foreign("riscv64")];
        let index = registry.push_index(&recipes, "app:1").await;
        let image = registry.reference("app:1");
        let client = up(world).await;

        let pulled = client.pull(&image).await.unwrap();
        assert_eq!(pulled.resolved.digest, index.digest);
        assert_eq!(pulled.image.id, own.recipe.id());
        let manifest = &index.content["manifests"][1]["digest"];
        assert_eq!(pulled.image.target.as_ref().unwrap().digest, *manifest);
        let platform = pulled.image.platform.as_ref().unwrap();
        assert_eq!(
            (&*platform.os, &*platform.architecture),
            ("linux", architecture())
        );
        own.is_right(&client, &image).await;
        client.remove_image(&image).await.unwrap();

        let other = for_platform(&image, "riscv64");
        let other = client.pull_with(other).await.unwrap();
        assert_eq!(other.image.id, recipes[2].id());
        client.remove_image(&image).await.unwrap();

        let none = for_platform(&image, "mips64");
        let refusal = client.pull_with(none).await.unwrap_err();
        assert_eq!(reason(&refusal), "PLATFORM_NOT_FOUND", "{refusal}");
        assert!(refusal.metadata["platform"].contains("mips64"), "{refusal}");
        for available in ["s390x", architecture(), "riscv64"] {
            let all = &refusal.metadata["available"];
            assert!(all.contains(available), "{all}");
        }
        assert_eq!(client.every_image().await, []);
    });
}

#[test]
fn an_image_of_one_other_platform_is_no_image_for_this_one() {
    scenario(async |world| {
        let registry = Registry::start(Access::Open).await;
        registry.known_to(&world.wharfd);
        registry.push(&foreign("s390x"), "app:1").await;
        let image = registry.reference("app:1");
        let client = up(world).await;
        let refusal = client.pull(&image).await.unwrap_err();
        assert_eq!(reason(&refusal), "PLATFORM_NOT_FOUND", "{refusal}");
        assert!(refusal.metadata["available"].contains("s390x"), "{refusal}");
        assert_eq!(client.every_image().await, []);
    });
}

#[test]
fn a_digest_means_just_that_whatever_the_tag_is_by_now() {
    scenario(async |world| {
        let registry = Registry::start(Access::Open).await;
        registry.known_to(&world.wharfd);
        let (old, new) = (Noisy::of(3, &[1_000]), Noisy::of(4, &[1_000]));
        let pushed = registry.push(&old.recipe, "app:1").await;
        registry.push(&new.recipe, "app:1").await;
        let client = up(world).await;
        let image = registry.reference(&format!("app@{}", pushed.digest));
        let pulled = client.pull(&image).await.unwrap();
        is_the_image(&pulled.image, &pushed, &image);
        old.is_right(&client, &image).await;
    });
}

#[test]
fn short_names_are_of_docker_io_which_may_be_a_mirror() {
    scenario(async |world| {
        let registry = Registry::start(Access::Open).await;
        let mirror = FaultProxy::start(registry.address()).await;
        let broken = FaultProxy::start("127.0.0.1:1").await;
        let hosts = [&broken, &mirror].map(|host| {
            let address = host.address();
            format!("[host.\"http://{address}\"]\ncapabilities = [\"pull\", \"resolve\"]\n")
        });
        let toml = format!("server = \"http://127.0.0.1:1\"\n{}", hosts.concat());
        world.wharfd.tell_of_registry("docker.io", &toml);
        let pushed = registry
            .push(&Recipe::busybox(""), "library/app:latest")
            .await;
        let client = up(world).await;

        let pulled = client.pull("app").await.unwrap();
        is_the_image(&pulled.image, &pushed, "docker.io/library/app:latest");
        assert!(
            !broken.asked(&At::Manifests).is_empty(),
            "in the order of the file"
        );
        let ran = client
            .run_whole(spec::running_of("app", &["echo", "here"]))
            .await;
        assert_eq!(ran.unwrap().out(), "here\n");
        client.delete_every_container().await;
        client.remove_image("app").await.unwrap();
        for name in [
            "app:latest",
            "library/app",
            "docker.io/app",
            "index.docker.io/library/app",
        ] {
            let pulled = client.pull(name).await.unwrap();
            is_the_image(&pulled.image, &pushed, "docker.io/library/app:latest");
        }
    });
}

#[test]
fn a_host_is_sent_the_headers_and_the_path_that_it_is_said_to_want() {
    scenario(async |world| {
        let registry = Registry::start(Access::Open).await;
        let proxy = FaultProxy::start(registry.address()).await;
        let address = proxy.address();
        // With override_path the host's own path is all there is: nothing adds /v2.
        let toml = format!(
            "[host.\"http://{address}/v2\"]\noverride_path = true\n\
             [host.\"http://{address}/v2\".header]\nx-of-mine = [\"a value\"]\n"
        );
        world.wharfd.tell_of_registry("registry.example", &toml);
        registry.push(&Recipe::busybox(""), "app:1").await;
        let client = up(world).await;
        client.pull("registry.example/app:1").await.unwrap();
        let asked = proxy.asked(&At::Manifests);
        assert!(!asked.is_empty(), "nobody asked");
        for one in asked {
            assert_eq!(one.headers["x-of-mine"], "a value", "{one:?}");
            assert!(one.path.starts_with("/v2/app/manifests/"), "{one:?}");
        }
    });
}
