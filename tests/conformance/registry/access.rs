//! Every way to be let in, there and back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wharf_api::v1::{RegistryAuth, registry_auth::Credentials};

use super::{Noisy, is_the_image, reason, up};
use crate::harness::registry::{
    Access, At, FaultProxy, Form, IDENTITY_TOKEN, PASSWORD, Registry, USER, credentials,
};
use crate::harness::{World, process, scenario, spec};

fn auth(access: Access) -> Option<RegistryAuth> {
    access.wants_credentials().then(|| credentials(PASSWORD))
}

/// Pull, run, push under another name, delete, pull that, run.
async fn there_and_back(world: &mut World, access: Access, form: Form) {
    let registry = Registry::start(access).await;
    registry.known_to(&world.wharfd);
    let noisy = Noisy::of(7, &[100_000; 3]);
    let pushed = registry.push_as(&noisy.recipe, "some/app:1", form).await;
    let (first, second) = (
        registry.reference("some/app:1"),
        registry.reference("copy:2"),
    );
    let client = up(world).await;

    let pulled = client.pull_by(&first, auth(access)).await.unwrap();
    assert!(pulled.changed);
    assert_eq!(pulled.resolved.digest, pushed.digest);
    is_the_image(&pulled.image, &pushed, &first);
    noisy.is_right(&client, &first).await;
    let again = client.pull_by(&first, auth(access)).await.unwrap();
    assert!(!again.changed, "it was all here");

    let sent = client.push_by(&first, &second, auth(access)).await.unwrap();
    assert_eq!(
        (&sent.digest, sent.size_bytes),
        (&pushed.digest, pushed.size)
    );
    assert_eq!(registry.manifest("copy:2").await, pushed);

    client.remove_image(&first).await.unwrap();
    assert_eq!(client.every_image().await, []);
    let back = client.pull_by(&second, auth(access)).await.unwrap();
    assert!(back.changed);
    is_the_image(&back.image, &pushed, &second);
    noisy.is_right(&client, &second).await;
}

#[test]
fn an_image_goes_there_and_back_unchanged() {
    scenario(async |world| there_and_back(world, Access::Open, Form::Gzip).await);
}

#[test]
fn an_image_by_zstd_goes_there_and_back_unchanged() {
    scenario(async |world| there_and_back(world, Access::Open, Form::Zstd).await);
}

#[test]
fn an_image_of_dockers_media_types_goes_there_and_back_unchanged() {
    scenario(async |world| there_and_back(world, Access::Open, Form::Docker).await);
}

#[test]
fn an_image_goes_there_and_back_by_password() {
    scenario(async |world| there_and_back(world, Access::Password, Form::Gzip).await);
}

#[test]
fn an_image_goes_there_and_back_by_token() {
    scenario(async |world| there_and_back(world, Access::Token, Form::Gzip).await);
}

#[test]
fn an_image_goes_there_and_back_by_password_over_tls() {
    scenario(async |world| there_and_back(world, Access::TlsPassword, Form::Gzip).await);
}

#[test]
fn an_image_goes_there_and_back_by_token_over_tls() {
    scenario(async |world| there_and_back(world, Access::TlsToken, Form::Gzip).await);
}

#[test]
fn an_image_goes_there_and_back_by_tls_of_an_authority_of_ones_own() {
    scenario(async |world| there_and_back(world, Access::Tls, Form::Gzip).await);
}

#[test]
fn an_image_goes_there_and_back_by_a_certificate_of_the_clients() {
    scenario(async |world| there_and_back(world, Access::ClientCertificate, Form::Gzip).await);
}

