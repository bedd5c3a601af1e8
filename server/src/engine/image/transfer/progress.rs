//! Where a transfer stands, for any number of followers.

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::model::Digest;

/// Where a pull or push stands.
#[derive(Debug, Clone, Default)]
pub struct TransferProgress {
    /// Of `total_bytes`.
    pub done_bytes: u64,
    /// Of all layers; 0 until they are known.
    pub total_bytes: u64,
    /// Layers that have changed.
    pub layers: Vec<LayerProgress>,
}

/// Where one layer stands.
#[derive(Debug, Clone)]
pub struct LayerProgress {
    /// The blob's.
    pub digest: Digest,
    /// What is being done.
    pub phase: LayerPhase,
    /// Of `total_bytes`.
    pub done_bytes: u64,
    /// Size of the blob.
    pub total_bytes: u64,
}

/// What is being done with a layer. In order, but for `Retrying` and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerPhase {
    /// Nothing yet.
    Waiting,
    /// It moves.
    Transferring,
    /// An attempt has failed, and another one follows.
    Retrying,
    /// Its digests are checked.
    Verifying,
    /// It is unpacked.
    Extracting,
    /// All is done.
    Done,
    /// It was there already.
    Exists,
}

/// The layers, and which version of the whole each was changed in.
#[derive(Debug)]
pub(in crate::engine::image) struct Progress {
    layers: Mutex<Vec<(u64, LayerProgress)>>,
    version: watch::Sender<u64>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            layers: Mutex::default(),
            version: watch::Sender::new(0),
        }
    }
}

impl Progress {
    /// The layers are known: each once, with its size.
    pub(in crate::engine::image) fn begin(&self, layers: impl IntoIterator<Item = (Digest, u64)>) {
        let mut all = self.layers.lock();
        let version = self.next_version();
        all.clear();
        for (digest, total_bytes) in layers {
            if all.iter().any(|(_, layer)| layer.digest == digest) {
                continue;
            }
            let layer = LayerProgress {
                digest,
                phase: LayerPhase::Waiting,
                done_bytes: 0,
                total_bytes,
            };
            all.push((version, layer));
        }
        drop(all);
        self.version.send_replace(version);
    }

    /// A layer has come further.
    pub(in crate::engine::image) fn change(
        &self,
        digest: &Digest,
        change: impl FnOnce(&mut LayerProgress),
    ) {
        let mut all = self.layers.lock();
        let version = self.next_version();
        let found = all.iter_mut().find(|(_, layer)| layer.digest == *digest);
        if let Some((changed, layer)) = found {
            *changed = version;
            change(layer);
        }
        drop(all);
        self.version.send_replace(version);
    }

    /// A layer has come to a phase.
    pub(in crate::engine::image) fn reach(&self, digest: &Digest, phase: LayerPhase) {
        self.change(digest, |layer| {
            layer.phase = phase;
            if matches!(phase, LayerPhase::Done | LayerPhase::Exists) {
                layer.done_bytes = layer.total_bytes;
            }
        });
    }

    /// Only under the lock of the layers.
    fn next_version(&self) -> u64 {
        *self.version.borrow() + 1
    }

    /// Waits until there is something newer.
    pub(in crate::engine::image) async fn newer_than(&self, version: u64) {
        let mut now = self.version.subscribe();
        // The sender is ours: it cannot have gone.
        drop(now.wait_for(|now| *now > version).await);
    }

    /// The whole, and the layers that have changed since; `None` if nothing has.
    pub(in crate::engine::image) fn since(&self, version: u64) -> Option<(u64, TransferProgress)> {
        let all = self.layers.lock();
        let now = *self.version.borrow();
        let changed = all.iter().filter(|(changed, _)| *changed > version);
        let layers: Vec<LayerProgress> = changed.map(|(_, layer)| layer.clone()).collect();
        if layers.is_empty() {
            return None;
        }
        let sum = |of: fn(&LayerProgress) -> u64| all.iter().map(|(_, layer)| of(layer)).sum();
        let progress = TransferProgress {
            done_bytes: sum(|layer| layer.done_bytes),
            total_bytes: sum(|layer| layer.total_bytes),
            layers,
        };
        Some((now, progress))
    }
}
