//! What images take on disk. They share blobs and layers, and each counts once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::{StreamExt, stream};

use crate::backend::ContainerBackend;
use crate::engine::Use;
use crate::engine::core::Core;
use crate::engine::query::ContainerFilter;
use crate::model::{Digest, Image};

/// Layers that are asked for at a time.
const AT_A_TIME: usize = 4;

/// What images consist of. Those whose records do not say it count for nothing.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    blobs: HashMap<Digest, u64>,
    /// Unpacked layers, by their chain ids.
    layers: HashSet<Digest>,
}

impl Pieces {
    fn of(images: &[Arc<Image>]) -> Self {
        let mut pieces = Self::default();
        let known = images.iter().filter(|image| !image.layers.is_empty());
        known.for_each(|image| pieces.add(image));
        pieces
    }

    fn add(&mut self, image: &Image) {
        let documents = [
            (image.target.digest.clone(), image.target.size_bytes),
            (image.id.clone(), image.config_json.len() as u64),
        ];
        let layers = image.layers.iter().map(|layer| &layer.blob);
        let layers = layers.map(|blob| (blob.digest.clone(), blob.size_bytes));
        self.blobs.extend(layers.chain(documents));
        let unpacked = image.layers.iter().map(|layer| layer.chain_id.clone());
        self.layers.extend(unpacked);
    }

    /// What goes with `images` if `others` stay. A container keeps the layers that its root stands on, also if its image
    /// has gone.
    pub(super) fn freed(core: &Core, images: &[Arc<Image>], others: &[Arc<Image>]) -> Self {
        let mut freed = Self::of(images);
        let kept = Self::of(others);
        freed.blobs.retain(|blob, _| !kept.blobs.contains_key(blob));
        freed.layers.retain(|layer| !kept.layers.contains(layer));
        let containers = core
            .registry
            .list(&ContainerFilter::default(), None, usize::MAX);
        let tops = containers.iter().map(|container| &container.image.chain_id);
        let tops: HashSet<&Digest> = tops.collect();
        for image in images {
            let layers = image.layers.iter();
            let top = layers
                .clone()
                .rposition(|layer| tops.contains(&layer.chain_id));
            for layer in layers.take(top.map_or(0, |top| top + 1)) {
                freed.layers.remove(&layer.chain_id);
            }
        }
        freed
    }

    /// How much they take. A layer that cannot be measured now counts for nothing.
    pub(super) async fn bytes(&self, core: &Core) -> u64 {
        let layers = stream::iter(self.layers.clone()).map(|chain_id| async move {
            let bytes = core.backend.layer_bytes(&chain_id).await;
            bytes.unwrap_or_else(|error| {
                tracing::debug!(%chain_id, %error, "a layer is not measured");
                0
            })
        });
        let layers = layers.buffer_unordered(AT_A_TIME);
        let blobs = self.blobs.values().sum();
        layers
            .fold(blobs, async |sum: u64, bytes| sum + bytes)
            .await
    }
}

/// What all images take, and what goes with those that no container uses.
pub(in crate::engine) async fn usage(core: &Core) -> Use {
    let images = core.images.list();
    let is_used = |image: &Arc<Image>| !core.registry.users_of(&image.id).is_empty();
    let (used, unused): (Vec<_>, Vec<_>) = images.iter().cloned().partition(is_used);
    Use {
        count: images.len() as u64,
        size_bytes: Pieces::of(&images).bytes(core).await,
        reclaimable_bytes: Pieces::freed(core, &unused, &used).bytes(core).await,
    }
}