#[test]
fn an_image_that_umoci_made_comes_and_runs() {
    scenario(async |world| {
        let archive = world.directory().join("umoci.tar");
        let mut command = Command::new("scripts/busybox-image.sh");
        command
            .arg(&archive)
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        let made = process::run(command, Duration::from_secs(120)).await;
        assert!(made.status.success(), "{made:?}");
        let registry = Registry::start(Access::Open).await;
        registry.known_to(&world.wharfd);
        let archive = fs::read(&archive).unwrap().into();
        let pushed = registry.push_archive(&archive, "umoci:1", &[]).await;
        let image = registry.reference("umoci:1");
        let client = up(world).await;
        let pulled = client.pull(&image).await.unwrap();
        is_the_image(&pulled.image, &pushed, &image);
        let ran = client
            .run_whole(spec::running_of(&image, &["echo", "here"]))
            .await;
        assert_eq!(ran.unwrap().out(), "here\n");
    });
}

#[test]
fn wrong_credentials_and_none_are_refused_and_change_nothing() {
    scenario(async |world| {
        let by_password = Registry::start(Access::Password).await;
        let by_token = Registry::start(Access::Token).await;
        let noisy = Noisy::of(8, &[1_000]);
        for registry in [&by_password, &by_token] {
            registry.known_to(&world.wharfd);
            registry.push(&noisy.recipe, "app:1").await;
        }
        let client = up(world).await;
        for registry in [&by_password, &by_token] {
            let image = registry.reference("app:1");
            for auth in [None, Some(credentials("not the password"))] {
                let refusal = client.pull_by(&image, auth).await.unwrap_err();
                assert_eq!(reason(&refusal), "REGISTRY_AUTH_FAILED", "{refusal}");
                assert_eq!(refusal.metadata["registry"], registry.address());
                assert_eq!(client.every_image().await, []);
            }
            let password = credentials(PASSWORD);
            client.pull_by(&image, password).await.unwrap();
            let other = registry.reference("other:1");
            for auth in [None, Some(credentials("not the password"))] {
                let refusal = client.push_by(&image, &other, auth).await.unwrap_err();
                assert_eq!(reason(&refusal), "REGISTRY_AUTH_FAILED", "{refusal}");
            }
            client.remove_image(&image).await.unwrap();
        }
    });
}

#[test]
fn a_registry_of_tokens_takes_all_kinds_of_them_and_lets_anybody_read_what_is_public() {
    scenario(async |world| {
        let registry = Registry::start(Access::Token).await;
        registry.known_to(&world.wharfd);
        let noisy = Noisy::of(9, &[1_000]);
        registry.push(&noisy.recipe, "app:1").await;
        registry.push(&noisy.recipe, "public/app:1").await;
        let client = up(world).await;
        let public = registry.reference("public/app:1");
        client.pull(&public).await.unwrap();
        client.remove_image(&public).await.unwrap();

        let private = registry.reference("app:1");
        for given in [
            Credentials::IdentityToken(IDENTITY_TOKEN.to_owned()),
            Credentials::RegistryToken(registry.token("app").await),
        ] {
            let auth = RegistryAuth {
                credentials: Some(given),
            };
            client.pull_by(&private, auth).await.unwrap();
            client.remove_image(&private).await.unwrap();
        }
    });
}

#[test]
fn a_certificate_of_an_unknown_authority_is_not_taken_unless_it_is_to_be_skipped() {
    scenario(async |world| {
        let registry = Registry::start(Access::Tls).await;
        let noisy = Noisy::of(10, &[1_000]);
        registry.push(&noisy.recipe, "app:1").await;
        let image = registry.reference("app:1");
        let server = format!("server = \"https://{}\"\n", registry.address());
        world.wharfd.tell_of_registry(registry.address(), &server);
        let client = up(world).await;
        let refusal = client.pull(&image).await.unwrap_err();
        assert_eq!(reason(&refusal), "REGISTRY_UNAVAILABLE", "{refusal}");

        world.wharfd.stop().await;
        let skipped = format!("{server}skip_verify = true\n");
        world.wharfd.tell_of_registry(registry.address(), &skipped);
        let client = world.wharfd.start().await;
        client.pull(&image).await.unwrap();
    });
}

