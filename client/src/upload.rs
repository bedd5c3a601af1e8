//! Streaming content to the server: start, data..., end with its size and digest.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use wharf_api::v1::file_service_client::FileServiceClient;
use wharf_api::v1::image_service_client::ImageServiceClient;
use wharf_api::v1::{
    self, ImportImageRequest, ImportImageResponse, ImportImageStart, TransferEnd,
    WriteArchiveRequest, WriteArchiveResponse, WriteArchiveStart, WriteFileRequest,
    WriteFileResponse, WriteFileStart,
};

use crate::client::Client;
use crate::error::Error;

/// The API's limit for one message's data.
const CHUNK: usize = 256 << 10;

/// What a call that takes content starts with: its type says which method is meant.
pub trait Upload: Send + Sized + 'static {
    /// One message.
    type Message: Send + 'static;
    /// The answer.
    type Response: Send + 'static;
    /// Path of the method, such as `/wharf.v1.ImageService/ImportImage`.
    const METHOD: &'static str;

    /// The first message.
    fn start(self) -> Self::Message;
    /// A message with data.
    fn data(data: Bytes) -> Self::Message;
    /// The last message.
    fn end(end: TransferEnd) -> Self::Message;

    /// Sends all of it once, by the generated client.
    fn send(
        channel: Channel,
        request: Request<impl Stream<Item = Self::Message> + Send + 'static>,
    ) -> impl Future<Output = Result<Response<Self::Response>, Status>> + Send;
}

macro_rules! uploads {
    ($($client:ident.$method:ident: $start:ident, $module:ident::$message:ident => $response:ident, $path:literal;)*) => {$(
        impl Upload for $start {
            type Message = $message;
            type Response = $response;
            const METHOD: &'static str = concat!("/wharf.v1.", $path);

            fn start(self) -> $message {
                $message { request: Some(v1::$module::Request::Start(self)) }
            }

            fn data(data: Bytes) -> $message {
                $message { request: Some(v1::$module::Request::Data(data)) }
            }

            fn end(end: TransferEnd) -> $message {
                $message { request: Some(v1::$module::Request::End(end)) }
            }

            async fn send(
                channel: Channel,
                request: Request<impl Stream<Item = $message> + Send + 'static>,
            ) -> Result<Response<$response>, Status> {
                $client::new(channel).$method(request).await
            }
        }
    )*};
}

uploads! {
    ImageServiceClient.import_image: ImportImageStart, import_image_request::ImportImageRequest
        => ImportImageResponse, "ImageService/ImportImage";
    FileServiceClient.write_archive: WriteArchiveStart, write_archive_request::WriteArchiveRequest
        => WriteArchiveResponse, "FileService/WriteArchive";
    FileServiceClient.write_file: WriteFileStart, write_file_request::WriteFileRequest
        => WriteFileResponse, "FileService/WriteFile";
}

pub(crate) async fn upload<U, A>(
    client: &Client,
    start: U,
    content: A,
) -> Result<U::Response, Error>
where
    U: Upload,
    A: AsyncRead + Unpin + Send + 'static,
{
    let failure = Arc::new(Mutex::new(None));
    let messages = messages(start, content, Arc::clone(&failure));
    let answer = client
        .attempt_once(U::METHOD, |channel, call| {
            U::send(channel, call.into_request(messages))
        })
        .await;
    // A stream without its end makes the server complain; the reason for that is the news.
    let failed = failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    match failed {
        Some(error) => Err(Error::Read(error)),
        None => Ok(answer?.into_inner()),
    }
}

/// Where the stream of messages stands.
enum Stage<U> {
    Start(U),
    Data,
    Over,
}

struct Sender<U, A> {
    stage: Stage<U>,
    content: A,
    tally: Tally,
    failure: Arc<Mutex<Option<io::Error>>>,
}

/// start, data..., end. If reading fails, the error is left in `failure` and the stream stops short of
/// its end, so that the server takes nothing for whole.
fn messages<U, A>(
    start: U,
    content: A,
    failure: Arc<Mutex<Option<io::Error>>>,
) -> impl Stream<Item = U::Message> + Send + 'static
where
    U: Upload,
    A: AsyncRead + Unpin + Send + 'static,
{
    let sender = Sender {
        stage: Stage::Start(start),
        content,
        tally: Tally::default(),
        failure,
    };
    stream::unfold(sender, |mut sender| async move {
        let message = sender.next().await?;
        Some((message, sender))
    })
}

impl<U: Upload, A: AsyncRead + Unpin> Sender<U, A> {
    async fn next(&mut self) -> Option<U::Message> {
        match std::mem::replace(&mut self.stage, Stage::Data) {
            Stage::Start(start) => Some(start.start()),
            Stage::Data => self.data().await,
            Stage::Over => {
                self.stage = Stage::Over;
                None
            }
        }
    }

    async fn data(&mut self) -> Option<U::Message> {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        while chunk.len() < CHUNK {
            // `limit` holds the buffer at its size: `read_buf` alone would grow it.
            let room = CHUNK - chunk.len();
            let mut limited = (&mut self.content).take(room as u64);
            match limited.read_buf(&mut chunk).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return self.fail(error),
            }
        }
        if chunk.is_empty() {
            self.stage = Stage::Over;
            return Some(U::end(self.tally.end()));
        }
        self.tally.add(&chunk);
        Some(U::data(chunk.freeze()))
    }

    fn fail(&mut self, error: io::Error) -> Option<U::Message> {
        self.stage = Stage::Over;
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        None
    }
}

/// Size and digest of what has gone, or come.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    digest: Sha256,
    size_bytes: i64,
}

impl Tally {
    pub(crate) fn add(&mut self, data: &[u8]) {
        self.digest.update(data);
        self.size_bytes += i64::try_from(data.len()).unwrap_or(i64::MAX);
    }

    /// What closes the transfer.
    pub(crate) fn end(&mut self) -> TransferEnd {
        TransferEnd {
            size_bytes: std::mem::take(&mut self.size_bytes),
            digest: format!("sha256:{}", hex(&self.digest.finalize_reset())),
        }
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
