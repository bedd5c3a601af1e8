//! Images made on the spot, without any network: Debian's static busybox in an OCI layout.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// The reference of [`busybox`], normalised.
pub const REFERENCE: &str = "docker.io/library/busybox:test";

pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

const APPLETS: &[&str] = &[
    "cat", "chmod", "date", "dd", "echo", "env", "false", "grep", "head", "hostname", "id", "ip",
    "kill", "ls", "mkdir", "mount", "ps", "pwd", "rm", "sed", "seq", "sh", "sleep", "stat", "sync",
    "tail", "touch", "tr", "true", "wc", "yes",
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\napp:x:1000:\nvideo:x:44:app\nstaff:x:50:\n";

/// The image of nearly every scenario: busybox, users root and app, `sh` as its command.
pub fn busybox() -> Bytes {
    static ARCHIVE: LazyLock<Bytes> = LazyLock::new(|| Recipe::busybox(REFERENCE).oci_layout());
    ARCHIVE.clone()
}

/// What goes into an image.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Reference in the archive; empty for none.
    pub reference: String,
    /// The `config` object of the image's config.
    pub process: Value,
    pub os: String,
    pub architecture: String,
    /// Uncompressed tars, lowest first.
    pub layers: Vec<Vec<u8>>,
}

impl Recipe {
    /// Busybox under a reference.
    pub fn busybox(reference: &str) -> Self {
        Self {
            reference: reference.to_owned(),
            process: json!({
                "Env": ["PATH=/bin", "IMAGE=busybox"],
                "Cmd": ["sh"],
                "WorkingDir": "/",
                "Labels": {"made-by": "wharf's tests"},
            }),
            os: "linux".to_owned(),
            architecture: architecture().to_owned(),
            layers: vec![root_layer()],
        }
    }

    /// The image's id: the digest of its config.
    pub fn id(&self) -> String {
        digest(&Sha256::digest(self.config()))
    }

    fn config(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self
            .layers
            .iter()
            .map(|layer| digest(&Sha256::digest(layer)))
            .collect();
        to_json(&json!({
            "created": "2026-01-01T00:00:00Z",
            "architecture": self.architecture,
            "os": self.os,
            "config": self.process,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [],
        }))
    }

    /// As `skopeo copy … oci-archive:` and `umoci` write it.
    pub fn oci_layout(&self) -> Bytes {
        let manifest = self.manifest();
        let mut entry = descriptor(MANIFEST, &manifest);
        if !self.reference.is_empty() {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": self.reference});
        }
        layout(&entry, &self.blobs())
    }

    fn manifest(&self) -> Vec<u8> {
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|layer| descriptor(LAYER, layer))
            .collect();
        to_json(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &self.config()),
            "layers": layers,
        }))
    }

    fn blobs(&self) -> Vec<Vec<u8>> {
        let layers = self.layers.iter().cloned();
        layers.chain([self.config(), self.manifest()]).collect()
    }

    /// As `docker save` writes it.
    pub fn docker_save(&self) -> Bytes {
        let config = self.config();
        let config_name = format!("{}.json", hex(&Sha256::digest(&config)));
        let names: Vec<_> = (0..self.layers.len())
            .map(|at| format!("layer{at}/layer.tar"))
            .collect();
        let tags: Vec<_> = Some(&self.reference)
            .into_iter()
            .filter(|tag| !tag.is_empty())
            .collect();
        let manifest =
            to_json(&json!([{"Config": config_name, "RepoTags": tags, "Layers": names}]));

        let mut tar = Tar::new();
        tar.file(&config_name, 0o644, &config);
        for (name, layer) in names.iter().zip(&self.layers) {
            tar.file(name, 0o644, layer);
        }
        tar.file("manifest.json", 0o644, &manifest);
        tar.finish().into()
    }
}

/// An OCI layout whose one entry is an index of these, each for its platform.
pub fn oci_index(recipes: &[Recipe]) -> Bytes {
    let of_platform = |recipe: &Recipe| {
        let mut entry = descriptor(MANIFEST, &recipe.manifest());
        entry["platform"] = json!({"os": recipe.os, "architecture": recipe.architecture});
        entry
    };
    let index = to_json(&json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": recipes.iter().map(of_platform).collect::<Vec<_>>(),
    }));
    let mut blobs: Vec<_> = recipes.iter().flat_map(Recipe::blobs).collect();
    blobs.push(index.clone());
    layout(&descriptor(INDEX, &index), &blobs)
}

fn layout(entry: &Value, blobs: &[Vec<u8>]) -> Bytes {
    let index = to_json(&json!({"schemaVersion": 2, "manifests": [entry]}));
    let mut tar = Tar::new();
    tar.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
    tar.file("index.json", 0o644, &index);
    for blob in blobs {
        tar.file(&blob_path(blob), 0o644, blob);
    }
    tar.finish().into()
}

/// A tar in memory.
pub struct Tar(Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub fn directory(&mut self, path: &str, mode: u32) {
        self.entry(path, EntryType::Directory, mode, &[]);
    }

    pub fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.entry(path, EntryType::Regular, mode, data);
    }

    pub fn link(&mut self, path: &str, target: &str) {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        self.0.append_link(&mut header, path, target).unwrap();
    }

    fn entry(&mut self, path: &str, kind: EntryType, mode: u32, data: &[u8]) {
        let mut header = header(kind, mode, data.len());
        self.0.append_data(&mut header, path, data).unwrap();
    }

    pub fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_767_225_600);
    header.set_size(u64::try_from(size).unwrap());
    header
}

fn root_layer() -> Vec<u8> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("busybox-static is installed");
    let mut tar = Tar::new();
    for directory in [
        "bin", "dev", "etc", "home", "home/app", "proc", "root", "sys", "var",
    ] {
        tar.directory(directory, 0o755);
    }
    tar.directory("tmp", 0o1777);
    tar.file("bin/busybox", 0o755, &fs::read(busybox).unwrap());
    for applet in APPLETS {
        tar.link(&format!("bin/{applet}"), "busybox");
    }
    tar.file("etc/passwd", 0o644, PASSWD.as_bytes());
    tar.file("etc/group", 0o644, GROUP.as_bytes());
    // Something that is there and cannot be run, and something that is for no platform.
    tar.file("bin/not-executable", 0o644, b"#!/bin/sh\n");
    tar.file(
        "bin/other-platform",
        0o755,
        b"\x7fELF\x02\x01\x01not really",
    );
    tar.finish()
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({
        "mediaType": media_type,
        "digest": digest(&Sha256::digest(blob)),
        "size": blob.len(),
    })
}

fn blob_path(blob: &[u8]) -> String {
    format!("blobs/sha256/{}", hex(&Sha256::digest(blob)))
}

/// `sha256:…`.
pub fn digest(hash: &[u8]) -> String {
    format!("sha256:{}", hex(hash))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn to_json(value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    write!(text, "{value}").unwrap();
    text
}

/// The host's, as OCI names it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
