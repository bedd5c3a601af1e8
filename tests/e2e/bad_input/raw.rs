//! Calls of any method with any bytes.

use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::stream;
use http::uri::PathAndQuery;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::{Request, Status};
use wharf_api::Method;

use crate::harness::direct::origin;
use crate::harness::{Client, Refusal};

const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes in, bytes out.
#[derive(Debug, Default, Clone)]
struct Untyped;

impl Codec for Untyped {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Untyped {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Untyped {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Calls a method of whatever kind with one message, and reads until the first answer or the end.
pub async fn first_answer(client: &Client, method: &Method, message: Bytes) -> Result<(), Refusal> {
    call(client, method.path, client.request(message)).await
}

/// Calls any path.
pub async fn unary(client: &Client, path: &'static str, message: Bytes) -> Result<(), Refusal> {
    call(client, path, client.request(message)).await
}

/// An innocent call with one odd header.
pub async fn with_header(client: &Client, key: &'static str, value: &[u8]) -> Result<(), Refusal> {
    let mut request = client.with_deadline(None).request(Bytes::new());
    let value = MetadataValue::<Ascii>::try_from(value).unwrap();
    request
        .metadata_mut()
        .insert(MetadataKey::from_static(key), value);
    call(client, "/wharf.v1.SystemService/GetVersion", request).await
}

async fn call(client: &Client, path: &'static str, request: Request<Bytes>) -> Result<(), Refusal> {
    let mut grpc = Grpc::with_origin(client.direct().await, origin());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static(path);
    let request = request.map(|message| stream::iter([message]));
    let answered = async {
        let mut messages = grpc.streaming(request, path, Untyped).await?.into_inner();
        messages.message().await
    };
    timeout(PATIENCE, answered)
        .await
        .unwrap_or_else(|_| panic!("no answer within {PATIENCE:?}"))
        .map(|_| ())
        .map_err(Refusal::from)
}
