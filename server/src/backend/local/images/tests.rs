//! Layers as hostile builders make them, and what keeps which files.

use std::collections::BTreeSet;
use std::io::{Cursor, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::sync::Arc;

use futures_util::TryStreamExt;
use rustix::fs::getxattr;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::super::roots::Roots;
use super::*;
use crate::files::{self, Root, Writable};
use crate::model::ContainerId;
use crate::model::image::{AccountFiles, Descriptor, ImageConfig, Platform};
use crate::oci::image::LayerSource;

type Entry<'a> = (&'a str, EntryType, &'a str);

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const LINK: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

/// A layer of these entries: for files the text is the content, for links the target.
fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (name, kind, text) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if *kind == DIR { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(0);
        if *kind == FILE {
            header.set_size(text.len() as u64);
        }
        // As it is: the crate refuses names that lead out.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if matches!(*kind, LINK | HARD) {
            header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        if matches!(*kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        let content = if *kind == FILE { text.as_bytes() } else { b"" };
        tar.append(&header, content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// A layer with one file of a mode and attributes of its own.
fn special(mode: u32, attributes: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    let pairs = attributes
        .iter()
        .map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value));
    let pairs: Vec<_> = pairs.collect();
    tar.append_pax_extensions(pairs.iter().map(|(name, value)| (name.as_str(), *value)))
        .unwrap();
    let mut header = Header::new_ustar();
    header.set_path("special").unwrap();
    header.set_mode(mode);
    header.set_uid(7);
    header.set_gid(8);
    header.set_size(0);
    header.set_cksum();
    tar.append(&header, &b""[..]).unwrap();
    tar.into_inner().unwrap()
}

fn unpacked(layer: &[u8]) -> (TempDir, Result<u64, LayerError>) {
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("layer")).unwrap();
    let into = File::open(place.path().join("layer")).unwrap();
    let size = layer.len() as u64;
    let result = layer::unpack(Cursor::new(layer.to_vec()), size, into.into());
    (place, result)
}

fn refused(entries: &[Entry<'_>]) -> TempDir {
    let (place, result) = unpacked(&layer(entries));
    assert!(
        matches!(result, Err(LayerError::Tar(LayerTarError::Entry { .. }))),
        "{entries:?}: {result:?}"
    );
    assert_eq!(outside(&place), BTreeSet::from(["layer".to_owned()]));
    place
}

fn taken(entries: &[Entry<'_>]) -> TempDir {
    let (place, result) = unpacked(&layer(entries));
    result.unwrap();
    assert_eq!(outside(&place), BTreeSet::from(["layer".to_owned()]));
    place
}

/// What there is beside the layer.
fn outside(place: &TempDir) -> BTreeSet<String> {
    let entries = fs::read_dir(place.path()).unwrap().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn nothing_gets_out_of_a_layer() {
    refused(&[("../escaped", FILE, "x")]);
    refused(&[("a/../../escaped", FILE, "x")]);
    refused(&[("in", DIR, ""), ("link", HARD, "../escaped")]);
    refused(&[("link", HARD, "/etc/passwd")]);
    refused(&[("..", DIR, "")]);
    refused(&[(".wh...", FILE, "")]);
    refused(&[(".wh.", FILE, "")]);
    let place = taken(&[("/absolute", FILE, "x")]);
    assert!(place.path().join("layer/absolute").is_file());
}

#[test]
fn a_link_that_the_layer_has_made_leads_nowhere_else() {
    for target in ["/", "/tmp", "..", "../../..", "/etc"] {
        let (place, result) =
            unpacked(&layer(&[("out", LINK, target), ("out/escaped", FILE, "x")]));
        // Followed, it ends inside; where there is nothing, it is refused.
        assert_eq!(outside(&place), BTreeSet::from(["layer".to_owned()]));
        assert!(!Path::new(target).join("escaped").exists());
        if result.is_ok() {
            let found = ["layer/escaped", "layer/tmp/escaped", "layer/etc/escaped"];
            assert!(found.iter().any(|path| place.path().join(path).exists()));
        }
    }
}

#[test]
fn later_entries_take_the_place_of_earlier_ones() {
    let place = taken(&[
        ("a", DIR, ""),
        ("a/below", FILE, "x"),
        ("a", FILE, "now a file"),
        ("b", FILE, "x"),
        ("b", DIR, ""),
        ("b/below", FILE, "y"),
        ("c", LINK, "/etc/passwd"),
        ("c", FILE, "not through it"),
    ]);
    let read = |name: &str| fs::read_to_string(place.path().join("layer").join(name)).unwrap();
    assert_eq!(read("a"), "now a file");
    assert_eq!(read("b/below"), "y");
    assert_eq!(read("c"), "not through it");
}

#[test]
fn hard_links_and_nodes_are_as_in_the_layer() {
    let place = taken(&[
        ("one", FILE, "same"),
        ("dir/two", HARD, "one"),
        ("pipe", EntryType::Fifo, ""),
        ("null", EntryType::Char, ""),
    ]);
    let top = place.path().join("layer");
    let inode = |name: &str| fs::metadata(top.join(name)).unwrap().ino();
    assert_eq!(inode("one"), inode("dir/two"));
    let kind = |name: &str| fs::metadata(top.join(name)).unwrap().file_type();
    assert!(kind("pipe").is_fifo());
    assert!(kind("null").is_char_device());
}

#[test]
fn owners_special_bits_and_capabilities_are_kept_and_the_hosts_attributes_are_not_made() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (place, result) = unpacked(&special(
        0o4755,
        &[
            ("security.capability", &capability),
            ("user.note", b"kept"),
            ("trusted.overlay.opaque", b"y"),
        ],
    ));
    result.unwrap();
    let path = place.path().join("layer/special");
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (7, 8));
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o4755);
    let mut buffer = [0; 64];
    assert_eq!(getxattr(&path, "security.capability", &mut buffer), Ok(20));
    assert!(getxattr(&path, "trusted.overlay.opaque", &mut buffer).is_err());
}

/// A store with images of these layers, and roots on it.
struct Store {
    place: TempDir,
    images: Images,
    roots: Roots,
    trash: Arc<Trash>,
}

fn trash(directory: &Path) -> Arc<Trash> {
    let trash = Trash::open(directory.join("trash"), CancellationToken::new());
    Arc::new(trash.unwrap())
}

impl Store {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("local");
        let trash = trash(&directory);
        Self {
            images: Images::open(&directory, Arc::clone(&trash)).unwrap(),
            roots: Roots::open(&directory, Arc::clone(&trash)).unwrap(),
            trash,
            place,
        }
    }

    /// Takes in an image of these layers, lowest first.
    fn ingest(&self, reference: &str, layers: &[Vec<u8>]) -> Image {
        let (image, content) = image(self.place.path(), reference, layers);
        self.images.ingest(&image, &content).unwrap();
        image
    }

    /// A new container's root, as its processes see it.
    fn root_on(&self, image: &Image) -> (ContainerId, Root) {
        let id = ContainerId::generate();
        let mounts = self
            .roots
            .create(&self.images, id, &image.chain_id)
            .unwrap();
        let root = Root::of_mounts(&mounts, Writable::Yes, &[]).unwrap();
        (id, root)
    }

    fn collect(&self) {
        self.images.collect(|| self.roots.layers_in_use());
        self.trash.empty();
    }

    fn count(&self, directory: &str) -> usize {
        let path = self.place.path().join("local").join(directory);
        fs::read_dir(path).unwrap().count()
    }
}

