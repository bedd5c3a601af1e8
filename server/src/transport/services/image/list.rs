//! Pages of images.

use std::cmp::Ordering;
use std::time::{Duration, SystemTime};

use wharf_api::v1;

use super::parsed;
use crate::engine::Engine;
use crate::model::Image;
use crate::transport::page::{self, More, Page};
use crate::transport::{CallError, parse, render};

/// Where a page of images ended.
#[derive(Clone, PartialEq, prost::Message)]
struct ImagePlace {
    /// When its last image came here, since the epoch.
    #[prost(uint64, tag = "1")]
    seconds: u64,
    #[prost(uint32, tag = "2")]
    nanos: u32,
    /// Its last image's id.
    #[prost(string, tag = "3")]
    id: String,
    /// The event cursor of the moment the first page was read.
    #[prost(string, tag = "4")]
    cursor: String,
}

impl ImagePlace {
    fn after(image: &Image, cursor: &str) -> Self {
        let age = age(image);
        Self {
            seconds: age.as_secs(),
            nanos: age.subsec_nanos(),
            id: image.id.to_string(),
            cursor: cursor.to_owned(),
        }
    }

    /// Whether `image` comes after this place.
    fn is_before(&self, image: &Image) -> bool {
        let age = age(image);
        let place = (self.seconds, self.nanos, self.id.as_str());
        place.cmp(&(age.as_secs(), age.subsec_nanos(), image.id.as_str())) == Ordering::Less
    }
}

fn age(image: &Image) -> Duration {
    image
        .create_time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// One page of images.
pub(super) fn images(
    engine: &Engine,
    request: v1::ListImagesRequest,
) -> Result<v1::ListImagesResponse, CallError> {
    let (page, filter) = parsed(engine, |out| {
        (
            Page::<ImagePlace>::of(&request, out),
            parse::image::list(request, out),
        )
    })?;
    let page = page?;
    // Before the images are read: what changes in between is seen twice rather than not at all.
    let cursor = match &page.after {
        Some(place) => place.cursor.clone(),
        None => engine.cursor().to_string(),
    };
    let found: Vec<_> = engine
        .images()
        .into_iter()
        .filter(|image| {
            page.after
                .as_ref()
                .is_none_or(|place| place.is_before(image))
        })
        .filter(|image| filter.matches(image, || engine.containers_using(image)))
        .take(page.size + 1)
        .collect();
    let shown = found
        .iter()
        .map(|image| render::image::image(image, engine.containers_using(image)));
    let (images, more) = page::fill(shown, page.size);
    let last = images.len().checked_sub(1).and_then(|n| found.get(n));
    Ok(v1::ListImagesResponse {
        next_page_token: match (more, last) {
            (More::Yes, Some(last)) => page.token(&ImagePlace::after(last, &cursor)),
            (More::No, _) | (_, None) => String::new(),
        },
        images,
        cursor,
    })
}
