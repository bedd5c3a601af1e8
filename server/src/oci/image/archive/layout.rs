//! OCI image layouts (image-spec, image-layout.md): `oci-layout`, `index.json`, `blobs/sha256/…`.
//!
//! # References
//! `io.containerd.image.name` on an entry of `index.json` is a whole reference. Without it,
//! `org.opencontainers.image.ref.name` is one if it has a `/` or a `:`. A bare word there (`latest`,
//! `v1`, as umoci and skopeo write it) is a tag of a repository that the archive does not name: it
//! gives no reference, and whoever imports the archive names the image.

use std::collections::{BTreeMap, BTreeSet};

use super::blobs::Blobs;
use super::unpack::Files;
use super::{Found, ImageContent, ImageError, Offers, assemble, invalid, not_found};
use crate::model::Digest;
use crate::model::image::{Descriptor, Platform};
use crate::oci::image::documents::{
    self, CONTAINERD_NAME, DescriptorJson, Document, LayoutJson, MAX_INDEX_DEPTH, REF_NAME,
};
use crate::oci::image::platform::distance;
use crate::oci::reference;

/// Entries of indexes that are looked at: the same few blobs can refer to each other many times.
const MAX_VISITS: usize = 4_096;

/// Whether the archive is an OCI layout.
pub(super) fn is_layout(files: &Files) -> bool {
    files.find("oci-layout").is_some() && files.find("index.json").is_some()
}

/// The layout's images for `platform`.
pub(super) fn images(
    files: &Files,
    blobs: &Blobs,
    platform: &Platform,
) -> Result<Vec<ImageContent>, ImageError> {
    let layout: LayoutJson = documents::parse(&named(files, blobs, "oci-layout")?, "oci-layout")?;
    if !layout.image_layout_version.starts_with("1.") {
        return Err(invalid(format!(
            "its layout version is {:?}",
            layout.image_layout_version
        )));
    }
    let entries = documents::index(&named(files, blobs, "index.json")?, "index.json")?;

    let mut search = Search {
        blobs,
        platform,
        offers: Offers::default(),
        visits: 0,
    };
    let mut images: BTreeMap<Digest, Found> = BTreeMap::new();
    for entry in &entries {
        let Some((_, mut found)) = search.nearest(entry, 0)? else {
            continue;
        };
        found.references = references(entry)?;
        match images.get_mut(&found.target.digest) {
            Some(same) => same.references.append(&mut found.references),
            None => drop(images.insert(found.target.digest.clone(), found)),
        }
    }
    if images.is_empty() {
        return Err(not_found(&search.offers, platform));
    }
    let images = images.into_values();
    images.map(|found| assemble(blobs, found)).collect()
}

/// Reads a document by its name in the archive.
pub(super) fn named(files: &Files, blobs: &Blobs, name: &str) -> Result<Vec<u8>, ImageError> {
    let (digest, size_bytes) = files
        .find(name)
        .ok_or_else(|| invalid(format!("{name} is missing")))?;
    blobs.document(&Descriptor {
        media_type: String::new(),
        digest: digest.clone(),
        size_bytes,
    })
}

fn references(entry: &DescriptorJson) -> Result<BTreeSet<String>, ImageError> {
    let whole = |name: &&str| name.contains(['/', ':']);
    let name = match entry.annotation(CONTAINERD_NAME) {
        Some(name) => Some(name),
        None => entry.annotation(REF_NAME).filter(whole),
    };
    let reference = name.map(|name| {
        reference::normalize(name).map_err(|error| invalid(format!("{name:?}: {error}")))
    });
    Ok(reference.transpose()?.into_iter().collect())
}

/// A walk through indexes for the manifest that fits best.
struct Search<'a> {
    blobs: &'a Blobs,
    platform: &'a Platform,
    offers: Offers,
    visits: usize,
}

impl Search<'_> {
    /// The image for the platform that `entry` is, or leads to, and how far it is from what is wanted.
    fn nearest(
        &mut self,
        entry: &DescriptorJson,
        depth: usize,
    ) -> Result<Option<(u32, Found)>, ImageError> {
        self.visits += 1;
        if depth > MAX_INDEX_DEPTH || self.visits > MAX_VISITS {
            return Err(invalid("its indexes are nested too deeply"));
        }
        match Document::of(&entry.media_type) {
            Document::Index => self.nearest_in(entry, depth),
            Document::Manifest => self.manifest(entry),
            Document::Config | Document::Unknown => Ok(None),
        }
    }

    fn nearest_in(
        &mut self,
        index: &DescriptorJson,
        depth: usize,
    ) -> Result<Option<(u32, Found)>, ImageError> {
        let what = format!("index {}", index.digest);
        let json = self.blobs.document(&index.into())?;
        let mut best: Option<(u32, Found)> = None;
        for entry in documents::index(&json, &what)? {
            let found = self.nearest(&entry, depth + 1)?;
            let nearer = |(distance, _): &(u32, Found)| {
                best.as_ref().is_none_or(|(least, _)| distance < least)
            };
            if let Some(found) = found.filter(nearer) {
                best = Some(found);
            }
        }
        Ok(best)
    }

    /// The platform in the index spares reading the manifests of others, which an archive may lack; what
    /// counts in the end is the config's.
    fn manifest(&mut self, entry: &DescriptorJson) -> Result<Option<(u32, Found)>, ImageError> {
        let said = entry.platform.clone().map(Platform::from);
        let is_other = |said: &Platform| distance(self.platform, said).is_none();
        if let Some(other) = said.filter(is_other) {
            self.offers.add(&other);
            return Ok(None);
        }
        let what = format!("manifest {}", entry.digest);
        let target: Descriptor = entry.into();
        let json = self.blobs.document(&target)?;
        let manifest = documents::manifest(&json, &what)?;
        if Document::of(&manifest.config.media_type) != Document::Config {
            return Ok(None);
        }
        let config: Descriptor = (&manifest.config).into();
        let platform = self.blobs.config(&config)?.platform.into();
        let Some(distance) = distance(self.platform, &platform) else {
            self.offers.add(&platform);
            return Ok(None);
        };
        let found = Found {
            references: BTreeSet::new(),
            target,
            manifest: json,
            config,
            layers: manifest.layers.iter().map(Descriptor::from).collect(),
        };
        Ok(Some((distance, found)))
    }
}
