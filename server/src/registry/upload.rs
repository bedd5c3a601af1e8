//! Content on its way to a registry (distribution-spec, "Pushing Manifests and Blobs").

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};

use super::auth::Access;
use super::hosts::{Capability, Host};
use super::http::{self, Contact};
use super::pace::Pace;
use super::{CONTENT_DIGEST, Patience, RegistryError, Repository, header, patiently, request_to};
use crate::model::Digest;
use crate::model::image::Descriptor;
use crate::model::limits::REGISTRY_RESPONSE_TIMEOUT;
use crate::oci::reference::Version;

/// What is sent; an error ends the upload.
pub type Content<E> = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, E>> + Send>>;

/// Where the content of uploads comes from, and who wants to know how far they are.
pub trait Outgoing: Send + Sync {
    /// Why content cannot be read.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Reads a blob from its beginning.
    fn open(
        &self,
        blob: &Descriptor,
    ) -> impl Future<Output = Result<Content<Self::Error>, Self::Error>> + Send;

    /// So many bytes of it have been sent.
    fn sent(&self, blob: &Descriptor, bytes: u64);

    /// An attempt has failed, and another one follows.
    fn retries(&self, blob: &Descriptor);
}

/// Why a blob was not pushed.
#[derive(Debug)]
pub enum PushError<E> {
    /// The registry's fault.
    Registry(RegistryError),
    /// It cannot be read.
    Content(E),
}

impl<E> From<RegistryError> for PushError<E> {
    fn from(error: RegistryError) -> Self {
        Self::Registry(error)
    }
}

/// Whether a registry had a blob before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was sent.
    Now,
    /// Nothing was sent.
    Before,
}

impl Repository {
    /// Has the registry take a blob, unless it has it.
    ///
    /// # Errors
    /// [`PushError`].
    pub async fn push_blob<O: Outgoing>(
        &self,
        blob: &Descriptor,
        outgoing: &O,
    ) -> Result<Pushed, PushError<O::Error>> {
        let host = self.push_host()?;
        let mut patience = Patience::default();
        loop {
            let error = match self.push_blob_to(host, blob, outgoing).await {
                Err(PushError::Registry(error)) => error,
                pushed => return pushed,
            };
            outgoing.retries(blob);
            patience.spend(error).await?;
        }
    }

