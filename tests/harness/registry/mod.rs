//! A registry of one's own: Debian's `docker-registry` on loopback, with every way to be let in, and what
//! stands in front of it.

mod certificates;
mod content;
pub mod fault_proxy;
pub mod http;
mod token_server;
mod transfers;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use wharf_api::v1::{BasicAuth, RegistryAuth, registry_auth::Credentials};

use super::process::Daemon;
use super::wait::until;
use super::{Wharfd, containerd};
use certificates::Certificates;
pub use content::{Form, Manifest};
pub use fault_proxy::{At, Fault, FaultProxy};
pub use token_server::IDENTITY_TOKEN;
use token_server::TokenServer;
pub use transfers::Pulled;

const READY: Duration = Duration::from_secs(60);

pub const USER: &str = "someone";
pub const PASSWORD: &str = "some password";
/// As `htpasswd -B` writes it; the registry takes no other kind of hash.
const HTPASSWD: &str = "someone:$2y$05$abcdefghijklmnopqrstuufavidWBqdbsGdeRhVmolab7ZPXZhegG\n";

/// Who is let in, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without TLS.
    Open,
    /// Who sends [`USER`] and [`PASSWORD`].
    Password,
    /// Who brings a token, which [`USER`] gets for [`PASSWORD`], and anybody for reading `public/…`.
    Token,
    /// Everybody, by TLS under an authority that nobody else knows.
    Tls,
    /// The same, but only with a certificate of that authority.
    ClientCertificate,
    /// As [`Access::Password`], by TLS.
    TlsPassword,
    /// As [`Access::Token`], by TLS, as is the server of tokens.
    TlsToken,
    /// The same, but for the server of tokens.
    TlsTokenInTheClear,
}

impl Access {
    /// Whether somebody is let in only by [`USER`]'s credentials.
    pub fn wants_credentials(self) -> bool {
        match self {
            Self::Open | Self::Tls | Self::ClientCertificate => false,
            Self::Password | Self::TlsPassword => true,
            Self::Token | Self::TlsToken | Self::TlsTokenInTheClear => true,
        }
    }

    fn is_by_tls(self) -> bool {
        match self {
            Self::Open | Self::Password | Self::Token => false,
            Self::Tls | Self::ClientCertificate | Self::TlsPassword => true,
            Self::TlsToken | Self::TlsTokenInTheClear => true,
        }
    }
}

/// A running registry. Its content goes with it.
#[derive(Debug)]
pub struct Registry {
    access: Access,
    /// `127.0.0.1:PORT`, as references name it.
    address: String,
    certificates: Option<Certificates>,
    tokens: Option<(TokenServer, FaultProxy)>,
    /// In front of the server of tokens.
    _tls: Option<Daemon>,
    daemon: Daemon,
    directory: TempDir,
}

