//! `docker save` archives without an OCI layout: `manifest.json` names configs, layers and tags.
//!
//! They have no manifests, so one is made: the same archive always gives the same.

use std::collections::BTreeSet;
use std::io::Read as _;

use super::blobs::Blobs;
use super::layout::named;
use super::unpack::Files;
use super::{Found, ImageContent, ImageError, Offers, assemble, invalid, not_found};
use crate::model::Digest;
use crate::model::image::{Descriptor, Platform};
use crate::model::limits::MAX_LAYERS;
use crate::oci::image::documents::{
    self, DescriptorJson, NewManifestJson, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, SavedImageJson,
};
use crate::oci::image::platform::distance;
use crate::oci::image::read_error;
use crate::oci::reference;
use crate::tarball::Compression;

const MANIFEST: &str = "manifest.json";
/// The tag of an image that has none, in old archives.
const UNTAGGED: &str = "<none>:<none>";

/// Whether the archive is `docker save`'s.
pub(super) fn is_saved(files: &Files) -> bool {
    files.find(MANIFEST).is_some()
}

/// The archive's images for `platform`.
pub(super) fn images(
    files: &Files,
    blobs: &Blobs,
    platform: &Platform,
) -> Result<Vec<ImageContent>, ImageError> {
    let saved: Vec<SavedImageJson> = documents::parse(&named(files, blobs, MANIFEST)?, MANIFEST)?;
    let mut offers = Offers::default();
    let mut images = Vec::new();
    for image in &saved {
        let config = descriptor(files, &image.config, OCI_CONFIG.to_owned())?;
        let offered = blobs.config(&config)?.platform.into();
        if distance(platform, &offered).is_none() {
            offers.add(&offered);
            continue;
        }
        let found = found(files, blobs, image, config)?;
        images.push(assemble(blobs, found)?);
    }
    if images.is_empty() {
        return Err(not_found(&offers, platform));
    }
    Ok(images)
}

fn found(
    files: &Files,
    blobs: &Blobs,
    image: &SavedImageJson,
    config: Descriptor,
) -> Result<Found, ImageError> {
    let names = image.layers.as_deref().unwrap_or_default();
    if names.len() > MAX_LAYERS {
        return Err(invalid(format!("an image has {} layers", names.len())));
    }
    let layers = names.iter().map(|name| layer(files, blobs, name));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    let manifest = manifest(&config, &layers)?;
    Ok(Found {
        references: references(image)?,
        target: Descriptor {
            media_type: OCI_MANIFEST.to_owned(),
            digest: Digest::of(&manifest),
            size_bytes: manifest.len() as u64,
        },
        manifest,
        config,
        layers,
    })
}

fn manifest(config: &Descriptor, layers: &[Descriptor]) -> Result<Vec<u8>, ImageError> {
    let manifest = NewManifestJson {
        schema_version: 2,
        media_type: OCI_MANIFEST,
        config: DescriptorJson::from(config),
        layers: layers.iter().map(DescriptorJson::from).collect(),
    };
    serde_json::to_vec(&manifest).map_err(|error| invalid(error.to_string()))
}

fn references(image: &SavedImageJson) -> Result<BTreeSet<String>, ImageError> {
    let tags = image.repo_tags.iter().flatten();
    tags.filter(|tag| *tag != UNTAGGED)
        .map(|tag| reference::normalize(tag).map_err(|error| invalid(format!("{tag:?}: {error}"))))
        .collect()
}

/// Layers are plain as docker writes them; other tools compress them.
fn layer(files: &Files, blobs: &Blobs, name: &str) -> Result<Descriptor, ImageError> {
    let mut layer = descriptor(files, name, OCI_LAYER.to_owned())?;
    let mut start = [0; 4];
    let mut file = blobs.open(&layer)?;
    let got = file.read(&mut start).map_err(|error| read_error(&error))?;
    match Compression::of(&start[..got]) {
        Compression::None => {}
        Compression::Gzip => layer.media_type.push_str("+gzip"),
        Compression::Zstd => layer.media_type.push_str("+zstd"),
    }
    Ok(layer)
}

fn descriptor(files: &Files, name: &str, media_type: String) -> Result<Descriptor, ImageError> {
    let (digest, size_bytes) = files
        .find(name)
        .ok_or_else(|| invalid(format!("{name:?} is missing")))?;
    Ok(Descriptor {
        media_type,
        digest: digest.clone(),
        size_bytes,
    })
}
