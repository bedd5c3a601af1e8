//! Makes archives, good and bad, in memory.

use std::io::Write as _;

use serde_json::{Value, json};
use tar::{EntryType, Header};
use tempfile::TempDir;

use crate::model::Digest;
use crate::oci::image::Archive;

/// An archive that was opened in a scratch directory of its own.
pub(super) struct Opened {
    pub(super) scratch: TempDir,
    pub(super) result: Result<Archive, super::ImageError>,
}

impl Opened {
    pub(super) fn archive(&self) -> &Archive {
        self.result.as_ref().expect("an archive")
    }
}

pub(super) fn opened(bytes: &[u8]) -> Opened {
    let scratch = tempfile::tempdir().expect("a directory");
    let path = scratch.path().join("archive.tar");
    std::fs::write(&path, bytes).expect("written");
    let blobs = scratch.path().join("blobs");
    std::fs::create_dir(&blobs).expect("made");
    let result = Archive::open(&path, &blobs);
    Opened { scratch, result }
}

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).expect("written");
    encoder.finish().expect("finished")
}

/// A layer's tar. Contents that begin with `-> ` make a symbolic link.
pub(super) fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, contents) in files {
        match contents.strip_prefix("-> ") {
            Some(target) => append_link(&mut builder, path, target),
            None => append(&mut builder, path, contents.as_bytes()),
        }
    }
    builder.into_inner().expect("finished")
}

pub(super) fn append(builder: &mut tar::Builder<Vec<u8>>, path: &str, data: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, path, data)
        .expect("appended");
}

pub(super) fn append_link(builder: &mut tar::Builder<Vec<u8>>, path: &str, target: &str) {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Symlink);
    header.set_size(0);
    builder
        .append_link(&mut header, path, target)
        .expect("appended");
}

/// An image in the making.
#[derive(Default, Clone)]
pub(super) struct Fixture {
    pub(super) config: serde_json::Map<String, Value>,
    pub(super) entries: Vec<Value>,
    pub(super) layers: Vec<(String, Digest, Vec<u8>)>,
    pub(super) platforms: Vec<String>,
}

impl Fixture {
    /// One with a small gzipped layer.
    pub(super) fn sample() -> Self {
        let plain = layer(&[("etc/passwd", "root:x:0:0::/root:/bin/sh\n")]);
        let gzip = gzip(&plain);
        Self::default().layer("application/vnd.oci.image.layer.v1.tar+gzip", &plain, gzip)
    }

    pub(super) fn config(mut self, key: &str, values: &[&str]) -> Self {
        self.config.insert(key.to_owned(), json!(values));
        self
    }

    /// Names the image in `index.json`.
    pub(super) fn annotate(mut self, key: &str, value: &str) -> Self {
        self.entries = vec![json!({ key: value })];
        self
    }

    /// Names the image once more.
    pub(super) fn annotate_again(mut self, key: &str, value: &str) -> Self {
        self.entries.push(json!({ key: value }));
        self
    }

    pub(super) fn layer(mut self, media_type: &str, plain: &[u8], blob: Vec<u8>) -> Self {
        let diff_id = Digest::of(plain);
        self.layers.push((media_type.to_owned(), diff_id, blob));
        self
    }

    /// Puts an index with these platforms between `index.json` and the manifest, which is that of `linux/amd64`;
    /// those of the others are missing.
    pub(super) fn nested(mut self, platforms: &[&str]) -> Self {
        self.platforms = platforms.iter().map(|p| (*p).to_owned()).collect();
        self
    }

