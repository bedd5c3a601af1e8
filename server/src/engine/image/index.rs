//! The images there are, by id, manifest digest and reference.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::engine::Error;
use crate::model::image::Platform;
use crate::model::{Digest, Image};
use crate::oci::reference::{self, ImageKey, Reference, Version};

/// As docker has it.
const SHORT_ID_DIGITS: usize = 12;

/// The images there are. Changed only after the change is committed.
#[derive(Debug)]
pub(crate) struct Images {
    index: RwLock<Index>,
    /// Whose turn it is to change images: changes wait for the backend and the store, one at a time.
    pub(super) turn: tokio::sync::Semaphore,
}

impl Default for Images {
    fn default() -> Self {
        Self {
            index: RwLock::default(),
            turn: tokio::sync::Semaphore::new(1),
        }
    }
}

#[derive(Debug, Default)]
struct Index {
    by_id: HashMap<Digest, Arc<Image>>,
    by_reference: HashMap<String, Digest>,
}

/// A reference as images are kept under, or the text itself where it is an id or none at all.
pub(crate) fn normalized(reference: &str) -> String {
    reference::normalize(reference).unwrap_or_else(|_| reference.to_owned())
}

impl Images {
    /// Takes up what was stored.
    pub(crate) fn restore(&self, images: Vec<Image>) {
        images
            .into_iter()
            .for_each(|image| self.put(&Arc::new(image)));
    }

    /// Enters an image, or its new state.
    pub(super) fn put(&self, image: &Arc<Image>) {
        let mut index = self.index.write();
        index.by_reference.retain(|_, id| *id != image.id);
        for reference in &image.references {
            index
                .by_reference
                .insert(reference.clone(), image.id.clone());
        }
        index.by_id.insert(image.id.clone(), image.clone());
    }

    /// Takes an image out.
    pub(super) fn remove(&self, id: &Digest) {
        let mut index = self.index.write();
        index.by_reference.retain(|_, holder| holder != id);
        index.by_id.remove(id);
    }

    /// The image that `key` names: a reference, a digest, an id, or the start of one image's id.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`].
    pub(crate) fn find(&self, key: &str) -> Result<Arc<Image>, Error> {
        let not_found = || Error::ImageNotFound {
            image: key.to_owned(),
        };
        let index = self.index.read();
        let image = match ImageKey::parse(key).map_err(|_| not_found())? {
            ImageKey::Id(digest) => index.by_digest(&digest),
            ImageKey::Reference(reference) => {
                index.by_name(&reference).or_else(|| index.by_start(key))
            }
        };
        image.cloned().ok_or_else(not_found)
    }

    /// As [`Self::find`], and for a platform if one is asked for.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`], [`Error::PlatformNotFound`].
    pub(crate) fn find_for(
        &self,
        key: &str,
        platform: Option<&Platform>,
    ) -> Result<Arc<Image>, Error> {
        let image = self.find(key)?;
        match platform {
            Some(wanted) if !image.platform.satisfies(wanted) => Err(Error::PlatformNotFound {
                image: key.to_owned(),
                platform: wanted.to_string(),
                available: image.platform.to_string(),
            }),
            _ => Ok(image),
        }
    }

    /// Whether a name in the backend is of an image that there is.
    pub(in crate::engine) fn has_name(&self, name: &str) -> bool {
        let index = self.index.read();
        let id = name.rsplit_once('@').and_then(|(_, id)| id.parse().ok());
        let is_dangling = |id: &Digest| name == Image::dangling_name_of(id);
        index.by_reference.contains_key(name)
            || id.is_some_and(|id| is_dangling(&id) && index.by_id.contains_key(&id))
    }

    /// The image with this id.
    pub(super) fn get(&self, id: &Digest) -> Option<Arc<Image>> {
        self.index.read().by_id.get(id).cloned()
    }

    /// All images, in order of creation and id.
    pub(crate) fn list(&self) -> Vec<Arc<Image>> {
        let mut images: Vec<_> = self.index.read().by_id.values().cloned().collect();
        images.sort_by(|a, b| (a.create_time, &a.id).cmp(&(b.create_time, &b.id)));
        images
    }
}

impl Index {
    fn by_digest(&self, digest: &Digest) -> Option<&Arc<Image>> {
        let of_manifest = || {
            self.by_id
                .values()
                .find(|image| image.target.digest == *digest)
        };
        self.by_id.get(digest).or_else(of_manifest)
    }

    /// Hex digits that one id, and no other, begins with: at least as many as lists show.
    fn by_start(&self, key: &str) -> Option<&Arc<Image>> {
        if key.len() < SHORT_ID_DIGITS || !key.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let ids = self.by_id.iter();
        let mut those = ids.filter(|(id, _)| id.hex().starts_with(key));
        let (_, image) = those.next()?;
        those.next().is_none().then_some(image)
    }

    /// A reference with a digest names the content; its tag is for people.
    fn by_name(&self, reference: &str) -> Option<&Arc<Image>> {
        let parts = Reference::parse(reference).ok()?;
        let named = self.by_reference.get(&parts.to_string());
        match (named, parts.version) {
            (Some(id), _) => self.by_id.get(id),
            (None, Version::Digest(digest)) => self.by_digest(&digest),
            (None, Version::Tag(_)) => None,
        }
    }
}
