//! The JSON documents of images, as far as they are needed: OCI indexes, manifests and configs
//! (image-spec 1.1), docker's distribution v2 schema 2 forms of the same, and the `manifest.json` of
//! `docker save` (moby, image/spec/v1.2.md).
//!
//! Lenient where images in the wild are (`null` for "none"), strict where a wrong reading could be
//! made to differ from a client's: unknown digests, counts and document kinds are refused.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{ImageError, invalid};
use crate::model::Digest;
use crate::model::image::{Descriptor, ImageConfig, Platform};

pub(super) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Layer types without their compression suffix. The foreign ones may be left out of archives; those
/// that are there are read like others.
const LAYERS: [&str; 4] = [
    OCI_LAYER,
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

/// The annotation by which containerd names an image.
pub(super) const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The one by which others do.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Indexes within indexes.
pub const MAX_INDEX_DEPTH: usize = 4;

/// What a registry may answer when it is asked for an image.
pub const MANIFEST_TYPES: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST];

/// What a media type says a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// Points at manifests, by platform.
    Index,
    /// Points at a config and layers.
    Manifest,
    /// Says how to run an image.
    Config,
    /// Something that is no image.
    Unknown,
}

impl Document {
    /// By its media type.
    #[must_use]
    pub fn of(media_type: &str) -> Self {
        match media_type {
            OCI_INDEX | DOCKER_INDEX => Self::Index,
            OCI_MANIFEST | DOCKER_MANIFEST => Self::Manifest,
            OCI_CONFIG | DOCKER_CONFIG => Self::Config,
            _ => Self::Unknown,
        }
    }
}

/// Whether a layer is compressed, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LayerType {
    Plain,
    Compressed,
}

impl LayerType {
    /// `None` for what is no layer that can be unpacked.
    pub(super) fn of(media_type: &str) -> Option<Self> {
        let rest = LAYERS
            .iter()
            .find_map(|layer| media_type.strip_prefix(layer))?;
        match rest {
            "" => Some(Self::Plain),
            "+gzip" | ".gzip" | "+zstd" | ".zstd" => Some(Self::Compressed),
            _ => None,
        }
    }
}

/// A descriptor as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DescriptorJson {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<PlatformJson>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

impl DescriptorJson {
    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

impl From<&DescriptorJson> for Descriptor {
    fn from(json: &DescriptorJson) -> Self {
        Self {
            media_type: json.media_type.clone(),
            digest: json.digest.clone(),
            size_bytes: json.size,
        }
    }
}

impl From<&Descriptor> for DescriptorJson {
    fn from(descriptor: &Descriptor) -> Self {
        Self {
            media_type: descriptor.media_type.clone(),
            digest: descriptor.digest.clone(),
            size: descriptor.size_bytes,
            platform: None,
            annotations: None,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PlatformJson {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl From<PlatformJson> for Platform {
    fn from(json: PlatformJson) -> Self {
        Self {
            os: json.os,
            architecture: json.architecture,
            variant: json.variant.unwrap_or_default(),
        }
    }
}

/// `oci-layout`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayoutJson {
    pub(super) image_layout_version: String,
}

/// `index.json`, or a nested index.
#[derive(Debug, Deserialize)]
pub(super) struct IndexJson {
    #[serde(default)]
    pub(super) manifests: Option<Vec<DescriptorJson>>,
    /// What an index must not have: one with it could be read as a manifest, too (CVE-2021-41190).
    #[serde(default)]
    config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    layers: Option<serde::de::IgnoredAny>,
}

/// An image manifest.
#[derive(Debug, Deserialize)]
pub(super) struct ManifestJson {
    pub(super) config: DescriptorJson,
    pub(super) layers: Vec<DescriptorJson>,
    /// What a manifest must not have; see [`IndexJson`].
    #[serde(default)]
    manifests: Option<serde::de::IgnoredAny>,
}

/// The manifest that is made for an image that has none.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewManifestJson {
    pub(super) schema_version: u32,
    pub(super) media_type: &'static str,
    pub(super) config: DescriptorJson,
    pub(super) layers: Vec<DescriptorJson>,
}

/// One image of a `docker save` archive's `manifest.json`: names of the archive, and references.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SavedImageJson {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) layers: Option<Vec<String>>,
}

/// An image's config.
#[derive(Debug, Deserialize)]
pub(super) struct ConfigJson {
    #[serde(flatten)]
    pub(super) platform: PlatformJson,
    #[serde(default)]
    config: Option<ProcessJson>,
    pub(super) rootfs: RootfsJson,
}

#[derive(Debug, Deserialize)]
pub(super) struct RootfsJson {
    #[serde(default)]
    pub(super) diff_ids: Option<Vec<Digest>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ProcessJson {
    user: Option<String>,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
}

impl ConfigJson {
    /// What the config says of the process. A stop signal that does not exist counts as none: it
    /// would otherwise make an image unusable that runs well until it is stopped.
    pub(super) fn process(&self) -> ImageConfig {
        let Some(config) = &self.config else {
            return ImageConfig::default();
        };
        let signal = config.stop_signal.as_deref();
        ImageConfig {
            entrypoint: config.entrypoint.clone().unwrap_or_default(),
            cmd: config.cmd.clone().unwrap_or_default(),
            env: config.env.clone().unwrap_or_default(),
            working_dir: config.working_dir.clone().unwrap_or_default(),
            user: config.user.clone().unwrap_or_default(),
            stop_signal: signal.and_then(|signal| signal.parse().ok()),
            labels: config.labels.clone().unwrap_or_default(),
        }
    }
}

/// One image that an index points at.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its manifest, or a further index.
    pub descriptor: Descriptor,
    /// What it runs on, if the index says so.
    pub platform: Option<Platform>,
}

impl Entry {
    /// Reads an index.
    ///
    /// # Errors
    /// [`ImageError::Invalid`] if it is none.
    pub fn of_index(digest: &Digest, json: &[u8]) -> Result<Vec<Self>, ImageError> {
        let entries = index(json, &format!("index {digest}"))?;
        let entries = entries.into_iter().map(|entry| Self {
            descriptor: (&entry).into(),
            platform: entry.platform.map(Platform::from),
        });
        Ok(entries.collect())
    }
}

/// The media type that a document gives itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SelfDescribed {
    /// Optional in OCI documents.
    #[serde(default)]
    pub media_type: Option<String>,
}

pub(super) fn index(json: &[u8], what: &str) -> Result<Vec<DescriptorJson>, ImageError> {
    let index: IndexJson = parse(json, what)?;
    if index.config.is_some() || index.layers.is_some() {
        return Err(invalid(format!("{what} is both an index and a manifest")));
    }
    Ok(index.manifests.unwrap_or_default())
}

pub(super) fn manifest(json: &[u8], what: &str) -> Result<ManifestJson, ImageError> {
    let manifest: ManifestJson = parse(json, what)?;
    if manifest.manifests.is_some() {
        return Err(invalid(format!("{what} is both an index and a manifest")));
    }
    Ok(manifest)
}

pub(super) fn parse<T: DeserializeOwned>(json: &[u8], what: &str) -> Result<T, ImageError> {
    serde_json::from_slice(json).map_err(|error| invalid(format!("{what}: {error}")))
}