impl Registry {
    /// An empty one that answers.
    pub async fn start(access: Access) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("wharf-registry-")
            .tempdir()
            .unwrap();
        let place = directory.path();
        let certificates = match access.is_by_tls() {
            true => Some(Certificates::make(place).await),
            false => None,
        };
        let tokens = match access {
            Access::Token | Access::TlsToken | Access::TlsTokenInTheClear => {
                Some(tokens(place).await)
            }
            _ => None,
        };
        let (tls, realm) = match (&tokens, &certificates) {
            (Some((_, proxy)), Some(certificates)) if access == Access::TlsToken => {
                let (tls, address) = by_tls(place, certificates, proxy.address()).await;
                (Some(tls), Some(format!("https://{address}/token")))
            }
            (Some((_, proxy)), _) => (None, Some(format!("http://{}/token", proxy.address()))),
            (None, _) => (None, None),
        };
        fs::write(place.join("htpasswd"), HTPASSWD).unwrap();
        let config = config(place, access, certificates.as_ref(), realm.as_deref());
        fs::write(place.join("config.json"), config.to_string()).unwrap();

        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(place.join("config.json"));
        let (daemon, address) = listening("docker-registry", command, &place.join("log")).await;
        Self {
            access,
            address,
            certificates,
            tokens,
            _tls: tls,
            daemon,
            directory,
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `app:1` as references name it.
    pub fn reference(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// What stands in front of the server of tokens.
    pub fn tokens(&self) -> &FaultProxy {
        let (_, proxy) = self.tokens.as_ref().expect("a registry that wants tokens");
        proxy
    }

    /// A token for everything in a repository.
    pub async fn token(&self, repository: &str) -> String {
        let (server, _) = self.tokens.as_ref().expect("a registry that wants tokens");
        server.token(repository, &["pull", "push"]).await
    }

    /// SIGKILL: what asks for it now is refused.
    pub fn kill(&mut self) {
        self.daemon.kill();
    }

    /// What `hosts.toml` says of it.
    pub fn hosts_toml(&self) -> String {
        let address = &self.address;
        let Some(certificates) = &self.certificates else {
            return format!("server = \"http://{address}\"\n");
        };
        let place = certificates.of_client();
        let place = place.display();
        let mut toml = format!("server = \"https://{address}\"\nca = \"{place}/ca.crt\"\n");
        if self.access == Access::ClientCertificate {
            let pair = format!("[\"{place}/client.cert\", \"{place}/client.key\"]");
            toml.push_str(&format!("client = [{pair}]\n"));
        }
        toml
    }

    /// Tells a server how to speak with it.
    pub fn known_to(&self, wharfd: &Wharfd) {
        wharfd.tell_of_registry(&self.address, &self.hosts_toml());
    }

    fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// [`USER`] with [`PASSWORD`], or with another.
pub fn credentials(password: &str) -> RegistryAuth {
    RegistryAuth {
        credentials: Some(Credentials::Basic(BasicAuth {
            username: USER.to_owned(),
            password: password.to_owned(),
        })),
    }
}

async fn tokens(place: &Path) -> (TokenServer, FaultProxy) {
    let server = TokenServer::start(place).await;
    let proxy = FaultProxy::start(server.address()).await;
    (server, proxy)
}

fn config(
    place: &Path,
    access: Access,
    certificates: Option<&Certificates>,
    realm: Option<&str>,
) -> Value {
    let mut http = json!({"addr": "127.0.0.1:0", "secret": "of this test"});
    if let Some(certificates) = certificates {
        http["tls"] = json!({
            "certificate": certificates.server("cert"),
            "key": certificates.server("key"),
        });
        if access == Access::ClientCertificate {
            http["tls"]["clientcas"] = json!([certificates.authority()]);
        }
    }
    let mut config = json!({
        "version": 0.1,
        "log": {"accesslog": {"disabled": true}},
        "storage": {
            "filesystem": {"rootdirectory": place.join("content")},
            "delete": {"enabled": true},
        },
        "http": http,
    });
    match access {
        Access::Password | Access::TlsPassword => {
            config["auth"] = json!({"htpasswd": {
                "realm": "tests",
                "path": place.join("htpasswd"),
            }});
        }
        Access::Token | Access::TlsToken | Access::TlsTokenInTheClear => {
            config["auth"] = json!({"token": {
                "realm": realm.unwrap(),
                "service": token_server::SERVICE,
                "issuer": token_server::ISSUER,
                "rootcertbundle": token_server::certificate(place),
            }});
        }
        Access::Open | Access::Tls | Access::ClientCertificate => {}
    }
    config
}

/// What speaks TLS in front of what does not, and where.
async fn by_tls(place: &Path, certificates: &Certificates, upstream: &str) -> (Daemon, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/registry/tls.py");
    let (host, port) = upstream.split_once(':').unwrap();
    let mut command = Command::new("python3");
    command
        .arg(script)
        .arg(certificates.server("cert"))
        .arg(certificates.server("key"))
        .args([host, port]);
    listening("tls.py", command, &place.join("tls.log")).await
}

/// Starts what binds to port 0, and says in its log what it got.
async fn listening(name: &'static str, command: Command, log: &Path) -> (Daemon, String) {
    let mut daemon = Daemon::spawn(name, command, log);
    let address = until(&format!("{name} listens"), READY, async || {
        let said = containerd::tail(log, 20);
        if let Some(status) = daemon.ended() {
            panic!("{name} ended with {status}:\n{said}");
        }
        address(&said).ok_or(said)
    })
    .await;
    (daemon, address)
}

/// The address in such a log.
fn address(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("listening on ")?;
    let end =
        rest.find(|letter: char| letter != '.' && letter != ':' && !letter.is_ascii_digit())?;
    Some(rest[..end].to_owned())
}
