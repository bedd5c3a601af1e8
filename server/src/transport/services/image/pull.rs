//! Pulling, told as it goes.

use std::time::Duration;

use futures_util::stream;
use wharf_api::v1;
use wharf_api::v1::pull_image_response::Response;

use crate::engine::{Engine, News, PullImage, PullNews, Pulling};
use crate::model::Cause;
use crate::transport::services::Answers;
use crate::transport::{CallError, render};

/// Pulls for one caller. Dropping the stream is the caller's going.
pub(super) fn pull(
    engine: &Engine,
    cause: Cause,
    pull: PullImage,
    interval: Duration,
) -> Result<Answers<v1::PullImageResponse>, CallError> {
    let engine = engine.clone();
    let pulling = engine.pull_image(cause, pull, interval)?;
    let messages = stream::unfold((pulling, engine), async |(mut pulling, engine)| {
        let message = next(&mut pulling, &engine).await?;
        Some((message.map_err(Into::into), (pulling, engine)))
    });
    Ok(Box::pin(messages))
}

async fn next(
    pulling: &mut Pulling,
    engine: &Engine,
) -> Option<Result<v1::PullImageResponse, CallError>> {
    let news = match pulling.next().await? {
        Ok(news) => news,
        Err(error) => return Some(Err(error.into())),
    };
    let response = match news {
        PullNews::Resolved(target) => Response::Resolved(render::image::descriptor(&target)),
        PullNews::Further(News::Progress(progress)) => {
            Response::Progress(render::image::progress(&progress))
        }
        PullNews::Further(News::Done(pulled)) => {
            let containers = engine.containers_using(&pulled.image);
            Response::Result(v1::PullResult {
                image: Some(render::image::image(&pulled.image, containers)),
                changed: pulled.is_changed,
            })
        }
    };
    Some(Ok(v1::PullImageResponse {
        response: Some(response),
    }))
}
