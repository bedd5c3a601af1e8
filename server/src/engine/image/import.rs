//! Importing: the archive is read and verified, its content goes to the backend, then the images exist.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::oneshot;
use tracing::Instrument;
use uuid::Uuid;

use super::references::{commit, forget_names, image_event, in_turn};
use crate::backend::ContainerBackend;
use crate::engine::commands::Turn;
use crate::engine::core::Core;
use crate::engine::idempotency::Claim;
use crate::engine::{Answer, Call, Engine, Error, ImportImage};
use crate::model::image::{ImageLayer, Platform};
use crate::model::{Cause, Digest, EventKind, Image};
use crate::oci::image::{Archive, ImageContent, ImageError, Layer};

impl Engine {
    /// Takes in an archive: all its images for the platform. References that other images have move
    /// to the imported ones, as with docker.
    ///
    /// # Errors
    /// [`Error::Image`], backend, store.
    pub async fn import_image(
        &self,
        call: Call,
        import: ImportImage,
    ) -> Result<Answer<Vec<Arc<Image>>>, Error> {
        let claim = match self.turn::<Vec<Digest>>(&call).await? {
            Turn::Replay(ids) => {
                let value = ids
                    .iter()
                    .filter_map(|id| self.core.images.get(id))
                    .collect();
                return Ok(Answer {
                    value,
                    replayed: true,
                });
            }
            Turn::Act(claim) => claim,
        };
        self.core.require_backend()?;
        let (reply, answer) = oneshot::channel();
        let engine = self.clone();
        let task = async move { drop(reply.send(engine.take_in(import, call.cause, claim).await)) };
        self.core.spawn(task.in_current_span());
        let value = answer.await.unwrap_or(Err(Error::Bug {
            what: "an import ended without an answer",
        }))?;
        Ok(Answer {
            value,
            replayed: false,
        })
    }

    /// Only the last step waits for its turn among changes of images: reading and ingesting may take minutes.
    async fn take_in(
        &self,
        import: ImportImage,
        cause: Cause,
        claim: Option<Claim>,
    ) -> Result<Vec<Arc<Image>>, Error> {
        let scratch = Scratch::new(&self.core);
        let platform = import.platform.clone().unwrap_or_else(Platform::host);
        let contents = read(import.archive.clone(), scratch.path.clone(), platform).await?;
        let mut images = describe_all(&contents, import.reference.as_deref())?;
        let ingested = self.ingest_all(&mut images, contents).await;
        in_turn(&self.core, move |core| async move {
            match ingested {
                Ok(()) => register(&core, images, &EventKind::ImageImported, cause, claim).await,
                Err(error) => {
                    take_back(&core, &images).await;
                    Err(error)
                }
            }
        })
        .await
    }

    async fn ingest_all(
        &self,
        images: &mut [Image],
        contents: Vec<ImageContent>,
    ) -> Result<(), Error> {
        for (image, content) in images.iter_mut().zip(contents) {
            image.unpacked_bytes = self.core.backend.ingest(image, Arc::new(content)).await?;
        }
        Ok(())
    }
}

/// A directory of its own for one import; removed with it.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(core: &Core) -> Self {
        let path = all_scratch(core).join(Uuid::new_v4().to_string());
        Self { path }
    }
}

fn all_scratch(core: &Core) -> PathBuf {
    core.settings.state_dir.join("scratch")
}

/// Removes what imports of the last server left behind.
pub(crate) fn clear_scratch(core: &Core) {
    remove(&all_scratch(core));
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

fn remove(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "scratch space is not removed");
        }
        _ => {}
    }
}

async fn read(
    archive: PathBuf,
    scratch: PathBuf,
    platform: Platform,
) -> Result<Vec<ImageContent>, Error> {
    let work = move || {
        std::fs::create_dir_all(&scratch).map_err(|error| ImageError::of_disk(&scratch, &error))?;
        Archive::open(&archive, &scratch)?.images(&platform)
    };
    let read = tokio::task::spawn_blocking(work).await;
    Ok(read.map_err(|_| Error::Bug {
        what: "reading an archive was interrupted",
    })??)
}

/// The images of an archive; what has no name there gets the one that was asked for.
fn describe_all(contents: &[ImageContent], asked: Option<&str>) -> Result<Vec<Image>, Error> {
    let images: Vec<Image> = contents
        .iter()
        .map(|content| describe(content, asked))
        .collect();
    let mut holders = HashMap::new();
    for image in &images {
        for reference in &image.references {
            let holder = holders.entry(reference).or_insert(&image.id);
            if *holder != &image.id {
                return Err(Error::Image(ImageError::Invalid {
                    problem: format!("{reference} names more than one image of the archive"),
                }));
            }
        }
    }
    Ok(images)
}

