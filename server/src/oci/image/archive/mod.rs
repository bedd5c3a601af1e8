//! Image archives: OCI layouts and `docker save` tars, plain, gzip or zstd.
//!
//! ```text
//! archive --tarball--> entries --unpack--> blobs (scratch, by digest) + names
//! names --layout | docker--> manifest, config, layers --scan--> ImageContent
//! ```
//!
//! Archives come from callers and are taken for hostile: every size, count and depth has a bound, every
//! digest is verified, and no name of an archive becomes a path on the host. Knows no backend.

mod blobs;
mod docker;
mod layout;
#[cfg(test)]
mod tests;
mod unpack;

use std::path::Path;
use std::sync::Arc;

use self::blobs::{Blobs, Unpacked};
use super::scan::{self, RootScan};
use super::{Found, ImageContent, ImageError, Layer, Offers, invalid};
use crate::model::image::{AccountFiles, Platform};

/// An opened archive.
#[derive(Debug)]
pub struct Archive {
    blobs: Blobs,
    files: unpack::Files,
}

impl Archive {
    /// Reads the archive at `path`, verifies every digest, and unpacks its blobs below `scratch`
    /// (which the caller removes). Blocking.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn open(path: &Path, scratch: &Path) -> Result<Self, ImageError> {
        let mut blobs = Blobs::new(scratch);
        let files = unpack::unpack(path, &mut blobs)?;
        Ok(Self { blobs, files })
    }

    /// The images for `platform`, at least one. Blocking: reads layers to verify them and to find accounts.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn images(&self, platform: &Platform) -> Result<Vec<ImageContent>, ImageError> {
        if layout::is_layout(&self.files) {
            layout::images(&self.files, &self.blobs, platform)
        } else if docker::is_saved(&self.files) {
            docker::images(&self.files, &self.blobs, platform)
        } else {
            Err(invalid(
                "it is neither an OCI layout nor made by docker save",
            ))
        }
    }
}

/// An archive without an image for the platform that is wanted.
fn not_found(offers: &Offers, wanted: &Platform) -> ImageError {
    if offers.is_empty() {
        return invalid("it has no image");
    }
    ImageError::PlatformNotFound {
        platform: wanted.to_string(),
        available: offers.to_string(),
    }
}

/// Reads and verifies all of an image.
fn assemble(blobs: &Blobs, found: Found) -> Result<ImageContent, ImageError> {
    let config_json = blobs.document(&found.config)?;
    let source = Arc::new(Unpacked::of(blobs));
    let mut content = ImageContent::new(found, config_json, source)?;
    content.accounts = accounts(blobs, &content.layers)?;
    Ok(content)
}

fn accounts(blobs: &Blobs, layers: &[Layer]) -> Result<AccountFiles, ImageError> {
    let mut scan = RootScan::default();
    loop {
        for layer in layers {
            scan.layer(blobs.open(&layer.descriptor)?, layer)?;
        }
        if let scan::Next::Done(accounts) = scan.end_pass() {
            return Ok(accounts);
        }
    }
}