fn image(place: &Path, reference: &str, layers: &[Vec<u8>]) -> (Image, ImageContent) {
    let blobs = place.join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let mut stack: Vec<Layer> = Vec::new();
    for bytes in layers {
        let diff_id = Digest::of(bytes);
        fs::write(blobs.join(diff_id.hex()), bytes).unwrap();
        let below = stack.last().map(|layer| layer.chain_id.clone());
        let chain_id = below.map_or(diff_id.clone(), |below| {
            Digest::of(format!("{below} {diff_id}").as_bytes())
        });
        stack.push(Layer {
            descriptor: descriptor(bytes),
            diff_id,
            chain_id,
        });
    }
    let config = format!("{{\"of\":\"{reference}\"}}");
    let manifest = format!("{{\"manifest\":\"{reference}\"}}");
    let image = Image {
        id: Digest::of(config.as_bytes()),
        references: BTreeSet::from([reference.to_owned()]),
        target: descriptor(manifest.as_bytes()),
        platform: Platform::host(),
        content_bytes: 0,
        unpacked_bytes: 0,
        layers: Vec::new(),
        chain_id: stack.last().unwrap().chain_id.clone(),
        create_time: std::time::SystemTime::now(),
        config: Arc::default(),
        accounts: Arc::default(),
        config_json: config.as_str().into(),
    };
    let source = Blobs {
        place: blobs,
        layers: stack.clone(),
    };
    let content = ImageContent {
        references: image.references.clone(),
        platform: Platform::host(),
        target: image.target.clone(),
        manifest: manifest.as_bytes().into(),
        config: descriptor(config.as_bytes()),
        config_json: config.as_str().into(),
        process: ImageConfig::default(),
        layers: stack,
        accounts: AccountFiles::default(),
        source: Arc::new(source),
    };
    (image, content)
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: "application/octet-stream".to_owned(),
        digest: Digest::of(bytes),
        size_bytes: bytes.len() as u64,
    }
}

