//! Where a registry is: its own server and its mirrors, by a `hosts.toml` as containerd has them
//! (containerd, docs/hosts.md).
//!
//! ```text
//! DIRECTORY/DOMAIN/hosts.toml      docker.io/hosts.toml, registry.example:5000/hosts.toml
//!           HOST_PORT_/hosts.toml  the same, where names cannot have colons; looked for first
//!           _default/hosts.toml    for all that have none
//! ```
//!
//! A change is seen by the next pull. Plain HTTP and unverified certificates only if that file says so.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Identity, Url};
use serde::Deserialize;

use super::{RegistryError, http};

/// The one whose server has another name.
const DOCKER: &str = "docker.io";
const DOCKER_SERVER: &str = "https://registry-1.docker.io";
const FILE: &str = "hosts.toml";
const DEFAULT: &str = "_default";

/// What a host may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Capability {
    /// Content by digest.
    Pull,
    /// What a tag is.
    Resolve,
    /// Taking content in.
    Push,
}

/// One host that has a registry's content.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// What all paths are below: `https://registry.example/v2/`.
    pub(super) base: Url,
    pub(super) client: Client,
    /// Sent with each request to it, and nowhere else.
    pub(super) headers: HeaderMap,
    /// Whether it is the registry itself: then credentials for the registry are for it.
    pub(super) is_own: bool,
    capabilities: Vec<Capability>,
}

impl Host {
    pub(super) fn can(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }
}

/// `hosts.toml`.
#[derive(Debug, Default, Deserialize)]
struct HostsFile {
    server: Option<String>,
    #[serde(default)]
    host: toml::Table,
    #[serde(flatten)]
    own: HostTable,
}

/// One host in it.
#[derive(Debug, Default, Deserialize)]
struct HostTable {
    capabilities: Option<Vec<Capability>>,
    ca: Option<OneOrMany<PathBuf>>,
    client: Option<OneOrMany<ClientFiles>>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: toml::Table,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

/// A client's certificate and its key.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum ClientFiles {
    /// In one file.
    Both(PathBuf),
    /// In two; the second one's name is empty if the first has both.
    Pair(PathBuf, PathBuf),
}

impl<T> OneOrMany<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

/// The hosts of a registry, in the order in which they are asked: mirrors as the file has them, then its own server.
/// Blocking.
pub(super) fn of(directory: &Path, domain: &str) -> Result<Vec<Host>, RegistryError> {
    let Settings {
        path,
        file,
        is_default,
    } = read(directory, domain)?;
    let reader = Reader {
        domain,
        path: &path,
    };
    let default = match domain {
        DOCKER => DOCKER_SERVER.to_owned(),
        _ => format!("https://{domain}"),
    };
    let mut hosts = Vec::new();
    for (url, table) in &file.host {
        let table: HostTable = table.clone().try_into().map_err(|error: toml::de::Error| {
            reader.wrong(format!("host {url:?}: {}", error.message()))
        })?;
        hosts.push(reader.host(url, &default, &table)?);
    }
    let server = file.server.as_deref().unwrap_or(&default);
    let mut own = reader.host(server, &default, &file.own)?;
    // What is the server for all registries is a mirror of each.
    own.is_own |= !is_default;
    // Who lists the server among the hosts has said there how it is to be asked.
    match hosts.iter_mut().find(|host| host.base == own.base) {
        Some(listed) => listed.is_own |= own.is_own,
        None => hosts.push(own),
    }
    Ok(hosts)
}

/// The file that counts.
#[derive(Debug, Default)]
struct Settings {
    path: PathBuf,
    file: HostsFile,
    /// It is the one for all.
    is_default: bool,
}

