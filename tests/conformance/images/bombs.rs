//! Layers that are made to exhaust who unpacks them: each is refused for what it is, comes it in an archive or from a
//! registry, before it has taken anything.

use std::fmt::Debug;
use std::io::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};
use tokio::time::timeout;
use wharf_api::ErrorReason;

use crate::harness::image::{CONFIG, LAYER, MANIFEST, Recipe, Tar, architecture, digest};
use crate::harness::registry::{Access, Registry};
use crate::harness::{Client, Refusal, World, scenario};

/// For each: longer than any of them takes, and far shorter than unpacking one.
const BOUND: Duration = Duration::from_secs(60);
/// What comes of the large ones; more than there may.
const LARGE: u64 = 8 << 30;
/// Of those, what is compressed once and then repeated.
const PIECE: usize = 16 << 20;

/// A layer, as a blob.
struct Layer {
    what: &'static str,
    suffix: &'static str,
    blob: Vec<u8>,
    /// Of its tar, where that is small enough to be looked at.
    diff_id: String,
}

impl Layer {
    fn plain(what: &'static str, tar: Vec<u8>) -> Self {
        let diff_id = digest(&Sha256::digest(&tar));
        Self {
            what,
            suffix: "",
            blob: tar,
            diff_id,
        }
    }

    fn packed(what: &'static str, suffix: &'static str, blob: Vec<u8>) -> Self {
        Self {
            what,
            suffix,
            blob,
            diff_id: digest(&[7; 32]),
        }
    }

    fn media_type(&self) -> String {
        format!("{LAYER}{}", self.suffix)
    }

    /// The config of an image of this layer.
    fn config(&self) -> Vec<u8> {
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [self.diff_id]},
        });
        config.to_string().into_bytes()
    }

    /// An OCI layout of one image of this layer.
    fn archive(&self) -> Bytes {
        let described = |media_type: &str, blob: &[u8]| {
            let digest = digest(&Sha256::digest(blob));
            json!({"mediaType": media_type, "digest": digest, "size": blob.len()})
        };
        let config = self.config();
        let manifest = manifest(
            &described(CONFIG, &config),
            &described(&self.media_type(), &self.blob),
        );
        let manifest = manifest.to_string().into_bytes();
        let index = json!({"schemaVersion": 2, "manifests": [described(MANIFEST, &manifest)]});
        let mut tar = Tar::new();
        tar.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
        tar.file("index.json", 0o644, index.to_string().as_bytes());
        for blob in [&config, &manifest, &self.blob] {
            let name = digest(&Sha256::digest(blob)).replace("sha256:", "blobs/sha256/");
            tar.file(&name, 0o644, blob);
        }
        tar.finish().into()
    }

    async fn push(&self, registry: &Registry, name: &str) {
        let repository = name.split(':').next().unwrap();
        let media_type = self.media_type();
        let layer = registry.put_blob(repository, &media_type, &self.blob).await;
        let config = registry.put_blob(repository, CONFIG, &self.config()).await;
        registry
            .put_manifest(name, &manifest(&config, &layer))
            .await;
    }
}

fn manifest(config: &Value, layer: &Value) -> Value {
    json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]})
}

fn bombs() -> Vec<Layer> {
    vec![
        Layer::packed("zeros by gzip", "+gzip", zeros(&gzip)),
        Layer::packed("zeros by zstd", "+zstd", zeros(&zstd)),
        zstd_window(),
        pax_header(),
        long_name(),
        Layer::plain("deep", entry(EntryType::Directory, &"d/".repeat(1_500), "")),
        Layer::plain("long step", entry(EntryType::Regular, &"n".repeat(300), "")),
        Layer::plain("sparse", sparse()),
        Layer::plain("circle", circle()),
    ]
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::encode_all(plain, 3).unwrap()
}

/// A whole and honest tar of one file of zeros. Both formats are read on after the end of what was compressed once.
fn zeros(pack: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_mode(0o644);
    header.set_size(LARGE);
    header.set_cksum();
    let pieces = usize::try_from(LARGE).unwrap() / PIECE;
    let mut blob = pack(header.as_bytes());
    blob.extend(pack(&vec![0; PIECE]).repeat(pieces));
    blob.extend(pack(&[0; 1_024]));
    blob
}

