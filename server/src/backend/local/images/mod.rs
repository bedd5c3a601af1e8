//! Images: content by digest, layers unpacked once, and the names that keep both.
//!
//! ```text
//! STATE/local/content/           an OCI layout: oci-layout, blobs/sha256/HEX
//!             layers/HEX32/      fs: overlay's lower directory; layer.json: chain id, the one below, size
//!             names/HEX          one name: its image, blobs and top layer
//!             incoming/          what is being written; nothing at rest
//! ```
//!
//! A name keeps its blobs and its layers, a container's root its layers; what nothing keeps is collected when a
//! name goes, or the last root of an image without one, and at start. All is written beside its place, synced and
//! renamed, so it is whole or not there. Blocking. Knows nothing of containers but that their roots stand on layers.

mod layer;
mod names;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use self::layer::LayerError;
use self::names::{Name, Names};
use super::BACKEND;
use super::trash::Trash;
use crate::backend::BackendError;
use crate::backend::blob::{self, BlobStream};
use crate::model::image::Descriptor;
use crate::model::{Digest, Image, errno};
use crate::oci::image::layer_tar::LayerTarError;
use crate::oci::image::{ImageContent, Layer};

/// image-spec, "oci-layout file".
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// Digits of a chain id that name a layer's directory: paths of all layers must fit into one page.
const LAYER_DIGITS: usize = 32;
/// What is read of a blob at a time.
const BLOB_CHUNK: u64 = 256 << 10;

/// The image store of one state directory.
#[derive(Debug)]
pub(super) struct Images {
    directory: PathBuf,
    trash: Arc<Trash>,
    names: Names,
    /// Read by who adds, and held while what is added is not kept by anything; written by who collects.
    gate: RwLock<()>,
    /// Whether something was let go of since the last collection.
    is_dirty: AtomicBool,
    /// One name at a time changes hands.
    naming: Mutex<()>,
}

/// What is known of a layer, beside its files.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LayerRecord {
    chain_id: Digest,
    below: Option<Digest>,
    bytes: u64,
}

/// Who adds something: nothing is collected meanwhile.
pub(super) type Adding<'a> = RwLockReadGuard<'a, ()>;

impl Images {
    /// Opens the store, makes it if it is missing, and throws away what an earlier server was writing.
    pub(super) fn open(directory: &Path, trash: Arc<Trash>) -> Result<Self, BackendError> {
        let opened = make(directory, &trash).and_then(|()| Names::open(directory.join("names")));
        Ok(Self {
            directory: directory.to_owned(),
            trash,
            names: opened.map_err(|error| storage_failed(directory, &error))?,
            gate: RwLock::new(()),
            is_dirty: AtomicBool::new(true),
            naming: Mutex::new(()),
        })
    }

    /// Takes in an image's content and unpacks its layers; see [`crate::backend::ContainerBackend::ingest`].
    pub(super) fn ingest(
        &self,
        image: &Image,
        content: &ImageContent,
    ) -> Result<u64, BackendError> {
        let adding = self.gate.read();
        let scratch = self.scratch()?;
        let result = self.ingest_into(&scratch, image, content);
        if let Err(error) = self.trash.take(&scratch) {
            tracing::warn!(%error, "what an import has left is removed at the next start");
        }
        if result.is_err() {
            self.is_dirty.store(true, Ordering::Release);
        }
        drop(adding);
        self.trash.empty();
        result
    }

    fn ingest_into(
        &self,
        scratch: &Path,
        image: &Image,
        content: &ImageContent,
    ) -> Result<u64, BackendError> {
        self.bring_all(scratch, content)?;
        // Nothing gets its place before all is known to be right, also what comes of blobs that were here.
        let accepted = content.source.accepted();
        accepted.map_err(|error| self.failed(&error))?;
        let documents = [
            (&content.target.digest, &*content.manifest),
            (&content.config.digest, content.config_json.as_bytes()),
        ];
        for (digest, bytes) in documents {
            self.bring_blob(scratch, digest, |path| fs::write(path, bytes))?;
        }
        let bytes = self.put_all(scratch, content)?;
        let layers = content.layers.iter().map(|layer| &layer.descriptor.digest);
        let blobs = layers.chain(documents.map(|(digest, _)| digest));
        let name = Name {
            image: image.id.clone(),
            reference: String::new(),
            blobs: blobs.cloned().collect(),
            top: content.layers.last().map(|layer| layer.chain_id.clone()),
        };
        let dangling = image.references.is_empty().then(|| image.dangling_name());
        for reference in image.references.iter().chain(&dangling) {
            self.name(&name, reference)?;
        }
        Ok(bytes)
    }