/// Blobs in a directory, each by the hex digits of its digest.
#[derive(Debug)]
struct Blobs {
    place: PathBuf,
    layers: Vec<Layer>,
}

impl LayerSource for Blobs {
    fn open(&self, layer: &Layer) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.file(layer)?)?))
    }

    fn file(&self, layer: &Layer) -> io::Result<PathBuf> {
        Ok(self.place.join(layer.descriptor.digest.hex()))
    }

    fn verified(&self, layer: &Layer) -> io::Result<()> {
        let actual = Digest::of(&fs::read(self.file(layer)?)?);
        let is_right = actual == layer.descriptor.digest;
        is_right
            .then_some(())
            .ok_or(io::ErrorKind::InvalidData.into())
    }

    fn accepted(&self) -> io::Result<()> {
        self.layers
            .iter()
            .try_for_each(|layer| self.verified(layer))
    }
}

fn is_seen(root: &Root, path: &str) -> bool {
    files::stat(root, &format!("/{path}")).is_ok()
}

#[test]
fn a_whiteout_hides_what_is_below_and_nothing_of_its_own_layer() {
    let store = Store::new();
    let below = layer(&[
        ("gone", FILE, "x"),
        ("dir", DIR, ""),
        ("dir/gone", FILE, "x"),
        ("dir/stays", FILE, "x"),
        ("again", DIR, ""),
        ("again/old", FILE, "x"),
        ("opaque", DIR, ""),
        ("opaque/old", FILE, "x"),
    ]);
    let above = layer(&[
        (".wh.gone", FILE, ""),
        ("dir/.wh.gone", FILE, ""),
        (".wh.again", FILE, ""),
        ("again", DIR, ""),
        ("again/new", FILE, "x"),
        ("opaque", DIR, ""),
        ("opaque/before", FILE, "x"),
        ("opaque/.wh..wh..opq", FILE, ""),
        ("opaque/after", FILE, "x"),
    ]);
    let image = store.ingest("two:1", &[below, above]);
    let (_, root) = store.root_on(&image);
    for path in ["gone", "dir/gone", "again/old", "opaque/old", ".wh.gone"] {
        assert!(!is_seen(&root, path), "{path}");
    }
    for path in ["dir/stays", "again/new", "opaque/before", "opaque/after"] {
        assert!(is_seen(&root, path), "{path}");
    }
}