pub(super) fn describe(content: &ImageContent, asked: Option<&str>) -> Image {
    let mut references = content.references.clone();
    if references.is_empty() {
        references.extend(asked.map(str::to_owned));
    }
    let layers: u64 = content
        .layers
        .iter()
        .map(|layer| layer.descriptor.size_bytes)
        .sum();
    Image {
        id: content.config.digest.clone(),
        references,
        target: content.target.clone(),
        platform: content.platform.clone(),
        content_bytes: layers + content.config.size_bytes + content.target.size_bytes,
        unpacked_bytes: 0,
        layers: content.layers.iter().map(stored).collect(),
        chain_id: content
            .layers
            .last()
            .map_or_else(Digest::empty_chain, |layer| layer.chain_id.clone()),
        create_time: SystemTime::now(),
        config: Arc::new(content.process.clone()),
        accounts: Arc::new(content.accounts.clone()),
        config_json: content.config_json.clone(),
    }
}

fn stored(layer: &Layer) -> ImageLayer {
    ImageLayer {
        blob: layer.descriptor.clone(),
        chain_id: layer.chain_id.clone(),
    }
}

/// Images whose content the backend has come to be: they get their names, and events say so. If not, the backend's
/// names are what they were.
pub(super) async fn register(
    core: &Core,
    images: Vec<Image>,
    kind: &EventKind,
    cause: Cause,
    claim: Option<Claim>,
) -> Result<Vec<Arc<Image>>, Error> {
    let registered = record(core, &images, kind, cause, claim).await;
    if registered.is_err() {
        take_back(core, &images).await;
    }
    registered
}

async fn record(
    core: &Core,
    images: &[Image],
    kind: &EventKind,
    cause: Cause,
    mut claim: Option<Claim>,
) -> Result<Vec<Arc<Image>>, Error> {
    let mut registered: Vec<Arc<Image>> = Vec::with_capacity(images.len());
    for image in images {
        take_names(core, image, &cause).await?;
        let before = registered.iter().rfind(|before| before.id == image.id);
        let before = before.cloned().or_else(|| core.images.get(&image.id));
        registered.push(Arc::new(merged(core, image, before.as_deref()).await?));
    }
    let ids: Vec<&Digest> = registered.iter().map(|image| &image.id).collect();
    let answer = claim
        .as_mut()
        .map(|claim| claim.answered(&ids))
        .transpose()?;
    let changes = registered
        .iter()
        .cloned()
        .map(crate::store::Change::PutImage)
        .chain(answer)
        .collect();
    let events = images
        .iter()
        .map(|image| registered_as(kind.clone(), image, &cause))
        .collect();
    commit(core, changes, events).await?;
    registered.iter().for_each(|image| core.images.put(image));
    if let Some(claim) = claim {
        claim.complete();
    }
    Ok(registered)
}

/// Gives the names in the backend of images that are not to be, back to whom the records say that they are of.
async fn take_back(core: &Core, images: &[Image]) {
    for image in images {
        let dangling = image.references.is_empty().then(|| image.dangling_name());
        for name in image.references.iter().chain(&dangling) {
            let done = match core.images.find(name) {
                Ok(holder) => core.backend.tag(&holder, name).await,
                Err(_) if core.images.has_name(name) => Ok(()),
                Err(_) => core.backend.untag(name).await,
            };
            if let Err(error) = done {
                tracing::warn!(name, %error, "a name stays in the backend until the next start");
            }
        }
    }
}

/// By the name that it came under.
fn registered_as(kind: EventKind, image: &Image, cause: &Cause) -> crate::model::NewEvent {
    let name = image
        .references
        .first()
        .map_or(image.id.as_str(), String::as_str);
    image_event(kind, name, Some(cause.clone()))
}

/// Takes the references of a new image from those that have them now.
async fn take_names(core: &Core, image: &Image, cause: &Cause) -> Result<(), Error> {
    for reference in &image.references {
        let Ok(holder) = core.images.find(reference) else {
            continue;
        };
        if holder.id == image.id {
            continue;
        }
        if holder.references.len() == 1 {
            // Its content stays as long as something names it.
            match core.backend.tag(&holder, &holder.dangling_name()).await {
                // Somebody has taken it away.
                Err(error) if error.is_gone() => {}
                tagged => tagged?,
            }
        }
        forget_names(
            core,
            &holder,
            std::slice::from_ref(reference),
            Some(cause.clone()),
            false,
        )
        .await?;
    }
    Ok(())
}

/// An image that was here keeps its age and its other references, which are of what has come now.
async fn merged(core: &Core, image: &Image, before: Option<&Image>) -> Result<Image, Error> {
    let mut image = image.clone();
    let Some(before) = before else {
        return Ok(image);
    };
    if before.target.digest != image.target.digest {
        for reference in before.references.difference(&image.references) {
            core.backend.tag(&image, reference).await?;
        }
    }
    image.create_time = before.create_time;
    image.references.extend(before.references.iter().cloned());
    Ok(image)
}
