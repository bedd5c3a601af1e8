//! Images.

use wharf_api::v1;

use super::{count, signed};
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

fn descriptor(descriptor: &Descriptor) -> v1::Descriptor {
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