#[test]
fn layers_are_shared_and_go_with_their_last_user() {
    let store = Store::new();
    let base = layer(&[("base", FILE, "x")]);
    let one = store.ingest("one:1", &[base.clone(), layer(&[("one", FILE, "1")])]);
    let two = store.ingest("two:1", &[base, layer(&[("two", FILE, "2")])]);
    assert_eq!(store.count("layers"), 3);
    let (id, root) = store.root_on(&one);
    store.images.untag("one:1").unwrap();
    store.collect();
    assert_eq!(store.count("layers"), 3, "a root stands on it");
    assert!(is_seen(&root, "one") && is_seen(&root, "base"));
    drop(root);
    store.roots.delete(&store.images, id).unwrap();
    store.collect();
    assert_eq!(store.count("layers"), 2);
    store.images.tag(&two, "three:1").unwrap();
    store.images.untag("two:1").unwrap();
    store.collect();
    assert_eq!(store.count("layers"), 2);
    store.images.untag("three:1").unwrap();
    store.collect();
    assert_eq!((store.count("layers"), store.count("trash")), (0, 0));
    assert_eq!(store.count("content/blobs/sha256"), 0);
    let missing = store.images.tag(&two, "four:1");
    assert!(matches!(
        missing,
        Err(BackendError::ImageContentMissing { .. })
    ));
}

#[test]
fn layers_are_looked_for_only_when_the_last_root_of_an_image_without_a_name_goes() {
    let store = Store::new();
    let image = store.ingest("named:1", &[layer(&[("x", FILE, "x")])]);
    let ids: Vec<_> = (0..3).map(|_| store.root_on(&image).0).collect();
    store.collect();
    // What a collection removes, and so tells that there was one.
    let mark = store.place.path().join("local/layers/mark");
    let is_collected_after = |act: &dyn Fn()| {
        fs::create_dir_all(&mark).unwrap();
        act();
        store.collect();
        !mark.exists()
    };
    assert!(!is_collected_after(&|| store
        .roots
        .delete(&store.images, ids[0])
        .unwrap()));
    assert!(is_collected_after(&|| store
        .images
        .untag("named:1")
        .unwrap()));
    assert!(!is_collected_after(&|| store
        .roots
        .delete(&store.images, ids[1])
        .unwrap()));
    // As after a restart: what stands on what is read again.
    let directory = store.place.path().join("local");
    let (images, roots) = (
        Images::open(&directory, trash(&directory)).unwrap(),
        Roots::open(&directory, trash(&directory)).unwrap(),
    );
    images.collect(|| roots.layers_in_use());
    assert_eq!(store.count("layers"), 1, "a root stands on it");
    roots.delete(&images, ids[2]).unwrap();
    images.collect(|| roots.layers_in_use());
    assert_eq!(store.count("layers"), 0);
}

#[test]
fn a_name_that_moves_leaves_its_image_dangling() {
    let store = Store::new();
    let first = store.ingest("name:1", &[layer(&[("first", FILE, "1")])]);
    store.ingest("name:1", &[layer(&[("second", FILE, "22")])]);
    store.collect();
    // The same reference makes the same config here: told apart by their layers.
    assert!(store.count("layers") >= 1);
    store.images.untag(&first.dangling_name()).unwrap();
    store.collect();
    assert_eq!(store.count("layers"), 1);
}

#[test]
fn content_that_is_not_what_it_is_called_is_refused_and_leaves_nothing() {
    let store = Store::new();
    let (image, content) = image(store.place.path(), "bad:1", &[layer(&[("x", FILE, "x")])]);
    let blob = store
        .place
        .path()
        .join("blobs")
        .join(content.layers[0].diff_id.hex());
    fs::write(blob, layer(&[("y", FILE, "other")])).unwrap();
    let result = store.images.ingest(&image, &content);
    result.unwrap_err();
    store.collect();
    for directory in ["layers", "names", "incoming", "content/blobs/sha256"] {
        assert_eq!(store.count(directory), 0, "{directory}");
    }
}