/// A small tar, which says that its reader needs 2 GiB of memory (RFC 8878, 3.1.1.1.2), in blocks as they are.
fn zstd_window() -> Layer {
    let tar = entry(EntryType::Regular, "small", "");
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (31 - 10) << 3];
    let header = u32::try_from(tar.len()).unwrap() << 3 | 1;
    frame.extend(&header.to_le_bytes()[..3]);
    frame.extend(&tar);
    Layer {
        diff_id: digest(&Sha256::digest(&tar)),
        ..Layer::packed("zstd window", "+zstd", frame)
    }
}

/// One of 100 MiB.
fn pax_header() -> Layer {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_size(100 << 20);
    header.set_cksum();
    let record = b"104857600 SCHILY.xattr.user.large=";
    let mut blob = gzip(&[header.as_bytes(), &record[..]].concat());
    blob.extend(gzip(&vec![b'x'; (1 << 20) - record.len() - 1]));
    blob.extend(gzip(&vec![b'x'; 1 << 20]).repeat(99));
    blob.extend(gzip(
        &[b"\n", &entry(EntryType::Regular, "file", "")[..]].concat(),
    ));
    Layer::packed("pax header", "+gzip", blob)
}

fn long_name() -> Layer {
    let name = vec![b'n'; 1 << 20];
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 20);
    header.set_cksum();
    let short = entry(EntryType::Regular, "n", "");
    Layer::plain("long name", [header.as_bytes(), &name[..], &short].concat())
}

/// Eight gigabytes in a header.
fn sparse() -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_path("holes").unwrap();
    header.set_mode(0o644);
    header.set_size(0);
    let real_size = &mut header.as_gnu_mut().unwrap().realsize;
    real_size.copy_from_slice(b"77777777777\0");
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, io::empty()).unwrap();
    tar.into_inner().unwrap()
}

/// Hard links, each to the other.
fn circle() -> Vec<u8> {
    let one = entry(EntryType::Link, "one", "other");
    [&one[..512], &entry(EntryType::Link, "other", "one")].concat()
}

/// A tar of one entry without contents.
fn entry(kind: EntryType, path: &str, link: &str) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(0);
    if link.is_empty() {
        tar.append_data(&mut header, path, io::empty()).unwrap();
    } else {
        tar.append_link(&mut header, path, link).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A bomb is refused for what it is, soon, and leaves nothing.
async fn is_refused<T: Debug>(
    world: &World,
    client: &Client,
    what: &str,
    taking_in: impl Future<Output = Result<T, Refusal>>,
) {
    let before = world.kept().await;
    let taken_in = timeout(BOUND, taking_in).await.expect(what);
    let refusal = taken_in.expect_err(what);
    assert!(refusal.is(ErrorReason::ImageInvalid), "{what}: {refusal}");
    assert!(!refusal.metadata["problem"].is_empty(), "{what}: {refusal}");
    assert_eq!(client.every_image().await, [], "{what}");
    world.nothing_is_left(&before, what).await;
}

#[test]
fn bombs_in_archives_are_refused_and_leave_nothing() {
    scenario(async |world| {
        world.start_backend().await;
        let client = world.wharfd.start().await;
        for bomb in bombs() {
            let import = client.import(bomb.archive());
            is_refused(world, &client, bomb.what, import).await;
        }
        let chain = chain().archive();
        assert_eq!(client.import(chain).await.unwrap().len(), 1);
    });
}

#[test]
fn bombs_in_registries_are_refused_and_leave_nothing() {
    scenario(async |world| {
        let registry = Registry::start(Access::Open).await;
        registry.known_to(&world.wharfd);
        world.start_backend().await;
        let client = world.wharfd.start().await;
        for (number, bomb) in bombs().into_iter().enumerate() {
            let name = format!("bomb-{number}:1");
            bomb.push(&registry, &name).await;
            let image = registry.reference(&name);
            is_refused(world, &client, bomb.what, client.pull(&image)).await;
        }
        chain().push(&registry, "chain:1").await;
        client.pull(&registry.reference("chain:1")).await.unwrap();
    });
}

/// What looks like the others and is sound: a file with a thousand names, each a link to the one before.
fn chain() -> Layer {
    let mut tar = Recipe::busybox("").layers.remove(0);
    tar.truncate(tar.len() - 1_024);
    let mut link = |name: String, target: String| {
        tar.extend(&entry(EntryType::Link, &name, &target)[..512]);
    };
    link("link-0".to_owned(), "bin/busybox".to_owned());
    for number in 1..1_000 {
        link(format!("link-{number}"), format!("link-{}", number - 1));
    }
    tar.extend([0; 1_024]);
    Layer::plain("chain", tar)
}
