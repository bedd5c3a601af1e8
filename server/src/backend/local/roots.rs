//! Roots of containers: a directory for what each writes, on top of its image's layers.
//!
//! ```text
//! STATE/local/roots/ID/   upper, work: overlay's; root: an empty directory to mount on
//!                         layer: chain id of the topmost layer, which it keeps
//! ```
//!
//! Blocking.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::images::{Images, storage_failed};
use super::trash::Trash;
use crate::backend::BackendError;
use crate::files;
use crate::model::container::RootMount;
use crate::model::{ContainerId, Digest};

/// The roots of one state directory.
#[derive(Debug)]
pub(super) struct Roots {
    directory: PathBuf,
    trash: Arc<Trash>,
    /// The roots on each topmost layer: what `layer` says, of all.
    tops: Mutex<HashMap<Digest, HashSet<ContainerId>>>,
}

impl Roots {
    pub(super) fn open(directory: &Path, trash: Arc<Trash>) -> Result<Self, BackendError> {
        let roots = Self {
            directory: directory.join("roots"),
            trash,
            tops: Mutex::default(),
        };
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(&roots.directory);
        made.map_err(|error| roots.failed(&error))?;
        let tops = roots.read_tops().map_err(|error| roots.failed(&error))?;
        *roots.tops.lock() = tops;
        Ok(roots)
    }

    fn read_tops(&self) -> io::Result<HashMap<Digest, HashSet<ContainerId>>> {
        let mut tops = HashMap::<_, HashSet<_>>::new();
        for id in self.list()? {
            match fs::read_to_string(self.root(id).join("layer")) {
                Ok(layer) => {
                    if let Ok(top) = layer.parse::<Digest>() {
                        tops.entry(top).or_default().insert(id);
                    }
                }
                // Of a create that was cut off.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(tops)
    }

    /// Makes a root on top of a stack of layers; returns how it is mounted. Nothing is left of it if that fails.
    pub(super) fn create(
        &self,
        images: &Images,
        id: ContainerId,
        top: &Digest,
    ) -> Result<Vec<RootMount>, BackendError> {
        let adding = images.adding();
        let lower = if *top == Digest::empty_chain() {
            Vec::new()
        } else {
            images.lower_directories(top, &adding)?
        };
        // Before anybody can collect again.
        let mut tops = self.tops.lock();
        tops.entry(top.clone()).or_default().insert(id);
        drop(tops);
        let made = self.make(id, top, &lower);
        made.map_err(|error| {
            let failed = self.failed(&error);
            if let Err(error) = self.delete(images, id) {
                tracing::warn!(container = %id, %error, "a root that could not be made is left");
            }
            failed
        })?;
        Ok(vec![self.mount(id, &lower)])
    }

    fn make(&self, id: ContainerId, top: &Digest, lower: &[PathBuf]) -> io::Result<()> {
        let root = self.root(id);
        let mut private = fs::DirBuilder::new();
        private.mode(0o700);
        match private.create(&root) {
            // Of a create that was cut off.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.throw_away(id)?;
                private.create(&root)?;
            }
            made => made?,
        }
        for directory in ["work", "root", "upper", "empty"] {
            // An image without layers stands on an empty directory.
            if directory != "empty" || lower.is_empty() {
                private.create(root.join(directory))?;
            }
        }
        describe_top(&root.join("upper"), lower.first().map(PathBuf::as_path))?;
        fs::write(root.join("layer"), top.as_str())
    }

    /// Makes sure that what was made is there: after a power cut it need not be.
    pub(super) fn prepare(&self, id: ContainerId) -> Result<(), BackendError> {
        let root = self.root(id);
        if !root.join("upper").is_dir() {
            return Err(BackendError::NotFound {
                backend: super::BACKEND,
                what: "root",
            });
        }
        Ok(())
    }

    fn mount(&self, id: ContainerId, lower: &[PathBuf]) -> RootMount {
        let root = self.root(id);
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        let mut layers: Vec<_> = lower.iter().map(|path| shown(path)).collect();
        if layers.is_empty() {
            layers.push(shown(&root.join("empty")));
        }
        RootMount {
            kind: "overlay".to_owned(),
            source: "overlay".to_owned(),
            options: vec![
                format!("lowerdir={}", layers.join(":")),
                format!("upperdir={}", shown(&root.join("upper"))),
                format!("workdir={}", shown(&root.join("work"))),
            ],
        }
    }

    /// Where a root is mounted, in its container's own namespace.
    pub(super) fn mount_point(&self, id: ContainerId) -> PathBuf {
        self.root(id).join("root")
    }

    /// Where an OCI runtime finds what it is to run.
    pub(super) fn bundle(&self, id: ContainerId) -> PathBuf {
        self.root(id).join("bundle")
    }

    /// Where an OCI runtime leaves the terminal of a stream: a short path, for a socket's has 107 bytes at most
    /// (unix(7)).
    pub(super) fn console(&self, id: ContainerId, stream: &str) -> PathBuf {
        let short = stream.get(..12).unwrap_or(stream);
        self.root(id).join(format!("{short}.tty"))
    }

    /// Where OCI runtimes keep what they know of containers, by the names of runs.
    pub(super) fn runtime_state(&self) -> PathBuf {
        self.directory.with_file_name("runtime")
    }

    /// Removes what an OCI runtime knows of a run that is over. OK if there is nothing.
    pub(super) fn forget_run(&self, name: &str) -> Result<(), BackendError> {
        let state = self.runtime_state().join(name);
        match fs::remove_dir_all(&state) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(storage_failed(&state, &error))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn is_there(&self, id: ContainerId) -> bool {
        self.root(id).is_dir()
    }

    /// Those that are there.
    pub(super) fn ids(&self) -> Result<Vec<ContainerId>, BackendError> {
        let ids = self.list().map_err(|error| self.failed(&error))?;
        Ok(ids)
    }

    fn list(&self) -> io::Result<Vec<ContainerId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            ids.extend(
                entry?
                    .file_name()
                    .to_str()
                    .and_then(|name| name.parse::<ContainerId>().ok()),
            );
        }
        Ok(ids)
    }