#[test]
fn a_blob_may_be_several_layers_of_an_image() {
    let store = Store::new();
    let (one, same) = (layer(&[("a", FILE, "1")]), layer(&[("same", FILE, "2")]));
    for round in 0..50 {
        let reference = format!("r/app:{round}");
        let layers = [&same, &one, &same, &same, &same].map(Clone::clone);
        let image = store.ingest(&reference, &layers);
        let (_, root) = store.root_on(&image);
        assert!(is_seen(&root, "a") && is_seen(&root, "same"));
        let blob = store.images.open_blob(&descriptor(&same)).unwrap();
        assert_eq!(blob.metadata().unwrap().len(), same.len() as u64);
        store.images.untag(&reference).unwrap();
        store.collect();
    }
}

#[test]
fn many_may_bring_the_same_image_at_once() {
    let store = Store::new();
    let layers: Vec<_> = (0..5)
        .map(|number| layer(&[(format!("file-{number}").as_str(), FILE, "x")]))
        .collect();
    let (image, content) = image(store.place.path(), "same:1", &layers);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| store.images.ingest(&image, &content).unwrap());
        }
    });
    assert_eq!((store.count("layers"), store.count("incoming")), (5, 0));
}

#[test]
fn as_many_layers_as_there_may_be_make_one_root() {
    let store = Store::new();
    let layers: Vec<_> = (0..crate::model::limits::MAX_LAYERS)
        .map(|number| layer(&[(format!("file-{number}").as_str(), FILE, "x")]))
        .collect();
    let image = store.ingest("many:1", &layers);
    let (_, root) = store.root_on(&image);
    assert!(is_seen(&root, "file-0") && is_seen(&root, "file-126"));
}

#[test]
fn what_was_being_written_is_gone_after_a_restart() {
    let store = Store::new();
    let directory = store.place.path().join("local");
    let image = store.ingest("kept:1", &[layer(&[("x", FILE, "x")])]);
    fs::create_dir_all(directory.join("incoming/half/done")).unwrap();
    fs::create_dir_all(directory.join("layers/0123456789abcdef0123456789abcdef/fs")).unwrap();
    let again = Images::open(&directory, trash(&directory)).unwrap();
    again.collect(|| store.roots.layers_in_use());
    assert_eq!((store.count("incoming"), store.count("layers")), (0, 1));
    again.tag(&image, "still:1").unwrap();
}

#[tokio::test]
async fn a_blob_that_is_open_is_read_to_its_end_after_its_image_has_gone() {
    let store = Store::new();
    let large = layer(&[("large", FILE, &"0123456789abcdef".repeat(1 << 15))]);
    store.ingest("large:1", std::slice::from_ref(&large));
    let blob = descriptor(&large);
    let file = store.images.open_blob(&blob).unwrap();
    store.images.untag("large:1").unwrap();
    store.collect();
    let chunks: Vec<Bytes> = blob_chunks(&blob, file).try_collect().await.unwrap();
    assert!(chunks.len() > 1 && chunks.concat() == large);
    let gone = store.images.open_blob(&blob);
    assert!(matches!(gone, Err(BackendError::BlobMissing { .. })));
}

#[tokio::test]
async fn a_blob_that_was_cut_off_on_disk_is_not_taken_for_whole() {
    let store = Store::new();
    let bytes = layer(&[("x", FILE, "x")]);
    store.ingest("cut:1", std::slice::from_ref(&bytes));
    let blob = descriptor(&bytes);
    let opened = store.images.open_blob(&blob).unwrap();
    let path = store.images.blob_path(&blob.digest);
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(700).unwrap();
    let refused = store.images.open_blob(&blob);
    assert!(matches!(refused, Err(BackendError::DigestMismatch { .. })));
    let read: Result<Vec<Bytes>, _> = blob_chunks(&blob, opened).try_collect().await;
    assert!(matches!(read, Err(BackendError::Protocol { .. })));
}