    /// Makes `reference` name `image`, whose content must be here.
    pub(super) fn tag(&self, image: &Image, reference: &str) -> Result<(), BackendError> {
        let _adding = self.gate.read();
        let missing = || BackendError::ImageContentMissing {
            chain_id: image.chain_id.to_string(),
        };
        let names = self.names.all().map_err(|error| self.failed(&error))?;
        let target = &image.target.digest;
        let is_same = |name: &Name| name.image == image.id && name.blobs.contains(target);
        let same = names.into_iter().find(is_same);
        self.name(&same.ok_or_else(missing)?, reference)
    }

    /// Removes a name, and what only it has kept.
    pub(super) fn untag(&self, reference: &str) -> Result<(), BackendError> {
        let removed = self.names.remove(reference);
        removed.map_err(|error| self.failed(&error))?;
        self.is_dirty.store(true, Ordering::Release);
        Ok(())
    }

    /// What all names are.
    pub(super) fn names(&self) -> Result<Vec<String>, BackendError> {
        let names = self.names.all().map_err(|error| self.failed(&error))?;
        Ok(names.into_iter().map(|name| name.reference).collect())
    }

    /// What an unpacked layer takes.
    pub(super) fn layer_bytes(&self, chain_id: &Digest) -> Result<u64, BackendError> {
        let record = self.layer(chain_id);
        let record = record.ok_or_else(|| BackendError::ImageContentMissing {
            chain_id: chain_id.to_string(),
        })?;
        Ok(record.bytes)
    }

