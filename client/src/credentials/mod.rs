//! Credentials of registries, where docker keeps them: `config.json` and the helpers that it names.
//!
//! The file is read whenever something is asked, so none of it stays in memory. Its `auths` hold
//! credentials themselves; `credsStore`, or `credHelpers` for single registries, name programs
//! (`docker-credential-NAME`) that do. What is changed is changed whole, and leaves alone what it
//! does not know.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use wharf_client::credentials::{DockerConfig, registry_of};
//!
//! let config = DockerConfig::from_env()?;
//! let auth = config.get(registry_of("registry.example.com/team/app:1")).await?;
//! # drop(auth);
//! # Ok(())
//! # }
//! ```

mod file;
mod helper;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use wharf_api::v1::RegistryAuth;

use file::{File, Place};
use helper::Helper;

/// The registry of names that name none.
pub const DOCKER_IO: &str = "docker.io";

/// Why credentials cannot be found or kept. No message holds any.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Neither `DOCKER_CONFIG` nor `HOME` says where the file is.
    #[error("neither DOCKER_CONFIG nor HOME is set")]
    NoHome,
    /// The file is there, and cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written. It is as it was.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not JSON.
    #[error("{path} is not JSON: {source}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
    /// A field of the file is not what it should be.
    #[error("{path}: {field} is not {want}", path = path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, such as `auths.registry.example.com.auth`.
        field: String,
        /// What it should be.
        want: &'static str,
    },
    /// A helper cannot be run.
    #[error("cannot run {program}: {source}")]
    HelperStart {
        /// The helper.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A helper refused.
    #[error("{program} failed: {message}")]
    HelperFailed {
        /// The helper.
        program: String,
        /// What it said.
        message: String,
    },
    /// A helper answered what is no answer.
    #[error("{program} answered something other than credentials")]
    HelperAnswer {
        /// The helper.
        program: String,
    },
    /// Helpers keep users with passwords, and identity tokens.
    #[error("{program} cannot keep a bearer token")]
    HelperCannotKeep {
        /// The helper.
        program: String,
    },
}

/// What keeps a registry's credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeper {
    /// The file itself, in the clear.
    File,
    /// This program.
    Helper(String),
}

/// What an erasure found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erased {
    /// Credentials, which are gone.
    Credentials,
    /// None.
    Nothing,
}

/// A `config.json` of docker's. It need not be there.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    path: PathBuf,
    search_path: Option<OsString>,
}

impl DockerConfig {
    /// `config.json` in the directory that `DOCKER_CONFIG` names, or in `~/.docker`.
    ///
    /// # Errors
    /// [`CredentialsError::NoHome`].
    pub fn from_env() -> Result<Self, CredentialsError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let directory = set("DOCKER_CONFIG").map(PathBuf::from);
        let directory =
            directory.or_else(|| set("HOME").map(|home| Path::new(&home).join(".docker")));
        let directory = directory.ok_or(CredentialsError::NoHome)?;
        Ok(Self::at(directory.join("config.json")))
    }

    /// A file elsewhere.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            search_path: None,
        }
    }

    /// Has helpers looked for here, in place of this process's own `PATH`.
    #[must_use]
    pub fn search_path(mut self, path: impl Into<OsString>) -> Self {
        self.search_path = Some(path.into());
        self
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What keeps the credentials of a registry, or would.
    ///
    /// # Errors
    /// [`CredentialsError`] about the file.
    pub async fn keeper(&self, registry: &str) -> Result<Keeper, CredentialsError> {
        let file = File::read(&self.path).await?;
        Ok(match self.helper(&file, registry)? {
            Some(helper) => Keeper::Helper(helper.program().to_owned()),
            None => Keeper::File,
        })
    }

    /// The credentials of a registry, such as [`registry_of`] finds; `None` if there are none.
    ///
    /// # Errors
    /// Any [`CredentialsError`] but `Write` and `HelperCannotKeep`.
    pub async fn get(&self, registry: &str) -> Result<Option<RegistryAuth>, CredentialsError> {
        let file = File::read(&self.path).await?;
        let place = Place::of(registry);
        match self.helper(&file, registry)? {
            Some(helper) => helper.get(place.key()).await,
            None => file.auth(&place),
        }
    }

    /// Keeps credentials of a registry, in place of those it has.
    ///
    /// # Errors
    /// Any [`CredentialsError`] but `HelperAnswer`.
    pub async fn store(
        &self,
        registry: &str,
        auth: &RegistryAuth,
    ) -> Result<Keeper, CredentialsError> {
        let mut file = File::read(&self.path).await?;
        let place = Place::of(registry);
        let keeper = match self.helper(&file, registry)? {
            Some(helper) => {
                helper.store(place.key(), auth).await?;
                // As docker does it: the registry is on record, its credentials are not.
                file.set(&place, None)?;
                Keeper::Helper(helper.program().to_owned())
            }
            None => {
                file.set(&place, Some(auth))?;
                Keeper::File
            }
        };
        file.write().await?;
        Ok(keeper)
    }

    /// Forgets the credentials of a registry.
    ///
    /// # Errors
    /// Any [`CredentialsError`] but `HelperAnswer` and `HelperCannotKeep`.
    pub async fn erase(&self, registry: &str) -> Result<Erased, CredentialsError> {
        let mut file = File::read(&self.path).await?;
        let place = Place::of(registry);
        let by_helper = match self.helper(&file, registry)? {
            Some(helper) => helper.erase(place.key()).await?,
            None => Erased::Nothing,
        };
        match file.remove(&place)? {
            Erased::Credentials => {
                file.write().await?;
                Ok(Erased::Credentials)
            }
            Erased::Nothing => Ok(by_helper),
        }
    }

    fn helper(&self, file: &File, registry: &str) -> Result<Option<Helper>, CredentialsError> {
        let name = file.helper(&Place::of(registry))?;
        Ok(name.map(|name| Helper::new(name, self.search_path.clone())))
    }
}

/// The registry that an image's reference names, as docker reads it: what stands before the first slash
/// is one if it has a dot, a colon or a capital, or is `localhost`.
///
/// ```
/// use wharf_client::credentials::registry_of;
///
/// assert_eq!(registry_of("alpine"), "docker.io");
/// assert_eq!(registry_of("team/app:1"), "docker.io");
/// assert_eq!(registry_of("localhost/app"), "localhost");
/// assert_eq!(registry_of("host:5000/app:1"), "host:5000");
/// ```
#[must_use]
pub fn registry_of(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((first, _)) if is_domain(first) => file::host(first),
        Some(_) | None => DOCKER_IO,
    }
}

fn is_domain(text: &str) -> bool {
    text == "localhost"
        || text
            .bytes()
            .any(|byte| byte == b'.' || byte == b':' || byte.is_ascii_uppercase())
}
