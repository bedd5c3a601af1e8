//! Registries and the proxy in front of them do what scenarios think that they do.

use std::io;
use std::time::Duration;

use ::http::header::{CONTENT_RANGE, LOCATION, RANGE, RETRY_AFTER};
use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::harness::image::{self, Recipe};
use crate::harness::registry::http::{Body, send, whole};
use crate::harness::registry::{Access, At, Fault, FaultProxy, Form, Registry};

fn run(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let outcome = runtime.block_on(async { timeout(Duration::from_secs(300), body).await });
    outcome.expect("it runs too long");
}

async fn get(address: &str, path: &str, range: Option<&str>) -> io::Result<Response<Body>> {
    let mut request = Request::get(path).header("host", address);
    if let Some(range) = range {
        request = request.header(RANGE, range);
    }
    send(address, request.body(whole("")).unwrap()).await
}

/// The body as far as it comes, and whether that is all.
async fn body(response: Response<Body>) -> (Vec<u8>, bool) {
    let mut body = response.into_body();
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => all.extend(frame.into_data().unwrap()),
            Err(_) => return (all, false),
        }
    }
    (all, true)
}

#[test]
fn every_registry_takes_an_image_and_has_it_as_it_is() {
    run(async {
        for access in [
            Access::Open,
            Access::Password,
            Access::Token,
            Access::Tls,
            Access::ClientCertificate,
        ] {
            let registry = Registry::start(access).await;
            let recipe = Recipe::busybox("");
            let pushed = registry.push(&recipe, "some/app:1").await;
            assert_eq!(pushed.config(), recipe.id(), "{access:?}");
            let by_digest = format!("some/app@{}", pushed.digest);
            assert_eq!(registry.manifest(&by_digest).await, pushed, "{access:?}");
        }
    });
}

#[test]
fn every_form_of_an_image_has_the_media_types_of_that_form() {
    run(async {
        let recipe = Recipe::busybox("");
        for (form, ending) in [
            (Form::Gzip, "vnd.oci.image.layer.v1.tar+gzip"),
            (Form::Zstd, "vnd.oci.image.layer.v1.tar+zstd"),
            (Form::Docker, "vnd.docker.image.rootfs.diff.tar.gzip"),
        ] {
            // Each in one of its own: skopeo takes a layer that is there in another form for the same.
            let registry = Registry::start(Access::Open).await;
            let pushed = registry.push_as(&recipe, "app:1", form).await;
            let layer = pushed.content["layers"][0]["mediaType"].as_str().unwrap();
            assert_eq!(layer, format!("application/{ending}"));
        }
        let registry = Registry::start(Access::Open).await;
        let foreign = Recipe {
            architecture: "s390x".to_owned(),
            ..recipe.clone()
        };
        let index = registry.push_index(&[recipe, foreign], "index:1").await;
        assert_eq!(index.media_type(), image::INDEX);
        assert_eq!(index.manifests().len(), 2);
    });
}

#[test]
fn the_proxy_changes_nothing_until_it_is_told_to_and_then_just_that() {
    run(async {
        let registry = Registry::start(Access::Open).await;
        let content: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let size = content.len() as u64;
        let blob = registry.put_blob("app", image::LAYER, &content).await;
        let digest = blob["digest"].as_str().unwrap().to_owned();
        let path = format!("/v2/app/blobs/{digest}");
        let proxy = FaultProxy::start(registry.address()).await;
        let here = proxy.address().to_owned();
        let fetch = async |range| get(&here, &path, range).await;

        assert_eq!(
            body(fetch(None).await.unwrap()).await,
            (content.clone(), true)
        );
        assert_eq!(proxy.sent(), [(digest.clone(), size)].into());
        let part = fetch(Some("bytes=1000-")).await.unwrap();
        assert_eq!(body(part).await, (content[1_000..].to_vec(), true));

        proxy.forget();
        proxy.fail_times(At::Blob(digest.clone()), Fault::CutAfter(123_456), 1);
        let cut = body(fetch(None).await.unwrap()).await;
        assert_eq!(cut, (content[..123_456].to_vec(), false));
        assert_eq!(proxy.sent(), [(digest.clone(), 123_456)].into());
        assert_eq!(proxy.fetched(&At::Blobs).len(), 1);

        proxy.fail_times(At::Blobs, Fault::Half, 1);
        let half = body(fetch(None).await.unwrap()).await;
        assert_eq!(half, (content[..content.len() / 2].to_vec(), true));
        proxy.fail_times(At::Blobs, Fault::WrongByte, 1);
        let (wrong, is_all) = body(fetch(None).await.unwrap()).await;
        let differ = wrong.iter().zip(&content).filter(|(a, b)| a != b).count();
        assert_eq!((wrong.len(), differ, is_all), (content.len(), 1, true));

        proxy.fail_times(At::Blobs, Fault::WholeForRange, 1);
        proxy.fail_times(At::Blobs, Fault::OtherRange, 1);
        let unminded = fetch(Some("bytes=1000-")).await.unwrap();
        assert_eq!(unminded.status(), 200);
        let other = fetch(Some("bytes=1000-")).await.unwrap();
        let named = other.headers()[CONTENT_RANGE].to_str().unwrap();
        assert!(named.starts_with("bytes 500-"), "{named}");

        proxy.fail_times(At::Anything, Fault::TooMany(Some(7)), 1);
        let many = fetch(None).await.unwrap();
        assert_eq!(
            (many.status().as_u16(), &many.headers()[RETRY_AFTER]),
            (429, &"7".parse().unwrap())
        );
        proxy.fail_times(At::Anything, Fault::Redirect("elsewhere:1".to_owned()), 1);
        let sent_on = fetch(None).await.unwrap();
        let place = sent_on.headers()[LOCATION].to_str().unwrap();
        assert_eq!(place, format!("http://elsewhere:1{path}"));
        proxy.fail_times(At::Anything, Fault::Cut, 1);
        assert!(fetch(None).await.is_err(), "an answer on a cut connection");

        let replaced = Bytes::from_static(b"{}");
        proxy.fail(At::Blobs, Fault::Instead("text/plain", replaced.clone()));
        assert_eq!(body(fetch(None).await.unwrap()).await.0, replaced);
        proxy.heal();
        assert_eq!(body(fetch(None).await.unwrap()).await.0, content);
    });
}

#[test]
fn a_store_lets_anybody_read_what_the_registry_gives_only_for_a_password() {
    run(async {
        let registry = Registry::start(Access::Password).await;
        let pushed = registry.push(&Recipe::busybox(""), "app:1").await;
        let path = format!("/v2/app/blobs/{}", pushed.config());
        let refused = get(registry.address(), &path, None).await.unwrap();
        assert_eq!(refused.status(), 401);
        let store = FaultProxy::store(registry.address()).await;
        let given = get(store.address(), &path, None).await.unwrap();
        assert_eq!(given.status(), 200);
    });
}