    pub(super) fn config_json(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| layer.1.as_str()).collect();
        let config = json!({
            "os": "linux",
            "architecture": "amd64",
            "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        config.to_string().into_bytes()
    }

    pub(super) fn manifest(&self) -> Value {
        let layers = self.layers.iter();
        let layers: Vec<_> = layers
            .map(|(kind, _, blob)| descriptor(kind, blob))
            .collect();
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &self.config_json()),
            "layers": layers,
        })
    }

    /// The files of the OCI layout.
    pub(super) fn layout_files(&self) -> Vec<(String, Vec<u8>)> {
        self.layout_files_with(&self.manifest())
    }

    pub(super) fn layout_files_with(&self, manifest: &Value) -> Vec<(String, Vec<u8>)> {
        let manifest = manifest.to_string().into_bytes();
        let mut files = vec![
            (
                "oci-layout".to_owned(),
                br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
            ),
            blob(&manifest),
            blob(&self.config_json()),
        ];
        files.extend(self.layers.iter().map(|(_, _, bytes)| blob(bytes)));
        let mut top = descriptor(MANIFEST, &manifest);
        if !self.platforms.is_empty() {
            let index = self.nested_index(&manifest);
            top = descriptor("application/vnd.oci.image.index.v1+json", &index);
            files.push(blob(&index));
        }
        files.push(("index.json".to_owned(), self.index(&top)));
        files
    }

    fn index(&self, top: &Value) -> Vec<u8> {
        let named = self.entries.iter().map(|annotations| {
            let mut entry = top.clone();
            entry["annotations"] = annotations.clone();
            entry
        });
        let mut manifests: Vec<_> = named.collect();
        if manifests.is_empty() {
            manifests.push(top.clone());
        }
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        index.to_string().into_bytes()
    }

    fn nested_index(&self, manifest: &[u8]) -> Vec<u8> {
        let entries = self.platforms.iter().map(|platform| {
            let mut parts = platform.split('/');
            let mut entry = if platform == "linux/amd64" {
                descriptor(MANIFEST, manifest)
            } else {
                descriptor(MANIFEST, platform.as_bytes())
            };
            entry["platform"] = json!({
                "os": parts.next(),
                "architecture": parts.next(),
                "variant": parts.next(),
            });
            entry
        });
        let entries: Vec<_> = entries.collect();
        json!({ "schemaVersion": 2, "manifests": entries })
            .to_string()
            .into_bytes()
    }

    pub(super) fn layout(&self) -> Vec<u8> {
        archive(&self.layout_files())
    }

    /// As `docker save` writes it.
    pub(super) fn saved(&self, tags: &[&str]) -> Vec<u8> {
        let names: Vec<_> = (0..self.layers.len()).map(layer_name).collect();
        archive(&self.saved_files(tags, &names))
    }

    /// As `saved`, with its first layer under another name, which is a link.
    pub(super) fn saved_with_link(&self, name: &str, target: &str) -> Vec<u8> {
        let files = self.saved_files(&[], &[name.to_owned()]);
        let mut builder = tar::Builder::new(Vec::new());
        append_link(&mut builder, name, target);
        for (path, data) in &files {
            append(&mut builder, path, data);
        }
        builder.into_inner().expect("finished")
    }

    fn saved_files(&self, tags: &[&str], names: &[String]) -> Vec<(String, Vec<u8>)> {
        let list = json!([{ "Config": "config.json", "RepoTags": tags, "Layers": names }]);
        let mut files = vec![
            ("manifest.json".to_owned(), list.to_string().into_bytes()),
            ("config.json".to_owned(), self.config_json()),
        ];
        let layers = self.layers.iter().enumerate();
        files.extend(layers.map(|(at, layer)| (layer_name(at), layer.2.clone())));
        files
    }
}

pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn layer_name(at: usize) -> String {
    format!("layer{at}.tar")
}

pub(super) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(bytes).as_str(), "size": bytes.len() })
}

pub(super) fn blob(bytes: &[u8]) -> (String, Vec<u8>) {
    let digest = Digest::of(bytes);
    (format!("blobs/sha256/{}", digest.hex()), bytes.to_vec())
}

pub(super) fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, data) in files {
        append(&mut builder, path, data);
    }
    builder.into_inner().expect("finished")
}
