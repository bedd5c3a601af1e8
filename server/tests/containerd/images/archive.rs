//! OCI archives made on the spot.

use std::fs;
use std::io::Write as _;

use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use wharf_server::model::Digest;
use wharf_server::model::image::Platform;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer: its tar, how it is stored, and what that is called.
pub(crate) struct Layer {
    plain: Vec<u8>,
    blob: Vec<u8>,
    suffix: &'static str,
}

impl Layer {
    /// One with these files.
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut builder = Builder::new(Vec::new());
        for (name, contents) in files {
            add(&mut builder, name, contents.as_bytes(), 0o644);
        }
        Self::plain(builder.into_inner().expect("in memory"))
    }

    /// One with a shell, and directories to mount on.
    pub(crate) fn busybox() -> Self {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"];
        let busybox = busybox.into_iter().find_map(|path| fs::read(path).ok());
        let busybox = busybox.expect("busybox-static is installed");
        let mut builder = Builder::new(Vec::new());
        for directory in ["bin/", "etc/", "proc/", "sys/", "dev/"] {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            header.set_mode(0o755);
            builder
                .append_data(&mut header, directory, std::io::empty())
                .expect("added");
        }
        add(&mut builder, "bin/busybox", &busybox, 0o755);
        Self::plain(builder.into_inner().expect("in memory"))
    }

    fn plain(plain: Vec<u8>) -> Self {
        Self {
            blob: plain.clone(),
            plain,
            suffix: "",
        }
    }

    pub(crate) fn gzip(mut self) -> Self {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&self.plain).expect("in memory");
        self.blob = encoder.finish().expect("in memory");
        self.suffix = "+gzip";
        self
    }

    pub(crate) fn zstd(mut self) -> Self {
        self.blob = zstd::encode_all(&self.plain[..], 1).expect("in memory");
        self.suffix = "+zstd";
        self
    }
}

/// An OCI layout with one image, named or not.
pub(crate) fn archive(name: Option<&str>, layers: &[Layer]) -> Vec<u8> {
    let diff_ids: Vec<_> = layers
        .iter()
        .map(|layer| Digest::of(&layer.plain))
        .collect();
    let diff_ids: Vec<_> = diff_ids.iter().map(Digest::as_str).collect();
    let config = encode(&json!({
        "architecture": Platform::host().architecture,
        "os": "linux",
        "config": {"Cmd": ["/bin/busybox", "true"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }));
    let described = layers.iter().map(|layer| {
        let media_type = format!("{LAYER}{}", layer.suffix);
        descriptor(&media_type, &layer.blob)
    });
    let manifest = encode(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": described.collect::<Vec<_>>(),
    }));
    let mut entry = descriptor(MANIFEST, &manifest);
    if let Some(name) = name {
        entry["annotations"] = json!({"io.containerd.image.name": name});
    }
    let index = encode(&json!({"schemaVersion": 2, "manifests": [entry]}));

    let mut archive = Builder::new(Vec::new());
    let version = br#"{"imageLayoutVersion":"1.0.0"}"#;
    add(&mut archive, "oci-layout", version, 0o644);
    add(&mut archive, "index.json", &index, 0o644);
    let blobs = layers.iter().map(|layer| &layer.blob);
    for blob in blobs.chain([&config, &manifest]) {
        let name = format!("blobs/sha256/{}", Digest::of(blob).hex());
        add(&mut archive, &name, blob, 0o644);
    }
    archive.into_inner().expect("in memory")
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(blob).as_str(), "size": blob.len()})
}

fn encode(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

fn add(archive: &mut Builder<Vec<u8>>, name: &str, content: &[u8], mode: u32) {
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    archive
        .append_data(&mut header, name, content)
        .expect("added");
}
