#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod fixture;
mod hostile;
mod real;

use std::io::Read as _;

use fixture::{Fixture, gzip, layer, opened};

use super::*;
use crate::model::Digest;

fn linux() -> Platform {
    Platform {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        variant: String::new(),
    }
}

fn references(image: &ImageContent) -> Vec<&str> {
    image.references.iter().map(String::as_str).collect()
}

#[test]
fn an_oci_layout_gives_its_image() {
    let bottom = layer(&[("etc/passwd", "root:x:0:0::/root:/bin/sh\n"), ("a", "1")]);
    let top = layer(&[("etc/group", "root:x:0:\n")]);
    let archive = Fixture::default()
        .config("Entrypoint", &["/bin/sh"])
        .annotate("io.containerd.image.name", "app")
        .layer(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            &bottom,
            gzip(&bottom),
        )
        .layer("application/vnd.oci.image.layer.v1.tar", &top, top.clone())
        .layout();
    let opened = opened(&archive);
    let images = opened.archive().images(&linux()).expect("images");
    let [image] = &images[..] else {
        panic!("{images:?}")
    };

    assert_eq!(references(image), ["docker.io/library/app:latest"]);
    assert_eq!(image.platform, linux());
    assert_eq!(image.process.entrypoint, ["/bin/sh"]);
    assert_eq!(image.accounts.passwd, "root:x:0:0::/root:/bin/sh\n");
    assert_eq!(image.accounts.group, "root:x:0:\n");
    assert_eq!(image.target.digest, Digest::of(&image.manifest));
    assert_eq!(
        image.config.digest,
        Digest::of(image.config_json.as_bytes())
    );

    let [low, high] = &image.layers[..] else {
        panic!("{:?}", image.layers)
    };
    assert_eq!(low.diff_id, Digest::of(&bottom));
    assert_eq!(low.chain_id, low.diff_id);
    let chain = format!("{} {}", low.diff_id, Digest::of(&top));
    assert_eq!(high.chain_id, Digest::of(chain.as_bytes()));
    let mut blob = Vec::new();
    let mut reader = image.source.open(low).expect("a layer");
    reader.read_to_end(&mut blob).expect("read");
    assert_eq!(blob, gzip(&bottom));
}

#[test]
fn the_outer_archive_may_be_compressed() {
    let archive = Fixture::sample().layout();
    let zstd = zstd::encode_all(&archive[..], 1).expect("encoded");
    for archive in [gzip(&archive), zstd, archive] {
        let opened = opened(&archive);
        assert_eq!(opened.archive().images(&linux()).expect("images").len(), 1);
    }
}

#[test]
fn layers_may_be_compressed_in_every_known_way() {
    let plain = layer(&[("etc/passwd", "p")]);
    let zstd = zstd::encode_all(&plain[..], 1).expect("encoded");
    for (media_type, blob) in [
        ("application/vnd.oci.image.layer.v1.tar", plain.clone()),
        ("application/vnd.oci.image.layer.v1.tar+zstd", zstd),
        (
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            gzip(&plain),
        ),
        (
            "application/vnd.docker.image.rootfs.diff.tar",
            plain.clone(),
        ),
    ] {
        let archive = Fixture::default().layer(media_type, &plain, blob).layout();
        let opened = opened(&archive);
        let images = opened.archive().images(&linux()).expect(media_type);
        assert_eq!(images[0].accounts.passwd, "p");
        assert_eq!(images[0].layers[0].descriptor.media_type, media_type);
    }
}

#[test]
fn a_bare_tag_is_no_reference_but_a_whole_name_is() {
    for (name, expected) in [
        ("latest", &[][..]),
        ("v1.2", &[]),
        ("app:v1", &["docker.io/library/app:v1"]),
        ("host.test/app", &["host.test/app:latest"]),
    ] {
        let archive = Fixture::sample()
            .annotate("org.opencontainers.image.ref.name", name)
            .layout();
        let opened = opened(&archive);
        let images = opened.archive().images(&linux()).expect(name);
        assert_eq!(references(&images[0]), expected, "{name}");
    }
}

#[test]
fn an_image_named_twice_is_one_image_with_two_references() {
    let archive = Fixture::sample()
        .annotate("io.containerd.image.name", "one:1")
        .annotate_again("io.containerd.image.name", "two:2")
        .layout();
    let opened = opened(&archive);
    let images = opened.archive().images(&linux()).expect("images");
    assert_eq!(images.len(), 1);
    assert_eq!(
        references(&images[0]),
        ["docker.io/library/one:1", "docker.io/library/two:2"]
    );
}

#[test]
fn a_nested_index_gives_the_platform_that_was_asked_for() {
    let archive = Fixture::sample()
        .annotate("io.containerd.image.name", "app")
        .nested(&["linux/arm64/v8", "linux/amd64", "unknown/unknown"])
        .layout();
    let opened = opened(&archive);
    let images = opened.archive().images(&linux()).expect("images");
    assert_eq!(images.len(), 1);
    assert_eq!(references(&images[0]), ["docker.io/library/app:latest"]);

    let mut other = linux();
    other.architecture = "s390x".to_owned();
    let error = opened.archive().images(&other).expect_err("not there");
    let ImageError::PlatformNotFound {
        platform,
        available,
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(platform, "linux/s390x");
    assert_eq!(available, "linux/amd64, linux/arm64/v8");
}

#[test]
fn a_saved_image_gets_a_manifest_that_is_always_the_same() {
    let archive = Fixture::sample().saved(&["app:v1", "<none>:<none>"]);
    let opened = opened(&archive);
    let first = opened.archive().images(&linux()).expect("images");
    let second = opened.archive().images(&linux()).expect("images");
    assert_eq!(references(&first[0]), ["docker.io/library/app:v1"]);
    assert_eq!(first[0].manifest, second[0].manifest);
    assert_eq!(first[0].target.digest, Digest::of(&first[0].manifest));
    assert_eq!(
        first[0].layers[0].descriptor.media_type,
        "application/vnd.oci.image.layer.v1.tar+gzip"
    );
}

#[test]
fn a_saved_layer_may_be_a_link_to_another_name() {
    let archive = Fixture::sample().saved_with_link("old/layer.tar", "../layer0.tar");
    let opened = opened(&archive);
    assert_eq!(opened.archive().images(&linux()).expect("images").len(), 1);
}

#[test]
fn accounts_behind_links_are_found() {
    let linked = layer(&[
        ("etc/passwd", "-> /nix/passwd"),
        ("nix/passwd", "-> deep/p"),
        ("nix/deep/p", "found"),
    ]);
    let archive = Fixture::default()
        .layer(
            "application/vnd.oci.image.layer.v1.tar",
            &linked,
            linked.clone(),
        )
        .layout();
    let opened = opened(&archive);
    let images = opened.archive().images(&linux()).expect("images");
    assert_eq!(images[0].accounts.passwd, "found");
    assert_eq!(images[0].accounts.group, "");
}
