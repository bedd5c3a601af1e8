//! Pushing, told as it goes.

use futures_util::stream;
use wharf_api::v1;
use wharf_api::v1::push_image_response::Response;

use crate::engine::{Engine, News, PushImage};
use crate::model::limits::TRANSFER_NEWS;
use crate::transport::services::Answers;
use crate::transport::{CallError, render};

/// Pushes for one caller. Dropping the stream is the caller's going, and ends it.
pub(super) fn push(
    engine: &Engine,
    push: PushImage,
) -> Result<Answers<v1::PushImageResponse>, CallError> {
    let pushing = engine.push_image(push, TRANSFER_NEWS)?;
    let messages = stream::unfold(pushing, async |mut pushing| {
        let news = pushing.next().await?;
        let message = news
            .map(response)
            .map_err(|error| CallError::from(error).into());
        Some((message, pushing))
    });
    Ok(Box::pin(messages))
}

fn response(news: News<crate::model::image::Descriptor>) -> v1::PushImageResponse {
    let response = match news {
        News::Progress(progress) => Response::Progress(render::image::progress(&progress)),
        News::Done(target) => Response::Result(render::image::descriptor(&target)),
    };
    v1::PushImageResponse {
        response: Some(response),
    }
}
