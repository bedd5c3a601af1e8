//! What an image declares and its containers do not get.

use std::path::Path;

use crate::engine::Engine;
use crate::model::Container;
use crate::model::limits::{MAX_PATH_BYTES, MAX_REMARKS};
use crate::oci::declared::Declared;

/// Something about a container that may surprise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// The image declares a volume, and no mount of the container is there: what is written to it is part of the root.
    VolumeInRoot {
        /// Where.
        path: String,
    },
    /// The image has a health check, which is not run.
    HealthCheckNotRun,
}

impl Engine {
    /// What a container does not get of what its image declares; at most [`MAX_REMARKS`]. None if the image has gone.
    #[must_use]
    pub fn remarks(&self, container: &Container) -> Vec<Remark> {
        let Some(image) = self.core.images.get(&container.image.id) else {
            return Vec::new();
        };
        let declared = Declared::by(&image.config_json);
        let check = declared
            .has_health_check
            .then_some(Remark::HealthCheckNotRun);
        let volumes = declared.volumes.into_iter();
        let volumes = volumes
            .filter(|path| path.len() <= MAX_PATH_BYTES && !is_mounted(container, path))
            .map(|path| Remark::VolumeInRoot { path });
        check.into_iter().chain(volumes).take(MAX_REMARKS).collect()
    }
}

/// Whether a mount is at `path` or above it.
fn is_mounted(container: &Container, path: &str) -> bool {
    let mut mounts = container.spec.mounts.iter();
    mounts.any(|mount| Path::new(path).starts_with(&mount.target))
}