    /// The topmost layers that roots stand on.
    pub(super) fn layers_in_use(&self) -> Vec<Digest> {
        self.tops.lock().keys().cloned().collect()
    }

    /// It is not there any more; its files go when the trash is emptied. OK if it was not there.
    pub(super) fn delete(&self, images: &Images, id: ContainerId) -> Result<(), BackendError> {
        self.throw_away(id).map_err(|error| self.failed(&error))?;
        if let Some(top) = self.forget_top(id) {
            images.let_go(&top);
        }
        Ok(())
    }

    /// The topmost layer that only this root has stood on, which stands on nothing from now on.
    fn forget_top(&self, id: ContainerId) -> Option<Digest> {
        let mut tops = self.tops.lock();
        let (top, ids) = tops.iter_mut().find(|(_, ids)| ids.contains(&id))?;
        ids.remove(&id);
        let unused = ids.is_empty().then(|| top.clone())?;
        tops.remove(&unused);
        Some(unused)
    }

    /// What has been written to a root.
    pub(super) fn bytes(&self, id: ContainerId) -> Result<u64, BackendError> {
        let written = files::bytes_below(self.root(id).join("upper"));
        written.map_err(|error| self.failed(&error))
    }

    fn throw_away(&self, id: ContainerId) -> io::Result<()> {
        self.trash.take(&self.root(id))
    }

    fn root(&self, id: ContainerId) -> PathBuf {
        self.directory.join(id.to_string())
    }

    fn failed(&self, error: &io::Error) -> BackendError {
        storage_failed(&self.directory, error)
    }
}

/// What is mounted takes owner and mode of its top directory from the uppermost one: they are to be the image's.
fn describe_top(upper: &Path, image: Option<&Path>) -> io::Result<()> {
    let Some(image) = image else {
        return fs::set_permissions(upper, fs::Permissions::from_mode(0o755));
    };
    let metadata = fs::metadata(image)?;
    chown(upper, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(upper, fs::Permissions::from_mode(metadata.mode() & 0o7777))
}
