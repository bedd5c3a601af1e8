//! The file: what it says, and how it is changed.

use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize as _;
use serde_json::ser::PrettyFormatter;
use serde_json::{Map, Serializer, Value, json};
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;
use wharf_api::v1::registry_auth::Credentials;
use wharf_api::v1::{BasicAuth, RegistryAuth};

use super::{CredentialsError, DOCKER_IO, Erased};

/// What docker.io is called in the file, and by helpers.
const DOCKER_IO_KEY: &str = "https://index.docker.io/v1/";

/// Fields of an entry that hold credentials.
const SECRETS: [&str; 5] = [
    "auth",
    "identitytoken",
    "registrytoken",
    "username",
    "password",
];

/// A registry, as the file has it.
pub(super) struct Place<'a>(&'a str);

impl<'a> Place<'a> {
    pub(super) fn of(registry: &'a str) -> Self {
        Self(host(registry))
    }

    /// Its name in the file, and to helpers.
    pub(super) fn key(&self) -> &'a str {
        match self.0 {
            DOCKER_IO => DOCKER_IO_KEY,
            host => host,
        }
    }

    /// Its entry, under its own name or one that older files have, such as a URL.
    fn entry<'m>(&self, entries: &'m Map<String, Value>) -> Option<(&'m String, &'m Value)> {
        let key = self.key();
        entries
            .iter()
            .find(|(name, _)| *name == key)
            .or_else(|| entries.iter().find(|(name, _)| host(name) == self.0))
    }
}

/// The host that a key, or what somebody calls a registry, is about.
pub(super) fn host(key: &str) -> &str {
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| key.strip_prefix(scheme));
    let rest = rest.unwrap_or(key);
    match rest.split_once('/').map_or(rest, |(host, _)| host) {
        "index.docker.io" => DOCKER_IO,
        host => host,
    }
}

/// The file as it was read. Not to be shown: it holds credentials.
pub(super) struct File {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl File {
    /// One that is not there is empty.
    pub(super) async fn read(path: &Path) -> Result<Self, CredentialsError> {
        let path = path.to_owned();
        let text = match tokio::fs::read(&path).await {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(CredentialsError::Read { path, source }),
        };
        if text.trim_ascii().is_empty() {
            let fields = Map::new();
            return Ok(Self { path, fields });
        }
        match serde_json::from_slice(&text) {
            Ok(Value::Object(fields)) => Ok(Self { path, fields }),
            Ok(_) => Err(CredentialsError::Field {
                path,
                field: "all of it".to_owned(),
                want: "an object",
            }),
            Err(source) => Err(CredentialsError::Syntax { path, source }),
        }
    }

    /// The name of the helper that keeps the registry's credentials, if it is not the file.
    pub(super) fn helper(&self, place: &Place<'_>) -> Result<Option<&str>, CredentialsError> {
        let single = self.object("credHelpers")?.and_then(|it| place.entry(it));
        let (field, name) = match single {
            Some((key, name)) => (format!("credHelpers.{key}"), name),
            None => match self.fields.get("credsStore") {
                Some(name) => ("credsStore".to_owned(), name),
                None => return Ok(None),
            },
        };
        match name {
            Value::String(name) => Ok(Some(name.as_str()).filter(|name| !name.is_empty())),
            Value::Null => Ok(None),
            _ => Err(self.not(field, "the name of a helper")),
        }
    }

    /// The registry's credentials, if the file has any.
    pub(super) fn auth(&self, place: &Place<'_>) -> Result<Option<RegistryAuth>, CredentialsError> {
        let Some((key, entry)) = self.object("auths")?.and_then(|it| place.entry(it)) else {
            return Ok(None);
        };
        let text = |name: &str| entry.get(name)?.as_str().filter(|text| !text.is_empty());
        let credentials = match (text("registrytoken"), text("identitytoken"), text("auth")) {
            (Some(token), _, _) => Some(Credentials::RegistryToken(token.to_owned())),
            (None, Some(token), _) => Some(Credentials::IdentityToken(token.to_owned())),
            (None, None, Some(auth)) => {
                let basic = decoded(auth).ok_or_else(|| {
                    self.not(format!("auths.{key}.auth"), "USER:PASSWORD in base64")
                })?;
                Some(Credentials::Basic(basic))
            }
            (None, None, None) => text("username").map(|username| {
                Credentials::Basic(BasicAuth {
                    username: username.to_owned(),
                    password: text("password").unwrap_or_default().to_owned(),
                })
            }),
        };
        Ok(credentials.map(|credentials| RegistryAuth {
            credentials: Some(credentials),
        }))
    }

