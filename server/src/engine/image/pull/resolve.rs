//! From a reference to the manifest of one platform.

use crate::engine::Error;
use crate::model::image::{Descriptor, Platform};
use crate::oci::image::{Document, Entry, Found, ImageError, MAX_INDEX_DEPTH, Offers, distance};
use crate::oci::reference::Version;
use crate::registry::{Manifest, Repository};

/// Entries of indexes that are looked at: indexes can refer to each other many times.
const MAX_VISITS: usize = 1_000;

/// A walk through indexes for the manifest that fits best.
pub(super) struct Search<'a> {
    pub(super) repository: &'a Repository,
    pub(super) platform: &'a Platform,
    /// What there is, and is not wanted.
    pub(super) offers: Offers,
    pub(super) visits: usize,
}

impl Search<'_> {
    /// The image that `manifest` is, or leads to; `None` if there are others only.
    pub(super) async fn image_of(
        &mut self,
        manifest: Manifest,
        depth: usize,
    ) -> Result<Option<Found>, Error> {
        let Manifest { descriptor, json } = manifest;
        match Document::of(&descriptor.media_type) {
            Document::Manifest => Ok(Some(Found::of_manifest(descriptor, json)?)),
            Document::Index => Box::pin(self.image_in(&descriptor, &json, depth)).await,
            Document::Config | Document::Unknown => Err(ImageError::Invalid {
                problem: format!("{:?} is no image", descriptor.media_type),
            }
            .into()),
        }
    }

    async fn image_in(
        &mut self,
        index: &Descriptor,
        json: &[u8],
        depth: usize,
    ) -> Result<Option<Found>, Error> {
        let mut entries = Vec::new();
        for entry in Entry::of_index(&index.digest, json)? {
            self.visits += 1;
            if depth >= MAX_INDEX_DEPTH || self.visits > MAX_VISITS {
                return Err(ImageError::Invalid {
                    problem: "its indexes are nested too deeply".to_owned(),
                }
                .into());
            }
            if let Some(nearness) = self.nearness(&entry) {
                entries.push((nearness, entry));
            }
        }
        // The order of the index decides between equals.
        entries.sort_by_key(|(nearness, _)| *nearness);
        for (_, entry) in entries {
            let version = Version::Digest(entry.descriptor.digest);
            let mut manifest = self.repository.manifest(&version).await?;
            manifest.descriptor.media_type = entry.descriptor.media_type;
            if let Some(found) = self.image_of(manifest, depth + 1).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// 0 is exactly what is wanted; entries that do not say come last. `None` for what is not wanted.
    fn nearness(&mut self, entry: &Entry) -> Option<u32> {
        if !matches!(
            Document::of(&entry.descriptor.media_type),
            Document::Manifest | Document::Index
        ) {
            return None;
        }
        let Some(platform) = &entry.platform else {
            return Some(u32::MAX);
        };
        let nearness = distance(self.platform, platform);
        if nearness.is_none() {
            self.offers.add(platform);
        }
        nearness
    }
}
