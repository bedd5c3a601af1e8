//! Images.

use wharf_api::v1;
use wharf_api::v1::layer_progress::Phase;

use super::{count, signed};
use crate::engine::{LayerPhase, LayerProgress, TransferProgress};
use crate::model::Image;
use crate::model::image::{Descriptor, Platform};

/// An image that `containers` containers use.
pub(in crate::transport) fn image(image: &Image, containers: usize) -> v1::Image {
    v1::Image {
        id: image.id.to_string(),
        references: image.references.iter().cloned().collect(),
        target: Some(descriptor(&image.target)),
        platform: Some(platform(&image.platform)),
        content_bytes: signed(image.content_bytes),
        unpacked_bytes: signed(image.unpacked_bytes),
        create_time: Some(image.create_time.into()),
        labels: image.config.labels.clone(),
        containers: count(containers),
    }
}

pub(in crate::transport) fn descriptor(descriptor: &Descriptor) -> v1::Descriptor {
    v1::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size_bytes: signed(descriptor.size_bytes),
    }
}

fn platform(platform: &Platform) -> v1::Platform {
    v1::Platform {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
    }
}

/// Where a pull or push stands.
pub(in crate::transport) fn progress(progress: &TransferProgress) -> v1::TransferProgress {
    v1::TransferProgress {
        done_bytes: signed(progress.done_bytes),
        total_bytes: signed(progress.total_bytes),
        layers: progress.layers.iter().map(layer).collect(),
    }
}

fn layer(layer: &LayerProgress) -> v1::LayerProgress {
    let phase = match layer.phase {
        LayerPhase::Waiting => Phase::Waiting,
        LayerPhase::Transferring => Phase::Transferring,
        LayerPhase::Retrying => Phase::Retrying,
        LayerPhase::Verifying => Phase::Verifying,
        LayerPhase::Extracting => Phase::Extracting,
        LayerPhase::Done => Phase::Done,
        LayerPhase::Exists => Phase::Exists,
    };
    v1::LayerProgress {
        digest: layer.digest.to_string(),
        phase: phase.into(),
        done_bytes: signed(layer.done_bytes),
        total_bytes: signed(layer.total_bytes),
    }
}