#[test]
fn a_token_server_in_the_clear_is_never_asked_for_a_registry_by_tls() {
    scenario(async |world| {
        let registry = Registry::start(Access::TlsTokenInTheClear).await;
        registry.known_to(&world.wharfd);
        let noisy = Noisy::of(15, &[1_000]);
        registry.push(&noisy.recipe, "public/app:1").await;
        registry.tokens().forget();
        let client = up(world).await;
        let image = registry.reference("public/app:1");
        for auth in [None, Some(credentials(PASSWORD))] {
            let refusal = client.pull_by(&image, auth).await.unwrap_err();
            assert_eq!(reason(&refusal), "REGISTRY_RESPONSE_INVALID", "{refusal}");
        }
        assert_eq!(registry.tokens().asked(&At::Anything).len(), 0);
    });
}

#[test]
fn a_pull_goes_by_the_proxy_of_the_environment_but_to_hosts_that_need_none() {
    scenario(async |world| {
        let registry = Registry::start(Access::Open).await;
        let noisy = Noisy::of(12, &[1_000]);
        let pushed = registry.push(&noisy.recipe, "app:1").await;
        let proxy = FaultProxy::start(registry.address()).await;
        // It has an address of its own.
        let direct = FaultProxy::store(registry.address()).await;
        world.configure(|options| {
            let (host, _) = direct.address().split_once(':').unwrap();
            options.environment = vec![
                (
                    "HTTP_PROXY".to_owned(),
                    format!("http://{}", proxy.address()),
                ),
                ("NO_PROXY".to_owned(), host.to_owned()),
            ];
        });
        registry.known_to(&world.wharfd);
        direct.known_to(&world.wharfd);
        let client = up(world).await;

        let image = registry.reference("app:1");
        let pulled = client.pull(&image).await.unwrap();
        is_the_image(&pulled.image, &pushed, &image);
        // Proxies are told all of a URL.
        let base = format!("http://{}/v2/", registry.address());
        for asked in proxy.asked(&At::Anything) {
            assert!(asked.path.starts_with(&base), "{asked:?}");
        }
        let blobs: BTreeMap<_, _> = pushed.blobs().into_iter().collect();
        assert_eq!(proxy.sent(), blobs);
        client.remove_image(&image).await.unwrap();

        proxy.forget();
        client.pull(&direct.reference("app:1")).await.unwrap();
        assert!(!direct.fetched(&At::Manifests).is_empty(), "nobody asked");
        assert_eq!(proxy.asked(&At::Anything).len(), 0);
    });
}

#[test]
fn credentials_are_neither_logged_nor_stored() {
    scenario(async |world| {
        world.configure(|options| {
            options.environment = vec![("WHARF_LOG".to_owned(), "trace".to_owned())];
        });
        let registry = Registry::start(Access::Password).await;
        registry.known_to(&world.wharfd);
        let noisy = Noisy::of(11, &[1_000]);
        registry.push(&noisy.recipe, "app:1").await;
        let image = registry.reference("app:1");
        let client = up(world).await;
        client.pull_by(&image, credentials(PASSWORD)).await.unwrap();
        let pushed = client.push_by(&image, &image, credentials(PASSWORD)).await;
        pushed.unwrap();

        let basic = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let secrets = [PASSWORD.to_owned(), basic];
        let log = world.wharfd.log();
        assert!(log.contains("PullImage"), "nothing is logged at all");
        for secret in &secrets {
            assert!(!log.contains(secret), "{secret} is in the log");
        }
        let found = files_with(&world.wharfd.state_dir(), &secrets);
        assert_eq!(found, Vec::<String>::new());
    });
}

fn files_with(directory: &Path, words: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(&path, words));
        } else if kind.is_file() {
            let content = fs::read(&path).unwrap_or_default();
            let has = |word: &String| {
                content
                    .windows(word.len())
                    .any(|part| part == word.as_bytes())
            };
            if words.iter().any(has) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}
