//! A busybox image as an OCI archive, made on the spot.

use std::fs::{self, File};
use std::path::Path;

use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use wharf_server::model::Digest;

/// What it is called.
pub(crate) const REFERENCE: &str = "wharf.test/busybox:latest";

/// Programs in `/bin`: busybox by other names.
const PROGRAMS: [&str; 12] = [
    "sh", "true", "false", "sleep", "cat", "echo", "id", "kill", "dd", "tail", "trap", "env",
];

/// Writes the archive; returns the chain id of its one layer.
pub(crate) fn write(path: &Path) -> Digest {
    let layer = layer();
    let diff_id = Digest::of(&layer);
    let config = encode(&json!({
        "architecture": wharf_server::model::image::Platform::host().architecture,
        "os": "linux",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id.as_str()]},
    }));
    let manifest = encode(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }));
    let mut target = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    target["annotations"] = json!({"io.containerd.image.name": REFERENCE});
    let index = encode(&json!({"schemaVersion": 2, "manifests": [target]}));

    let mut archive = Builder::new(File::create(path).expect("created"));
    add(
        &mut archive,
        "oci-layout",
        br#"{"imageLayoutVersion":"1.0.0"}"#,
        0o644,
    );
    add(&mut archive, "index.json", &index, 0o644);
    for blob in [&layer, &config, &manifest] {
        let name = format!("blobs/sha256/{}", Digest::of(blob).hex());
        add(&mut archive, &name, blob, 0o644);
    }
    archive.into_inner().expect("written");
    // The chain id of the lowest layer is its diff id.
    diff_id
}

fn layer() -> Vec<u8> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find_map(|path| fs::read(path).ok())
        .expect("busybox-static is installed");
    let mut layer = Builder::new(Vec::new());
    for directory in ["bin/", "etc/", "tmp/", "proc/", "sys/", "dev/"] {
        entry(&mut layer, directory, EntryType::Directory, 0o755, None);
    }
    add(&mut layer, "bin/busybox", &busybox, 0o755);
    for program in PROGRAMS {
        let name = format!("bin/{program}");
        entry(
            &mut layer,
            &name,
            EntryType::Symlink,
            0o777,
            Some("busybox"),
        );
    }
    add(&mut layer, "etc/plain", b"not a program\n", 0o644);
    layer.into_inner().expect("in memory")
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(blob).as_str(), "size": blob.len()})
}

fn encode(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

fn add<W: std::io::Write>(archive: &mut Builder<W>, name: &str, content: &[u8], mode: u32) {
    let mut header = Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    archive
        .append_data(&mut header, name, content)
        .expect("added");
}

fn entry<W: std::io::Write>(
    archive: &mut Builder<W>,
    name: &str,
    kind: EntryType,
    mode: u32,
    link: Option<&str>,
) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(mode);
    match link {
        Some(link) => archive.append_link(&mut header, name, link),
        None => archive.append_data(&mut header, name, std::io::empty()),
    }
    .expect("added");
}
