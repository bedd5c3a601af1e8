//! How each fault is done.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::header::{CONTENT_LENGTH, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::time::sleep;

use super::faults::Fault;
use super::{Asked, State, pass_on};
use crate::harness::registry::http::{Body, answer, whole};

pub(super) async fn of(
    fault: Fault,
    state: &State,
    asked: &Asked,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    match fault {
        Fault::Status(status) => Ok(refusal(status)),
        Fault::Challenge(challenge) => {
            let mut response = refusal(401);
            let challenge = HeaderValue::try_from(challenge).map_err(io::Error::other)?;
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            Ok(response)
        }
        Fault::TooMany(after) => {
            let mut response = refusal(429);
            if let Some(seconds) = after {
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
            }
            Ok(response)
        }
        Fault::Cut => Err(io::ErrorKind::ConnectionReset.into()),
        Fault::Hang => match pending::<Infallible>().await {},
        Fault::Redirect(host) => {
            let mut response = refusal(307);
            let location = format!("http://{host}{}", asked.path);
            let location = HeaderValue::try_from(location).map_err(io::Error::other)?;
            response.headers_mut().insert(LOCATION, location);
            Ok(response)
        }
        Fault::Instead(media_type, body) => Ok(answer(200, media_type, body)),
        Fault::Endless(media_type) => {
            let endless = stream::repeat(Bytes::from_static(&[b' '; 16 << 10]));
            Ok(answer(200, media_type, "").map(|_| body(endless.map(Ok))))
        }
        Fault::WholeForRange => {
            let mut request = request;
            request.headers_mut().remove(RANGE);
            pass_on(state, request).await
        }
        Fault::OtherRange => {
            let mut request = request;
            let from = asked.range().and_then(first).unwrap_or_default();
            let other = HeaderValue::try_from(format!("bytes={}-", from / 2));
            request
                .headers_mut()
                .insert(RANGE, other.map_err(io::Error::other)?);
            pass_on(state, request).await
        }
        Fault::CutAfter(bytes) => {
            let ended = stream::once(async {
                // What came before is sent while this waits.
                tokio::task::yield_now().await;
                Err(io::ErrorKind::ConnectionReset.into())
            });
            let response = pass_on(state, request).await?;
            Ok(response.map(|all| body(start_of(all, bytes).chain(ended))))
        }
        Fault::StallAfter(bytes) => {
            let response = pass_on(state, request).await?;
            Ok(response.map(|all| body(start_of(all, bytes).chain(stream::pending()))))
        }
        Fault::Drip(rate) => Ok(pass_on(state, request).await?.map(|all| drip(all, rate))),
        Fault::WrongByte => {
            changed(pass_on(state, request).await?, |all| {
                let middle = all.len() / 2;
                all[middle] ^= 1;
            })
            .await
        }
        Fault::WrongStart => changed(pass_on(state, request).await?, |all| all[0] ^= 1).await,
        Fault::Half => {
            changed(pass_on(state, request).await?, |all| {
                all.truncate(all.len() / 2);
            })
            .await
        }
    }
}

fn refusal(status: u16) -> Response<Body> {
    let told = r#"{"errors":[{"code":"UNKNOWN","message":"told to"}]}"#;
    answer(status, "application/json", told)
}

fn first(range: &str) -> Option<u64> {
    let (from, _) = range.strip_prefix("bytes=")?.split_once('-')?;
    from.parse().ok()
}

fn body(data: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(data.map(|part| part.map(Frame::data))).boxed_unsync()
}

/// The first bytes of a body.
fn start_of(all: Body, bytes: u64) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let start = stream::unfold((all, bytes), async |(mut all, left)| {
        if left == 0 {
            return None;
        }
        let part = match all.frame().await? {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) => return Some((Err(error), (all, 0))),
        };
        let taken = left.min(part.len() as u64);
        let start = part.slice(..usize::try_from(taken).unwrap());
        Some((Ok(start), (all, left - taken)))
    });
    Box::pin(start)
}

/// Ten times a second a tenth of the rate.
fn drip(all: Body, rate: u64) -> Body {
    let drop = usize::try_from(rate.div_ceil(10)).unwrap();
    let drops = stream::unfold((all, Bytes::new()), move |(mut all, mut had)| async move {
        if had.is_empty() {
            had = match all.frame().await? {
                Ok(frame) => frame.into_data().unwrap_or_default(),
                Err(error) => return Some((Err(error), (all, Bytes::new()))),
            };
        }
        sleep(Duration::from_millis(100)).await;
        let next = had.split_to(drop.min(had.len()));
        Some((Ok(next), (all, had)))
    });
    body(Box::pin(drops))
}

/// The whole body, otherwise; its length is what it then is.
async fn changed(
    response: Response<Body>,
    change: impl FnOnce(&mut Vec<u8>),
) -> io::Result<Response<Body>> {
    let (mut head, body) = response.into_parts();
    let mut all = body.collect().await?.to_bytes().to_vec();
    change(&mut all);
    head.headers.insert(CONTENT_LENGTH, all.len().into());
    Ok(Response::from_parts(head, whole(all)))
}
