//! A configuration in a directory of its own, with a helper beside it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use wharf_api::v1::registry_auth::Credentials;
use wharf_api::v1::{BasicAuth, RegistryAuth};

use super::*;

struct World {
    directory: TempDir,
    config: DockerConfig,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let fake = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src/credentials/testdata/docker-credential-fake"
        );
        // Linked, not copied: a program that was just written may still be open in a sibling's fork.
        symlink(fake, directory.path().join("docker-credential-fake")).unwrap();
        let path = format!("{}:/usr/bin:/bin", directory.path().display());
        let config = DockerConfig::at(directory.path().join("docker/config.json"));
        Self {
            config: config.search_path(path),
            directory,
        }
    }

    fn with(config: Value) -> Self {
        let world = Self::new();
        fs::create_dir(world.directory.path().join("docker")).unwrap();
        fs::write(world.config.path(), config.to_string()).unwrap();
        world
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self) -> Value {
        serde_json::from_slice(&fs::read(self.config.path()).unwrap()).unwrap()
    }

    fn asked(&self) -> String {
        fs::read_to_string(self.beside("asked")).unwrap()
    }

    async fn get(&self, registry: &str) -> Option<Credentials> {
        self.config.get(registry).await.unwrap()?.credentials
    }
}

fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic(BasicAuth {
        username: username.into(),
        password: password.into(),
    })
}

fn auth(credentials: Credentials) -> RegistryAuth {
    RegistryAuth {
        credentials: Some(credentials),
    }
}

#[test]
fn what_names_a_registry_is_read_as_docker_reads_it() {
    for (reference, registry) in [
        ("alpine", "docker.io"),
        ("alpine:3.22", "docker.io"),
        ("team/app", "docker.io"),
        ("docker.io/library/alpine", "docker.io"),
        ("index.docker.io/library/alpine", "docker.io"),
        ("localhost/app", "localhost"),
        ("localhost:5000/app", "localhost:5000"),
        ("host:5000", "docker.io"),
        ("registry.example.com/a/b@sha256:00", "registry.example.com"),
        ("Registry/app", "Registry"),
        ("[::1]:5000/app", "[::1]:5000"),
    ] {
        assert_eq!(registry_of(reference), registry, "{reference}");
    }
}

#[tokio::test]
async fn without_a_file_there_are_no_credentials_and_nothing_to_erase() {
    let world = World::new();
    assert_eq!(world.get("docker.io").await, None);
    let erased = world.config.erase("docker.io").await.unwrap();
    assert_eq!(erased, Erased::Nothing);
    assert!(!world.config.path().exists());
}

#[tokio::test]
async fn every_kind_of_credentials_of_the_file_is_found() {
    let world = World::with(json!({"auths": {
        // printf 'me:pass:word\0' | base64
        "https://index.docker.io/v1/": {"auth": "bWU6cGFzczp3b3JkAA=="},
        "token.example.com": {"auth": "bWU6", "identitytoken": "it"},
        "bearer.example.com": {"registrytoken": "rt", "identitytoken": "it"},
        "https://old.example.com/v1/": {"username": "u", "password": "p"},
        "empty.example.com": {},
    }}));
    assert_eq!(world.get("docker.io").await, Some(basic("me", "pass:word")));
    assert_eq!(
        world.get("token.example.com").await,
        Some(Credentials::IdentityToken("it".into()))
    );
    assert_eq!(
        world.get("bearer.example.com").await,
        Some(Credentials::RegistryToken("rt".into()))
    );
    assert_eq!(world.get("old.example.com").await, Some(basic("u", "p")));
    assert_eq!(world.get("empty.example.com").await, None);
    assert_eq!(world.get("example.com").await, None);
}

#[tokio::test]
async fn what_is_stored_is_found_and_leaves_the_rest_of_the_file() {
    let world = World::with(json!({
        "auths": {
            "http://a.example.com/v2/": {"auth": "b2xkOm9sZA==", "email": "me@example.com"},
            "b.example.com": {"auth": "Yjpi"},
        },
        "proxies": {"default": {"httpProxy": "http://proxy"}},
        "detachKeys": "ctrl-e,e",
    }));
    let stored = auth(basic("me", "secret"));
    let keeper = world.config.store("a.example.com", &stored).await.unwrap();
    assert_eq!(keeper, Keeper::File);
    assert_eq!(
        world.get("a.example.com").await,
        Some(basic("me", "secret"))
    );
    assert_eq!(
        world.file(),
        json!({
            "auths": {
                "a.example.com": {"auth": "bWU6c2VjcmV0", "email": "me@example.com"},
                "b.example.com": {"auth": "Yjpi"},
            },
            "proxies": {"default": {"httpProxy": "http://proxy"}},
            "detachKeys": "ctrl-e,e",
        })
    );
    let erased = world.config.erase("a.example.com").await.unwrap();
    assert_eq!(erased, Erased::Credentials);
    let auths = world.file();
    assert_eq!(auths["auths"], json!({"b.example.com": {"auth": "Yjpi"}}));
}

#[tokio::test]
async fn a_new_file_is_its_owners_alone_and_nothing_is_left_beside_it() {
    let world = World::new();
    let stored = auth(Credentials::IdentityToken("it".into()));
    world.config.store("docker.io", &stored).await.unwrap();
    let mode = fs::metadata(world.config.path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(world.beside("docker")).unwrap().count(), 1);
    let want = json!({"auths": {"https://index.docker.io/v1/": {"identitytoken": "it"}}});
    assert_eq!(world.file(), want);
}

