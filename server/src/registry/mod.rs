//! Registries: where images come from and go to (distribution-spec 1.1, and Docker's registry API v2).
//!
//! ```text
//! Registries --domain--> hosts (hosts.toml) --> Repository: manifests, blobs, uploads
//!                                                  |  http: redirects, deadlines   auth: challenges, tokens
//! Staging --digest--> Download: one file, shared by all who want it, read while it comes in
//! ```
//!
//! Registries are taken for hostile and for unreliable: each body has a limit, each digest is verified, what may go
//! better the next time is tried again, and nothing waits without end. Knows no images, only their content.

mod auth;
mod download;
mod error;
mod hosts;
mod http;
mod pace;
mod staging;
mod upload;

use std::path::PathBuf;
use std::time::Duration;

use rand::Rng as _;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE};
use reqwest::{Method, Request, Response, StatusCode, Url};

pub use self::auth::Credentials;
use self::auth::{Accepted, Access};
pub use self::error::RegistryError;
use self::hosts::{Capability, Host};
use self::http::Contact;
pub use self::staging::{Download, DownloadState, Joined, Staging};
pub use self::upload::{Content, Outgoing, PushError, Pushed};
use crate::model::Digest;
use crate::model::image::Descriptor;
use crate::model::limits::{
    MAX_CONFIG_BYTES, REGISTRY_ATTEMPTS, REGISTRY_FIRST_DELAY, REGISTRY_LONGEST_DELAY,
    REGISTRY_STALL_TIMEOUT,
};
use crate::oci::image::{MANIFEST_TYPES, SelfDescribed};
use crate::oci::reference::{Reference, Version};

/// What a manifest's digest is, by the registry.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct Registries {
    /// The directory of `hosts.toml` files.
    pub config_dir: PathBuf,
    /// How long a transfer may be slower than a KiB a second.
    pub stall_timeout: Duration,
}

impl Default for Registries {
    /// Each registry where its name says, by HTTPS.
    fn default() -> Self {
        Self {
            config_dir: PathBuf::from("/etc/wharf/certs.d"),
            stall_timeout: REGISTRY_STALL_TIMEOUT,
        }
    }
}

/// One repository, for who has these credentials.
#[derive(Debug)]
pub struct Repository {
    registry: String,
    name: String,
    /// As errors name it.
    image: String,
    hosts: Vec<Host>,
    credentials: Option<Credentials>,
    accepted: Accepted,
    stall_timeout: Duration,
}

/// A manifest or an index.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// What it is.
    pub descriptor: Descriptor,
    /// JSON.
    pub json: Vec<u8>,
}

impl Registries {
    /// The repository that a reference is in.
    ///
    /// # Errors
    /// [`RegistryError::Settings`].
    pub async fn repository(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Result<Repository, RegistryError> {
        let (directory, domain) = (self.config_dir.clone(), reference.domain.clone());
        let read = move || hosts::of(&directory, &domain);
        let hosts = tokio::task::spawn_blocking(read).await;
        Ok(Repository {
            hosts: hosts.unwrap_or(Err(RegistryError::Abandoned))?,
            registry: reference.domain.clone(),
            name: reference.repository.clone(),
            image: reference.to_string(),
            credentials,
            accepted: Accepted::default(),
            stall_timeout: self.stall_timeout,
        })
    }
}

impl Repository {
    /// The manifest or index that has this tag or digest; at most [`MAX_CONFIG_BYTES`].
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn manifest(&self, version: &Version) -> Result<Manifest, RegistryError> {
        let capability = match version {
            Version::Tag(_) => Capability::Resolve,
            Version::Digest(_) => Capability::Pull,
        };
        self.tried(capability, |host| self.manifest_at(host, version))
            .await
    }

    async fn manifest_at(&self, host: &Host, version: &Version) -> Result<Manifest, RegistryError> {
        let accept = HeaderValue::from_str(&MANIFEST_TYPES.join(", "));
        let accept = accept.map_err(|_| self.invalid("no media types"))?;
        let headers = HeaderMap::from_iter([(ACCEPT, accept)]);
        let path = format!("manifests/{version}");
        let request = self.request(host, Method::GET, &path, headers);
        let response = self.exchange(host, Access::Pull, request).await?;
        let response = self.must_succeed(response, "a manifest")?;
        let said_type = header(&response, CONTENT_TYPE).map(str::to_owned);
        let said_digest = header(&response, CONTENT_DIGEST).and_then(|said| said.parse().ok());
        let json = self.bounded(response, MAX_CONFIG_BYTES).await?;
        let digest = Digest::of(&json);
        let expected = match version {
            Version::Digest(digest) => Some(digest.clone()),
            Version::Tag(_) => said_digest,
        };
        if let Some(expected) = expected.filter(|expected| *expected != digest) {
            return Err(RegistryError::mismatch(&expected, &digest));
        }
        Ok(Manifest {
            descriptor: Descriptor {
                media_type: self.media_type(said_type, &json)?,
                digest,
                size_bytes: json.len() as u64,
            },
            json,
        })
    }

    /// What the document says of itself; else what the registry says of it.
    fn media_type(&self, said: Option<String>, json: &[u8]) -> Result<String, RegistryError> {
        let document: SelfDescribed = serde_json::from_slice(json)
            .map_err(|_| self.invalid("a manifest that is no JSON document"))?;
        let said = said.map(|said| said.split(';').next().unwrap_or_default().trim().to_owned());
        match document.media_type.or(said) {
            Some(media_type) => Ok(media_type),
            None => Err(self.invalid("a manifest without a media type")),
        }
    }

