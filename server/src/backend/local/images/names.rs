//! Names of images, one file each.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::model::Digest;

/// A name, and what it keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Name {
    /// What it is called.
    pub(super) reference: String,
    /// The image's id.
    pub(super) image: Digest,
    /// Manifest, config and layers as they came.
    pub(super) blobs: BTreeSet<Digest>,
    /// Chain id of the topmost layer.
    pub(super) top: Option<Digest>,
}

/// The names in a directory.
#[derive(Debug)]
pub(super) struct Names {
    directory: PathBuf,
    /// The topmost layers that they keep, by reference.
    tops: Mutex<HashMap<String, Digest>>,
}

impl Names {
    /// Those in `directory`, which must be there.
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        let names = Self {
            directory,
            tops: Mutex::default(),
        };
        let tops = names.all()?.into_iter();
        let tops = tops.filter_map(|name| Some((name.reference, name.top?)));
        *names.tops.lock() = tops.collect();
        Ok(names)
    }

    /// Whether this is the topmost layer of an image that has a name.
    pub(super) fn is_top(&self, layer: &Digest) -> bool {
        self.tops.lock().values().any(|top| top == layer)
    }

    /// Makes `reference` a name of what `name` names.
    pub(super) fn put(&self, reference: &str, name: &Name) -> io::Result<()> {
        let name = Name {
            reference: reference.to_owned(),
            ..name.clone()
        };
        let path = self.path(reference);
        let incoming = path.with_extension("incoming");
        let mut file = File::create(&incoming)?;
        file.write_all(&serde_json::to_vec(&name)?)?;
        file.sync_all()?;
        fs::rename(&incoming, &path)?;
        match name.top {
            Some(top) => drop(self.tops.lock().insert(name.reference, top)),
            None => drop(self.tops.lock().remove(reference)),
        }
        self.sync()
    }

    pub(super) fn get(&self, reference: &str) -> io::Result<Option<Name>> {
        read(&self.path(reference))
    }

    /// OK if there is none.
    pub(super) fn remove(&self, reference: &str) -> io::Result<()> {
        match fs::remove_file(self.path(reference)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Err(_) => Ok(()),
            Ok(()) => {
                self.tops.lock().remove(reference);
                self.sync()
            }
        }
    }

    pub(super) fn all(&self) -> io::Result<Vec<Name>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_none() {
                names.extend(read(&path)?);
            }
        }
        Ok(names)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    /// A reference may have anything in it.
    fn path(&self, reference: &str) -> PathBuf {
        let digest = Digest::of(reference.as_bytes());
        self.directory.join(digest.hex())
    }
}

/// One that cannot be read any more names nothing: it is left to be seen, and said.
fn read(path: &Path) -> io::Result<Option<Name>> {
    let json = match fs::read(path) {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match serde_json::from_slice(&json) {
        Ok(name) => Ok(Some(name)),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "a name of an image cannot be read");
            Ok(None)
        }
    }
}