#[tokio::test]
async fn what_is_null_in_the_file_is_as_if_it_were_not_there() {
    let world = World::with(json!({"auths": null, "credsStore": null, "credHelpers": null}));
    assert_eq!(world.get("docker.io").await, None);
    let stored = auth(basic("me", "secret"));
    world.config.store("docker.io", &stored).await.unwrap();
    assert_eq!(world.get("docker.io").await, Some(basic("me", "secret")));
}

#[tokio::test]
async fn a_link_to_the_file_stays_a_link() {
    let world = World::new();
    fs::create_dir(world.beside("docker")).unwrap();
    fs::write(world.beside("real.json"), "{}").unwrap();
    symlink(world.beside("real.json"), world.config.path()).unwrap();
    let stored = auth(basic("me", "secret"));
    world.config.store("docker.io", &stored).await.unwrap();
    assert!(
        fs::symlink_metadata(world.config.path())
            .unwrap()
            .is_symlink()
    );
    assert_eq!(world.get("docker.io").await, Some(basic("me", "secret")));
}

#[tokio::test]
async fn a_helper_keeps_what_it_is_given_and_the_file_only_the_registry() {
    let world = World::with(json!({"credsStore": "fake", "auths": {}}));
    assert_eq!(world.get("docker.io").await, None);
    let stored = auth(basic("me", "secret"));
    let keeper = world.config.store("docker.io", &stored).await.unwrap();
    assert_eq!(keeper, Keeper::Helper("docker-credential-fake".into()));
    let want = json!({"credsStore": "fake", "auths": {"https://index.docker.io/v1/": {}}});
    assert_eq!(world.file(), want);
    assert_eq!(world.get("docker.io").await, Some(basic("me", "secret")));
    assert_eq!(world.get("other.example.com").await, None);
    let erased = world.config.erase("docker.io").await.unwrap();
    assert_eq!(erased, Erased::Credentials);
    assert_eq!(world.get("docker.io").await, None);
    assert_eq!(
        world.asked(),
        "get https://index.docker.io/v1/\n\
         store {\"ServerURL\":\"https://index.docker.io/v1/\",\"Username\":\"me\",\"Secret\":\"secret\"}\n\
         get https://index.docker.io/v1/\n\
         get other.example.com\n\
         erase https://index.docker.io/v1/\n\
         get https://index.docker.io/v1/\n"
    );
}

#[tokio::test]
async fn a_helper_of_one_registry_is_asked_about_no_other() {
    let world = World::with(json!({
        "credHelpers": {"a.example.com": "fake", "b.example.com": ""},
        "credsStore": "not-there",
        "auths": {"b.example.com": {"auth": "Yjpi"}},
    }));
    let token = Credentials::IdentityToken("it".into());
    world
        .config
        .store("a.example.com", &auth(token.clone()))
        .await
        .unwrap();
    let kept = fs::read_to_string(world.beside("kept")).unwrap();
    assert!(kept.contains(r#""Username":"<token>""#), "{kept}");
    assert_eq!(world.get("a.example.com").await, Some(token));
    // No helper at all: the file.
    assert_eq!(world.get("b.example.com").await, Some(basic("b", "b")));
    let error = world.config.get("c.example.com").await.unwrap_err();
    assert!(
        matches!(&error, CredentialsError::HelperStart { program, .. } if program == "docker-credential-not-there"),
        "{error:?}"
    );
    assert_eq!(world.asked().lines().count(), 2);
}

#[tokio::test]
async fn a_helper_that_refuses_is_an_error_and_the_file_stays_as_it_is() {
    let world = World::with(json!({"credsStore": "fake"}));
    fs::write(world.beside("locked"), "").unwrap();
    let error = world.config.get("docker.io").await.unwrap_err();
    assert!(
        matches!(&error, CredentialsError::HelperFailed { message, .. } if message == "the keychain is locked"),
        "{error:?}"
    );
    let stored = auth(basic("me", "secret"));
    let error = world.config.store("docker.io", &stored).await.unwrap_err();
    assert!(matches!(error, CredentialsError::HelperFailed { .. }));
    assert_eq!(world.file(), json!({"credsStore": "fake"}));
    let bearer = auth(Credentials::RegistryToken("rt".into()));
    let error = world.config.store("docker.io", &bearer).await.unwrap_err();
    assert!(matches!(error, CredentialsError::HelperCannotKeep { .. }));
}

#[tokio::test]
async fn a_damaged_file_is_told_without_what_it_holds() {
    for damaged in [
        r#"{"auths": {"docker.io": {"auth": "c2VjcmV0"}}}"#,
        r#"{"auths": "c2VjcmV0"}"#,
        r#"{"credsStore": ["c2VjcmV0"]}"#,
        r#"["c2VjcmV0"]"#,
        r#"{"auths": {"docker.io": {"auth": "c2VjcmV0""#,
    ] {
        let world = World::with(json!({}));
        fs::write(world.config.path(), damaged).unwrap();
        let error = world.config.get("docker.io").await.unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(
            !told.contains("c2VjcmV0") && !told.contains("secret"),
            "{told}"
        );
        assert!(
            matches!(
                error,
                CredentialsError::Field { .. } | CredentialsError::Syntax { .. }
            ),
            "{told}"
        );
        assert_eq!(fs::read_to_string(world.config.path()).unwrap(), damaged);
    }
}

#[test]
fn credentials_never_show() {
    let shown = format!("{:?}", auth(basic("me", "secret")));
    assert!(!shown.contains("secret"), "{shown}");
}
