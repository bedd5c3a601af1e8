//! The requests of `ImageService`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use wharf_api::v1;

use super::flaws;
use crate::model::image::{AccountFiles, Descriptor, ImageConfig, Platform};
use crate::model::{Digest, Image};
use crate::transport::Violations;
use crate::transport::parse::image;

fn stored(references: &[&str]) -> Image {
    let digest = Digest::of(b"config");
    Image {
        id: digest.clone(),
        references: references
            .iter()
            .map(|r| (*r).to_owned())
            .collect::<BTreeSet<_>>(),
        target: Descriptor {
            media_type: String::new(),
            digest: Digest::of(b"manifest"),
            size_bytes: 1,
        },
        platform: Platform::host(),
        content_bytes: 0,
        unpacked_bytes: 0,
        layers: Vec::new(),
        chain_id: digest,
        create_time: SystemTime::UNIX_EPOCH,
        config: Arc::new(ImageConfig {
            labels: [("team".to_owned(), "a".to_owned())].into(),
            ..Default::default()
        }),
        accounts: Arc::new(AccountFiles::default()),
        config_json: "{}".into(),
    }
}

fn list(filter: v1::ImageFilter) -> v1::ListImagesRequest {
    v1::ListImagesRequest {
        filter: Some(filter),
        ..Default::default()
    }
}

fn selects(filter: v1::ImageFilter, containers: usize) -> bool {
    let mut out = Violations::new();
    let filter = image::list(list(filter), &mut out);
    assert!(out.is_empty(), "{out}");
    filter.matches(&stored(&["docker.io/library/alpine:3.22"]), || containers)
}

fn references(text: &str) -> v1::ImageFilter {
    v1::ImageFilter {
        references: vec![text.to_owned()],
        ..Default::default()
    }
}

#[test]
fn images_are_selected_by_reference_as_people_write_it() {
    for text in [
        "alpine:3.22",
        "docker.io/library/alpine:3.22",
        "alp*",
        "docker.io/*",
        "*",
        Digest::of(b"config").as_str(),
        Digest::of(b"manifest").as_str(),
    ] {
        assert!(selects(references(text), 0), "{text}");
    }
    for text in ["alpine", "alpine:3.2", "pine*", "quay.io/*"] {
        assert!(!selects(references(text), 0), "{text}");
    }
}

#[test]
fn images_are_selected_by_labels_and_use() {
    let filter = v1::ImageFilter::default;
    let label = |value: &str| v1::ImageFilter {
        labels: [("team".to_owned(), value.to_owned())].into(),
        ..filter()
    };
    assert!(selects(label("a"), 0) && !selects(label("b"), 0));
    let unused = |unused| v1::ImageFilter {
        unused: Some(unused),
        ..filter()
    };
    assert!(selects(unused(true), 0) && !selects(unused(true), 1));
    assert!(selects(unused(false), 1) && !selects(unused(false), 0));
    let dangling = |dangling| v1::ImageFilter {
        dangling: Some(dangling),
        ..filter()
    };
    assert!(selects(dangling(false), 0) && !selects(dangling(true), 0));
}

#[test]
fn wrong_references_are_named() {
    assert_eq!(flaws(|out| image::key("", out)), ["image REQUIRED"]);
    assert_eq!(flaws(|out| image::key("a b", out)), ["image MALFORMED"]);
    let digest = format!("alpine@{}", Digest::of(b""));
    for (text, flaw) in [
        ("", "reference REQUIRED"),
        ("a b", "reference MALFORMED"),
        (digest.as_str(), "reference MALFORMED"),
        (Digest::of(b"").as_str(), "reference MALFORMED"),
        (Digest::of(b"").hex(), "reference MALFORMED"),
    ] {
        assert_eq!(
            flaws(|out| image::new_reference(text, out)),
            [flaw],
            "{text}"
        );
    }
    let bad = list(references("A B"));
    assert_eq!(
        flaws(|out| image::list(bad, out)),
        ["filter.references[0] MALFORMED"]
    );
}

#[test]
fn an_import_names_what_is_wrong_before_any_data() {
    let start = v1::ImportImageStart {
        reference: "A B".to_owned(),
        platform: Some(v1::Platform {
            os: "Linux/x".to_owned(),
            ..Default::default()
        }),
        idempotency_key: "a b".to_owned(),
    };
    assert_eq!(
        flaws(|out| image::import(&start, out)),
        [
            "start.idempotency_key MALFORMED",
            "start.reference MALFORMED",
            "start.platform.os MALFORMED"
        ]
    );
}

#[test]
fn a_platform_is_the_hosts_where_it_is_left_open() {
    let start = v1::ImportImageStart {
        platform: Some(v1::Platform::default()),
        ..Default::default()
    };
    let import = image::import(&start, &mut Violations::new());
    let host = Platform::host();
    let platform = import.platform.unwrap();
    assert_eq!(
        (platform.os, platform.architecture),
        (host.os, host.architecture)
    );
}

#[test]
fn a_prune_is_of_unused_images_and_of_dangling_ones_unless_it_says_otherwise() {
    let prune = |dangling, unused, out: &mut Violations| {
        let filter = Some(v1::ImageFilter {
            dangling,
            unused,
            ..Default::default()
        });
        let request = v1::PruneImagesRequest {
            filter,
            ..Default::default()
        };
        image::prune(request, out)
    };
    let (named, dangling) = (stored(&["docker.io/library/alpine:3.22"]), stored(&[]));
    for (asked, of_named, of_dangling) in [
        (None, false, true),
        (Some(true), false, true),
        (Some(false), true, false),
    ] {
        let mut out = Violations::new();
        let filter = prune(asked, None, &mut out);
        assert!(out.is_empty(), "{out}");
        assert_eq!(filter.matches(&named, || 0), of_named, "{asked:?}");
        assert_eq!(filter.matches(&dangling, || 0), of_dangling, "{asked:?}");
        assert!(!filter.matches(&named, || 1) && !filter.matches(&dangling, || 1));
    }
    let flaws = flaws(|out| prune(None, Some(false), out));
    assert_eq!(flaws, ["filter.unused CONFLICT"]);
}

#[test]
fn an_export_is_of_one_to_a_hundred_images() {
    let flaws_of = |images: Vec<String>| {
        let request = v1::ExportImageRequest {
            images,
            ..Default::default()
        };
        flaws(|out| image::export(request, out))
    };
    assert!(flaws_of(vec!["alpine".to_owned(); 100]).is_empty());
    assert_eq!(flaws_of(Vec::new()), ["images REQUIRED"]);
    assert_eq!(
        flaws_of(vec!["alpine".to_owned(); 101]),
        ["images TOO_MANY"]
    );
    let wrong = vec!["alpine".to_owned(), "UPPER".to_owned()];
    assert_eq!(flaws_of(wrong), ["images[1] MALFORMED"]);
}
