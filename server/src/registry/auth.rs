//! How a registry is told who asks: basic credentials, or a token that a token server gives for them
//! (distribution-spec, "Authentication"; distribution, docs/spec/auth/token.md and oauth.md).
//!
//! Credentials are sent only when they are asked for, only to the registry itself or the token server that it names,
//! and never from HTTPS to plain HTTP.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_auth::{ChallengeRef, parse_challenges};
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Request, Response, Url};
use serde::Deserialize;

use super::hosts::Host;
use super::http::{self, Contact};
use super::{RegistryError, Repository};

/// Largest answer of a token server.
const MAX_TOKEN_BYTES: usize = 256 << 10;
/// What we call ourselves where a token server wants to know.
const CLIENT_ID: &str = "wharf";

/// Who asks. Never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// A user and a password.
    Basic {
        /// User.
        username: String,
        /// Password.
        password: String,
    },
    /// An OAuth2 refresh token, for the token server.
    IdentityToken(String),
    /// A bearer token, for the registry.
    RegistryToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic",
            Self::IdentityToken(_) => "IdentityToken",
            Self::RegistryToken(_) => "RegistryToken",
        })
    }
}

/// What is to be done in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Pull,
    Push,
}

impl Access {
    fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }
}

/// What hosts have accepted so far.
#[derive(Debug, Default)]
pub(super) struct Accepted(Mutex<HashMap<(Url, Access), HeaderValue>>);

impl Accepted {
    pub(super) fn get(&self, host: &Host, access: Access) -> Option<HeaderValue> {
        self.0.lock().get(&(host.base.clone(), access)).cloned()
    }

    fn put(&self, host: &Host, access: Access, value: &HeaderValue) {
        let key = (host.base.clone(), access);
        self.0.lock().insert(key, value.clone());
    }
}

/// What a token server answers.
#[derive(Deserialize)]
struct TokenJson {
    token: Option<String>,
    access_token: Option<String>,
}

/// A token server, as a registry names it.
struct TokenServer {
    realm: Url,
    service: Option<String>,
    /// What it wants to be asked for, which is another name of the repository at some mirrors.
    scope: String,
}

impl Repository {
    /// What to answer to a 401; `None` if there is nothing to answer.
    pub(super) async fn authorize(
        &self,
        host: &Host,
        refusal: &Response,
        access: Access,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let credentials = self.credentials.as_ref().filter(|_| host.is_own);
        let offers = refusal.headers().get_all(WWW_AUTHENTICATE).into_iter();
        let offers: Vec<&str> = offers.filter_map(|value| value.to_str().ok()).collect();
        let offers: Vec<ChallengeRef<'_>> = offers
            .iter()
            .filter_map(|offer| parse_challenges(offer).ok())
            .flatten()
            .collect();
        let offered = |scheme: &str| {
            let mut offers = offers.iter();
            offers.find(|offer| offer.scheme.eq_ignore_ascii_case(scheme))
        };
        let answer = match (credentials, offered("bearer"), offered("basic")) {
            (Some(Credentials::RegistryToken(token)), ..) => bearer(token),
            (_, Some(offer), _) => {
                let server = self.token_server(host, offer)?;
                let token = self.token(host, &server, credentials, access).await?;
                bearer(&token)
            }
            (Some(Credentials::Basic { username, password }), None, Some(_)) => {
                basic(username, password)
            }
            _ => return Ok(None),
        };
        if let Some(answer) = &answer {
            self.accepted.put(host, access, answer);
        }
        Ok(answer)
    }

    fn token_server(
        &self,
        host: &Host,
        offer: &ChallengeRef<'_>,
    ) -> Result<TokenServer, RegistryError> {
        let param = |name: &str| {
            let mut params = offer.params.iter();
            let found = params.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        let realm = param("realm").and_then(|realm| Url::parse(&realm).ok());
        let realm = realm.filter(http::is_http);
        let realm = realm.ok_or_else(|| self.invalid("it names no token server"))?;
        if http::is_downgrade(&host.base, &realm) {
            return Err(self.invalid("its token server is asked in the clear"));
        }
        Ok(TokenServer {
            realm,
            service: param("service"),
            scope: param("scope").unwrap_or_default(),
        })
    }

    /// What a token is to be for: this repository, and whatever else the host says that it takes.
    fn scopes(&self, challenged: &str, access: Access) -> Vec<String> {
        let own = format!("repository:{}:", self.name);
        let others = challenged.split_whitespace();
        let others = others.filter(|scope| !scope.starts_with(&own));
        let ours = format!("{own}{}", access.actions());
        std::iter::once(ours)
            .chain(others.map(str::to_owned))
            .collect()
    }

    async fn token(
        &self,
        host: &Host,
        server: &TokenServer,
        credentials: Option<&Credentials>,
        access: Access,
    ) -> Result<String, RegistryError> {
        let scopes = self.scopes(&server.scope, access);
        let request = match credentials {
            Some(Credentials::IdentityToken(token)) => refresh(server, &scopes, token),
            Some(Credentials::Basic { username, password }) => {
                let mut request = ask(server, &scopes, Some(username));
                if let Some(value) = basic(username, password) {
                    request.headers_mut().insert(AUTHORIZATION, value);
                }
                request
            }
            Some(Credentials::RegistryToken(_)) | None => ask(server, &scopes, None),
        };
        let contact = Contact::foreign(host, self);
        let response = contact.send(request).await?;
        let status = response.status();
        // Token servers say 400 of refresh tokens that they do not like.
        if matches!(status.as_u16(), 400 | 401 | 403) {
            return Err(self.auth_failed());
        }
        let response = self.must_succeed(response, "a token")?;
        let json = self.bounded(response, MAX_TOKEN_BYTES).await?;
        let token: TokenJson = serde_json::from_slice(&json)
            .map_err(|_| self.invalid("its token server gives no token"))?;
        let token = token.token.or(token.access_token);
        token.ok_or_else(|| self.invalid("its token server gives no token"))
    }
}

fn ask(server: &TokenServer, scopes: &[String], account: Option<&str>) -> Request {
    let mut url = server.realm.clone();
    {
        let mut query = url.query_pairs_mut();
        if let Some(service) = &server.service {
            query.append_pair("service", service);
        }
        for scope in scopes {
            query.append_pair("scope", scope);
        }
        if let Some(account) = account {
            query.append_pair("account", account);
        }
    }
    Request::new(Method::GET, url)
}

fn refresh(server: &TokenServer, scopes: &[String], token: &str) -> Request {
    let mut form = server.realm.clone();
    form.query_pairs_mut()
        .clear()
        .append_pair("grant_type", "refresh_token")
        .append_pair("client_id", CLIENT_ID)
        .append_pair("service", server.service.as_deref().unwrap_or_default())
        .append_pair("scope", &scopes.join(" "))
        .append_pair("refresh_token", token);
    let mut request = Request::new(Method::POST, server.realm.clone());
    let content_type = HeaderValue::from_static("application/x-www-form-urlencoded");
    request.headers_mut().insert(CONTENT_TYPE, content_type);
    let body = form.query().unwrap_or_default().to_owned();
    *request.body_mut() = Some(body.into());
    request
}

fn bearer(token: &str) -> Option<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

fn basic(username: &str, password: &str) -> Option<HeaderValue> {
    let pair = STANDARD.encode(format!("{username}:{password}"));
    secret(&format!("Basic {pair}"))
}

/// `None` for what no header can have.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
