//! From a manifest to an image that can be taken in: everything it names is read and verified.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::blobs::{Blobs, read_error};
use super::documents::{self, ConfigJson, LayerType};
use super::hashing::Hashing;
use super::root_files::{Lookup, RootFiles};
use super::{ArchiveError, ImageContent, Layer, invalid};
use crate::model::Digest;
use crate::model::image::{AccountFiles, Descriptor};
use crate::model::limits::{MAX_ARCHIVE_BYTES, MAX_LAYERS};
use crate::tarball::{Compression, TarReader, decompress};

const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";
/// How often the layers are read to follow links to the account files: once is the rule, and each
/// further time costs as much.
const MAX_PASSES: usize = 4;

/// What is known of an image before its config and layers are read.
pub(super) struct Found {
    pub(super) references: BTreeSet<String>,
    pub(super) target: Descriptor,
    pub(super) manifest: Vec<u8>,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// Reads the config.
pub(super) fn config(blobs: &Blobs, descriptor: &Descriptor) -> Result<ConfigJson, ArchiveError> {
    let what = format!("config {}", descriptor.digest);
    documents::parse(&blobs.document(descriptor)?, &what)
}

/// Reads and verifies all of an image.
pub(super) fn assemble(blobs: &Blobs, found: Found) -> Result<ImageContent, ArchiveError> {
    let config_json = String::from_utf8(blobs.document(&found.config)?)
        .map_err(|_| invalid(format!("config {} is not UTF-8", found.config.digest)))?;
    let config = config(blobs, &found.config)?;
    let layers = stack(
        &found,
        config.rootfs.diff_ids.as_deref().unwrap_or_default(),
    )?;
    let accounts = read_layers(blobs, &layers)?;
    Ok(ImageContent {
        references: found.references,
        target: found.target,
        manifest: found.manifest.into(),
        config: found.config,
        config_json: config_json.into(),
        process: config.process(),
        platform: config.platform.into(),
        layers,
        accounts,
        blobs: Arc::from(blobs.directory()),
    })
}

/// Puts the manifest's layers and the config's diff ids together.
fn stack(found: &Found, diff_ids: &[Digest]) -> Result<Vec<Layer>, ArchiveError> {
    let count = found.layers.len();
    if count != diff_ids.len() {
        return Err(invalid(format!(
            "manifest {} has {count} layers, its config {}",
            found.target.digest,
            diff_ids.len()
        )));
    }
    if count == 0 || count > MAX_LAYERS {
        return Err(invalid(format!(
            "image {} has {count} layers; 1 to {MAX_LAYERS} can be stacked",
            found.config.digest
        )));
    }
    let mut chain_id: Option<Digest> = None;
    let layers = found.layers.iter().zip(diff_ids);
    let layers = layers.map(|(descriptor, diff_id)| {
        let chain_id = chain_id.insert(chained(chain_id.as_ref(), diff_id)).clone();
        Layer {
            descriptor: descriptor.clone(),
            diff_id: diff_id.clone(),
            chain_id,
        }
    });
    Ok(layers.collect())
}

/// image-spec, config.md, "Layer ChainID".
fn chained(below: Option<&Digest>, diff_id: &Digest) -> Digest {
    match below {
        None => diff_id.clone(),
        Some(below) => {
            let hash = Sha256::digest(format!("{below} {diff_id}").as_bytes());
            Digest::from_hash(hash.into())
        }
    }
}

/// Verifies every layer's diff id, and finds the account files on the way.
fn read_layers(blobs: &Blobs, layers: &[Layer]) -> Result<AccountFiles, ArchiveError> {
    let mut paths = BTreeSet::from([PASSWD.to_owned(), GROUP.to_owned()]);
    let mut files = read_tracking(blobs, layers, &paths)?;
    for _ in 1..MAX_PASSES {
        let further = untracked(&files);
        if further.is_empty() {
            break;
        }
        paths.extend(further);
        files = read_tracking(blobs, layers, &paths)?;
    }
    Ok(AccountFiles {
        passwd: text(&files, PASSWD),
        group: text(&files, GROUP),
    })
}

fn read_tracking(
    blobs: &Blobs,
    layers: &[Layer],
    paths: &BTreeSet<String>,
) -> Result<RootFiles, ArchiveError> {
    let mut files = RootFiles::tracking(paths.iter().map(String::as_str));
    for layer in layers {
        read_layer(blobs, layer, &mut files)?;
    }
    Ok(files)
}

/// Where links lead that have not been followed yet.
fn untracked(files: &RootFiles) -> Vec<String> {
    let lookups = [PASSWD, GROUP].map(|path| files.find(path));
    let further = lookups.into_iter().filter_map(|lookup| match lookup {
        Lookup::Untracked(path) => Some(path),
        Lookup::Found(_) | Lookup::Absent => None,
    });
    further.collect()
}

fn text(files: &RootFiles, path: &str) -> String {
    match files.find(path) {
        Lookup::Found(data) => String::from_utf8_lossy(data).into_owned(),
        Lookup::Absent | Lookup::Untracked(_) => String::new(),
    }
}

fn read_layer(blobs: &Blobs, layer: &Layer, files: &mut RootFiles) -> Result<(), ArchiveError> {
    let name = &layer.descriptor.digest;
    let bad = |error: &std::io::Error| {
        let mut error = read_error(error);
        if let ArchiveError::Invalid { problem } = &mut error {
            *problem = format!("layer {name}: {problem}");
        }
        error
    };
    let file = BufReader::new(blobs.open(&layer.descriptor)?);
    let (compression, plain) = decompress(file).map_err(|error| bad(&error))?;
    check_type(&layer.descriptor, compression)?;

    let mut tar = TarReader::new(Hashing::new(plain, MAX_ARCHIVE_BYTES));
    while let Some(entry) = tar.next_entry().map_err(|error| bad(&error))? {
        files.visit(&entry, &mut tar).map_err(|error| bad(&error))?;
    }
    files.end_layer();
    let (actual, _) = tar.into_inner().finish().map_err(|error| bad(&error))?;
    if actual != layer.diff_id {
        return Err(ArchiveError::DigestMismatch {
            expected: layer.diff_id.to_string(),
            actual: actual.to_string(),
        });
    }
    Ok(())
}

/// Unpackers go by the media type: a compressed layer that is said to be plain would fail there. The
/// other way round, and one compression for the other, they look for themselves.
fn check_type(layer: &Descriptor, compression: Compression) -> Result<(), ArchiveError> {
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
