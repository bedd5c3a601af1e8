//! Reads layers: whether they are what their diff ids say, and the accounts in them.

use std::collections::BTreeSet;
use std::io::Read;

use super::documents::LayerType;
use super::hashing::Hashing;
use super::layer_tar::{self, LayerTar, LayerTarError};
use super::root_files::{Lookup, RootFiles};
use super::{ImageError, Layer, invalid, read_error};
use crate::model::image::{AccountFiles, Descriptor};
use crate::model::limits::MAX_UNPACKED_BYTES;
use crate::tarball::Compression;

const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";
/// How often the layers are read to follow links to the account files: once is the rule, and each
/// further time costs as much.
const MAX_PASSES: usize = 4;

/// Reads all layers of an image, lowest first; again, as long as [`Self::end_pass`] says so.
#[derive(Debug)]
pub struct RootScan {
    paths: BTreeSet<String>,
    files: RootFiles,
    /// Of the tars of this pass.
    bytes: u64,
    passes: usize,
}

/// What comes after all layers have been read.
#[derive(Debug)]
pub enum Next {
    /// The accounts.
    Done(AccountFiles),
    /// All layers again: a link leads to what has not been looked at.
    Again,
}

impl Default for RootScan {
    fn default() -> Self {
        Self::of(BTreeSet::from([PASSWD.to_owned(), GROUP.to_owned()]), 0)
    }
}

impl RootScan {
    fn of(paths: BTreeSet<String>, passes: usize) -> Self {
        Self {
            files: RootFiles::tracking(paths.iter().map(String::as_str)),
            paths,
            bytes: 0,
            passes,
        }
    }

    /// Reads a layer's blob to its end and verifies its diff id. Blocking.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn layer(&mut self, blob: impl Read + Send, layer: &Layer) -> Result<(), ImageError> {
        let bad = |error| bad_layer(layer, &error);
        let (compression, plain) = layer_tar::expand(blob).map_err(|error| bad(error.into()))?;
        check_type(&layer.descriptor, compression)?;

        let plain = Hashing::new(plain, MAX_UNPACKED_BYTES.saturating_sub(self.bytes));
        let mut tar = LayerTar::new(plain, layer.descriptor.size_bytes);
        while let Some(entry) = tar.next_entry().map_err(bad)? {
            let visited = self.files.visit(&entry, &mut tar);
            visited.map_err(|error| bad(error.into()))?;
        }
        self.files.end_layer();
        let finished = tar.into_inner().finish();
        let (actual, bytes) = finished.map_err(|error| bad(error.into()))?;
        self.bytes += bytes;
        if actual != layer.diff_id {
            return Err(ImageError::DigestMismatch {
                expected: layer.diff_id.to_string(),
                actual: actual.to_string(),
            });
        }
        Ok(())
    }

    /// What was found, or where links lead that have not been followed yet.
    pub fn end_pass(&mut self) -> Next {
        let further = self.untracked();
        let passes = self.passes + 1;
        if further.is_empty() || passes >= MAX_PASSES {
            return Next::Done(AccountFiles {
                passwd: self.text(PASSWD),
                group: self.text(GROUP),
            });
        }
        let mut paths = std::mem::take(&mut self.paths);
        paths.extend(further);
        *self = Self::of(paths, passes);
        Next::Again
    }

    fn untracked(&self) -> Vec<String> {
        let lookups = [PASSWD, GROUP].map(|path| self.files.find(path));
        let further = lookups.into_iter().filter_map(|lookup| match lookup {
            Lookup::Untracked(path) => Some(path),
            Lookup::Found(_) | Lookup::Absent => None,
        });
        further.collect()
    }

    fn text(&self, path: &str) -> String {
        match self.files.find(path) {
            Lookup::Found(data) => String::from_utf8_lossy(data).into_owned(),
            Lookup::Absent | Lookup::Untracked(_) => String::new(),
        }
    }
}

/// What is wrong with a layer.
fn bad_layer(layer: &Layer, error: &LayerTarError) -> ImageError {
    match error {
        LayerTarError::Unreadable(error) if error.raw_os_error().is_some() => read_error(error),
        error => invalid(format!("layer {}: {error}", layer.descriptor.digest)),
    }
}

/// Unpackers go by the media type: a compressed layer that is said to be plain would fail there. The
/// other way round, and one compression for the other, they look for themselves.
fn check_type(layer: &Descriptor, compression: Compression) -> Result<(), ImageError> {
    let (digest, media_type) = (&layer.digest, &layer.media_type);
    match LayerType::of(media_type) {
        None => Err(invalid(format!(
            "layer {digest} is of the unknown type {media_type:?}"
        ))),
        Some(LayerType::Plain) if compression != Compression::None => Err(invalid(format!(
            "layer {digest} is compressed, and said to be {media_type:?}"
        ))),
        Some(LayerType::Plain | LayerType::Compressed) => Ok(()),
    }
}
