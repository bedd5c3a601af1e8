//! Pruning: images that nothing uses, one at a time, each as a whole.

use std::collections::HashSet;
use std::sync::Arc;

use super::references::{in_turn, remove};
use super::sizes::Pieces;
use crate::engine::core::Core;
use crate::engine::{Engine, Error};
use crate::model::{Cause, Digest, Image};

impl Engine {
    /// Deletes an image with all its names, if no container uses it and its names are still those of `image`. Returns
    /// what that frees, in bytes; `None` if it stays.
    ///
    /// # Errors
    /// Backend, store.
    pub async fn prune_image(&self, cause: Cause, image: Arc<Image>) -> Result<Option<u64>, Error> {
        in_turn(&self.core, move |core| async move {
            prune(&core, cause, &image).await
        })
        .await
    }

    /// What deleting an image would free, after those that are `gone`.
    pub async fn would_free(&self, image: &Arc<Image>, gone: &HashSet<Digest>) -> u64 {
        freed(&self.core, image, gone).await
    }
}

async fn prune(core: &Core, cause: Cause, seen: &Arc<Image>) -> Result<Option<u64>, Error> {
    let Some(image) = core.images.get(&seen.id) else {
        return Ok(None);
    };
    let is_used = !core.registry.users_of(&image.id).is_empty();
    if is_used || image.references != seen.references {
        return Ok(None);
    }
    core.require_backend()?;
    // Afterwards nobody can tell.
    let freed = freed(core, &image, &HashSet::new()).await;
    let names: Vec<String> = image.references.iter().cloned().collect();
    remove(core, cause, &image, &names).await?;
    Ok(Some(freed))
}

async fn freed(core: &Core, image: &Arc<Image>, gone: &HashSet<Digest>) -> u64 {
    let mut others = core.images.list();
    others.retain(|other| other.id != image.id && !gone.contains(&other.id));
    let freed = Pieces::freed(core, std::slice::from_ref(image), &others);
    freed.bytes(core).await
}
