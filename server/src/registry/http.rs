//! One exchange with a host: redirects, deadlines, and what answers mean.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, Method, Request, Response, StatusCode, Url};
use tokio::time::timeout;

use super::hosts::Host;
use super::{RegistryError, Repository, header};
use crate::model::limits::{REGISTRY_CONNECT_TIMEOUT, REGISTRY_RESPONSE_TIMEOUT};

/// As browsers and curl have it.
const MAX_REDIRECTS: usize = 10;
const USER_AGENT: &str = concat!("wharf/", env!("CARGO_PKG_VERSION"));

/// A client as all hosts have it, but for TLS. Redirects are ours: whom a registry sends us to gets no credentials.
/// Proxies are the environment's.
pub(super) fn client() -> ClientBuilder {
    // It is there already if this is not the first client.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(USER_AGENT)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(REGISTRY_CONNECT_TIMEOUT)
}

pub(super) fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// Whether going from one to the other would show in the clear what was not.
pub(super) fn is_downgrade(from: &Url, to: &Url) -> bool {
    from.scheme() == "https" && to.scheme() != "https"
}

/// One host, and what requests to it carry.
pub(super) struct Contact<'a> {
    client: &'a Client,
    repository: &'a Repository,
    /// Only for the host itself.
    headers: HeaderMap,
}

impl<'a> Contact<'a> {
    /// With the host's own headers, and what it has accepted.
    pub(super) fn new(
        host: &'a Host,
        repository: &'a Repository,
        accepted: Option<HeaderValue>,
    ) -> Self {
        let mut headers = host.headers.clone();
        if let Some(accepted) = accepted {
            headers.insert(AUTHORIZATION, accepted);
        }
        Self {
            headers,
            ..Self::foreign(host, repository)
        }
    }

    /// For somebody whom a host has named: with nothing that is the host's.
    pub(super) fn foreign(host: &'a Host, repository: &'a Repository) -> Self {
        Self {
            client: &host.client,
            repository,
            headers: HeaderMap::new(),
        }
    }

    /// Sends a request and follows redirects. A body that cannot be sent twice is not redirected, and none is to
    /// another host: it may have a secret in it.
    pub(super) async fn send(&self, request: Request) -> Result<Response, RegistryError> {
        let mut is_foreign = false;
        let mut next = Some(request);
        for _ in 0..=MAX_REDIRECTS {
            let Some(mut request) = next.take() else {
                return Err(self.repository.invalid("it redirects an upload"));
            };
            let again = request.try_clone();
            if !is_foreign {
                request.headers_mut().extend(self.headers.clone());
            }
            let from = request.url().clone();
            let response = self.execute(request).await?;
            let Some(to) = self.redirected(&from, &response)? else {
                return Ok(response);
            };
            is_foreign |= to.origin() != from.origin();
            next = again.and_then(|again| onward(again, to, is_foreign, response.status()));
        }
        Err(self.repository.invalid("it redirects without end"))
    }

    async fn execute(&self, request: Request) -> Result<Response, RegistryError> {
        let is_streamed = request.body().is_some_and(|body| body.as_bytes().is_none());
        let exchange = self.client.execute(request);
        let result = if is_streamed {
            // An upload takes as long as it moves: who sends it looks after that.
            exchange.await
        } else {
            let patience = self.repository.stall_timeout.min(REGISTRY_RESPONSE_TIMEOUT);
            let result = timeout(patience, exchange).await;
            result.map_err(|_| self.repository.unavailable("it does not answer"))?
        };
        result.map_err(|error| self.repository.broke_off(&error))
    }

    fn redirected(&self, from: &Url, response: &Response) -> Result<Option<Url>, RegistryError> {
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let to = header(response, LOCATION).and_then(|location| from.join(location).ok());
        let to = to.filter(is_http);
        let to = to.ok_or_else(|| self.repository.invalid("it redirects to nowhere"))?;
        if is_downgrade(from, &to) {
            return Err(self.repository.invalid("it redirects from HTTPS to HTTP"));
        }
        Ok(Some(to))
    }
}

/// The same request, to where it was sent on; `None` if what it carries is only for who was asked.
fn onward(mut request: Request, to: Url, is_foreign: bool, status: StatusCode) -> Option<Request> {
    *request.url_mut() = to;
    if is_foreign {
        request.headers_mut().remove(AUTHORIZATION);
    }
    if status == StatusCode::SEE_OTHER && request.method() != Method::HEAD {
        *request.method_mut() = Method::GET;
        *request.body_mut() = None;
    }
    (!is_foreign || request.body().is_none()).then_some(request)
}

/// What went wrong, to the bottom of it and without the URL: that may have a secret in it.
fn described(error: &reqwest::Error) -> String {
    let mut text = match error {
        error if error.is_connect() => "it cannot be reached".to_owned(),
        error if error.is_timeout() => "it takes too long".to_owned(),
        _ => "the exchange broke off".to_owned(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.source().is_none() {
            text = format!("{text}: {inner}");
        }
        cause = inner.source();
    }
    text
}

impl Repository {
    pub(super) fn invalid(&self, problem: impl Into<String>) -> RegistryError {
        RegistryError::ResponseInvalid {
            registry: self.registry.clone(),
            problem: problem.into(),
        }
    }

    pub(super) fn unavailable(&self, detail: impl Into<String>) -> RegistryError {
        RegistryError::Unavailable {
            registry: self.registry.clone(),
            detail: detail.into(),
        }
    }

    pub(super) fn broke_off(&self, error: &reqwest::Error) -> RegistryError {
        self.unavailable(described(error))
    }

    pub(super) fn auth_failed(&self) -> RegistryError {
        RegistryError::AuthFailed {
            registry: self.registry.clone(),
            image: self.image.clone(),
        }
    }

    /// The response, if it is a success; what else it means for `what` was asked for.
    pub(super) fn must_succeed(
        &self,
        response: Response,
        what: &str,
    ) -> Result<Response, RegistryError> {
        let status = response.status();
        match status.as_u16() {
            200..=299 => Ok(response),
            401 | 403 => Err(self.auth_failed()),
            404 => Err(RegistryError::NotFound {
                registry: self.registry.clone(),
                image: self.image.clone(),
            }),
            429 => Err(RegistryError::RateLimited {
                registry: self.registry.clone(),
                retry_after: retry_after(&response),
            }),
            408 | 500..=599 => Err(self.unavailable(format!("it answers {status}"))),
            _ => Err(self.invalid(format!("{status} for {what}"))),
        }
    }

    /// A body that must not have more than `limit` bytes.
    pub(super) async fn bounded(
        &self,
        mut response: Response,
        limit: usize,
    ) -> Result<Vec<u8>, RegistryError> {
        let too_long = || self.invalid(format!("a document of more than {limit} bytes"));
        let said = response.content_length();
        if said.is_some_and(|said| said > limit as u64) {
            return Err(too_long());
        }
        let read = async {
            let mut body = Vec::new();
            while let Some(chunk) = response
                .chunk()
                .await
                .map_err(|error| self.broke_off(&error))?
            {
                if body.len() + chunk.len() > limit {
                    return Err(too_long());
                }
                body.extend_from_slice(&chunk);
            }
            Ok(body)
        };
        let read = timeout(self.stall_timeout, read).await;
        read.map_err(|_| self.unavailable("it stalls"))?
    }
}

/// In seconds; a date is not looked at.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = header(response, RETRY_AFTER)?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
