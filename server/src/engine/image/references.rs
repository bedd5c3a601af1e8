//! Tagging and deleting images. Like every change of images these run in tasks of the engine, one at
//! a time, whether or not the caller stays.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::oneshot;
use tracing::Instrument;

use crate::backend::ContainerBackend;
use crate::engine::core::Core;
use crate::engine::{DeletedImage, Engine, Error};
use crate::model::{Cause, EventKind, Image, NewEvent};
use crate::oci::reference::Reference;
use crate::store::{Change, Durability, Transaction};

impl Engine {
    /// Gives an image one more reference (normalised).
    ///
    /// # Errors
    /// [`Error::ImageNotFound`], [`Error::ReferenceInUse`], backend.
    pub async fn tag_image(
        &self,
        cause: Cause,
        key: &str,
        reference: &str,
    ) -> Result<Arc<Image>, Error> {
        let (key, reference) = (key.to_owned(), reference.to_owned());
        in_turn(&self.core, move |core| async move {
            tag(&core, cause, &key, reference).await
        })
        .await
    }

    /// Removes a reference, and the image with its last one. An id removes the image if it has one
    /// reference at most; with `force`, all of them, also if containers use it.
    ///
    /// # Errors
    /// [`Error::ImageNotFound`], [`Error::ImageInUse`], backend.
    pub async fn delete_image(
        &self,
        cause: Cause,
        key: &str,
        force: bool,
    ) -> Result<DeletedImage, Error> {
        let key = key.to_owned();
        in_turn(&self.core, move |core| async move {
            delete(&core, cause, &key, force).await
        })
        .await
    }
}

/// Runs a change of images when it is its turn.
pub(super) async fn in_turn<T, F>(
    core: &Arc<Core>,
    change: impl FnOnce(Arc<Core>) -> F + Send + 'static,
) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send,
{
    let (reply, answer) = oneshot::channel();
    let changed = Arc::clone(core);
    let task = async move {
        let result = match changed.images.turn.acquire().await {
            Ok(_turn) => change(changed.clone()).await,
            Err(_) => Err(Error::Draining),
        };
        drop(reply.send(result));
    };
    core.spawn(task.in_current_span());
    answer.await.unwrap_or(Err(Error::Bug {
        what: "a change of images ended without an answer",
    }))
}

async fn tag(core: &Core, cause: Cause, key: &str, reference: String) -> Result<Arc<Image>, Error> {
    let image = core.images.find(key)?;
    if let Ok(holder) = core.images.find(&reference) {
        return if holder.id == image.id {
            Ok(image)
        } else {
            Err(Error::ReferenceInUse {
                reference,
                existing: holder.id.to_string(),
            })
        };
    }
    core.require_backend()?;
    core.backend.tag(&image, &reference).await?;
    let mut tagged = Image::clone(&image);
    tagged.references.insert(reference.clone());
    let tagged = Arc::new(tagged);
    let event = image_event(EventKind::ImageTagged, &reference, Some(cause));
    commit(core, vec![Change::PutImage(tagged.clone())], vec![event]).await?;
    core.images.put(&tagged);
    Ok(tagged)
}

async fn delete(core: &Core, cause: Cause, key: &str, force: bool) -> Result<DeletedImage, Error> {
    let image = core.images.find(key)?;
    let untagged = names_to_remove(&image, key, force)?;
    let last = untagged.len() == image.references.len();
    if last && !force {
        refuse_if_used(core, &image)?;
    }
    core.require_backend()?;
    remove(core, cause, &image, &untagged).await?;
    let deleted = if last {
        vec![image.id.to_string()]
    } else {
        Vec::new()
    };
    Ok(DeletedImage { untagged, deleted })
}

/// Takes names from an image, and with the last one removes it.
pub(super) async fn remove(
    core: &Core,
    cause: Cause,
    image: &Image,
    names: &[String],
) -> Result<(), Error> {
    let last = names.len() == image.references.len();
    for name in names
        .iter()
        .cloned()
        .chain(last.then(|| image.dangling_name()))
    {
        core.backend.untag(&name).await?;
    }
    forget_names(core, image, names, Some(cause), last).await
}

/// The references that a deletion by `key` takes away.
fn names_to_remove(image: &Image, key: &str, force: bool) -> Result<Vec<String>, Error> {
    let references = &image.references;
    let by_reference = named_by(image, key);
    match by_reference {
        Some(reference) if !force || references.len() == 1 => Ok(vec![reference]),
        None if references.len() > 1 && !force => Err(Error::InvalidField {
            field: "image".to_owned(),
            problem: format!(
                "the image has {} references: name one, or use force",
                references.len()
            ),
        }),
        _ if by_reference.is_some() => Ok(by_reference.into_iter().collect()),
        _ => Ok(references.iter().cloned().collect()),
    }
}

/// The reference of an image that `key` is. Whoever names content by its digest may mean no name at all.
pub(super) fn named_by(image: &Image, key: &str) -> Option<String> {
    let reference = Reference::parse(key).ok()?.to_string();
    image.references.get(&reference).cloned()
}

fn refuse_if_used(core: &Core, image: &Image) -> Result<(), Error> {
    let users = core.registry.users_of(&image.id);
    if users.is_empty() {
        return Ok(());
    }
    // Some of them say enough; all of them may be thousands.
    let names: Vec<&str> = users
        .iter()
        .take(10)
        .map(|container| &*container.name)
        .collect();
    Err(Error::ImageInUse {
        image: image.id.to_string(),
        containers: names.join(","),
    })
}

/// Commits that an image has lost names, and with the last one itself.
pub(super) async fn forget_names(
    core: &Core,
    image: &Image,
    names: &[String],
    cause: Option<Cause>,
    last: bool,
) -> Result<(), Error> {
    let mut left = image.clone();
    left.references
        .retain(|reference| !names.contains(reference));
    let mut events: Vec<NewEvent> = names
        .iter()
        .map(|name| image_event(EventKind::ImageUntagged, name, cause.clone()))
        .collect();
    if last {
        events.push(image_event(
            EventKind::ImageDeleted,
            image.id.as_str(),
            cause,
        ));
        commit(core, vec![Change::DeleteImage(image.id.clone())], events).await?;
        core.images.remove(&image.id);
    } else {
        let left = Arc::new(left);
        commit(core, vec![Change::PutImage(left.clone())], events).await?;
        core.images.put(&left);
    }
    Ok(())
}

pub(super) async fn commit(
    core: &Core,
    changes: Vec<Change>,
    events: Vec<NewEvent>,
) -> Result<(), Error> {
    let transaction = Transaction {
        changes,
        events,
        durability: Durability::Synced,
        on_commit: None,
    };
    core.store.commit(transaction).await?;
    Ok(())
}

pub(super) fn image_event(kind: EventKind, image: &str, cause: Option<Cause>) -> NewEvent {
    NewEvent {
        time: SystemTime::now(),
        kind,
        cause,
        container: None,
        image: Some(image.into()),
    }
}
