//! Streaming an image archive to the server.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::BytesMut;
use futures_util::{Stream, stream};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use wharf_api::v1::image_service_client::ImageServiceClient;
use wharf_api::v1::import_image_request::Request as Part;
use wharf_api::v1::{ImportImageRequest, ImportImageResponse, ImportImageStart, TransferEnd};

use crate::client::Client;
use crate::error::Error;

const METHOD: &str = "/wharf.v1.ImageService/ImportImage";
/// The API's limit for one message's data.
const CHUNK: usize = 256 << 10;

pub(crate) async fn import<A>(
    client: &Client,
    start: ImportImageStart,
    archive: A,
) -> Result<ImportImageResponse, Error>
where
    A: AsyncRead + Unpin + Send + 'static,
{
    let failure = Arc::new(Mutex::new(None));
    let parts = parts(start, archive, Arc::clone(&failure));
    let answer = client
        .attempt_once(METHOD, |channel, call| async move {
            ImageServiceClient::new(channel)
                .import_image(call.into_request(parts))
                .await
        })
        .await;
    // A stream without its end makes the server complain; the reason for that is the news.
    match failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
    {
        Some(error) => Err(Error::Read(error)),
        None => Ok(answer?.into_inner()),
    }
}

/// Where the stream of parts stands.
enum Stage {
    Start(ImportImageStart),
    Data,
    Over,
}

struct Sender<A> {
    stage: Stage,
    archive: A,
    digest: Sha256,
    size_bytes: i64,
    failure: Arc<Mutex<Option<io::Error>>>,
}

/// start, data…, end. If reading fails, the error is left in `failure` and the stream stops short of
/// its end, so that the server imports nothing.
fn parts<A>(
    start: ImportImageStart,
    archive: A,
    failure: Arc<Mutex<Option<io::Error>>>,
) -> impl Stream<Item = ImportImageRequest>
where
    A: AsyncRead + Unpin,
{
    let sender = Sender {
        stage: Stage::Start(start),
        archive,
        digest: Sha256::new(),
        size_bytes: 0,
        failure,
    };
    stream::unfold(sender, |mut sender| async move {
        let part = sender.next().await?;
        Some((
            ImportImageRequest {
                request: Some(part),
            },
            sender,
        ))
    })
}

impl<A: AsyncRead + Unpin> Sender<A> {
    async fn next(&mut self) -> Option<Part> {
        match std::mem::replace(&mut self.stage, Stage::Data) {
            Stage::Start(start) => Some(Part::Start(start)),
            Stage::Data => self.data().await,
            Stage::Over => {
                self.stage = Stage::Over;
                None
            }
        }
    }

    async fn data(&mut self) -> Option<Part> {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        while chunk.len() < CHUNK {
            // `limit` holds the buffer at its size: `read_buf` alone would grow it.
            let room = CHUNK - chunk.len();
            match (&mut self.archive)
                .take(room as u64)
                .read_buf(&mut chunk)
                .await
            {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return self.fail(error),
            }
        }
        if chunk.is_empty() {
            return Some(self.end());
        }
        self.digest.update(&chunk);
        self.size_bytes += i64::try_from(chunk.len()).unwrap_or(i64::MAX);
        Some(Part::Data(chunk.freeze()))
    }

    fn fail(&mut self, error: io::Error) -> Option<Part> {
        self.stage = Stage::Over;
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        None
    }

    fn end(&mut self) -> Part {
        self.stage = Stage::Over;
        Part::End(TransferEnd {
            size_bytes: self.size_bytes,
            digest: format!("sha256:{}", hex(&self.digest.finalize_reset())),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