    /// Has the registry take a manifest, whose blobs it must have, under a tag or its digest.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn push_manifest(
        &self,
        version: &Version,
        manifest: &Descriptor,
        json: &[u8],
    ) -> Result<(), RegistryError> {
        let host = self.push_host()?;
        patiently(|| self.push_manifest_to(host, version, manifest, json)).await
    }

    /// Mirrors are not pushed to, unless the settings say that they can be.
    fn push_host(&self) -> Result<&Host, RegistryError> {
        let able = self.able(Capability::Push)?;
        let own = able.iter().find(|host| host.is_own);
        Ok(own.unwrap_or(&able[0]))
    }

    async fn push_blob_to<O: Outgoing>(
        &self,
        host: &Host,
        blob: &Descriptor,
        outgoing: &O,
    ) -> Result<Pushed, PushError<O::Error>> {
        let path = format!("blobs/{}", blob.digest);
        let request = self.request(host, Method::HEAD, &path, HeaderMap::new());
        let there = self.exchange(host, Access::Push, request).await?;
        if there.status() == StatusCode::OK {
            return Ok(Pushed::Before);
        }
        if there.status() != StatusCode::NOT_FOUND {
            self.must_succeed(there, "a blob")?;
        }
        let empty = HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from_static("0"))]);
        let request = self.request(host, Method::POST, "blobs/uploads/", empty);
        let begun = self.exchange(host, Access::Push, request).await?;
        let begun = self.must_succeed(begun, "the begin of an upload")?;
        let to = self.upload_to(&begun, &blob.digest)?;
        let content = outgoing.open(blob).await.map_err(PushError::Content)?;
        let response = self.send(host, to, blob, content, outgoing).await?;
        self.must_succeed(response, "an upload")?;
        Ok(Pushed::Now)
    }

    fn upload_to(&self, begun: &Response, digest: &Digest) -> Result<Url, RegistryError> {
        let to = header(begun, LOCATION).and_then(|location| begun.url().join(location).ok());
        let to = to.filter(|to| !http::is_downgrade(begun.url(), to));
        let mut to = to.ok_or_else(|| self.invalid("it does not say where to upload to"))?;
        to.query_pairs_mut().append_pair("digest", digest.as_str());
        Ok(to)
    }

    async fn send<O: Outgoing>(
        &self,
        host: &Host,
        to: Url,
        blob: &Descriptor,
        content: Content<O::Error>,
        outgoing: &O,
    ) -> Result<Response, PushError<O::Error>> {
        let sent = Arc::new(AtomicU64::new(0));
        let (failed, mut failure) = tokio::sync::mpsc::channel(1);
        let counted = {
            let sent = Arc::clone(&sent);
            content.map(move |chunk| {
                if let Ok(chunk) = &chunk {
                    sent.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                }
                // The body's end says only that there was an error.
                chunk.map_err(|error| {
                    let text = error.to_string();
                    drop(failed.try_send(error));
                    std::io::Error::other(text)
                })
            })
        };
        let headers = HeaderMap::from_iter([
            (CONTENT_LENGTH, HeaderValue::from(blob.size_bytes)),
            (
                CONTENT_TYPE,
                HeaderValue::from_static("application/octet-stream"),
            ),
        ]);
        let mut request = request_to(to.clone(), Method::PUT, headers)();
        *request.body_mut() = Some(Body::wrap_stream(counted));
        let accepted = self.accepted.get(host, Access::Push);
        let contact = match to.origin() == host.base.origin() {
            true => Contact::new(host, self, accepted),
            false => Contact::foreign(host, self),
        };
        let exchange = contact.send(request);
        let stalled = self.stalled(&sent, |bytes| outgoing.sent(blob, bytes));
        let result = tokio::select! {
            result = exchange => result,
            () = stalled => Err(self.unavailable("it stalls")),
        };
        match failure.try_recv() {
            Ok(error) => Err(PushError::Content(error)),
            Err(_) => Ok(result?),
        }
    }

    /// Returns when too little has moved for too long.
    async fn stalled(&self, sent: &AtomicU64, tell: impl Fn(u64)) {
        const LOOK: Duration = Duration::from_millis(100);
        // The registry may take its time for the answer, too.
        let mut pace = Pace::new(self.stall_timeout.max(REGISTRY_RESPONSE_TIMEOUT));
        let mut before = 0;
        while !pace.left().is_zero() {
            tokio::time::sleep(LOOK).await;
            let now = sent.load(Ordering::Relaxed);
            pace.moved(now - before);
            before = now;
            tell(now);
        }
    }

    async fn push_manifest_to(
        &self,
        host: &Host,
        version: &Version,
        manifest: &Descriptor,
        json: &[u8],
    ) -> Result<(), RegistryError> {
        let media_type = HeaderValue::from_str(&manifest.media_type);
        let media_type = media_type.map_err(|_| self.invalid("no media type"))?;
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, media_type)]);
        let path = format!("manifests/{version}");
        let request = self.request(host, Method::PUT, &path, headers);
        let body = json.to_vec();
        let with_body = || {
            let mut request = request();
            *request.body_mut() = Some(body.clone().into());
            request
        };
        let response = self.exchange(host, Access::Push, with_body).await?;
        let response = self.must_succeed(response, "a manifest")?;
        match header(&response, CONTENT_DIGEST) {
            Some(actual) if actual != manifest.digest.as_str() => {
                Err(RegistryError::DigestMismatch {
                    expected: manifest.digest.to_string(),
                    actual: actual.to_owned(),
                })
            }
            _ => Ok(()),
        }
    }
}
