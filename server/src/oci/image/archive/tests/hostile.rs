//! Archives that are broken, or made to break something.

use std::io;

use proptest::prelude::*;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::fixture::{Fixture, MANIFEST, append, archive, blob, descriptor, gzip, layer, opened};
use super::*;
use crate::model::limits::MAX_CONFIG_BYTES;

/// What opening the archive and reading its images ends with.
fn outcome(bytes: &[u8]) -> Result<usize, ImageError> {
    let opened = opened(bytes);
    let found = match &opened.result {
        Ok(archive) => archive.images(&linux()).map(|images| images.len()),
        Err(error) => Err(error.clone()),
    };
    assert_only_blobs(&opened.scratch);
    found
}

/// Nothing but files by digest (and one that was cut short) may be there.
fn assert_only_blobs(scratch: &tempfile::TempDir) {
    let names = |path: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(path).expect("a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    };
    assert_eq!(names(scratch.path()).len(), 2, "archive and blobs");
    for name in names(&scratch.path().join("blobs")) {
        let is_digest = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(is_digest || name == "incoming", "{name}");
    }
}

#[track_caller]
fn assert_invalid(bytes: &[u8], part: &str) {
    match outcome(bytes) {
        Err(ImageError::Invalid { problem }) => assert!(problem.contains(part), "{problem}"),
        other => panic!("{part}: {other:?}"),
    }
}

/// The sample's files and one more entry, whose name is written as it is.
fn with_entry(name: &str, kind: EntryType, link: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, data) in Fixture::sample().layout_files() {
        append(&mut builder, &path, &data);
    }
    let mut header = Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_link_name_literal(link).expect("a link");
    header.set_size(0);
    header.set_cksum();
    builder.append(&header, io::empty()).expect("appended");
    builder.into_inner().expect("finished")
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["/etc/passwd", "../evil", "blobs/../../evil", ".."] {
        let bytes = with_entry(name, EntryType::Regular, "");
        assert!(
            matches!(outcome(&bytes), Err(ImageError::Invalid { .. })),
            "{name}"
        );
    }
}

#[test]
fn links_that_lead_out_are_refused() {
    for (kind, target) in [
        (EntryType::Symlink, "/etc"),
        (EntryType::Symlink, "../../etc"),
        (EntryType::Link, "/etc/passwd"),
        (EntryType::Link, "../etc/passwd"),
    ] {
        let bytes = with_entry("blobs/link", kind, target);
        assert!(
            matches!(outcome(&bytes), Err(ImageError::Invalid { .. })),
            "{target}"
        );
    }
}

#[test]
fn a_link_in_place_of_a_directory_is_never_followed_on_the_host() {
    let mut bytes = with_entry("blobs", EntryType::Symlink, "elsewhere");
    assert_eq!(outcome(&bytes).expect("harmless"), 1);
    bytes = with_entry("index.json", EntryType::Symlink, "elsewhere");
    assert_invalid(&bytes, "twice");
}

#[test]
fn devices_are_refused() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        assert_invalid(&with_entry("dev", kind, ""), "device");
    }
}

#[test]
fn what_is_no_archive_is_refused() {
    for bytes in [&b""[..], b"hello", &[0; 2_048], &gzip(b"hello"), &gzip(b"")] {
        assert!(matches!(outcome(bytes), Err(ImageError::Invalid { .. })));
    }
    assert_invalid(&layer(&[("some", "file")]), "neither");
}

#[test]
fn a_missing_blob_is_named() {
    for missing in 1..4 {
        let mut files = Fixture::sample().layout_files();
        let (name, _) = files.remove(missing);
        let hex = name.rsplit('/').next().expect("a name").to_owned();
        assert_invalid(&archive(&files), &format!("{hex} is missing"));
    }
}

#[test]
fn a_blob_that_is_not_what_its_name_says_is_refused() {
    for changed in 1..4 {
        let mut files = Fixture::sample().layout_files();
        files[changed].1[0] ^= 1;
        let error = outcome(&archive(&files)).expect_err("changed");
        assert!(
            matches!(error, ImageError::DigestMismatch { .. }),
            "{error}"
        );
    }
}

#[test]
fn a_layer_that_is_not_what_the_config_says_is_refused() {
    let plain = layer(&[("a", "1")]);
    let other = layer(&[("a", "2")]);
    let bytes = Fixture::default()
        .layer(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            &plain,
            gzip(&other),
        )
        .layout();
    let Err(ImageError::DigestMismatch { expected, actual }) = outcome(&bytes) else {
        panic!("taken")
    };
    assert_eq!(expected, Digest::of(&plain).as_str());
    assert_eq!(actual, Digest::of(&other).as_str());
}