/// The first file that there is; none is as good as an empty one.
fn read(directory: &Path, domain: &str) -> Result<Settings, RegistryError> {
    let without_colon = domain
        .rsplit_once(':')
        .map(|(host, port)| format!("{host}_{port}_"));
    for name in without_colon
        .as_deref()
        .into_iter()
        .chain([domain, DEFAULT])
    {
        let path = directory.join(name).join(FILE);
        let reader = Reader {
            domain,
            path: &path,
        };
        match fs::read_to_string(&path) {
            Ok(text) => {
                let file = toml::from_str(&text).map_err(|error| reader.wrong(error.message()))?;
                return Ok(Settings {
                    path,
                    file,
                    is_default: name == DEFAULT,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(reader.wrong(error.to_string())),
        }
    }
    Ok(Settings::default())
}

/// Reads one registry's file.
struct Reader<'a> {
    domain: &'a str,
    path: &'a Path,
}

impl Reader<'_> {
    fn wrong(&self, problem: impl Into<String>) -> RegistryError {
        RegistryError::Settings {
            registry: self.domain.to_owned(),
            path: self.path.display().to_string(),
            problem: problem.into(),
        }
    }

    fn host(&self, url: &str, default: &str, table: &HostTable) -> Result<Host, RegistryError> {
        let all = vec![Capability::Pull, Capability::Resolve, Capability::Push];
        let capabilities = table.capabilities.clone().unwrap_or_default();
        let base = self.base(url, table.override_path)?;
        Ok(Host {
            is_own: self.is_own(&base, default),
            client: self.client(table)?,
            headers: self.headers(table)?,
            capabilities: if capabilities.is_empty() {
                all
            } else {
                capabilities
            },
            base,
        })
    }

    fn base(&self, text: &str, is_whole: bool) -> Result<Url, RegistryError> {
        let with_scheme = match text.contains("://") {
            true => text.to_owned(),
            false => format!("https://{text}"),
        };
        let mut url = Url::parse(&with_scheme)
            .map_err(|error| self.wrong(format!("{text:?} is no URL: {error}")))?;
        if !http::is_http(&url) || !url.has_host() {
            return Err(self.wrong(format!("{text:?} is no HTTP URL")));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        let is_whole = is_whole || path.ends_with("/v2");
        let version = if is_whole { "" } else { "/v2" };
        url.set_path(&format!("{path}{version}/"));
        Ok(url)
    }

    /// By its authority: a mirror is somebody else, whatever it mirrors.
    fn is_own(&self, base: &Url, default: &str) -> bool {
        let default = Url::parse(default).ok();
        let names_domain = base.authority() == self.domain;
        names_domain || default.is_some_and(|default| default.authority() == base.authority())
    }

    fn headers(&self, table: &HostTable) -> Result<HeaderMap, RegistryError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &table.header {
            let wrong = || self.wrong(format!("header {name:?} cannot be sent"));
            let key: HeaderName = name.parse().map_err(|_| wrong())?;
            let values: OneOrMany<String> = value.clone().try_into().map_err(|_| wrong())?;
            for value in values.as_slice() {
                let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
                value.set_sensitive(true);
                headers.append(key.clone(), value);
            }
        }
        Ok(headers)
    }

    fn client(&self, table: &HostTable) -> Result<Client, RegistryError> {
        let mut authorities = Vec::new();
        for path in table.ca.iter().flat_map(OneOrMany::as_slice) {
            let pem = self.file(path)?;
            let read = Certificate::from_pem_bundle(&pem);
            authorities.extend(read.map_err(|error| self.wrong(format!("ca: {error}")))?);
        }
        let identity = self.identity(table)?;
        let builder = || {
            let builder = http::client().tls_danger_accept_invalid_certs(table.skip_verify);
            match identity.clone() {
                Some(identity) => builder.identity(identity),
                None => builder,
            }
        };
        let with_system = builder().tls_certs_merge(authorities.clone()).build();
        // A host without certificates of its own can still trust those named here, or use plain HTTP.
        with_system
            .or_else(|_| builder().tls_certs_only(authorities).build())
            .map_err(|error| self.wrong(format!("TLS: {error}")))
    }

    /// The first that is named: a connection shows one.
    fn identity(&self, table: &HostTable) -> Result<Option<Identity>, RegistryError> {
        let client = table.client.as_ref();
        let Some(files) = client.and_then(|client| client.as_slice().first()) else {
            return Ok(None);
        };
        let pem = match files {
            ClientFiles::Pair(certificate, key) if !key.as_os_str().is_empty() => {
                [self.file(certificate)?, self.file(key)?].join(&b'\n')
            }
            ClientFiles::Both(path) | ClientFiles::Pair(path, _) => self.file(path)?,
        };
        let identity = Identity::from_pem(&pem);
        Ok(Some(
            identity.map_err(|error| self.wrong(format!("client: {error}")))?,
        ))
    }

    /// Paths are relative to the file that names them.
    fn file(&self, path: &Path) -> Result<Vec<u8>, RegistryError> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let path = directory.join(path);
        fs::read(&path).map_err(|error| self.wrong(format!("{}: {error}", path.display())))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests fail by panicking")]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn hosts(domain: &str, file: Option<&str>) -> Result<Vec<Host>, RegistryError> {
        let directory = TempDir::new().unwrap();
        if let Some(text) = file {
            fs::create_dir(directory.path().join(domain)).unwrap();
            fs::write(directory.path().join(domain).join(FILE), text).unwrap();
        }
        of(directory.path(), domain)
    }

    fn bases(hosts: &[Host]) -> Vec<(&str, bool)> {
        let of = |host: &'_ Host| host.is_own;
        hosts
            .iter()
            .map(|host| (host.base.as_str(), of(host)))
            .collect()
    }

    #[test]
    fn without_a_file_a_registry_is_where_its_domain_says() {
        let found = hosts("registry.example:5000", None).unwrap();
        assert_eq!(bases(&found), [("https://registry.example:5000/v2/", true)]);
        let found = hosts("docker.io", None).unwrap();
        assert_eq!(bases(&found), [("https://registry-1.docker.io/v2/", true)]);
    }

    #[test]
    fn mirrors_come_first_in_the_order_of_the_file() {
        let file = r#"
            server = "https://registry-1.docker.io"
            [host."https://z.example"]
            capabilities = ["pull"]
            [host."http://a.example:5000/path/v2"]
            override_path = true
            [host."https://b.example/sub"]
        "#;
        let found = hosts("docker.io", Some(file)).unwrap();
        assert_eq!(
            bases(&found),
            [
                ("https://z.example/v2/", false),
                ("http://a.example:5000/path/v2/", false),
                ("https://b.example/sub/v2/", false),
                ("https://registry-1.docker.io/v2/", true),
            ]
        );
        assert!(found[0].can(Capability::Pull) && !found[0].can(Capability::Resolve));
        assert!(found[3].can(Capability::Push));
    }

    #[test]
    fn a_server_that_is_among_the_hosts_is_asked_as_it_says_there() {
        let file = r#"
            server = "http://127.0.0.1:5000"
            [host."http://127.0.0.1:5000"]
            capabilities = ["pull", "resolve"]
        "#;
        let found = hosts("127.0.0.1:5000", Some(file)).unwrap();
        assert_eq!(bases(&found), [("http://127.0.0.1:5000/v2/", true)]);
        assert!(!found[0].can(Capability::Push));
    }

    #[test]
    fn the_server_of_all_registries_is_a_mirror_of_each() {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join(DEFAULT)).unwrap();
        let file = "server = \"https://m.example\"";
        fs::write(directory.path().join(DEFAULT).join(FILE), file).unwrap();
        let found = of(directory.path(), "docker.io").unwrap();
        assert_eq!(bases(&found), [("https://m.example/v2/", false)]);
        let found = of(directory.path(), "m.example").unwrap();
        assert_eq!(bases(&found), [("https://m.example/v2/", true)]);
    }

    #[test]
    fn the_name_without_a_colon_comes_first() {
        let directory = TempDir::new().unwrap();
        for (name, server) in [("r.example_5000_", "first"), ("r.example:5000", "second")] {
            fs::create_dir(directory.path().join(name)).unwrap();
            let file = format!("server = \"https://{server}.example\"");
            fs::write(directory.path().join(name).join(FILE), file).unwrap();
        }
        let found = of(directory.path(), "r.example:5000").unwrap();
        assert_eq!(bases(&found), [("https://first.example/v2/", true)]);
    }

    #[test]
    fn a_version_is_not_named_twice_and_no_capabilities_are_all() {
        let file = "[host.\"https://m.example/sub/v2/\"]\ncapabilities = []";
        let found = hosts("r.example", Some(file)).unwrap();
        assert_eq!(found[0].base.as_str(), "https://m.example/sub/v2/");
        assert!(found[0].can(Capability::Resolve));
    }

    #[test]
    fn headers_are_sent_and_not_shown() {
        let file = "server = \"https://r.example\"\n[header]\nx-token = [\"secret\"]";
        let found = hosts("r.example", Some(file)).unwrap();
        assert_eq!(found[0].headers["x-token"], "secret");
        assert!(!format!("{found:?}").contains("secret"));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        for (file, about) in [
            ("server = ", "string"),
            ("server = \"ftp://r.example\"", "no HTTP URL"),
            (
                "[host.\"https://m.example\"]\ncapabilities = [\"fly\"]",
                "fly",
            ),
            ("ca = \"missing.pem\"", "missing.pem"),
            ("client = [[\"one.pem\", \"\"]]", "one.pem"),
            ("client = [\"one.pem\", \"two.pem\"]", "one.pem"),
        ] {
            let error = hosts("r.example", Some(file)).unwrap_err();
            assert!(matches!(error, RegistryError::Settings { .. }), "{error}");
            assert!(error.to_string().contains(about), "{error}");
        }
    }
}
