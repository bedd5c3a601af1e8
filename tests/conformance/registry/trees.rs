//! What layers make of a root: the very tree that umoci unpacks, on every backend.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tar::{Builder, EntryType, Header};

use super::up;
use crate::harness::image::Recipe;
use crate::harness::registry::{Access, Registry};
use crate::harness::tree::{Print, differences, prints};
use crate::harness::{World, process, scenario, spec};

const UNPACK: Duration = Duration::from_secs(240);
const FILES: usize = 100_000;

/// All that an entry has beside its name.
#[derive(Clone, Copy)]
struct Kind<'a> {
    kind: EntryType,
    mode: u32,
    owner: (u64, u64),
    /// Seconds since 1970, as PAX writes them.
    modified: &'a str,
    attributes: &'a [(&'a str, &'a [u8])],
    device: (u32, u32),
}

const FILE: Kind<'static> = Kind {
    kind: EntryType::Regular,
    mode: 0o644,
    owner: (0, 0),
    modified: "1700000000",
    attributes: &[],
    device: (0, 0),
};

const DIRECTORY: Kind<'static> = Kind {
    kind: EntryType::Directory,
    mode: 0o755,
    modified: "1600000000",
    ..FILE
};

/// A layer with all that PAX has; everything in it is below `tree`.
struct Layer(Builder<Vec<u8>>);

impl Layer {
    /// Its directory of everything comes first, as in the layers that real builders make.
    fn new() -> Self {
        Self(Builder::new(Vec::new())).add("", DIRECTORY, b"")
    }

    fn add(mut self, path: &str, about: Kind, data: &[u8]) -> Self {
        let mut header = self.header(about, data.len());
        let path = format!("tree/{path}");
        self.0.append_data(&mut header, path, data).unwrap();
        self
    }

    fn link(mut self, path: &str, kind: EntryType, target: &str) -> Self {
        let mut header = self.header(Kind { kind, ..FILE }, 0);
        let path = format!("tree/{path}");
        self.0.append_link(&mut header, path, target).unwrap();
        self
    }

    fn file(self, path: &str) -> Self {
        self.add(path, FILE, path.as_bytes())
    }

    fn directory(self, path: &str) -> Self {
        self.add(path, DIRECTORY, b"")
    }

    fn hard_link(self, path: &str, target: &str) -> Self {
        self.link(path, EntryType::Link, &format!("tree/{target}"))
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.link(path, EntryType::Symlink, target)
    }

    /// The header, with what it cannot say written before it.
    fn header(&mut self, about: Kind, size: usize) -> Header {
        let named = about
            .attributes
            .iter()
            .map(|(name, value)| (format!("SCHILY.xattr.{name}"), *value));
        let mut extensions: Vec<_> = named.collect();
        extensions.push(("mtime".to_owned(), about.modified.as_bytes()));
        let extensions = extensions.iter().map(|(name, value)| (&**name, *value));
        self.0.append_pax_extensions(extensions).unwrap();
        let mut header = Header::new_gnu();
        header.set_entry_type(about.kind);
        header.set_mode(about.mode);
        header.set_uid(about.owner.0);
        header.set_gid(about.owner.1);
        header.set_size(size as u64);
        header.set_device_major(about.device.0).unwrap();
        header.set_device_minor(about.device.1).unwrap();
        header
    }