    /// A small blob: a config. At most [`MAX_CONFIG_BYTES`].
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn document(&self, blob: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        if blob.size_bytes > MAX_CONFIG_BYTES as u64 {
            let size = blob.size_bytes;
            return Err(self.invalid(format!("a config of {size} bytes")));
        }
        self.tried(Capability::Pull, |host| self.document_at(host, blob))
            .await
    }

    async fn document_at(&self, host: &Host, blob: &Descriptor) -> Result<Vec<u8>, RegistryError> {
        let response = self.blob_at(host, &blob.digest, 0).await?;
        let response = self.must_succeed(response, "a config")?;
        let bytes = self.bounded(response, MAX_CONFIG_BYTES).await?;
        let digest = Digest::of(&bytes);
        if digest != blob.digest {
            return Err(RegistryError::mismatch(&blob.digest, &digest));
        }
        Ok(bytes)
    }

    /// The answer to a request for a blob from `offset` on, whatever it is.
    async fn blob_at(
        &self,
        host: &Host,
        digest: &Digest,
        offset: u64,
    ) -> Result<Response, RegistryError> {
        let mut headers = HeaderMap::new();
        if let (1.., Ok(range)) = (offset, HeaderValue::from_str(&format!("bytes={offset}-"))) {
            headers.insert(RANGE, range);
        }
        let request = self.request(host, Method::GET, &format!("blobs/{digest}"), headers);
        self.exchange(host, Access::Pull, request).await
    }

    /// A request for something of this repository. `ns` is for mirrors, which may have several registries' content
    /// (containerd's convention).
    fn request(
        &self,
        host: &Host,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> impl Fn() -> Request + use<> {
        let mut url = host.base.clone();
        let path = format!("{}{}/{path}", url.path(), self.name);
        url.set_path(&path);
        if !host.is_own {
            url.query_pairs_mut().append_pair("ns", &self.registry);
        }
        request_to(url, method, headers)
    }

    /// Sends a request to a host, as whom it wants to see.
    async fn exchange(
        &self,
        host: &Host,
        access: Access,
        request: impl Fn() -> Request,
    ) -> Result<Response, RegistryError> {
        let accepted = self.accepted.get(host, access);
        let contact = Contact::new(host, self, accepted);
        let response = contact.send(request()).await?;
        // Whom the host has sent us to may not ask who we are.
        let is_hosts = response.url().origin() == host.base.origin();
        if response.status() != StatusCode::UNAUTHORIZED || !is_hosts {
            return Ok(response);
        }
        match self.authorize(host, &response, access).await? {
            Some(answer) => {
                let contact = Contact::new(host, self, Some(answer));
                contact.send(request()).await
            }
            None => Ok(response),
        }
    }

    /// Asks the hosts that can, one after the other, and all of them again if that may help. The error is the last
    /// one's: the registry's own.
    async fn tried<'a, T, F>(
        &'a self,
        capability: Capability,
        ask: impl Fn(&'a Host) -> F,
    ) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        let (hosts, ask) = (&self.able(capability)?, &ask);
        patiently(|| async move {
            let mut last = self.unavailable(NONE_ABLE);
            for &host in hosts {
                match ask(host).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
        .await
    }

    /// The hosts that can do that, at least one.
    fn able(&self, capability: Capability) -> Result<Vec<&Host>, RegistryError> {
        let hosts = self.hosts.iter().filter(|host| host.can(capability));
        let hosts: Vec<&Host> = hosts.collect();
        match hosts.is_empty() {
            true => Err(self.unavailable(NONE_ABLE)),
            false => Ok(hosts),
        }
    }
}

const NONE_ABLE: &str = "no host of it can do that";

/// Tries again as long as that may help.
async fn patiently<T, F>(attempt: impl Fn() -> F) -> Result<T, RegistryError>
where
    F: Future<Output = Result<T, RegistryError>>,
{
    let mut patience = Patience::default();
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) => patience.spend(error).await?,
        }
    }
}

/// How often, and how long, something is tried.
#[derive(Debug, Default)]
struct Patience {
    failures: u32,
    mismatches: u32,
}

impl Patience {
    /// Waits before the next attempt, or gives the error back.
    async fn spend(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.failures += 1;
        if matches!(error, RegistryError::DigestMismatch { .. }) {
            self.mismatches += 1;
        }
        let own = REGISTRY_FIRST_DELAY * (1 << self.failures.min(8)) / 2;
        let delay = match &error {
            RegistryError::RateLimited {
                retry_after: Some(asked),
                ..
            } => *asked,
            _ => own.mul_f64(rand::rng().random_range(0.5..1.0)),
        };
        let is_over = self.failures >= REGISTRY_ATTEMPTS
            // Once may be somebody on the way; twice is what is there.
            || self.mismatches > 1
            || delay > REGISTRY_LONGEST_DELAY;
        if is_over || !error.is_transient() {
            return Err(error);
        }
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// Something has moved since the last failure.
    fn renew(&mut self) {
        self.failures = 0;
    }
}

/// A request that can be made again.
fn request_to(url: Url, method: Method, headers: HeaderMap) -> impl Fn() -> Request + use<> {
    move || {
        let mut request = Request::new(method.clone(), url.clone());
        *request.headers_mut() = headers.clone();
        request
    }
}

/// A header that is text.
fn header(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}
