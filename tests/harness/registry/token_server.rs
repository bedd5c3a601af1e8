//! What gives out the tokens that a registry takes: signed, for one repository, for a few minutes.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::http::{Body, answer, serve};
use super::{PASSWORD, USER, certificates};
use crate::harness::process;

pub const SERVICE: &str = "registry of tests";
pub const ISSUER: &str = "tokens of tests";
/// What [`USER`] may send instead of the password.
pub const IDENTITY_TOKEN: &str = "an identity token";
/// Repositories that everybody may read.
const PUBLIC: &str = "public/";

/// In place until dropped.
#[derive(Debug)]
pub struct TokenServer {
    address: String,
    signer: Arc<Signer>,
    _serving: JoinSet<()>,
}

impl TokenServer {
    pub async fn start(place: &Path) -> Self {
        let signer = Arc::new(Signer::make(place).await);
        let for_requests = Arc::clone(&signer);
        let (address, serving) = serve("127.0.0.1", move |request| {
            Box::pin(respond(Arc::clone(&for_requests), request))
        })
        .await;
        Self {
            address: address.to_string(),
            signer,
            _serving: serving,
        }
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    pub async fn token(&self, repository: &str, actions: &[&str]) -> String {
        let access = json!([{"type": "repository", "name": repository, "actions": actions}]);
        self.signer.sign(access).await
    }
}

/// What the registry checks tokens against.
pub fn certificate(place: &Path) -> PathBuf {
    place.join("tokens.cert")
}

#[derive(Debug)]
struct Signer {
    key: PathBuf,
    /// Of the certificate, as DER in base64.
    chain: String,
}

impl Signer {
    async fn make(place: &Path) -> Self {
        let key = place.join("tokens.key");
        certificates::self_signed(place, "tokens", certificates::RSA).await;
        let pem = std::fs::read_to_string(certificate(place)).unwrap();
        let chain = pem.lines().filter(|line| !line.starts_with("-----"));
        Self {
            chain: chain.collect(),
            key,
        }
    }

    async fn sign(&self, access: Value) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [self.chain]});
        let claims = json!({
            "iss": ISSUER,
            "sub": USER,
            "aud": SERVICE,
            "iat": now,
            "nbf": now - 10,
            "exp": now + 300,
            "jti": format!("{:016x}", rand::random::<u64>()),
            "access": access,
        });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.signature(signed.as_bytes()).await;
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    async fn signature(&self, of: &[u8]) -> Vec<u8> {
        let mut input = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut input, of).unwrap();
        io::Seek::rewind(&mut input).unwrap();
        let mut command = Command::new("openssl");
        command
            .args(["dgst", "-sha256", "-sign"])
            .arg(&self.key)
            .stdin(Stdio::from(input));
        let output = process::run_with_input(command, Duration::from_secs(60)).await;
        assert!(output.status.success(), "openssl: {output:?}");
        output.stdout
    }
}

async fn respond(signer: Arc<Signer>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let given = request.headers().get(AUTHORIZATION).cloned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let form = request.into_body().collect().await;
    let form = form.map_err(io::Error::other)?.to_bytes();
    let asked = format!("{query}&{}", String::from_utf8_lossy(&form));

    let is_someone = match (
        given,
        value(&asked, "refresh_token"),
        value(&asked, "password"),
    ) {
        (Some(given), ..) if given == basic.as_str() => true,
        (None, Some(token), _) if token == IDENTITY_TOKEN => true,
        (None, None, Some(password)) if password == PASSWORD => true,
        (None, None, None) => false,
        _ => {
            return Ok(answer(
                401,
                "application/json",
                r#"{"details":"who are you?"}"#,
            ));
        }
    };
    let scopes = values(&asked, "scope");
    let scopes = scopes.iter().flat_map(|scope| scope.split(' '));
    let access: Vec<_> = scopes
        .filter_map(|scope| granted(scope, is_someone))
        .collect();
    let token = signer.sign(Value::Array(access)).await;
    let told = json!({"token": token, "access_token": token, "expires_in": 300});
    Ok(answer(200, "application/json", told.to_string()))
}

/// `repository:NAME:ACTION,ACTION` as far as it is granted.
fn granted(scope: &str, is_someone: bool) -> Option<Value> {
    let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    let actions: Vec<_> = actions
        .split(',')
        .filter(|action| is_someone || (*action == "pull" && name.starts_with(PUBLIC)))
        .collect();
    Some(json!({"type": "repository", "name": name, "actions": actions}))
}

fn value(form: &str, name: &str) -> Option<String> {
    values(form, name).into_iter().next()
}

fn values(form: &str, name: &str) -> Vec<String> {
    let pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| decoded(value))
        .collect()
}

fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(code, 16).unwrap());
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).unwrap()
}