    fn end(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// The tree as a container has it, and as umoci makes it.
async fn both(world: &mut World, layers: Vec<Vec<u8>>) -> [BTreeMap<PathBuf, Print>; 2] {
    let mut recipe = Recipe::busybox("");
    recipe.layers.extend(layers);
    let registry = Registry::start(Access::Open).await;
    registry.known_to(&world.wharfd);
    registry.push(&recipe, "app:1").await;
    let client = up(world).await;
    let image = registry.reference("app:1");
    client.pull(&image).await.unwrap();
    let spec = spec::running_of(&image, spec::PATIENT);
    let running = client.run_spec("box", spec).await.unwrap();
    let root = PathBuf::from(format!("/proc/{}/root", running.pid));
    let inside = prints(&root.join("tree"));
    let unpacked = unpack(world.directory(), &recipe).await;
    [inside, prints(&unpacked.join("tree"))]
}

/// The root that umoci makes of an image.
async fn unpack(place: &Path, recipe: &Recipe) -> PathBuf {
    let archive = place.join("unpacked.tar");
    fs::write(&archive, recipe.oci_layout()).unwrap();
    let layout = place.join("layout");
    let bundle = place.join("bundle");
    let mut copy = Command::new("skopeo");
    copy.args(["--insecure-policy", "copy"])
        .arg(format!("oci-archive:{}", archive.display()))
        .arg(format!("oci:{}:all", layout.display()));
    let mut unpack = Command::new("umoci");
    unpack
        .arg("unpack")
        .arg("--image")
        .arg(format!("{}:all", layout.display()))
        .arg(&bundle);
    for command in [copy, unpack] {
        let output = process::run(command, UNPACK).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
    bundle.join("rootfs")
}

fn is_the_same(trees: &[BTreeMap<PathBuf, Print>; 2]) {
    let [inside, expected] = trees;
    assert_eq!(differences(inside, expected), [""; 0]);
}

#[test]
fn one_of_everything_is_unpacked_as_umoci_unpacks_it() {
    scenario(async |world| {
        let deep = vec!["d".repeat(90); 4];
        let mut layer = Layer::new();
        for depth in 1..=deep.len() {
            layer = layer.directory(&deep[..depth].join("/"));
        }
        let capability: &[u8] = &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let attributes: &[(&str, &[u8])] = &[
            ("user.kept", b"a\0=\n"),
            ("user.other", b"another"),
            ("security.capability", capability),
        ];
        let layer = layer
            .file(&format!("{}/{}", deep.join("/"), "n".repeat(250)))
            .add("attributes", Kind { attributes, ..FILE }, b"has some")
            .add(
                "setuid",
                Kind {
                    mode: 0o4751,
                    ..FILE
                },
                b"#!",
            )
            .add(
                "setgid",
                Kind {
                    mode: 0o2775,
                    ..DIRECTORY
                },
                b"",
            )
            .add(
                "sticky",
                Kind {
                    mode: 0o1777,
                    ..DIRECTORY
                },
                b"",
            )
            .add("closed", Kind { mode: 0, ..FILE }, b"closed")
            .add(
                "owned",
                Kind {
                    owner: (1_234, 3_000_000),
                    ..FILE
                },
                b"owned",
            )
            .add("empty", FILE, b"")
            .add(
                "old",
                Kind {
                    modified: "0",
                    ..FILE
                },
                b"old",
            )
            .add(
                "exact",
                Kind {
                    modified: "1700000001.123456789",
                    ..FILE
                },
                b"exact",
            )
            .add(
                "fifo",
                Kind {
                    kind: EntryType::Fifo,
                    ..FILE
                },
                b"",
            )
            .file("grün und $(leer) \\ \"")
            .directory("links")
            .directory("links/a")
            .directory("links/b")
            .file("links/a/file")
            .hard_link("links/b/hard", "links/a/file")
            .hard_link("links/third", "links/a/file")
            .symlink("links/absolute", "/tree/links/a/file")
            .symlink("links/relative", "../old")
            .symlink("links/dangling", "nowhere")
            .symlink("links/long", &"x".repeat(300))
            .hard_link("links/of-link", "links/relative");
        is_the_same(&both(world, vec![layer.end()]).await);
    });
}

#[test]
fn what_a_layer_takes_away_or_replaces_is_gone_as_with_umoci() {
    scenario(async |world| {
        let lower = Layer::new()
            .directory("gone")
            .directory("gone/below")
            .file("gone/below/file")
            .file("gone-file")
            .symlink("gone-link", "gone-file")
            .directory("opaque")
            .directory("opaque/below")
            .file("opaque/below/old")
            .file("opaque/old")
            .file("becomes-directory")
            .directory("becomes-file")
            .file("becomes-file/old")
            .directory("becomes-link")
            .file("becomes-link/old")
            .directory("changes")
            .file("changes/kept")
            .directory("links")
            .file("links/lower");
        let upper = Layer::new()
            .add(".wh.gone", FILE, b"")
            .add(".wh.gone-file", FILE, b"")
            .add(".wh.gone-link", FILE, b"")
            .directory("opaque")
            .add("opaque/.wh..wh..opq", FILE, b"")
            .file("opaque/new")
            .directory("becomes-directory")
            .file("becomes-directory/new")
            .file("becomes-file")
            .symlink("becomes-link", "changes")
            .add(
                "changes",
                Kind {
                    mode: 0o711,
                    owner: (7, 8),
                    modified: "1650000000",
                    ..DIRECTORY
                },
                b"",
            )
            .directory("links")
            .directory("links/other")
            .file("links/lower")
            .hard_link("links/other/upper", "links/lower");
        let highest = Layer::new()
            .directory("gone")
            .file("gone/back")
            .directory("opaque")
            .add("opaque/.wh.new", FILE, b"")
            .file("opaque/newest");
        let trees = both(world, vec![lower.end(), upper.end(), highest.end()]).await;
        is_the_same(&trees);
        let names: Vec<_> = trees[0].keys().map(|path| path.to_str().unwrap()).collect();
        for here in ["gone/back", "opaque/newest", "changes/kept"] {
            assert!(names.contains(&here), "{here} is not in {names:?}");
        }
        for gone in ["gone/below", "gone-file", "opaque/old", "opaque/new"] {
            assert!(!names.contains(&gone), "{gone} is in {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains(".wh.")), "{names:?}");
    });
}

#[test]
fn a_hundred_thousand_files_are_unpacked_as_umoci_unpacks_them() {
    scenario(async |world| {
        let mut layer = Layer::new();
        for number in 0..FILES {
            if number.is_multiple_of(100) {
                layer = layer.directory(&format!("{}", number / 100));
            }
            layer = layer.file(&format!("{}/{number}", number / 100));
        }
        let trees = both(world, vec![layer.end()]).await;
        assert_eq!(trees[0].len(), FILES + FILES / 100 + 1);
        is_the_same(&trees);
    });
}
