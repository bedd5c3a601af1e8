//! The archive that images are written into: an OCI layout (image-spec, image-layout.md) that `docker load` reads as
//! well, by a `manifest.json` beside it (moby, image/spec/v1.2.md).
//!
//! The same images give the same bytes: everything in it has one order and no time. Blobs are named and not read.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::Found;
use super::documents::{CONTAINERD_NAME, OCI_INDEX, REF_NAME};
use crate::model::Digest;
use crate::model::image::{Descriptor, Platform};
use crate::tarball::{self, Kind, Metadata, WriteEntry};

const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// An image that is to be in the archive.
#[derive(Debug, Clone)]
pub(crate) struct SavedImage {
    /// What it is made of, and to be called.
    pub(crate) found: Found,
    pub(crate) platform: Platform,
}

/// A part of an archive, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Bytes(Bytes),
    /// All bytes of a blob.
    Blob(Descriptor),
}

/// The parts of the archive of these images, by the digests of their manifests. Each blob is in it once.
pub(crate) fn parts(images: &BTreeMap<Digest, SavedImage>) -> std::io::Result<VecDeque<Part>> {
    let mut plan = Plan::default();
    for directory in ["blobs/", "blobs/sha256/"] {
        plan.entry(directory, Kind::Directory, DIRECTORY_MODE, 0)?;
    }
    for blob in blobs(images).into_values() {
        plan.blob(blob)?;
    }
    plan.document("index.json", &index(images))?;
    plan.document("manifest.json", &docker_manifest(images))?;
    plan.document("oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
    Ok(plan.finish())
}

fn blobs(images: &BTreeMap<Digest, SavedImage>) -> BTreeMap<&Digest, &Descriptor> {
    let mut blobs = BTreeMap::new();
    for image in images.values() {
        let documents = [&image.found.target, &image.found.config];
        let all = documents.into_iter().chain(&image.found.layers);
        blobs.extend(all.map(|blob| (&blob.digest, blob)));
    }
    blobs
}

fn index(images: &BTreeMap<Digest, SavedImage>) -> Value {
    let entries: Vec<Value> = images.values().flat_map(index_entries).collect();
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
}

/// One for each reference, or one without.
fn index_entries(image: &SavedImage) -> Vec<Value> {
    let Platform {
        os,
        architecture,
        variant,
    } = &image.platform;
    let mut platform = json!({"architecture": architecture, "os": os});
    if !variant.is_empty() {
        platform["variant"] = json!(variant);
    }
    let entry = json!({
        "mediaType": image.found.target.media_type,
        "digest": image.found.target.digest,
        "size": image.found.target.size_bytes,
        "platform": platform,
    });
    if image.found.references.is_empty() {
        return vec![entry];
    }
    let named = |reference: &String| {
        let mut entry = entry.clone();
        entry["annotations"] = json!({CONTAINERD_NAME: reference, REF_NAME: tag(reference)});
        entry
    };
    image.found.references.iter().map(named).collect()
}

/// The tag of a normalised reference, which has one unless it has a digest: then that says which it is.
fn tag(reference: &str) -> &str {
    let name = reference
        .split_once('@')
        .map_or(reference, |(name, _)| name);
    let path = name.rsplit('/').next().unwrap_or(name);
    path.split_once(':').map_or(reference, |(_, tag)| tag)
}

fn docker_manifest(images: &BTreeMap<Digest, SavedImage>) -> Value {
    let entry = |image: &SavedImage| {
        let layers = image.found.layers.iter();
        let layers: Vec<String> = layers.map(|layer| path(&layer.digest)).collect();
        json!({
            "Config": path(&image.found.config.digest),
            "RepoTags": image.found.references,
            "Layers": layers,
        })
    };
    images.values().map(entry).collect()
}

fn path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

#[derive(Default)]
struct Plan {
    parts: VecDeque<Part>,
    /// What comes before the next blob.
    pending: BytesMut,
}

impl Plan {
    fn entry(&mut self, path: &str, kind: Kind, mode: u32, size: u64) -> std::io::Result<()> {
        let metadata = Metadata {
            mode,
            ..Metadata::default()
        };
        let heading = tarball::heading(&WriteEntry {
            path: path.as_bytes(),
            kind,
            link: b"",
            size,
            metadata: &metadata,
        })?;
        self.pending.extend_from_slice(&heading);
        Ok(())
    }

    fn blob(&mut self, blob: &Descriptor) -> std::io::Result<()> {
        self.entry(&path(&blob.digest), Kind::File, FILE_MODE, blob.size_bytes)?;
        self.flush();
        self.parts.push_back(Part::Blob(blob.clone()));
        self.pad(tarball::padding(blob.size_bytes));
        Ok(())
    }

    fn document(&mut self, path: &str, json: &Value) -> std::io::Result<()> {
        let text = json.to_string();
        let size = text.len() as u64;
        self.entry(path, Kind::File, FILE_MODE, size)?;
        self.pending.extend_from_slice(text.as_bytes());
        self.pad(tarball::padding(size));
        Ok(())
    }

    fn pad(&mut self, zeros: usize) {
        self.pending.resize(self.pending.len() + zeros, 0);
    }

    fn flush(&mut self) {
        let pending = self.pending.split().freeze();
        if !pending.is_empty() {
            self.parts.push_back(Part::Bytes(pending));
        }
    }

    fn finish(mut self) -> VecDeque<Part> {
        self.pad(2 * tarball::BLOCK);
        self.flush();
        self.parts
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use super::*;
    use crate::oci::image::documents::OCI_MANIFEST;

    #[test]
    fn a_tag_is_what_follows_the_last_name() {
        assert_eq!(tag("docker.io/library/alpine:3.20"), "3.20");
        assert_eq!(tag("localhost:5000/app:v1"), "v1");
        assert_eq!(tag("localhost:5000/app:v1@sha256:ab"), "v1");
        let by_digest = "localhost:5000/app@sha256:ab";
        assert_eq!(tag(by_digest), by_digest);
    }

    #[test]
    fn a_document_that_is_no_manifest_is_not_read_as_one() {
        for json in [&b"{\"manifests\":[]}"[..], b"{}"] {
            let target = Descriptor {
                media_type: OCI_MANIFEST.to_owned(),
                digest: Digest::of(json),
                size_bytes: json.len() as u64,
            };
            assert!(Found::of_manifest(target, json.to_vec()).is_err());
        }
    }
}