    /// Opens a blob: what is opened can be read to its end, whatever is removed meanwhile.
    pub(super) fn open_blob(&self, blob: &Descriptor) -> Result<File, BackendError> {
        let opened = File::open(self.blob_path(&blob.digest));
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => blob::missing(blob),
            _ => self.failed(&error),
        })?;
        let size = file.metadata().map_err(|error| self.failed(&error))?.len();
        if size != blob.size_bytes {
            return Err(blob::wrong_size(blob, size));
        }
        Ok(file)
    }

    /// Moves a name. An image that it has named until now keeps its content under its dangling name.
    fn name(&self, name: &Name, reference: &str) -> Result<(), BackendError> {
        let _one_at_a_time = self.naming.lock();
        let failed = |error: io::Error| self.failed(&error);
        let before = self.names.get(reference).map_err(failed)?;
        if let Some(before) = before.filter(|before| before.image != name.image) {
            let dangling = Image::dangling_name_of(&before.image);
            self.names.put(&dangling, &before).map_err(failed)?;
        }
        // What it has kept of its image before may not be what it keeps now.
        self.is_dirty.store(true, Ordering::Release);
        self.names.put(reference, name).map_err(failed)
    }

    /// The directories of a stack of layers, the topmost first. They stay while `_adding` is held.
    pub(super) fn lower_directories(
        &self,
        top: &Digest,
        _adding: &Adding<'_>,
    ) -> Result<Vec<PathBuf>, BackendError> {
        let mut directories = Vec::new();
        let mut next = Some(top.clone());
        while let Some(chain_id) = next {
            let record = self.layer(&chain_id);
            let record = record.ok_or_else(|| BackendError::ImageContentMissing {
                chain_id: chain_id.to_string(),
            })?;
            directories.push(self.layer_directory(&chain_id).join("fs"));
            next = record.below;
        }
        Ok(directories)
    }

    /// Nothing is collected as long as what is returned is held.
    pub(super) fn adding(&self) -> Adding<'_> {
        self.gate.read()
    }

    /// Nobody but names, if any, needs the stack with this top any more.
    pub(super) fn let_go(&self, top: &Digest) {
        if !self.names.is_top(top) {
            self.is_dirty.store(true, Ordering::Release);
        }
    }

    /// Throws away what no name keeps, and none of the stacks with these tops, if anything has been let go of. Somebody
    /// who adds is not waited for: then it is done the next time.
    pub(super) fn collect(&self, in_use: impl FnOnce() -> Vec<Digest>) {
        let Some(_alone) = self.gate.try_write() else {
            return;
        };
        if !self.is_dirty.swap(false, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = self.throw_unused_away(in_use()) {
            self.is_dirty.store(true, Ordering::Release);
            tracing::warn!(%error, "images that are not used any more stay for now");
        }
    }

    fn throw_unused_away(&self, mut tops: Vec<Digest>) -> io::Result<()> {
        let names = self.names.all()?;
        tops.extend(names.iter().filter_map(|name| name.top.clone()));
        let mut layers = HashSet::new();
        for top in tops {
            let mut next = Some(top);
            // What is below one that was seen has been seen.
            while let Some(chain_id) = next.filter(|layer| layers.insert(layer_name(layer))) {
                next = self.layer(&chain_id).and_then(|record| record.below);
            }
        }
        self.throw_others_away("layers", &layers)?;
        let blobs = names.iter().flat_map(|name| &name.blobs);
        let blobs = blobs.map(|digest| digest.hex().to_owned()).collect();
        self.throw_others_away("content/blobs/sha256", &blobs)
    }

    /// What is not in `kept`. At once: half a layer must never be taken for one.
    fn throw_others_away(&self, directory: &str, kept: &HashSet<String>) -> io::Result<()> {
        for entry in fs::read_dir(self.directory.join(directory))? {
            let entry = entry?;
            if !kept.contains(&*entry.file_name().to_string_lossy()) {
                self.trash.take(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Brings what is missing of the layers into the scratch directory, some at a time.
    fn bring_all(&self, scratch: &Path, content: &ImageContent) -> Result<(), BackendError> {
        let layers = &content.layers;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(layers.len()) {
                scope.spawn(|| {
                    loop {
                        let place = next.fetch_add(1, Ordering::Relaxed);
                        let Some(layer) = layers.get(place) else {
                            break;
                        };
                        if let Err(error) = self.bring(scratch, place, layer, content) {
                            next.store(layers.len(), Ordering::Relaxed);
                            failure.lock().get_or_insert(error);
                        }
                    }
                });
            }
        });
        failure.into_inner().map_or(Ok(()), Err)
    }

    fn bring(
        &self,
        scratch: &Path,
        place: usize,
        layer: &Layer,
        content: &ImageContent,
    ) -> Result<(), BackendError> {
        if self.layer(&layer.chain_id).is_none() {
            content.source.unpacking(layer);
            let below = place
                .checked_sub(1)
                .map(|below| &content.layers[below].chain_id);
            self.unpack(scratch, layer, below, content)?;
        }
        self.bring_blob(scratch, &layer.descriptor.digest, |path| {
            link_or_copy(&content.source.file(layer)?, path)
        })?;
        content.source.unpacked(layer);
        Ok(())
    }

    fn bring_blob(
        &self,
        scratch: &Path,
        digest: &Digest,
        write: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), BackendError> {
        let incoming = scratch.join(digest.hex());
        if self.blob_path(digest).exists() || incoming.exists() {
            return Ok(());
        }
        write(&incoming).map_err(|error| self.failed(&error))
    }

    /// Puts what has been brought into its place, once it is on the disk; returns what all layers take.
    fn put_all(&self, scratch: &Path, content: &ImageContent) -> Result<u64, BackendError> {
        let failed = |error: io::Error| self.failed(&error);
        let held = File::open(scratch).map_err(failed)?;
        rustix::fs::syncfs(held).map_err(|errno| failed(errno.into()))?;
        let layers = content.layers.iter().map(|layer| &layer.descriptor.digest);
        let documents = [&content.config.digest, &content.target.digest];
        for digest in layers.chain(documents) {
            match fs::rename(scratch.join(digest.hex()), self.blob_path(digest)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                Ok(()) | Err(_) => {}
            }
        }
        let mut bytes = 0;
        for layer in &content.layers {
            self.put_layer(scratch, layer)?;
            bytes += self.layer(&layer.chain_id).map_or(0, |record| record.bytes);
        }
        Ok(bytes)
    }

    fn unpack(
        &self,
        scratch: &Path,
        layer: &Layer,
        below: Option<&Digest>,
        content: &ImageContent,
    ) -> Result<(), BackendError> {
        let failed = |error: io::Error| self.failed(&error);
        let directory = scratch.join(layer_name(&layer.chain_id));
        let files = directory.join("fs");
        // Twice in one image.
        if directory.exists() {
            return Ok(());
        }
        fs::create_dir_all(&files).map_err(failed)?;
        let into = OwnedFd::from(File::open(&files).map_err(failed)?);
        let blob = content.source.open(layer).map_err(failed)?;
        let unpacked = layer::unpack(blob, layer.descriptor.size_bytes, into);
        let bytes = unpacked.map_err(|error| self.layer_failed(layer, error))?;
        let record = LayerRecord {
            chain_id: layer.chain_id.clone(),
            below: below.cloned(),
            bytes,
        };
        let json = serde_json::to_vec(&record).map_err(|error| failed(error.into()))?;
        fs::write(directory.join("layer.json"), json).map_err(failed)
    }

    /// Puts an unpacked layer into its place, unless somebody was quicker.
    fn put_layer(&self, scratch: &Path, layer: &Layer) -> Result<(), BackendError> {
        let from = scratch.join(layer_name(&layer.chain_id));
        match fs::rename(&from, self.layer_directory(&layer.chain_id)) {
            Err(error) => match error.kind() {
                // rename(2): file systems say either of a directory that is there.
                io::ErrorKind::NotFound
                | io::ErrorKind::DirectoryNotEmpty
                | io::ErrorKind::AlreadyExists => Ok(()),
                _ => Err(self.failed(&error)),
            },
            Ok(()) => Ok(()),
        }
    }

    fn layer_failed(&self, layer: &Layer, error: LayerError) -> BackendError {
        match error {
            LayerError::System {
                errno: errno @ (Errno::NOSPC | Errno::DQUOT),
                ..
            } => self.failed(&errno.into()),
            LayerError::System { name, errno } if !is_of_layer(errno) => BackendError::Protocol {
                backend: BACKEND,
                code: errno::name(errno),
                message: format!("layer {}: {name:?}", layer.descriptor.digest),
            },
            LayerError::Tar(LayerTarError::Unreadable(error)) if error.raw_os_error().is_some() => {
                self.failed(&error)
            }
            error => BackendError::LayerInvalid {
                layer: layer.descriptor.digest.to_string(),
                problem: error.to_string(),
            },
        }
    }

    /// A layer that is here.
    fn layer(&self, chain_id: &Digest) -> Option<LayerRecord> {
        let json = fs::read(self.layer_directory(chain_id).join("layer.json")).ok()?;
        let record: LayerRecord = serde_json::from_slice(&json).ok()?;
        (record.chain_id == *chain_id).then_some(record)
    }

    fn layer_directory(&self, chain_id: &Digest) -> PathBuf {
        self.directory.join("layers").join(layer_name(chain_id))
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.directory
            .join("content/blobs/sha256")
            .join(digest.hex())
    }

    /// A directory of one's own for what is not whole yet.
    fn scratch(&self) -> Result<PathBuf, BackendError> {
        let name = uuid::Uuid::new_v4().simple().to_string();
        let scratch = self.directory.join("incoming").join(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&scratch);
        made.map_err(|error| self.failed(&error))?;
        Ok(scratch)
    }

    fn failed(&self, error: &io::Error) -> BackendError {
        storage_failed(&self.directory, error)
    }
}

/// Reads an opened blob, on threads that may block.
pub(super) fn blob_chunks(blob: &Descriptor, file: File) -> BlobStream {
    let file = Arc::new(file);
    blob::chunks(blob, BLOB_CHUNK, move |offset, size| {
        let file = Arc::clone(&file);
        let read = move || -> io::Result<Bytes> {
            let mut data = vec![0; usize::try_from(size).map_err(io::Error::other)?];
            file.read_exact_at(&mut data, offset)?;
            Ok(data.into())
        };
        async move {
            let read = tokio::task::spawn_blocking(read).await;
            let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
            read.map_err(|error| storage_failed(Path::new("content"), &error))
        }
    })
}

/// What comes in is mostly on the same file system. Somebody else may be at the same blob, for another layer.
fn link_or_copy(file: &Path, path: &Path) -> io::Result<()> {
    let copy = || io::copy(&mut File::open(file)?, &mut File::create_new(path)?).map(drop);
    let done = match fs::hard_link(file, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => copy(),
        linked => linked,
    };
    match done {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// Makes what is missing of a store, and throws away what was being written.
fn make(directory: &Path, trash: &Trash) -> io::Result<()> {
    trash.take(&directory.join("incoming"))?;
    for name in ["incoming", "layers", "names", "content/blobs/sha256"] {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(directory.join(name))?;
    }
    fs::write(directory.join("content/oci-layout"), LAYOUT)
}

/// What the disk's refusal means.
pub(super) fn storage_failed(path: &Path, error: &io::Error) -> BackendError {
    if errno::is_full(error) {
        return BackendError::NoSpace {
            path: path.display().to_string(),
        };
    }
    BackendError::Protocol {
        backend: BACKEND,
        code: errno::name_of(error),
        message: error.to_string(),
    }
}

/// Whether it is what a layer asks for that no file system gives, and not this one.
fn is_of_layer(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EXIST
            | Errno::INVAL
            | Errno::ISDIR
            | Errno::LOOP
            | Errno::MLINK
            | Errno::NAMETOOLONG
            | Errno::NOTDIR
            | Errno::NOTEMPTY
            | Errno::RANGE
            | Errno::TOOBIG
    )
}

fn layer_name(chain_id: &Digest) -> String {
    chain_id.hex().chars().take(LAYER_DIGITS).collect()
}