#[test]
fn a_layer_said_to_be_plain_must_be() {
    let plain = layer(&[("a", "1")]);
    let fixture = |kind: &str| {
        Fixture::default()
            .layer(kind, &plain, gzip(&plain))
            .layout()
    };
    assert_invalid(
        &fixture("application/vnd.oci.image.layer.v1.tar"),
        "compressed",
    );
    assert_invalid(
        &fixture("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
        "unknown",
    );
    assert_invalid(&fixture("text/plain"), "unknown");
}

#[test]
fn a_layer_cut_short_is_refused() {
    let plain = layer(&[("a", &"x".repeat(5_000))]);
    let whole = gzip(&plain);
    let cut = whole[..whole.len() - 10].to_vec();
    let bytes = Fixture::default()
        .layer("application/vnd.oci.image.layer.v1.tar+gzip", &plain, cut)
        .layout();
    assert_invalid(&bytes, "layer sha256:");
}

/// A manifest that lies, in a layout that is right otherwise.
fn with_manifest(change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let fixture = Fixture::sample();
    let mut manifest = fixture.manifest();
    change(&mut manifest);
    archive(&fixture.layout_files_with(&manifest))
}

#[test]
fn declared_sizes_are_not_believed() {
    assert_invalid(
        &with_manifest(|manifest| manifest["layers"][0]["size"] = json!(u64::MAX)),
        "bytes",
    );
    assert_invalid(
        &with_manifest(|manifest| manifest["config"]["size"] = json!(1_u64 << 40)),
        "more than",
    );
    assert_invalid(
        &with_manifest(|manifest| manifest["layers"][0]["size"] = json!(-1)),
        "manifest",
    );
}

#[test]
fn a_huge_entry_that_does_not_come_is_refused() {
    let mut header = Header::new_gnu();
    header.set_path("blobs/sha256/x").expect("a path");
    header.set_size(1 << 40);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend([0; 4_096]);
    assert!(matches!(outcome(&bytes), Err(ImageError::Invalid { .. })));
}

#[test]
fn a_huge_document_is_refused() {
    let mut fixture = Fixture::sample();
    let padding = "x".repeat(MAX_CONFIG_BYTES);
    fixture = fixture.config("Cmd", &[&padding]);
    assert_invalid(&gzip(&fixture.layout()), "more than");
}

#[test]
fn layers_and_diff_ids_must_be_as_many_and_not_too_many() {
    assert_invalid(&Fixture::default().layout(), "0 layers");
    assert_invalid(
        &with_manifest(|manifest| manifest["layers"] = json!([])),
        "0 layers, its config 1",
    );
    let plain = layer(&[("a", "1")]);
    let kind = "application/vnd.oci.image.layer.v1.tar";
    let mut many = Fixture::default();
    for _ in 0..128 {
        many = many.layer(kind, &plain, plain.clone());
    }
    let files = many.layout_files();
    assert_invalid(
        &archive(
            &files[..4]
                .iter()
                .chain(files.last())
                .cloned()
                .collect::<Vec<_>>(),
        ),
        "128 layers",
    );
    assert_invalid(&many.saved(&[]), "128 layers");
}

#[test]
fn a_document_of_two_kinds_is_refused() {
    assert_invalid(
        &with_manifest(|manifest| manifest["manifests"] = json!([])),
        "both an index and a manifest",
    );
}

#[test]
fn indexes_nested_without_end_are_refused() {
    let mut files = Fixture::sample().layout_files();
    files.pop();
    let kind = "application/vnd.oci.image.index.v1+json";
    let mut inner = descriptor(MANIFEST, b"never reached");
    for _ in 0..8 {
        // Each says the next twelve times over: twelve to the eighth visits, if nobody counted.
        let index = json!({ "manifests": vec![inner.clone(); 12] }).to_string();
        inner = descriptor(kind, index.as_bytes());
        files.push(blob(index.as_bytes()));
    }
    let top = json!({ "manifests": [inner] }).to_string();
    files.push(("index.json".to_owned(), top.into_bytes()));
    assert_invalid(&archive(&files), "nested");
}

#[test]
fn names_that_are_no_references_are_refused() {
    let named = Fixture::sample().annotate("io.containerd.image.name", "../../x");
    assert_invalid(&named.layout(), "domain");
    assert_invalid(&Fixture::sample().saved(&["UPPER:x"]), "upper-case");
}

#[test]
fn a_saved_archive_names_files_of_its_own_only() {
    for name in ["/etc/passwd", "../archive.tar", "gone.tar"] {
        let link = Fixture::sample().saved_with_link("elsewhere", "layer0.tar");
        let list = json!([{ "Config": "config.json", "Layers": [name] }]).to_string();
        let mut builder = tar::Builder::new(Vec::new());
        append(&mut builder, "manifest.json", list.as_bytes());
        append(
            &mut builder,
            "config.json",
            &Fixture::sample().config_json(),
        );
        assert_invalid(&builder.into_inner().expect("finished"), "is missing");
        drop(link);
    }
}

#[test]
fn an_account_file_that_is_huge_is_refused() {
    let plain = layer(&[("etc/passwd", &"x".repeat((1 << 20) + 1))]);
    let bytes = Fixture::default()
        .layer(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            &plain,
            gzip(&plain),
        )
        .layout();
    assert_invalid(&bytes, "larger than");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_cut_archive_is_refused_or_whole(cut in 0_usize..20_000, squeeze: bool) {
        let mut bytes = Fixture::sample().layout();
        if squeeze {
            bytes = gzip(&bytes);
        }
        bytes.truncate(cut % bytes.len());
        let _ = outcome(&bytes);
    }

    #[test]
    fn a_mutated_archive_is_refused_or_read(at: usize, value: u8, saved: bool) {
        let sample = Fixture::sample();
        let mut bytes = if saved { sample.saved(&["a:b"]) } else { sample.layout() };
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = outcome(&bytes);
    }

    #[test]
    fn a_mutated_compressed_archive_is_refused_or_read(at: usize, value: u8, zstd: bool) {
        let plain = Fixture::sample().layout();
        let mut bytes = if zstd {
            zstd::encode_all(&plain[..], 1).expect("encoded")
        } else {
            gzip(&plain)
        };
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = outcome(&bytes);
    }
}