    /// Has the registry's entry hold these credentials, or none, and leaves what else it holds.
    pub(super) fn set(
        &mut self,
        place: &Place<'_>,
        auth: Option<&RegistryAuth>,
    ) -> Result<(), CredentialsError> {
        let mut entry = match self.object("auths")?.and_then(|it| place.entry(it)) {
            Some((_, Value::Object(entry))) => entry.clone(),
            Some(_) | None => Map::new(),
        };
        entry.retain(|name, _| !SECRETS.contains(&name.as_str()));
        match auth.and_then(|auth| auth.credentials.as_ref()) {
            Some(Credentials::Basic(basic)) => {
                let pair = format!("{}:{}", basic.username, basic.password);
                entry.insert("auth".to_owned(), json!(STANDARD.encode(pair)));
            }
            Some(Credentials::IdentityToken(token)) => {
                entry.insert("identitytoken".to_owned(), json!(token));
            }
            Some(Credentials::RegistryToken(token)) => {
                entry.insert("registrytoken".to_owned(), json!(token));
            }
            None => {}
        }
        self.remove(place)?;
        let mut entries = match self.fields.remove("auths") {
            Some(Value::Object(entries)) => entries,
            Some(_) | None => Map::new(),
        };
        entries.insert(place.key().to_owned(), Value::Object(entry));
        self.fields
            .insert("auths".to_owned(), Value::Object(entries));
        Ok(())
    }

    /// Takes out every entry of the registry, under whatever name.
    pub(super) fn remove(&mut self, place: &Place<'_>) -> Result<Erased, CredentialsError> {
        self.object("auths")?;
        let Some(Value::Object(entries)) = self.fields.get_mut("auths") else {
            return Ok(Erased::Nothing);
        };
        let before = entries.len();
        entries.retain(|name, _| host(name) != place.0);
        match entries.len() == before {
            true => Ok(Erased::Nothing),
            false => Ok(Erased::Credentials),
        }
    }

    /// In place of the file there is, whole or not at all, for its owner alone.
    pub(super) async fn write(self) -> Result<(), CredentialsError> {
        let path = self.path.clone();
        let writing = spawn_blocking(move || replace(&self.path, &self.fields));
        let written = writing.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        written.map_err(|source| CredentialsError::Write { path, source })
    }

    fn object(&self, field: &str) -> Result<Option<&Map<String, Value>>, CredentialsError> {
        match self.fields.get(field) {
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(Value::Null) | None => Ok(None),
            Some(_) => Err(self.not(field.to_owned(), "an object")),
        }
    }

    fn not(&self, field: String, want: &'static str) -> CredentialsError {
        CredentialsError::Field {
            path: self.path.clone(),
            field,
            want,
        }
    }
}

/// NUL bytes at the end belong to no password, as docker has it.
fn decoded(auth: &str) -> Option<BasicAuth> {
    let pair = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
    let (username, password) = pair.split_once(':')?;
    Some(BasicAuth {
        username: username.to_owned(),
        password: password.trim_end_matches('\0').to_owned(),
    })
    .filter(|basic| !basic.username.is_empty())
}

fn replace(path: &Path, fields: &Map<String, Value>) -> io::Result<()> {
    // A link stays one: people keep such files elsewhere.
    let path = match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        found => found?,
    };
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    // Its mode is 0600 from the start.
    let mut beside = NamedTempFile::new_in(directory)?;
    let mut text = Vec::new();
    fields.serialize(&mut Serializer::with_formatter(
        &mut text,
        PrettyFormatter::with_indent(b"\t"),
    ))?;
    beside.write_all(&text)?;
    beside.as_file().sync_all()?;
    beside.persist(path)?;
    Ok(())
}
